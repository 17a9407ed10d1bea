"""`audit`: the suspected faults of annotations, and new annotations with the accepted ones."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli import files, typed
from severstal_cli.config import AcceptConfig, AuditConfig
from severstal_cli.errors import InputError, OutputError, UsageError
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.audit import accepting, disagreement, finding_table, findings
from severstal_cli.steel.dataset import data_folder, origin
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables import csv_rows, mask_table
from severstal_cli.steel.tables.csv_rows import short
from severstal_cli.steel.tables.table_files import metadata_path
from severstal_cli.wording import counted, listed

LONGEST_NAME = 100
"""Characters of the default name of an audit."""


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """The findings of an audit, ranked."""

    path: Path
    data: Path
    images: int
    findings: Sequence[findings.Finding]
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AcceptResult:
    """New annotations."""

    path: Path
    rows: int
    choices: Mapping[str, int]
    """Number of rows by decision."""
    accepted: Mapping[str, int]
    """Number of accepted rows by kind."""


def audit(config: AuditConfig, progress: Progress = SILENT) -> AuditResult:
    """Judge the annotation of each image by the runs that were not trained on it, and write `audit.csv`.

    One image at a time is in memory.

    Raises:
        InputError: a run was trained on every image, or runs do not go together.
        RunError: a run is incomplete, or its data or split has changed since the training.
        OutputError: `out` exists, or cannot be written.
    """
    # imported late: applying decisions needs no torch
    from severstal_cli.learning.inference import held_out, tta

    tta.views_of(config.tta)
    path = config.out or Path("audits") / f"{_name_of(config.runs)}.csv"
    _check_out(path, "audit without decisions", finding_table.is_undecided, overwrite=config.overwrite, own="audit")
    subset = held_out.open_unseen(config.runs, config.data, progress)
    folder, split = subset.data_folder, subset.split
    judged = {share.part for share in subset.shares}
    left = {part: len(split.ids_of(part)) for part in split.subset_names() if part not in judged}
    if left:
        progress.log(
            f"not audited: {counted(sum(left.values()))} of subsets {listed(list(left))}, which all of these "
            "runs were trained on"
        )
    exclusive = all(card.exclusive for card in subset.cards)

    def find(item: tuple[str, NDArray[np.uint8]]) -> tuple[str, list[findings.Finding], list[float]]:
        image_id, levels = item
        drawn = [folder.masks.get((image_id, channel), rle.EMPTY) for channel in range(len(levels))]
        return image_id, *findings.find(image_id, levels, drawn, exclusive=exclusive)

    levels_of = subset.levels(views=config.tta, exclusive=False, batch_size=config.batch_size, progress=progress)
    found: list[findings.Finding] = []
    expected_dice: dict[str, list[float]] = {}
    # bounded: levels are large
    for image_id, of_image, dice in map_in_order(find, levels_of, ahead=2 * (os.cpu_count() or 1), name="audit"):
        found += of_image
        expected_dice[image_id] = dice
    found += disagreement.find(folder.cache, split.groups, folder.masks, expected_dice, folder.classes)
    ranked = finding_table.ranked(found)
    finding_table.write(path, ranked)
    metadata = {
        "audit": str(path),
        "data": str(folder.folder.resolve()),
        "data_fingerprint": folder.fingerprint,
        "split_fingerprint": split.fingerprint,
        "runs": list(map(str, config.runs)),
        "tta": config.tta,
        "images": len(expected_dice),
        "class_names": subset.class_names,
    }
    files.write_text(metadata_path(path), json.dumps(metadata, indent=2) + "\n")
    return AuditResult(
        path=path, data=folder.folder, images=len(expected_dice), findings=ranked, class_names=subset.class_names
    )


def apply(config: AcceptConfig, progress: Progress = SILENT) -> AcceptResult:
    """Write new annotations with the accepted rows of `decisions`, and the JSON with their origin beside them.

    Raises:
        InputError: the data or the decisions are wrong or do not fit together, no row is accepted, or accepted rows
            contradict each other. Nothing is written.
        OutputError: `out` exists, or cannot be written.
    """
    old = config.data / "train.csv"
    for path, what in ((old, "the audited annotations"), (config.decisions, "the decisions")):
        if path.exists() and config.out.exists() and path.samefile(config.out):
            raise UsageError(f"{config.out} would be overwritten", f"it is {what}", "Give another file with --out")
    _check_out(
        config.out, "table of annotations", finding_table.is_annotations, overwrite=config.overwrite, own=origin.FIELD
    )
    decisions = finding_table.read_decisions(config.decisions)
    choices = Counter(decision.choice for decision in decisions)
    if not choices[finding_table.ACCEPT]:
        raise InputError(
            f"{config.decisions} accepts no row",
            f"{counted(len(decisions), 'row')}",
            "Set Decision to accept in the rows to apply",
        )
    folder = data_folder.open_data_folder(config.data, progress)
    cache = folder.cache
    sizes = {name: (int(cache.sizes[row][0]), int(cache.sizes[row][1])) for name, row in cache.index.items()}
    masks = accepting.accept(
        config.decisions, decisions, folder.masks, sizes, folder.class_ids, exclusive=folder.exclusive()
    )
    table = mask_table.read_table(old)
    rows = _rows(table, masks)
    written = mask_table.write_table(
        config.out,
        masks,
        list(dict.fromkeys(image_id for image_id, _ in rows)),
        table.classes,
        layout=table.layout,
        columns=[name for name in table.columns if name in table.layout.form.columns],
        rows=rows,
    )
    accepted = Counter(str(each.finding.kind) for each in decisions if each.choice == finding_table.ACCEPT)
    origin.write(
        config.out,
        data=data_folder.fingerprint_of(dataclasses.replace(table, masks=masks), cache),
        origin=folder.fingerprint,
        decisions=str(config.decisions),
        accepted=accepted,
    )
    return AcceptResult(path=config.out, rows=written, choices=choices, accepted=accepted)


def _name_of(runs: Sequence[Path]) -> str:
    names = [run.name or run.resolve().name for run in runs]
    whole = "-".join(names)
    return whole if len(whole) <= LONGEST_NAME else f"{short(names[0])}-and-{len(names) - 1}-more"


def _check_out(path: Path, what: str, is_own: Callable[[Sequence[str]], bool], *, overwrite: bool, own: str) -> None:
    """Check that `path` can be written, and replaces nothing but a file of its kind.

    what: the kind of file. is_own: whether a file with these columns is of this kind. own: a field of the JSON beside
    an earlier result, which may be replaced with it. Raises SeverstalError.
    """
    if path.suffix == ".json" or path.name in ("", ".."):
        raise UsageError("wrong name for a table", str(path), "A JSON of that name is written beside it")
    if path.exists() and not path.is_dir():
        if not overwrite:
            raise OutputError(f"{path} exists already", "", "Give another file, or replace it by --overwrite")
        if not is_own(_columns_of(path)):
            raise UsageError(f"{path} would be overwritten", f"it is no {what}", "Give another file with --out")
    beside = metadata_path(path)
    if beside.exists():
        try:
            content = typed.read(beside)
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict) or own not in content:
            raise InputError(f"{beside} exists and is of another command", "", "Choose another name for --out")
    for each in (path, beside):
        files.check_writable(each)


def _columns_of(path: Path) -> tuple[str, ...]:
    """The header of a CSV file; () of a file that is none."""
    try:
        return csv_rows.open_rows(path).columns
    except InputError:
        return ()


def _rows(table: mask_table.MaskTable, masks: Mapping[accepting.Key, rle.RLE]) -> list[tuple[str, int]]:
    """(image_id, class_id) of the rows of the new table: those of the old one, and new ones after those of their image.

    Where the old table has rows for defects only, so has the new one, but a class keeps one row.
    """
    new: dict[str, list[int]] = {}
    for image_id, channel in masks:
        if (image_id, channel) not in table.lines:
            new.setdefault(image_id, []).append(channel)
    has_empty_rows = table.layout is mask_table.Layout.ORIGINAL or len(table.lines) > len(table.masks)
    by_image: dict[str, list[int]] = {image_id: [] for image_id in table.image_ids}
    for image_id, channel in table.lines:
        if has_empty_rows or (image_id, channel) in masks:
            by_image[image_id].append(channel)
    whole = table.layout is mask_table.Layout.ORIGINAL
    for image_id, channels in new.items():
        if image_id not in by_image and whole:
            by_image[image_id] = [class_id - 1 for class_id in table.class_ids]
        else:
            by_image[image_id] = [*by_image.get(image_id, ()), *sorted(channels)]
    rows = [(image_id, channel + 1) for image_id, channels in by_image.items() for channel in channels]
    named = {class_id for _, class_id in rows}
    rows += [(table.image_ids[0], class_id) for class_id in table.class_ids if class_id not in named]
    return rows
