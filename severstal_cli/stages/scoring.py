"""`score`: the competition's mean Dice of a submission, or of runs on the holdout set."""

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
from severstal_cli.steel import class_names
from severstal_cli.steel.dataset import agreement, leakage, splits
from severstal_cli.steel.images.image_files import find_images, id_of, in_folders, same_stem_names
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.scoring import scores
from severstal_cli.steel.tables import csv_rows, mask_table
from severstal_cli.wording import counted


def score(config: ScoreConfig, progress: Progress = SILENT) -> scores.ScoreResult:
    """Score a submission against annotations, or a run or an ensemble of runs on the holdout set.

    Raises:
        InputError: a table is wrong, the images to score are unclear, or runs were trained on some of them.
        RunError: a run is incomplete, or was trained with other data or another split.
    """
    if config.submission is not None and config.truth is None and not csv_rows.is_table(config.submission):
        config = dataclasses.replace(config, submission=None, runs=(config.submission, *config.runs))
    if config.submission is not None and config.truth is not None and not (config.runs or config.thresholds):
        for option, value in (("--tta", config.tta), ("--data", config.data)):
            if value is not None:
                raise InputError(f"{option} does nothing for a submission", str(value), "Omit it")
        paths = [path for path in (config.submission, config.against) if path is not None]
        scored, *others = score_submissions(paths, config.truth, config.images, progress, config.class_names).scores
        return scored.summary(*others)
    if any(given is not None for given in (config.submission, config.truth, config.images)):
        raise InputError("unclear what to score", "", "Give a submission and --truth train.csv, or only a run")
    if config.against is not None and csv_rows.is_table(config.against):
        raise InputError(
            "a run cannot be compared with a submission",
            f"{config.against} is one",
            "Predict the same images with the run, and compare that submission",
        )
    scored_run = score_runs(config, progress)
    if config.against is None:
        return scored_run.summary()
    other = score_runs(dataclasses.replace(config, runs=(config.against,), thresholds=None), progress)  # same TTA views
    if other.image_ids != scored_run.image_ids or other.class_ids != scored_run.class_ids:
        raise InputError(f"{config.against} has another holdout or other classes", "", "Compare runs of one split")
    return scored_run.summary(other)


@dataclass(frozen=True, kw_only=True)
class ScoredSubmissions:
    """Scores of submissions on the same images."""

    scores: tuple[scores.Scores, ...]
    tables: Mapping[Path, mask_table.MaskTable]
    """Every table by its path: the submissions and the ground truth."""
    files: Mapping[str, Path]
    """image_id -> file, of scored images with a known file."""


def score_submissions(
    paths: Sequence[Path],
    truth: Path,
    counting: Path | None,
    progress: Progress = SILENT,
    names: Sequence[str] = (),
) -> ScoredSubmissions:
    """Score submissions against `truth` on the same images, in any order of rows.

    counting: a folder or list of the images to score. None: the images of the submission; of several submissions, the
    images of those with a row per image and class. names: of the classes; () for those beside `truth`.
    Raises InputError as `score` does.
    """
    tables = {path: _read(path, "a submission.csv", progress) for path in paths}
    true = _read(truth, "the annotations, as train.csv", progress)
    names = class_names.names_for(truth, true.classes, names)
    image_ids, source = _images_to_score(tables, (truth, true), counting, progress)
    image_ids = sorted(image_ids)
    beside = (truth.parent / "train_images", truth.parent / "test_images")
    files_of = in_folders(beside if counting is None else (counting, *beside), image_ids)
    split = splits.split_in(truth.parent)
    groups = None if split is None else split.groups_with(image_ids)
    for path, table in tables.items():
        _check_rows(path, table, image_ids, source, progress)
        agreement.check_classes(path, table, truth, true, progress)
        if split is not None:
            leakage.check_submission(path, image_ids, split, progress, files_of=files_of, train_images=beside[0])
    _check_truth(truth, true, image_ids, files_of, progress)
    _check_sizes(tables | {truth: true}, image_ids, files_of, progress)
    mask_table.log_gaps(truth, true, progress)
    every = tuple(
        dataclasses.replace(
            scores.score_masks(tables[path].masks, true.masks, image_ids, true.classes, groups, true.class_ids),
            class_names=tuple(names),
        )
        for path in paths
    )
    return ScoredSubmissions(scores=every, tables=tables | {truth: true}, files=files_of)


