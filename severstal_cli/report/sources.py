"""Builds the content of a report from runs, which predict images of their own data, and from submissions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from severstal_cli.config import ReportConfig
from severstal_cli.errors import InputError
from severstal_cli.progress import Progress
from severstal_cli.report import images
from severstal_cli.report.content import Candidate, Content
from severstal_cli.steel import class_names
from severstal_cli.steel.dataset import leakage, splits
from severstal_cli.steel.dataset.agreement import check_classes, check_inside, check_names
from severstal_cli.steel.images import image_files, surveys
from severstal_cli.steel.tables import confidence, mask_table
from severstal_cli.steel.tables.mask_table import MaskTable
from severstal_cli.wording import spans


def gather(config: ReportConfig, site: Path, progress: Progress) -> Content:
    """Build what a report shows, and write images and levels to `site` meanwhile. Raises the errors of the stage."""
    if any(is_run(path) for path in config.shown):
        return _from_runs(config, site, progress)
    return _from_submissions(config, site, progress)


def is_run(path: Path) -> bool:
    """Whether `path` is the folder of a trained model; every other path counts as a submission."""
    return (path / "model.json").is_file()


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last components of `paths`, extended by parents or by numbers until all differ."""
    ends = [path.name.removesuffix(".csv") or path.resolve().name for path in paths]
    if len(set(ends)) < len(ends):
        ends = ["-".join(part for part in path.with_suffix("").parts if part not in ("/", "..")) for path in paths]
    return ends if len(set(ends)) == len(ends) else [f"{end}-{number}" for number, end in enumerate(ends, start=1)]


def _from_runs(config: ReportConfig, site: Path, progress: Progress) -> Content:
    """Runs, and submissions for the same images."""
    # imported here, so that a report of submissions does not import torch
    from severstal_cli.learning.inference import ensemble, held_out
    from severstal_cli.report import run_predictions

    if config.truth is not None or config.images is not None:
        raise InputError(
            "not clear which images to show",
            "a run shows images of its own data",
            "Leave out --truth and --images, or name submissions only",
        )
    runs = [path for path in config.shown if is_run(path)]
    tables = {path: _read(path, progress) for path in config.shown if path not in runs}
    open_subset = held_out.open_holdout if config.part == splits.HOLDOUT else held_out.open_validation
    ensembles = {run: ensemble.read([run]) for run in runs}
    subsets = {run: open_subset([run], config.data, progress) for run in runs}
    first = subsets[runs[0]]
    for run, subset in subsets.items():
        if subset.image_ids != first.image_ids or subset.data_folder.folder != first.data_folder.folder:
            raise InputError(f"{run} left out other images than {runs[0]}", "", "Show runs of one fold of one split")
    _check_gaps(first.data_folder.folder / "train.csv", first.data_folder.class_ids)
    cache = first.data_folder.cache
    sizes = cache.sizes[[cache.index[name] for name in first.image_ids]]
    size_of = dict(zip(first.image_ids, map(tuple, sizes.tolist()), strict=True))
    classes = len(ensembles[runs[0]].thresholds.rules)
    class_names.check_count(config.class_names, classes, "--class-names", runs[0])
    for path, table in tables.items():
        if table.classes > classes:
            raise InputError(
                f"{path} has classes 1 to {table.classes}",
                f"{runs[0]} has {classes}",
                "Show a submission for the same classes",
            )
        _check_table(path, table, size_of, progress)
        leakage.check_submission(path, first.image_ids, first.split, progress)
    images.write(site, first.image_ids, lambda name: cache[cache.index[name]], progress)
    candidates = []
    for number, (name, path) in enumerate(zip(short_names(config.shown), config.shown, strict=True)):
        if path in tables:
            candidates.append(_submission(name, path, tables[path], first.image_ids, classes))
            continue
        for note in ensembles[path].notes():
            progress.log(note)
        candidates.append(
            run_predictions.predict(name, number, ensembles[path], subsets[path], site, config.batch_size, progress)
        )
    part = "the holdout" if config.part == splits.HOLDOUT else f"fold {first.shares[0].part}"
    return Content(
        title=f"{part} of {first.data_folder.folder.resolve().name}",
        image_ids=first.image_ids,
        sizes=sizes.astype(np.int64),
        classes=classes,
        true=first.data_folder.masks,
        groups=first.split.groups,
        candidates=tuple(candidates),
        class_names=config.class_names or first.class_names,
    )


