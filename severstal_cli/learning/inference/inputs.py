"""What `predict` is to do: images, rows and runs, all checked before anything is written."""

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
from severstal_cli.steel.tables.shards import parts_path


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be predicted and how, all checked."""

    paths: Sequence[Path]
    sample: mask_table.Sample | None
    layout: mask_table.Layout
    bits: int | None
    """Those in use in 16-bit files; None: no image has 16 bits."""
    classes: int
    """Those of the runs, and those that the sample has rows for: a class that no run knows is empty everywhere."""
    recipe: Ensemble


def read_task(config: PredictConfig, progress: Progress = SILENT) -> Task:
    """Read and check all but the images themselves, of which the headers are read. Nothing is written."""
    if config.out.name in ("", ".."):
        raise UsageError("wrong name for a submission", str(config.out), "Name a file: submission.csv")
    if config.out.suffix == ".json":
        raise UsageError("wrong name for a submission", str(config.out), "A JSON of that name is written beside it")
    if config.out.suffix == ".parts":
        raise UsageError("wrong name for a submission", str(config.out), "A folder of that name is made for its parts")
    _check_story(config.out.with_suffix(".json"))
    written = config.out, config.out.with_suffix(".json"), confidence.scores_path(config.out)
    for path in written:
        files.check_place(path)
    files.check_place(parts_path(config.out) / "part")
    runs = ensemble.runs_for(config.runs, config.thresholds, config.models, progress)
    how = ensemble.read(runs, thresholds=config.thresholds, views=config.tta, weights=config.weights)
    sample = mask_table.read_image_list(config.sample) if config.sample else None
    paths = _wanted(image_files.find_images(config.images, progress), sample)
    there = {path.resolve(): path for path in written if path.exists()}
    lost = there.keys() & {path.resolve() for path in (*paths, config.sample) if path is not None} if there else ()
    if lost:
        raise InputError(f"{there[min(lost)]} would be overwritten", "it is a image or the sample",
                         "Choose another name for --out")  # fmt: skip
    if config.masks is not None:
        files.check_place(config.masks / f"{paths[0].stem}.png")
        drawing.check_places(config.masks, paths)
    return Task(
        paths=paths,
        sample=sample,
        bits=_bits(paths, how.cards, progress),
        layout=_layout(config, sample),
        classes=_classes_to_write(config, sample, how.cards[0].classes),
        recipe=how,
    )


def _check_story(path: Path) -> None:
    """What another command has written there, as rules or the card of a run, is not to be lost. Raises InputError."""
    try:
        there = typed.read(path)
    except (OSError, ValueError):  # nothing is there, or nothing can be (`check_place` says why), or no rules
        return
    if not isinstance(there, dict) or "submission" not in there:
        raise InputError(f"{path} would be overwritten", "it is of no submission", "Choose another name for --out")


def _wanted(paths: list[Path], sample: mask_table.Sample | None) -> list[Path]:
    """The images of the sample, in its order; without one, all that were found."""
    if sample is None:
        return paths
    there = image_files.paths_by_id(paths)
    missing = [image_id for image_id in sample.image_ids if image_id not in there]
    if missing:
        raise InputError("images that the sample asks for are missing",
                         f"{len(missing)}, first {missing[0]}{image_files.other_ending(missing[0], there)}",
                         "Give the folder that the sample belongs to")  # fmt: skip
    return [there[image_id] for image_id in sample.image_ids]


def _bits(paths: Sequence[Path], cards: Sequence[ModelCard], progress: Progress) -> int | None:
    """Those by which 16-bit files become 8-bit, as in the training; what headers say of the images is reported.

    A run that has never seen 16-bit files leaves it to the images. Raises InputError: the runs differ.
    """
    found = surveys.survey(paths)  # files that cannot be read are met again when they are predicted
    for note in found.notes:
        progress.log(note)
    if not found.deep:
        return None
    known = sorted({card.bits for card in cards if card.bits is not None})
    if len(known) > 1:
        raise InputError("runs of 16-bit images with other bits in use cannot be averaged",
                         " and ".join(f"{bits} bits" for bits in known), "Take runs of the same data")  # fmt: skip
    depth: surveys.Depth | None
    if known:
        depth, why = surveys.Depth(bits=known[0], files=len(found.deep)), "as in the training"
    elif all(card.pixels_fingerprint is None for card in cards):
        depth, why = surveys.Depth(bits=decoding.FULL_DEPTH, files=len(found.deep)), "as earlier versions trained"
    else:
        depth, why = surveys.depth_of(found.deep, progress), "measured here, as the training had none"
    if depth is None:
        return None
    progress.log(f"{depth.note(len(paths))}, {why}")
    return depth.bits


def _classes_to_write(config: PredictConfig, sample: mask_table.Sample | None, classes: int) -> int:
    """Those of the runs, and those that the sample has rows for: a class that no run knows is empty everywhere."""
    asked = max((class_id for _, class_id in sample.rows), default=0) if sample else 0
    if asked and asked < classes and _layout(config, sample) is mask_table.Layout.ORIGINAL:
        raise InputError(f"{config.sample} asks for classes 1 to {asked}", f"the runs predict {classes}",
                         "Take a run of as many classes, or give --layout current")  # fmt: skip
    return max(asked, classes)


def _layout(config: PredictConfig, sample: mask_table.Sample | None) -> mask_table.Layout:
    if config.layout != "auto":
        return mask_table.Layout(config.layout)
    return sample.layout if sample is not None and sample.layout is not None else mask_table.Layout.ORIGINAL
