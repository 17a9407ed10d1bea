"""`predict`: predict a submission for images, with its metadata (JSON) and the confidence of its rows (scores).

The images are predicted in shards (`steel/tables/shards`): processes share them, and a killed prediction resumes from
them. The first process joins them to the submission.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

import severstal_cli
from severstal_cli import files
from severstal_cli.config import PredictConfig
from severstal_cli.errors import InputError, SeverstalError
from severstal_cli.learning import distributed
from severstal_cli.learning.device import half_type, open_device
from severstal_cli.learning.inference import engines, level_maps, pipeline
from severstal_cli.learning.inference.ensemble import Ensemble
from severstal_cli.learning.inference.inputs import Task, read_task
from severstal_cli.learning.runs.model_card import class_names_of
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import drawing
from severstal_cli.steel.images import decoding, image_files
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.tables import confidence, mask_table
from severstal_cli.steel.tables.shards import Shards, shards_folder
from severstal_cli.steel.tables.table_files import metadata_path

PredictLevels = Callable[[Iterable[decoding.Grey | None]], Iterator[pipeline.Levels]]


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """A written submission."""

    path: Path
    runs: tuple[Path, ...]
    images: int = 0
    rows: int = 0
    masks_by_class: tuple[int, ...] = ()
    """Number of images with a mask of class 1, 2, ..."""
    class_names: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    """image_id -> reason why the image is unreadable; its rows are empty."""
    seconds: float = 0.0
    """From the first image to the last mask."""
    images_per_s: float = 0.0
    """Speed of this session, without shards that existed before."""


class _Masks(NamedTuple):
    """Masks and confidences of an image, one per class."""

    runs: list[rle.RLE]
    scores: list[float]


@distributed.on_devices
def predict(config: PredictConfig, progress: Progress = SILENT) -> PredictResult:
    """Predict the masks of images and write them as a submission.

    The first process returns the result; that of the others is empty.

    Raises:
        InputError: there are no images, an image is wrong, an image of the sample is missing, runs do not fit together,
            or there are shards of another prediction.
        RunError: a run is missing, incomplete or without thresholds.
        OutputError: the submission cannot be written.
    """
    task = read_task(config, progress)
    ensemble = task.recipe
    fabric = open_device()
    engine_names = engines.engines_for(ensemble.folders, config.engine, fabric)
    precision = str(half_type(fabric) or torch.float32).removeprefix("torch.")
    plan = ensemble.fingerprints() | {"classes": task.classes, "engines": engine_names, "precision": precision}
    if task.bits is not None:
        plan["bits"] = task.bits
    plan["masks"] = None if config.masks is None else str(config.masks)  # finished shards do not draw theirs again
    parts = Shards(shards_folder(config.out), task.paths, plan, task.layout)
    lock = files.locked(parts.folder, f"another process predicts {config.out}")
    with lock if distributed.is_first() else nullcontext():
        if distributed.is_first():
            parts.begin(resume=config.resume)
            runs = ", ".join(f"{folder} by {name}" for folder, name in zip(ensemble.folders, engine_names, strict=True))
            progress.log(f"predicting with {runs}")
            for note in ensemble.notes():
                progress.log(note)
        fabric.barrier()
        if not parts.is_shared():
            raise InputError(
                f"{parts.folder} does not exist",
                "another process has begun it",
                "Several machines must share its folder",
            )
        parts.check_plan()  # another machine may have other images or runs
        written = parts.written()  # the first process has removed shards of older images
        if written:
            progress.log(f"resuming: {len(written)} of {len(parts.images)} shards exist")
        fabric.barrier()  # all processes have counted the same shards before one writes another
        missing = sorted(parts.images.keys() - set(written))
        mine = missing[fabric.global_rank :: fabric.world_size]
        with _keeping_finished(parts, progress):
            predict_levels = _networks(config, ensemble, engine_names, fabric, progress) if mine else None
            began = time.monotonic()
            if predict_levels is not None:
                _predict_parts(config, task, parts, mine, predict_levels, progress)
            if not distributed.is_first():
                return PredictResult(path=config.out, runs=ensemble.folders)
            _await(parts, progress)
        return _merge(config, task, parts, missing, time.monotonic() - began, fabric, engine_names)


def _networks(
    config: PredictConfig, ensemble: Ensemble, engine_names: Sequence[str], fabric: Fabric, progress: Progress
) -> PredictLevels:
    """Open the runs."""
    members = engines.load_members(ensemble.folders, ensemble.cards, fabric, engine=engine_names, progress=progress)
    return partial(
        level_maps.predict_levels,
        members,
        fabric=fabric,
        views=ensemble.views,
        batch_size=config.batch_size,
        weights=ensemble.weights,
        exclusive=ensemble.thresholds.exclusive,
    )


def _merge(
    config: PredictConfig,
    task: Task,
    parts: Shards,
    missing: Sequence[int],
    seconds: float,
    fabric: Fabric,
    engine_names: Sequence[str],
) -> PredictResult:
    """Make the submission and its metadata from the finished shards."""
    done = [parts.read(number) for number in parts.images]
    result = PredictResult(
        path=config.out,
        runs=task.recipe.folders,
        images=len(task.paths),
        rows=_write(config, task, parts),
        masks_by_class=tuple(sum(of_class) for of_class in zip(*(part.masks_by_class for part in done), strict=True)),
        class_names=class_names_of(task.recipe.cards),
        skipped={image_id: why for part in done for image_id, why in part.skipped.items()},
        seconds=seconds,
        images_per_s=sum(len(parts.images[number]) for number in missing) / max(seconds, 1e-9),
    )
    _write_metadata(config, task, result, fabric, engine_names)
    parts.clear()
    return result


@contextmanager
def _keeping_finished(parts: Shards, progress: Progress) -> Iterator[None]:
    """If an error ends the prediction, keep the finished shards and log how to resume."""
    try:
        yield
    except (SeverstalError, KeyboardInterrupt):
        if done := len(parts.finished()):
            progress.log(
                f"{done} of {len(parts.images)} shards are kept: give the same command with --resume to continue"
            )
        elif not distributed.is_worker():
            parts.clear()
        raise


def _predict_parts(
    config: PredictConfig,
    task: Task,
    parts: Shards,
    numbers: Sequence[int],
    predict_levels: PredictLevels,
    progress: Progress,
) -> None:
    """Predict these shards and write each one as soon as it is complete."""
    rules, bits = task.recipe.thresholds, task.bits or decoding.FULL_DEPTH

    def finish(path: Path, levels: pipeline.Levels) -> _Masks:
        masks = postprocess.levels_to_rle(levels, rules.rules)
        if config.masks is not None:  # decoding again costs little compared with writing a PNG
            overlay = drawing.overlay(decoding.read_grey(path, bits), masks)
            drawing.write_png(config.masks / f"{path.stem}.png", overlay)
        return _Masks(masks, confidence.expected_dice(levels, masks))

    groups = [parts.images[number] for number in numbers]
    parts.take(numbers)
    results = pipeline.from_files(
        groups, predict_levels, finish, batch_size=config.batch_size, bits=bits, runs=task.recipe.folders
    )
    bar_of_all = progress.bar("predicting", sum(map(len, groups)), "images")

    def predicted() -> Iterator[tuple[int, dict[tuple[str, int], rle.RLE], dict[str, list[float]], dict[str, str]]]:
        for number, group in zip(numbers, groups, strict=True):
            masks: dict[tuple[str, int], rle.RLE] = {}
            scores: dict[str, list[float]] = {}
            skipped: dict[str, str] = {}
            for path, result in islice(results, len(group)):
                image_id = image_files.id_of(path)
                if isinstance(result, InputError):
                    if config.on_error == "stop":
                        raise result
                    progress.log(f"skipped: {result}")
                    skipped[image_id] = str(result)
                    scores[image_id] = [0.0] * task.recipe.cards[0].classes  # unknown
                else:
                    scores[image_id] = result.scores
                    masks |= {(image_id, channel): runs for channel, runs in enumerate(result.runs) if len(runs)}
                bar.advance()
            yield number, masks, scores, skipped

    writing = map_in_order(lambda part: parts.write(*part, task.classes), predicted(), threads=1, ahead=1, name="parts")
    with closing(results), bar_of_all as bar, closing(writing):
        for _ in writing:  # a shard is written while the next one is predicted
            pass


def _await(parts: Shards, progress: Progress) -> None:
    """Wait until the other processes have finished their shards."""
    missing = {number for number in parts.images if not parts.is_written(number)}
    if missing:
        with progress.waiting("the other processes") as log:
            while missing := {number for number in missing if not parts.is_written(number)}:
                log(f"{len(parts.images) - len(missing)} of {len(parts.images)} shards")
                time.sleep(0.2)


def _write(config: PredictConfig, task: Task, parts: Shards) -> int:
    """Join the shards to the submission and its scores. Returns the number of rows."""
    columns, rows, sample = None, None, task.sample
    image_ids = list(map(image_files.id_of, task.paths))
    if sample is not None and sample.layout == task.layout:
        columns, rows = sample.columns, sample.rows or None
    of_parts = product(image_ids, range(1, task.classes + 1))
    if columns in (None, task.layout.form.columns) and (rows is None or rows == tuple(of_parts)):
        parts.join(config.out)
        count = len(image_ids) * task.classes
    else:
        count = mask_table.write_table(
            config.out, parts.masks(), image_ids, task.classes, layout=task.layout, columns=columns, rows=rows
        )
    # metadata and scores of an earlier submission must not stay beside this one if its own are not written
    metadata_path(config.out).unlink(missing_ok=True)
    confidence.scores_path(config.out).unlink(missing_ok=True)
    parts.join_scores(confidence.scores_path(config.out))
    return count


def _write_metadata(
    config: PredictConfig, task: Task, result: PredictResult, fabric: Fabric, engine_names: Sequence[str]
) -> None:
    """Write `submission.json` beside `submission.csv`: the origin of the submission."""
    metadata = {
        "submission": result.path.name,
        "severstal": severstal_cli.__version__,
        **task.recipe.metadata(),
        "images": result.images,
        "rows": result.rows,
        "masks_by_class": result.masks_by_class,
        "skipped": result.skipped,
        "device": fabric.device.type,
        "engines": engine_names,
        "processes": fabric.world_size,
        "seconds": round(result.seconds, 3),
        "images_per_s": round(result.images_per_s, 3),
    }
    files.write_text(metadata_path(config.out), json.dumps(metadata, indent=2) + "\n")
