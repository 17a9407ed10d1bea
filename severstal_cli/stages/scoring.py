"""`score`: the competition's mean Dice of a submission, or of runs on the holdout that nothing else has read."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config import ScoreConfig
from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import files, images, leaks, postprocess, records, rle, scores, splits, tables
from severstal_cli.steel.words import counted


def score(config: ScoreConfig, progress: Progress = SILENT) -> scores.ScoreResult:
    """Score a submission against annotations, or a run, or several averaged, against the holdout.

    Raises:
        InputError: a table is wrong, it is not clear which images count, or runs were trained on some of them.
        RunError: a run is incomplete, or the data or split is not the one that it was trained with.
    """
    if config.submission is not None and config.truth is None and not records.is_table(config.submission):
        config = dataclasses.replace(config, submission=None, runs=(config.submission, *config.runs))
    if config.submission is not None and config.truth is not None and not (config.runs or config.thresholds):
        for option, value in (("--tta", config.tta), ("--data", config.data)):
            if value is not None:
                raise InputError(f"{option} does nothing for a submission", str(value), "Leave it off")
        paths = [path for path in (config.submission, config.against) if path is not None]
        judged, *others = score_submissions(paths, config.truth, config.images, progress).scores
        return judged.summary(*others)
    if any(part is not None for part in (config.submission, config.truth, config.images)):
        raise InputError("not clear what to score", "", "Give a submission and --truth train.csv, or a run alone")
    if config.against is not None and records.is_table(config.against):
        raise InputError("a run is not compared with a submission", f"{config.against} is one",
                         "Predict the same images with the run, and compare that submission")  # fmt: skip
    found = score_runs(config, progress)
    if config.against is None:
        return found.summary()
    how = dataclasses.replace(config, runs=(config.against,), thresholds=None)  # with the same views
    other = score_runs(how, progress)
    if other.image_ids != found.image_ids or other.dice.shape != found.dice.shape:
        raise InputError(f"{config.against} has another holdout or other classes", "", "Compare runs of one split")
    return found.summary(other)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Submissions on the same images."""

    scores: tuple[scores.Scores, ...]
    tables: Mapping[Path, tables.MaskTable]
    """What was read: of each submission, and the truth."""


def score_submissions(paths: Sequence[Path], truth: Path, counting: Path | None, progress: Progress = SILENT) -> Judged:
    """Score submissions against `truth` on the same images.

    counting: the images that count, as a folder or a list. None: those of the one submission, or of several those that
    tables with a row for every image and class name. Raises InputError as `score` does.
    """
    found = {path: _read(path, "a submission.csv") for path in paths}
    true = _read(truth, "the annotations, as train.csv")
    image_ids, source = _images_that_count(found, counting, progress)
    if true.image_ids and not set(true.image_ids) & set(image_ids):
        progress.say(f"{truth} has no row for any image that counts: all {len(image_ids)} count as clean")
    split = splits.split_in(truth.parent)
    groups = None if split is None else split.groups_with(image_ids)
    for path, table in found.items():
        _tell_rows(path, table, image_ids, source, progress)
        _check_classes(path, table, truth, true)
        if split is not None:
            leaks.check_submission(path, image_ids, split, progress)
    every = (scores.score_masks(found[path].masks, true.masks, image_ids, true.classes, groups) for path in paths)
    return Judged(scores=tuple(every), tables=found | {truth: true})


def _read(path: Path, what: str) -> tables.MaskTable:
    if not path.exists():
        raise InputError(str(path), "no such file", f"Name {what}")
    if path.is_dir() and not records.is_table(path):
        raise InputError(str(path), "it is a folder, not a table", f"Name {what}; a run is compared with runs alone")
    return tables.read_table(path)


def _images_that_count(
    found: Mapping[Path, tables.MaskTable], counting: Path | None, progress: Progress
) -> tuple[Sequence[str], str]:
    """Their names, and in words where these are from."""
    first = next(iter(found))
    if counting is not None:
        source = "--images"
        if not counting.exists():
            raise InputError(str(counting), "no such file or folder", "Give --images DIR or LIST.csv")
        if counting.is_dir():
            image_ids = [path.name for path in images.find_images([counting])]
        else:
            image_ids = list(tables.read_image_list(counting).image_ids)
    else:
        # the images that one of several submissions is judged by must not be those where another one finds something
        whole = {path: table for path, table in found.items() if _is_whole(table) or len(found) == 1}
        if not whole:
            few = "has rows for defects only" if len(found[first].lines) == len(found[first].masks) else "lacks rows"
            raise InputError("not clear which images count", f"{first} {few}", "Give --images DIR or LIST.csv")
        source = " and ".join(map(str, whole))
        image_ids = list(dict.fromkeys(image_id for table in whole.values() for image_id in table.image_ids))
        progress.say(f"counting the {counted(len(image_ids))} in {source}; --images DIR or LIST.csv counts others")
    if not image_ids:
        raise InputError("no images to score", str(counting or first), "Give --images DIR or LIST.csv")
    return image_ids, source


