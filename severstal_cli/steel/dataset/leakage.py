"""Detect leakage: a score on images that a model was trained on is meaningless, so it is refused.

A record describes the training images of a run: the fingerprints of data and split, and the fold that was left out
besides the holdout, or null. `model.json` of a run and the JSON beside a submission hold such records.

    {"data": "0f3a5b...", "split": "77c0e1...", "fold": 0}
"""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from severstal_cli import typed
from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset.near_duplicates import find_near_duplicates
from severstal_cli.steel.dataset.splits import HOLDOUT, Split
from severstal_cli.steel.images.decoding import Grey, read_grey
from severstal_cli.steel.tables.table_files import metadata_path
from severstal_cli.wording import counted

Record = Mapping[str, Any]

MOST_WINDOWS = 200
"""Pairs of windows that are compared; an image so much smaller than its namesake counts as a crop of it."""


def records_of(submission: Path) -> Iterator[tuple[str, Record]]:
    """Yield (run folder, record) of each run that made a submission, and of the runs of its initial weights.

    Yield nothing if the submission has no metadata of this program.
    """
    path = metadata_path(submission)
    try:
        metadata = typed.read_table(path)
    except (OSError, ValueError):
        return
    runs = metadata.get("runs")
    for run in runs if isinstance(runs, list) else ():
        if isinstance(run, dict):
            seen = run.get("seen")
            for record in (run, *(seen if isinstance(seen, list) else ())):
                with suppress(ValueError):
                    check(record)
                    yield str(run.get("folder")), record


@dataclass(frozen=True, kw_only=True)
class _Fields:
    data: str
    split: str
    fold: int | None


def check(record: Any) -> None:
    """Raise ValueError unless `record` is one; it may have further fields."""
    names = [field.name for field in fields(_Fields)]
    if isinstance(record, dict):
        record = {name: record[name] for name in names if name in record}
    typed.make(_Fields, record)


def check_submission(
    submission: Path,
    image_ids: Sequence[str],
    split: Split,
    progress: Progress = SILENT,
    *,
    files_of: Mapping[str, Path] = MappingProxyType({}),
    train_images: Path | None = None,
) -> None:
    """Raise InputError if a run that made a submission was trained on the images to score.

    Images outside the split were not trained on. In some data sets, training and test images share names, so an image
    with the name of a training image counts as new if its file in `files_of` shows other steel than the file of that
    name in `train_images`. Runs of another split cannot be checked, which is logged.
    """
    names_only: set[str] | None = None
    others: dict[str, None] = {}
    records = list(records_of(submission))
    left_out_by_all = {HOLDOUT}.union(*({str(record["fold"])} for _, record in records))
    for _, record in records:
        if record["split"] == split.fingerprint:
            left_out_by_all &= {HOLDOUT, str(record["fold"])}
    if not records:
        progress.log(
            f"{submission} has no metadata on its runs, so leakage cannot be ruled out: they may have seen these images"
        )
    for folder, record in records:
        if record["split"] != split.fingerprint:
            others[folder] = None
            continue
        left_out = {HOLDOUT, str(record["fold"])}
        trained_on = [image_id for image_id in image_ids if split.parts.get(image_id, HOLDOUT) not in left_out]
        if trained_on and train_images is not None and names_only is None:
            names_only = _of_other_steel(files_of, train_images)
            if names_only:
                progress.log(f"{counted(len(names_only))} share the name of a training image and show other steel")
        trained_on = [image_id for image_id in trained_on if image_id not in (names_only or ())]
        if trained_on:
            raise InputError(
                f"{folder} was trained on images that are scored",
                f"{len(trained_on)} of {len(image_ids)}, first {trained_on[0]}",
                _remedy(image_ids, split, left_out_by_all),
            )
    for folder in others:
        progress.log(f"{folder} was trained with another split, so leakage cannot be ruled out")


def _of_other_steel(files_of: Mapping[str, Path], train_images: Path) -> set[str]:
    """The images whose namesake in `train_images` shows other steel. An unreadable image is not among them."""
    others = set()
    for image_id, path in files_of.items():
        namesake = train_images / image_id
        if path.parent.resolve() == train_images.resolve() or not namesake.is_file():
            continue
        with suppress(InputError):
            if _is_other_steel(read_grey(path), read_grey(namesake)):
                others.add(image_id)
    return others


def _remedy(image_ids: Sequence[str], split: Split, left_out: Collection[str]) -> str:
    """Name a subset that all runs left out and that is among the images, the holdout if possible."""
    scored = set(image_ids)
    for part in reversed(split.subset_names()):  # the holdout is the last one
        whole = split.ids_of(part)
        if part in left_out and scored.issuperset(whole):
            name = "the holdout" if part == HOLDOUT else f"fold {part}, which it was validated on"
            return f"Give --images {shlex.quote(f'{split.path}:{part}')} for {name} ({counted(len(whole))})"
    return "Give with --images only images that it left out, or use score --model"


def _is_other_steel(one: Grey, other: Grey) -> bool:
    """Whether two images certainly show other steel: neither is a copy or a crop of the other, mirrored or not.

    False for an image with so little texture that the search would not find a copy, and for one of many times the size.
    """
    if not all(_is_same(image, np.where(image < 255, image + 1, 254)) for image in (one, other)):
        return False
    height, width = (min(sides) for sides in zip(one.shape, other.shape, strict=True))
    pairs = [(one, other), *product(_windows(one, height, width), _windows(other, height, width))]
    return len(pairs) <= MOST_WINDOWS and not any(
        _is_same(first[::down, ::right], second) for first, second in pairs for down in (1, -1) for right in (1, -1)
    )


def _is_same(one: Grey, other: Grey) -> bool:
    first, second = find_near_duplicates(map(np.ascontiguousarray, (one, other)))
    return bool(first == second)


def _windows(image: Grey, height: int, width: int) -> list[Grey]:
    """Windows of this size, half of which overlaps the next: one of them has most of any crop of this size."""
    rows, columns = (
        [*range(0, side - part, max(part // 2, 1)), side - part]
        for side, part in zip(image.shape, (height, width), strict=True)
    )
    return [np.ascontiguousarray(image[y : y + height, x : x + width]) for y, x in product(rows, columns)]


def is_unknown(record: Record, *, data: str, split: str) -> bool:
    """Whether a record says nothing about the images of this data and split, as it has another data and split."""
    return bool(record["data"] != data and record["split"] != split)


def fault_of(record: Record, *, data: str, split: str, fold: int | None) -> tuple[str, object, object] | None:
    """Return why a model with this record leaks into a training validated on this split and fold.

    The reason is (field, value in the record, value of the training). None if the model left out the same images, or
    if the record `is_unknown`. `fold` None: the training is validated on the holdout only.
    """
    if is_unknown(record, data=data, split=split):
        return None
    if record["split"] != split:
        return "split", record["split"], split
    return ("fold", record["fold"], fold) if fold is not None and record["fold"] != fold else None
