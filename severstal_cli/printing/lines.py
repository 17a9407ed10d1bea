"""Results that are printed as lines of text."""

import errno
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from severstal_cli.errors import SeverstalError, is_memory, memory_is_full, shown
from severstal_cli.wording import counted

if TYPE_CHECKING:
    from severstal_cli.kaggle.local_runs import RemoteResult
    from severstal_cli.learning.runs.model_card import Int8
    from severstal_cli.stages.checking import CheckResult
    from severstal_cli.stages.demo import DemoResult
    from severstal_cli.stages.encoding import EncodeResult
    from severstal_cli.stages.exporting import ExportResult
    from severstal_cli.stages.prediction import PredictResult
    from severstal_cli.stages.submitting import SubmitResult
    from severstal_cli.stages.training import TrainResult

SHOWN_FAULTS = 20

_REMEDIES = {errno.ENAMETOOLONG: "Give a shorter one", errno.ENOSPC: "Free some space or name another folder"}
"""Remedies for errors of the file system that no stage catches."""


def line_of(error: Exception) -> str | None:
    """The message of an error; None for a bug of the program or a closed pipe."""
    if isinstance(error, SeverstalError):
        return str(error)
    if "no locator available" in str(error):
        return "numba cannot write its compiled code anywhere. Set NUMBA_CACHE_DIR to a writable folder"
    if is_memory(error):
        return str(memory_is_full())
    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
        return None
    if error.strerror and error.filename is not None:
        remedy = _REMEDIES.get(error.errno or 0, "Check the path and its permissions")
        return str(SeverstalError(f"cannot use {os.fsdecode(error.filename)}", error.strerror, remedy))
    return shown(f"{type(error).__name__}: {error}")


def demo_lines(result: "DemoResult") -> Iterator[str]:
    """What the search of the thresholds gained, the files to look at, and the commands for one's own images."""
    for arch, search in result.thresholds.items():
        searched = search.mean_dice if search.mean_dice_held_out is None else search.mean_dice_held_out
        yield (
            f"{arch}: validation Dice {search.mean_dice_default:.4f} at threshold 0.5, {searched:.4f} with thresholds "
            "searched on other images"
        )
    yield f"look at {result.report}"
    yield f"        {', '.join(map(str, result.figures))}"
    yield "these images are drawn; with your own (docs/masks.md, docs/annotations.md):"
    yield "  severstal encode MASKS --images IMAGES --out data/train.csv    # IMAGES as data/train_images"
    yield "  severstal train --data data --arch unet --time-limit 1h"
    yield "  severstal thresholds unet-resnet34-fold0"


def training_lines(results: "Sequence[TrainResult]") -> Iterator[str]:
    """The result of each training, the mean over folds, and the next command."""
    for result in results:
        kept = f"best epoch {result.best_epoch}"
        if result.averaged:
            kept = f"mean of epochs {', '.join(map(str, result.averaged))}"
        best = (
            ""
            if result.validation_dice is None
            else (
                f", {kept} with validation Dice {result.validation_dice:.4f} "
                f"(predicting nothing {result.nothing_dice:.4f})"
            )
        )
        time = f"{result.seconds / 60:.1f} min" if result.seconds >= 100 else f"{result.seconds:.0f} s"
        yield f"{result.folder}: {result.epochs} epochs in {time}{best}"
    scored = [result.validation_dice for result in results if result.validation_dice is not None]
    if len(scored) > 1:
        yield f"{len(scored)} folds: mean validation Dice {sum(scored) / len(scored):.4f}"
    if len(results) == 1 and scored:
        yield f"next: {shlex.join(['severstal', 'thresholds', str(results[0].folder)])}"


def remote_lines(results: "Sequence[RemoteResult]") -> Iterator[str]:
    """Each run from Kaggle, the mean over folds, and the next command."""
    for result in results:
        best = (
            ""
            if result.validation_dice is None or not result.best_epoch
            else (f", best epoch {result.best_epoch} with validation Dice {result.validation_dice:.4f}")
        )
        if result.nothing_dice is not None:
            best += f" (predicting nothing {result.nothing_dice:.4f})"
        again = f"; not finished: --resume {result.folder.name} resumes it, on Kaggle or here"
        unfinished = "" if result.finished else again
        yield f"{result.folder}: {result.epochs} epochs in {result.seconds / 60:.1f} min on Kaggle{best}{unfinished}"
    scored = [result.validation_dice for result in results if result.validation_dice is not None]
    if len(scored) > 1:
        yield f"{len(scored)} folds: mean validation Dice {sum(scored) / len(scored):.4f}"
    if results and all(result.finished for result in results):
        yield f"next: {shlex.join(['severstal', 'submit', *(str(result.folder) for result in results)])}"