def _read(path: Path, what: str, progress: Progress) -> mask_table.MaskTable:
    if not path.exists():
        raise InputError(str(path), "no such file", f"Give {what}")
    if path.is_dir() and not csv_rows.is_table(path):
        raise InputError(str(path), "it is a folder, not a table", f"Give {what}; runs are compared with runs only")
    table = mask_table.read_table(path)
    mask_table.log_merged(path, table, progress)
    return table


def _images_to_score(
    tables: Mapping[Path, mask_table.MaskTable],
    truth: tuple[Path, mask_table.MaskTable],
    counting: Path | None,
    progress: Progress,
) -> tuple[Sequence[str], str]:
    """The image_ids, and their source in words."""
    first = next(iter(tables))
    if counting is not None:
        source = "--images"
        if not counting.exists() and ":" not in counting.name:  # data/splits.csv:holdout
            raise InputError(str(counting), "no such file or folder", "Give --images DIR or LIST.csv")
        if counting.is_dir():
            image_ids = list(map(id_of, find_images([counting], progress)))
        else:
            image_ids = list(mask_table.read_image_list(counting).image_ids)
    else:
        # tables with rows for defects only must not choose the images that another submission is scored on
        whole = {path: table for path, table in tables.items() if _is_whole(table)}
        if not whole and len(tables) > 1:
            few = "has rows for defects only" if len(tables[first].lines) == len(tables[first].masks) else "lacks rows"
            raise InputError("unclear which images to score", f"{first} {few}", "Give --images DIR or LIST.csv")
        named_in = whole or tables
        source = " and ".join(map(str, named_in))
        image_ids = list(dict.fromkeys(image_id for table in named_in.values() for image_id in table.image_ids))
        progress.log(f"scoring the {counted(len(image_ids))} of {source}; choose others by --images DIR or LIST.csv")
        missed = len({image_id for image_id, _ in truth[1].masks}.difference(image_ids))
        if missed and not whole:
            progress.log(
                f"not scored: {counted(missed, 'image')} with masks in {truth[0]}, but without a row in "
                f"{source}; to score them, give --images"
            )
    if not image_ids:
        raise InputError("no images to score", str(counting or first), "Give --images DIR or LIST.csv")
    return image_ids, source


def _is_whole(table: mask_table.MaskTable) -> bool:
    """Whether a table has a row for every class of each of its images, not for defects only."""
    return len(table.masks) < len(table.lines) == len(table.image_ids) * len(table.class_ids)


def _check_truth(
    truth: Path, true: mask_table.MaskTable, image_ids: Sequence[str], files_of: Mapping[str, Path], progress: Progress
) -> None:
    """Check that the ground truth fits the scored images, and log how many have no row. Raises InputError.

    If all images are from the annotated folder, none needs a row: they are clean.
    """
    absent = len(set(image_ids) - set(true.image_ids))
    folders = {path.parent for path in files_of.values()} if len(files_of) == len(image_ids) else set()
    if (
        absent < len(image_ids)
        or folders != {truth.parent / "train_images"}
        or same_stem_names(image_ids, true.image_ids)
    ):
        agreement.check_names(truth, true, image_ids, "that count")
    if absent and true.image_ids:
        progress.log(f"no row in {truth}, counted as clean: {absent:,} of {counted(len(image_ids))}")


