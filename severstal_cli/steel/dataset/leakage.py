"""Images that were trained on and are to be judged by: a score on them tells nothing, so it is refused.

What trained on what is told by records, in `model.json` of a run and in the JSON beside a submission: the fingerprints
of data and split, and the fold that was left out beside the holdout, or null where none was.

    {"data": "0f3a5b...", "split": "77c0e1...", "fold": 0}
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from severstal_cli import typed
from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset.splits import HOLDOUT, Split
from severstal_cli.steel.tables.table_files import metadata_path

Record = Mapping[str, Any]


def records_of(submission: Path) -> Iterator[tuple[str, Record]]:
    """Of each run that made a submission, and of what that started from: the run's folder, and its record.

    None where nothing is told beside the submission, or it is told by another program.
    """
    path = metadata_path(submission)
    try:
        told = typed.read_table(path)
    except (OSError, ValueError):
        return
    runs = told.get("runs")
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
    """Raises ValueError: it is no record. It may have other fields."""
    names = [field.name for field in fields(_Fields)]
    if isinstance(record, dict):
        record = {name: record[name] for name in names if name in record}
    typed.make(_Fields, record)


def check_submission(submission: Path, image_ids: Sequence[str], split: Split, progress: Progress = SILENT) -> None:
    """See that the runs that made a submission were not trained on the images that count.

    Images that the split does not have were not among theirs. Which ones runs of another split had cannot be told from
    here: that is said. Raises InputError.
    """
    others: dict[str, None] = {}
    records = list(records_of(submission))
    if not records:
        progress.log(f"which runs made {submission} is not told beside it: they may have seen images that count")
    for folder, record in records:
        if record["split"] != split.fingerprint:
            others[folder] = None
            continue
        left_out = {HOLDOUT, str(record["fold"])}
        trained_on = [image_id for image_id in image_ids if split.parts.get(image_id, HOLDOUT) not in left_out]
        if trained_on:
            raise InputError(f"{folder} was trained on images that count",
                             f"{len(trained_on)} of {len(image_ids)}, first {trained_on[0]}",
                             "Give with --images those that it left out, or score --model")  # fmt: skip

    for folder in others:
        progress.log(f"{folder} was trained by another split: it may have seen images that count")


def is_unknown(record: Record, *, data: str, split: str) -> bool:
    """Whether it cannot be told what was seen of the images of this data and split: both are others."""
    return bool(record["data"] != data and record["split"] != split)


def fault_of(record: Record, *, data: str, split: str, fold: int | None) -> tuple[str, object, object] | None:
    """Why what was so trained must have no part in a training judged by this split and fold: what, there, here.

    None where it need not be refused: the same images were left out, or it `is_unknown`, as of other images.
    `fold` None: the training is judged by the holdout alone.
    """
    if is_unknown(record, data=data, split=split):
        return None
    if record["split"] != split:
        return "split", record["split"], split
    return ("fold", record["fold"], fold) if fold is not None and record["fold"] != fold else None