def submit_lines(result: "SubmitResult") -> Iterator[str]:
    """The leaderboard scores of a submission, and their ranks in the competition."""
    scores = result.scores
    if scores is None:
        return
    if result.was_there:
        yield f"{result.name} was submitted before, nothing was sent; --again submits it again"
    for board, score, place in (
        ("public", scores.public, scores.public_place),
        ("private", scores.private, scores.private_place),
    ):
        at = "rank unknown" if place is None else f"rank {place:,} in the competition"
        yield f"{result.name}: {board} score " + ("unknown" if score is None else f"{score:.5f}, {at}")


def check_lines(result: "CheckResult", *, every: bool) -> Iterator[str]:
    """The faults of a submission, one per line, the notes, and the verdict."""
    from severstal_cli.wording import listed

    # faults of rows first: the other faults may be thousands of missing images
    faults = sorted(result.faults, key=lambda fault: (fault.is_warning, not fault.line))
    count = len(faults) if every else SHOWN_FAULTS
    for fault in faults[:count]:
        at = f"{fault.place}: " if fault.line else ""
        yield shown(f"{'warning' if fault.is_warning else 'fault'}: {at}{fault.message}")
    if len(faults) > count:
        yield f"... and {len(faults) - count} more: check --all"
    for note in result.notes:
        yield shown(f"note: {note}")
    wrong = sum(not fault.is_warning for fault in result.faults)
    verdict = "valid" if not wrong else f"not valid, {wrong} fault{'s' if wrong > 1 else ''}"
    counts = f"{result.rows} rows, {result.images} images, {result.masks} masks, {result.classes} classes"
    if result.labels:
        counts += f": {listed(result.labels)}"
    yield f"{result.submission}: {verdict}; {result.layout} layout, {counts}"


def class_line(result: "EncodeResult") -> str:
    """The class id and the number of masks of each class name."""
    pairs = zip(result.names, result.masks_by_class, strict=True)
    return ", ".join(
        f"class {class_id} = {name} ({count} mask{'s' * (count != 1)})"
        for class_id, (name, count) in enumerate(pairs, start=1)
    )


def export_line(result: "ExportResult") -> str:
    """The exported file, and how far its levels differ from those of torch, or how much Dice int8 costs."""
    files = result.file.parent.glob(f"{result.file.stem}.*")  # OpenVINO writes the weights to a second file
    size = sum(path.stat().st_size for path in files if path.suffix != ".json") / 2**20
    levels = f"differ by at most {result.largest_difference} of 255 from" if result.largest_difference else "equal"
    check = f"levels {levels} those of torch on {result.image.name}" if result.image else ""
    if result.int8 is not None:
        check = int8_text(result.int8)
    return (
        f"wrote {result.file} ({size:.1f} MiB), {check}; "
        f"next: severstal predict IMAGES --model {shlex.quote(str(result.folder))}"
    )


def int8_text(int8: "Int8") -> str:
    """What is in int8, and what that costs."""
    kept = f" ({len(int8.kept)} kept in floating point)" if int8.kept else ""
    return (
        f"{int8.layers} layers in int8{kept}, calibrated on {int8.calibration_images} images, "
        f"mean Dice {int8.dice_before:.4f} before and {int8.dice_after:.4f} after"
    )


def prediction_line(result: "PredictResult") -> str:
    """The written submission, with the speed and the number of skipped images."""
    from severstal_cli.wording import class_label

    counts = ", ".join(
        f"class {class_label(channel, result.class_names)}: {count}"
        for channel, count in enumerate(result.masks_by_class)
    )
    line = f"{result.path}: {result.rows} rows for {result.images} images ({result.images_per_s:.1f} images/s)"
    skipped = f"; {counted(len(result.skipped))} skipped" if result.skipped else ""
    return f"{line}; masks of {counts}{skipped}"
