"""`score`: the competition's mean Dice of a submission, or of runs on the holdout that nothing else has read."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli import files
from severstal_cli.config import ScoreConfig
from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset import agreement, leakage, splits
from severstal_cli.steel.images.image_files import find_images, id_of, in_folders, other_endings
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.scoring import scores
from severstal_cli.steel.tables import csv_rows, mask_table
from severstal_cli.wording import counted, spans


def score(config: ScoreConfig, progress: Progress = SILENT) -> scores.ScoreResult:
    """Score a submission against annotations, or a run, or several averaged, against the holdout.

    Raises:
        InputError: a table is wrong, it is not clear which images count, or runs were trained on some of them.
        RunError: a run is incomplete, or the data or split is not the one that it was trained with.
    """
    if config.submission is not None and config.truth is None and not csv_rows.is_table(config.submission):
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
    if config.against is not None and csv_rows.is_table(config.against):
        raise InputError("a run is not compared with a submission", f"{config.against} is one",
                         "Predict the same images with the run, and compare that submission")  # fmt: skip
    found = score_runs(config, progress)
    if config.against is None:
        return found.summary()
    how = dataclasses.replace(config, runs=(config.against,), thresholds=None)  # with the same views
    other = score_runs(how, progress)
    if other.image_ids != found.image_ids or other.class_ids != found.class_ids:
        raise InputError(f"{config.against} has another holdout or other classes", "", "Compare runs of one split")
    return found.summary(other)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Submissions on the same images."""

    scores: tuple[scores.Scores, ...]
    tables: Mapping[Path, mask_table.MaskTable]
    """What was read: of each submission, and the truth."""
    files: Mapping[str, Path]
    """The images that count by their ids, as far as it is known where they are."""


def score_submissions(paths: Sequence[Path], truth: Path, counting: Path | None, progress: Progress = SILENT) -> Judged:
    """Score submissions against `truth` on the same images, whatever the order of rows.

    counting: the images that count, as a folder or a list. None: those of the one submission, or of several those that
    tables with a row for every image and class name. Raises InputError as `score` does.
    """
    found = {path: _read(path, "a submission.csv", progress) for path in paths}
    true = _read(truth, "the annotations, as train.csv", progress)
    image_ids, source = _images_that_count(found, (truth, true), counting, progress)
    image_ids = sorted(image_ids)
    beside = (truth.parent / "train_images", truth.parent / "test_images")
    files_of = in_folders(beside if counting is None else (counting, *beside), image_ids)
    split = splits.split_in(truth.parent)
    groups = None if split is None else split.groups_with(image_ids)
    for path, table in found.items():
        _check_rows(path, table, image_ids, source, progress)
        _check_classes(path, table, truth, true, progress)
        if split is not None:
            leakage.check_submission(path, image_ids, split, progress)
    _check_truth(truth, true, image_ids, files_of, progress)
    _check_sizes(found | {truth: true}, image_ids, files_of, progress)
    mask_table.log_gaps(truth, true, progress)
    every = tuple(
        scores.score_masks(found[path].masks, true.masks, image_ids, true.classes, groups, true.class_ids)
        for path in paths
    )
    return Judged(scores=every, tables=found | {truth: true}, files=files_of)


def _read(path: Path, what: str, progress: Progress) -> mask_table.MaskTable:
    if not path.exists():
        raise InputError(str(path), "no such file", f"Name {what}")
    if path.is_dir() and not csv_rows.is_table(path):
        raise InputError(str(path), "it is a folder, not a table", f"Name {what}; a run is compared with runs alone")
    table = mask_table.read_table(path)
    mask_table.log_merged(path, table, progress)
    return table


def _images_that_count(
    found: Mapping[Path, mask_table.MaskTable],
    truth: tuple[Path, mask_table.MaskTable],
    counting: Path | None,
    progress: Progress,
) -> tuple[Sequence[str], str]:
    """Their names, and in words where these are from."""
    first = next(iter(found))
    if counting is not None:
        source = "--images"
        if not counting.exists() and ":" not in counting.name:  # data/splits.csv:holdout
            raise InputError(str(counting), "no such file or folder", "Give --images DIR or LIST.csv")
        if counting.is_dir():
            image_ids = list(map(id_of, find_images([counting], progress)))
        else:
            image_ids = list(mask_table.read_image_list(counting).image_ids)
    else:
        # the images that one of several submissions is judged by must not be those where another one finds something
        whole = {path: table for path, table in found.items() if _is_whole(table)}
        if not whole and len(found) > 1:
            few = "has rows for defects only" if len(found[first].lines) == len(found[first].masks) else "lacks rows"
            raise InputError("not clear which images count", f"{first} {few}", "Give --images DIR or LIST.csv")
        counted_in = whole or found
        source = " and ".join(map(str, counted_in))
        image_ids = list(dict.fromkeys(image_id for table in counted_in.values() for image_id in table.image_ids))
        progress.log(f"counting the {counted(len(image_ids))} in {source}; --images DIR or LIST.csv counts others")
        missed = len({image_id for image_id, _ in truth[1].masks}.difference(image_ids))
        if missed and not whole:
            progress.log(f"not counted, though {truth[0]} has masks there: {counted(missed, 'image')} without a row in "
                         f"{source}. If it is to find them, give --images")  # fmt: skip
    if not image_ids:
        raise InputError("no images to score", str(counting or first), "Give --images DIR or LIST.csv")
    return image_ids, source


def _is_whole(table: mask_table.MaskTable) -> bool:
    """It has a row for every class of each of its images, empty masks among them: not for defects only."""
    return len(table.masks) < len(table.lines) == len(table.image_ids) * len(table.class_ids)