def _is_whole(table: tables.MaskTable) -> bool:
    """It has a row for every class of each of its images, empty masks among them: not for defects only."""
    return len(table.masks) < len(table.lines) == len(table.image_ids) * table.classes


def _tell_rows(path: Path, table: tables.MaskTable, image_ids: Sequence[str], source: str, progress: Progress) -> None:
    """Tell which images have no row and which rows do not count. Raises InputError: none counts."""
    known, wanted = set(table.image_ids), set(image_ids)
    absent = [image_id for image_id in image_ids if image_id not in known]
    if len(absent) == len(image_ids) and known:
        raise InputError(f"{path} names none of the images that count",
                         f"it names {table.image_ids[0]}, wanted is {image_ids[0]}",
                         "Check that submission and images belong together")  # fmt: skip
    if absent:
        progress.say(f"without a row in {path}, and so empty: {len(absent)} of {counted(len(image_ids))}, "
                     f"first {absent[0]}")  # fmt: skip
    extra = len(known - wanted)
    if extra:
        progress.say(f"in {path}, but not in {source}, and so not counted: {counted(extra)}")


def _check_classes(path: Path, table: tables.MaskTable, truth: Path, true: tables.MaskTable) -> None:
    """A class that the truth does not know would be right wherever it is empty. Raises InputError."""
    if not table.classes and not true.classes:
        raise InputError("no classes to score", f"{path} and {truth} have no rows", "Give other files")
    if table.classes > true.classes:
        line, channel = min((line, channel) for (_, channel), line in table.lines.items() if channel >= true.classes)
        raise InputError(f"{path}, {records.place(line)}: it names class {channel + 1}", f"{truth} has {true.classes}",
                         "Remove it, or give the truth a row of that class, an empty one will do")  # fmt: skip


def score_runs(config: ScoreConfig, progress: Progress = SILENT) -> scores.Scores:
    """The scores of runs, averaged, on their holdout; their sum is kept with the first run. Raises as `score`."""
    # only here: scoring a submission works where torch is not installed
    from severstal_cli.learning import evaluation, recipe, run

    runs = recipe.runs_for(config.runs, config.thresholds, config.models, progress)
    how = recipe.read(runs, thresholds=config.thresholds, views=config.tta)
    progress.say(f"scoring {', '.join(map(str, runs))} on the holdout")
    for note in how.notes():
        progress.say(note)
    part = evaluation.open_holdout(runs, config.data, progress, how.weights)
    thresholds = how.thresholds
    is_same_data = thresholds.data_fingerprint == part.photographs.fingerprint
    if is_same_data and thresholds.split_fingerprint != part.split.fingerprint:
        raise InputError(f"{how.thresholds_path} was searched with another split", "it may know images of this holdout",
                         "Search it with a run of this split")  # fmt: skip
    masks: dict[tuple[str, int], rle.Runs] = {}
    first = min(config.batch_size, len(part.image_ids))
    began = time.monotonic()
    for number, (image_id, levels) in enumerate(
        part.levels(views=how.views, batch_size=config.batch_size, progress=progress), start=1
    ):
        found = postprocess.masks_to_runs(levels, thresholds.rules, exclusive=thresholds.exclusive)
        masks |= {(image_id, channel): runs for channel, runs in enumerate(found) if len(runs)}
        if number == first:  # the first batch also compiles, and loads what it needs; the second is not begun
            began = time.monotonic()
    # a GPU is ahead: what it has done by then was for nothing
    timed = len(part.image_ids) - first * (1 + evaluation.batches_ahead())
    images_per_s = timed / max(time.monotonic() - began, 1e-9) if timed > 0 else None
    result = scores.score_masks(masks, part.photographs.masks, part.image_ids, len(thresholds.rules), part.split.groups)
    result = dataclasses.replace(result, images_per_s=images_per_s)
    # kept with a run that was scored as it predicts by default; it may lie on a read-only disk
    is_default = [how.thresholds_path] == [folder / run.THRESHOLDS for folder in runs] and how.views == thresholds.tta
    if is_default and files.is_writable(runs[0]):
        of_what = {"data_fingerprint": part.photographs.fingerprint, "split_fingerprint": part.split.fingerprint}
        content = result.summary().to_dict() | of_what
        files.write_text(runs[0] / run.SCORE, json.dumps(content, indent=2) + "\n")
    return result