def _check_sizes(
    tables: Mapping[Path, mask_table.MaskTable],
    image_ids: Sequence[str],
    files_of: Mapping[str, Path],
    progress: Progress,
) -> None:
    """Check that no mask reaches past the end of its image, as `check` does. Raises InputError."""
    with_masks = {image_id for table in tables.values() for image_id, _ in table.masks}.intersection(image_ids)
    known = {image_id: files_of[image_id] for image_id in sorted(with_masks & files_of.keys())}
    if len(known) < len(with_masks):
        which = "" if not known else f" in {len(with_masks) - len(known):,} of {counted(len(with_masks))} with masks"
        progress.log(
            f"runs past the end of an image were not checked{which}: the image files are unknown; give --images DIR"
        )
    if not known:
        return
    sizes, wrong = agreement.sizes_of(known, progress)
    if wrong:
        progress.log(agreement.unread(wrong))
    for path, table in tables.items():
        agreement.check_inside(path, table, sizes)


def _check_rows(
    path: Path, table: mask_table.MaskTable, image_ids: Sequence[str], source: str, progress: Progress
) -> None:
    """Log which images have no row and which rows are not scored. Raises InputError as `check_names`."""
    agreement.check_names(path, table, image_ids, "that count")
    known, wanted = set(table.image_ids), set(image_ids)
    absent = [image_id for image_id in image_ids if image_id not in known]
    if absent:
        progress.log(
            f"no row in {path}, counted as empty: {len(absent)} of {counted(len(image_ids))}, first {absent[0]}"
        )
    extra = len(known - wanted)
    if extra:
        progress.log(f"not scored: {counted(extra)} in {path}, but not in {source}")


def score_runs(config: ScoreConfig, progress: Progress = SILENT) -> scores.Scores:
    """Score an ensemble of runs on its holdout set; the summary is kept with the first run. Raises as `score` does."""
    # imported late: scoring a submission needs no torch
    from severstal_cli.learning.inference import ensemble, held_out
    from severstal_cli.learning.runs import run_folder

    runs = ensemble.runs_for(config.runs, config.thresholds, config.models, progress)
    how = ensemble.read(runs, thresholds=config.thresholds, views=config.tta)
    progress.log(f"scoring {', '.join(map(str, runs))} on the holdout")
    for note in how.notes():
        progress.log(note)
    subset = held_out.open_holdout(runs, config.data, progress, how.weights)
    thresholds = how.thresholds
    class_names.check_count(config.class_names, len(thresholds.rules), "--class-names", runs[0])
    is_same_data = thresholds.data_fingerprint == subset.data_folder.fingerprint
    if is_same_data and thresholds.split_fingerprint != subset.split.fingerprint:
        raise InputError(
            f"{how.thresholds_path} was searched with another split",
            "its images may be in this holdout",
            "Search it with a run of this split",
        )
    masks: dict[tuple[str, int], rle.RLE] = {}
    first = min(config.batch_size, len(subset.image_ids))
    began = time.monotonic()
    for number, (image_id, levels) in enumerate(
        subset.levels(views=how.views, exclusive=thresholds.exclusive, batch_size=config.batch_size, progress=progress),
        start=1,
    ):
        found = postprocess.levels_to_rle(levels, thresholds.rules)
        masks |= {(image_id, channel): runs for channel, runs in enumerate(found) if len(runs)}
        if number == first:  # the first batch also compiles and loads libraries; the second one has not begun
            began = time.monotonic()
    # a GPU is ahead by some batches: their time is not measured
    timed = len(subset.image_ids) - first * (1 + held_out.batches_ahead())
    images_per_s = timed / max(time.monotonic() - began, 1e-9) if timed > 0 else None
    result = scores.score_masks(
        masks,
        subset.data_folder.masks,
        subset.image_ids,
        len(thresholds.rules),
        subset.split.groups,
        subset.data_folder.class_ids,
    )
    names = config.class_names or subset.class_names
    result = dataclasses.replace(result, images_per_s=images_per_s, class_names=names)
    # kept with a run that was scored with its own post-processing and views, unless its disk is read-only
    is_default = [how.thresholds_path] == [
        folder / run_folder.THRESHOLDS for folder in runs
    ] and how.views == thresholds.tta
    if is_default and files.is_writable(runs[0]):
        data = {"data_fingerprint": subset.data_folder.fingerprint, "split_fingerprint": subset.split.fingerprint}
        content = result.summary().to_dict() | data
        files.write_text(runs[0] / run_folder.SCORE, json.dumps(content, indent=2) + "\n")
    return result