def _from_submissions(config: ReportConfig, site: Path, progress: Progress) -> Content:
    tables = {path: _read(path, progress) for path in config.shown}
    paths, folder = _images_of(config, tables, progress)
    image_ids = tuple(paths)
    truth = config.truth
    if truth is None and config.data is not None and folder == config.data / "train_images":
        truth = config.data / "train.csv"
    true, split = None, None
    if truth is None:
        progress.log("nothing is scored without --truth")
    else:
        true = _read(truth, progress)
        check_names(truth, true, image_ids, "to show")
        _check_gaps(truth, true.class_ids)
        split = splits.split_in(truth.parent)
    if split is not None and truth is not None:
        for path in tables:
            leakage.check_submission(
                path, image_ids, split, progress, files_of=paths, train_images=truth.parent / "train_images"
            )
    classes = max(table.classes for table in tables.values())
    if truth is not None and true is not None:
        classes = true.classes
        for path, table in tables.items():
            check_classes(path, table, truth, true, progress)
    if not classes:
        raise InputError("no classes to show", "no table has rows", "Give other files")
    table_path = truth or config.shown[0]
    names = class_names.names_for(table_path, classes, config.class_names) if truth or config.class_names else ()
    sizes = images.write(site, image_ids, surveys.reader(paths), progress)
    size_of = dict(zip(image_ids, sizes, strict=True))
    for path, table in tables.items():
        _check_table(path, table, size_of, progress)
    if truth is not None and true is not None:
        check_inside(truth, true, size_of)
    return Content(
        title=f"{len(image_ids):,} images of {folder.resolve().name}",
        image_ids=image_ids,
        sizes=np.array(sizes, np.int64).reshape(-1, 2),
        classes=classes,
        true=None if true is None else true.masks,
        groups=None if split is None else split.groups_with(image_ids),
        candidates=tuple(
            _submission(name, path, table, image_ids, classes)
            for (path, table), name in zip(tables.items(), short_names(config.shown), strict=True)
        ),
        class_names=names,
    )


def _read(path: Path, progress: Progress) -> MaskTable:
    """Read a submission or ground truth. Raises InputError."""
    if path.suffix == ".json":
        raise InputError(f"{path} is not a submission", "", "Predict with --thresholds, and show the submission")
    if path.is_dir() and not any(path.glob("part-*.csv")):
        raise InputError(f"{path} is not a run", "it has no model.json", "Name the folder of a run, or a submission")
    table = mask_table.read_table(path)
    mask_table.log_merged(path, table, progress)
    return table


def _submission(name: str, path: Path, table: MaskTable, image_ids: Sequence[str], classes: int) -> Candidate:
    """A submission, with the confidence of its rows if the scores file exists beside it."""
    expected_dice, scores_path = None, confidence.scores_path(path)
    if scores_path.is_file():
        scores = confidence.read_scores(scores_path)
        expected_dice = np.array(
            [[scores.get((name, channel), 1.0) for channel in range(classes)] for name in image_ids]
        )
    return Candidate(name=name, masks=table.masks, confidence=expected_dice)


def _images_of(
    config: ReportConfig, tables: Mapping[Path, MaskTable], progress: Progress
) -> tuple[dict[str, Path], Path]:
    """The images that submissions are shown on, by id, and the folder that holds them."""
    given = config.images
    if given is not None and given.is_dir():
        return surveys.images_of(given, progress)[0], given
    if given is not None:
        image_ids = mask_table.read_image_list(given).image_ids
    else:
        image_ids = tuple(dict.fromkeys(name for table in tables.values() for name in table.image_ids))
        progress.log(f"showing the {len(image_ids):,} images with a row; --images DIR or LIST.csv shows others")
    if not image_ids:
        raise InputError("no images to show", f"{config.shown[0]} has no rows", "Give --images DIR")
    parents = [path for path in (config.data, config.truth and config.truth.parent) if path is not None]
    folders = [path / name for path in parents for name in ("train_images", "test_images")]
    for folder in folders:
        paths = image_files.in_folders([folder], image_ids)
        if len(paths) == len(image_ids):
            return paths, folder
    searched = " or ".join(map(str, folders))
    raise InputError(
        f"the images of {config.shown[0]} are unknown",
        f"not all of {len(image_ids)} are in {searched}" if searched else "",
        "Give --images DIR",
    )


def _check_table(path: Path, table: MaskTable, sizes: Mapping[str, tuple[int, int]], progress: Progress) -> None:
    """Log how many images have no row in a submission. Raises InputError if its masks or names do not fit."""
    check_inside(path, table, sizes)
    absent = len(sizes.keys() - set(table.image_ids))
    if absent == len(sizes):
        raise InputError(
            f"{path} has no row for the {len(sizes)} images to show", "", "Give the submission for these images"
        )
    if absent:
        progress.log(f"{absent} of {len(sizes)} images have no row in {path} and count as empty")


def _check_gaps(path: Path, class_ids: Sequence[int]) -> None:
    """Raise InputError if the annotations skip a class: the means of the page are over 1 to the highest class."""
    unnamed = mask_table.unnamed_classes(class_ids)
    if unnamed:
        raise InputError(
            f"{path}: no row names class {spans(unnamed)}",
            f"it names {spans(class_ids)}",
            "Number the classes from 1 without gaps, or add an empty row of the class, which then counts in all means",
        )
