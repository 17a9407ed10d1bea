"""The inputs of `predict`: images, rows of the submission and ensemble, all checked before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli import files, typed
from severstal_cli.config import PredictConfig
from severstal_cli.errors import InputError, UsageError
from severstal_cli.learning.inference import ensemble
from severstal_cli.learning.inference.ensemble import Ensemble
from severstal_cli.learning.runs.model_card import ModelCard
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import drawing
from severstal_cli.steel.images import decoding, image_files, surveys
from severstal_cli.steel.tables import confidence, mask_table
from severstal_cli.steel.tables.shards import shards_folder
from severstal_cli.steel.tables.table_files import metadata_path


@dataclass(frozen=True, kw_only=True)
class Task:
    """The checked inputs of a prediction."""

    paths: Sequence[Path]
    sample: mask_table.Sample | None
    layout: mask_table.Layout
    bits: int | None
    """Bits in use in 16-bit files; None: no image has 16 bits."""
    classes: int
    """Classes of the submission: those of the runs and of the sample. A class that no run knows is empty everywhere."""
    recipe: Ensemble


def read_task(config: PredictConfig, progress: Progress = SILENT) -> Task:
    """Read and check everything but the pixels; of the images only the headers are read. Nothing is written."""
    if config.out.name in ("", ".."):
        raise UsageError("wrong name for a submission", str(config.out), "Name a file: submission.csv")
    if config.out.suffix == ".json":
        raise UsageError("wrong name for a submission", str(config.out), "A JSON of that name is written beside it")
    if config.out.suffix == ".parts":
        raise UsageError("wrong name for a submission", str(config.out), "A folder of that name is made for its parts")
    _check_metadata(metadata_path(config.out))
    written = config.out, metadata_path(config.out), confidence.scores_path(config.out)
    for path in written:
        files.check_writable(path)
    files.check_writable(shards_folder(config.out) / "part")
    runs = ensemble.runs_for(config.runs, config.thresholds, config.models, progress)
    chosen = ensemble.read(runs, thresholds=config.thresholds, views=config.tta, weights=config.weights)
    sample = mask_table.read_image_list(config.sample) if config.sample else None
    paths = _wanted(image_files.find_images(config.images, progress), sample)
    existing = {path.resolve(): path for path in written if path.exists()}
    inputs = {path.resolve() for path in (*paths, config.sample) if path is not None} if existing else set()
    if lost := existing.keys() & inputs:
        raise InputError(
            f"{existing[min(lost)]} would be overwritten",
            "it is an image or the sample",
            "Choose another name for --out",
        )
    if config.masks is not None:
        files.check_writable(config.masks / f"{paths[0].stem}.png")
        drawing.check_overlay_paths(config.masks, paths)
    return Task(
        paths=paths,
        sample=sample,
        bits=bits_in_use(paths, chosen.cards, progress),
        layout=_layout(config, sample),
        classes=_classes_to_write(config, sample, chosen.cards[0].classes),
        recipe=chosen,
    )


def _check_metadata(path: Path) -> None:
    """Check that `path` is no JSON file of another command, as thresholds or a model card. Raises InputError."""
    try:
        content = typed.read(path)
    except (OSError, ValueError):  # it does not exist, is no JSON, or cannot be written (`check_writable` reports that)
        return
    if not isinstance(content, dict) or "submission" not in content:
        raise InputError(f"{path} exists and is not submission metadata", "", "Choose another name for --out")


def _wanted(paths: list[Path], sample: mask_table.Sample | None) -> list[Path]:
    """The images of the sample, in its order; without a sample, all of `paths`."""
    if sample is None:
        return paths
    by_id = image_files.paths_by_id(paths)
    missing = [image_id for image_id in sample.image_ids if image_id not in by_id]
    if missing:
        raise InputError(
            "images that the sample asks for are missing",
            f"{len(missing)}, first {missing[0]}{image_files.same_stem_hint(missing[0], by_id)}",
            "Give the folder that the sample belongs to",
        )
    return [by_id[image_id] for image_id in sample.image_ids]


def bits_in_use(paths: Sequence[Path], cards: Sequence[ModelCard], progress: Progress) -> int | None:
    """The bits in use by which 16-bit files become 8-bit, as in the training. Logs notes on the images' headers.

    They are measured on the images if no run was trained on 16-bit files. Raises InputError: the runs differ.
    """
    headers = surveys.survey(paths)  # unreadable files are reported when they are predicted
    for note in headers.notes:
        progress.log(note)
    if not headers.deep:
        return None
    known = sorted({card.bits for card in cards if card.bits is not None})
    if len(known) > 1:
        raise InputError(
            "runs of 16-bit images with different bits in use cannot be averaged",
            " and ".join(f"{bits} bits" for bits in known),
            "Use runs of the same data",
        )
    depth: surveys.Depth | None
    if known:
        depth, why = surveys.Depth(bits=known[0], files=len(headers.deep)), "as in the training"
    elif all(card.pixels_fingerprint is None for card in cards):
        depth, why = surveys.Depth(bits=decoding.FULL_DEPTH, files=len(headers.deep)), "as earlier versions trained"
    else:
        depth, why = surveys.depth_of(headers.deep, progress), "measured on these images, as the training had none"
    if depth is None:
        return None
    progress.log(f"{depth.note(len(paths))}, {why}")
    return depth.bits


def _classes_to_write(config: PredictConfig, sample: mask_table.Sample | None, classes: int) -> int:
    """`Task.classes`. Raises InputError: a layout with all rows has no room for all classes of the runs."""
    asked = max((class_id for _, class_id in sample.rows), default=0) if sample else 0
    if asked and asked < classes and _layout(config, sample).form.has_all_rows:
        raise InputError(
            f"{config.sample} asks for classes 1 to {asked}",
            f"the runs predict {classes}",
            "Use a run with as many classes, or give --layout current",
        )
    return max(asked, classes)


def _layout(config: PredictConfig, sample: mask_table.Sample | None) -> mask_table.Layout:
    if config.layout != "auto":
        return mask_table.Layout(config.layout)
    return sample.layout if sample is not None and sample.layout is not None else mask_table.Layout.ORIGINAL