def _check_truth(
    truth: Path, true: mask_table.MaskTable, image_ids: Sequence[str], files_of: Mapping[str, Path], progress: Progress
) -> None:
    """See that the truth is of the images that count, and say how many have no row. Raises InputError.

    That none has a row may be right for images of the annotated folder: they are clean.
    """
    absent = len(set(image_ids) - set(true.image_ids))
    folders = {path.parent for path in files_of.values()} if len(files_of) == len(image_ids) else set()
    if (
        absent < len(image_ids)
        or folders != {truth.parent / "train_images"}
        or other_endings(image_ids, true.image_ids)
    ):
        agreement.check_names(truth, true, image_ids, "that count")
    if absent and true.image_ids:
        progress.log(f"without a row in {truth}, and so clean: {absent:,} of {counted(len(image_ids))}")


def _check_sizes(
    found: Mapping[Path, mask_table.MaskTable],
    image_ids: Sequence[str],
    files_of: Mapping[str, Path],
    progress: Progress,
) -> None:
    """See that no mask reaches past the end of its image, as `check` does. Raises InputError."""
    with_masks = {image_id for table in found.values() for image_id, _ in table.masks}.intersection(image_ids)
    known = {image_id: files_of[image_id] for image_id in sorted(with_masks & files_of.keys())}
    if len(known) < len(with_masks):
        of = "" if not known else f" in {len(with_masks) - len(known):,} of {counted(len(with_masks))} with masks"
        progress.log(f"runs past the end were not looked for{of}: it is not known where the images are; give --images "
                     "DIR")  # fmt: skip
    if not known:
        return
    sizes, wrong = agreement.sizes_of(known, progress)
    if wrong:
        progress.log(agreement.unread(wrong))
    for path, table in found.items():
        agreement.check_inside(path, table, sizes)


def _check_rows(
    path: Path, table: mask_table.MaskTable, image_ids: Sequence[str], source: str, progress: Progress
) -> None:
    """Report which images have no row and which rows do not count. Raises InputError as `check_names`."""
    agreement.check_names(path, table, image_ids, "that count")
    known, wanted = set(table.image_ids), set(image_ids)
    absent = [image_id for image_id in image_ids if image_id not in known]
    if absent:
        progress.log(f"without a row in {path}, and so empty: {len(absent)} of {counted(len(image_ids))}, "
                     f"first {absent[0]}")  # fmt: skip
    extra = len(known - wanted)
    if extra:
        progress.log(f"in {path}, but not in {source}, and so not counted: {counted(extra)}")


def _check_classes(
    path: Path, table: mask_table.MaskTable, truth: Path, true: mask_table.MaskTable, progress: Progress
) -> None:
    """A class that the truth does not name would be right wherever it is empty: it does not count.

    Raises InputError: no class counts, or there are masks of such a class.
    """
    if not table.classes and not true.classes:
        raise InputError("no classes to score", f"{path} and {truth} have no rows", "Give other files")
    unknown = set(table.class_ids) - set(true.class_ids)
    rows = table.masks if true.class_ids else table.lines
    wrong = [(table.lines[key], key[1] + 1) for key in rows if key[1] + 1 in unknown] if unknown else []
    if wrong:
        line, class_id = min(wrong)
        is_gap = class_id < true.classes
        raise InputError(f"{path}, {csv_rows.place(line)}: it names class {class_id}",
                         f"{truth} has {spans(true.class_ids) if is_gap else true.classes}",
                         "Remove it, or give the truth a row of that class, an empty one will do")  # fmt: skip
    if unknown:
        progress.log(f"{path} has empty rows alone of what {truth} does not name, and so not counted: "
                     f"class {spans(sorted(unknown))}")  # fmt: skip


def score_runs(config: ScoreConfig, progress: Progress = SILENT) -> scores.Scores:
    """The scores of runs, averaged, on their holdout; their sum is kept with the first run. Raises as `score`."""
    # only here: scoring a submission works where torch is not installed
    from severstal_cli.learning.inference import ensemble, held_out
    from severstal_cli.learning.runs import run_folder

    runs = ensemble.runs_for(config.runs, config.thresholds, config.models, progress)
    how = ensemble.read(runs, thresholds=config.thresholds, views=config.tta)
    progress.log(f"scoring {', '.join(map(str, runs))} on the holdout")
    for note in how.notes():
        progress.log(note)
    part = held_out.open_holdout(runs, config.data, progress, how.weights)
    thresholds = how.thresholds
    is_same_data = thresholds.data_fingerprint == part.data_folder.fingerprint
    if is_same_data and thresholds.split_fingerprint != part.split.fingerprint:
        raise InputError(f"{how.thresholds_path} was searched with another split", "it may know images of this holdout",
                         "Search it with a run of this split")  # fmt: skip
    masks: dict[tuple[str, int], rle.RLE] = {}
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
    timed = len(part.image_ids) - first * (1 + held_out.batches_ahead())
    images_per_s = timed / max(time.monotonic() - began, 1e-9) if timed > 0 else None
    result = scores.score_masks(masks, part.data_folder.masks, part.image_ids, len(thresholds.rules), part.split.groups,
                                part.data_folder.class_ids)  # fmt: skip
    result = dataclasses.replace(result, images_per_s=images_per_s)
    # kept with a run that was scored as it predicts by default; it may lie on a read-only disk
    is_default = [how.thresholds_path] == [
        folder / run_folder.THRESHOLDS for folder in runs
    ] and how.views == thresholds.tta
    if is_default and files.is_writable(runs[0]):
        of_what = {"data_fingerprint": part.data_folder.fingerprint, "split_fingerprint": part.split.fingerprint}
        content = result.summary().to_dict() | of_what
        files.write_text(runs[0] / run_folder.SCORE, json.dumps(content, indent=2) + "\n")
    return result
