"""How results look on a terminal: a table each, through rich, on stdout."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from severstal_cli.errors import SeverstalError

if TYPE_CHECKING:
    from severstal_cli.learning.registry import Entry
    from severstal_cli.learning.run import ModelCard
    from severstal_cli.stages.checking import CheckResult
    from severstal_cli.stages.demonstration import DemoResult
    from severstal_cli.stages.exporting import ExportResult
    from severstal_cli.stages.prediction import PredictResult
    from severstal_cli.stages.scoring import ScoreResult
    from severstal_cli.stages.searching import ThresholdsResult
    from severstal_cli.stages.splitting import SplitResult
    from severstal_cli.stages.submitting import SubmitResult
    from severstal_cli.stages.training import TrainResult


SHOWN_FAULTS = 20


def line_of(error: Exception) -> str | None:
    """What to tell of an error; None for a fault of the program, and for a reader of our output that went away."""
    if isinstance(error, SeverstalError):
        return str(error)
    if "no locator available" in str(error):
        return "numba finds no folder that it may write its compiled code to. Set NUMBA_CACHE_DIR to one"
    if isinstance(error, RuntimeError | MemoryError):  # torch has no kind of its own for a full memory on a CPU
        is_full = isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate memory" in str(error)
        return "the memory is full. Give a smaller --batch-size" if is_full else None
    return None if isinstance(error, BrokenPipeError) else f"{type(error).__name__}: {error}"


def training_lines(results: "Sequence[TrainResult]") -> Iterator[str]:
    """What each training gave, what comes next, and the mean over folds."""
    for result in results:
        kept = f"best epoch {result.best_epoch}"
        if result.averaged:
            kept = f"mean of epochs {', '.join(map(str, result.averaged))}"
        best = "" if result.validation_dice is None else (
            f", {kept} with validation Dice {result.validation_dice:.4f} "
            f"(predicting nothing {result.nothing_dice:.4f})"
        )  # fmt: skip
        time = f"{result.seconds / 60:.1f} min" if result.seconds >= 100 else f"{result.seconds:.0f} s"
        yield f"{result.folder}: {result.epochs} epochs in {time}{best}"
    scored = [result.validation_dice for result in results if result.validation_dice is not None]
    if len(scored) > 1:
        yield f"{len(scored)} folds: mean validation Dice {sum(scored) / len(scored):.4f}"
    if len(results) == 1 and scored:
        yield f"next: severstal thresholds {results[0].folder}"


def submit_lines(result: "SubmitResult") -> Iterator[str]:
    """The scores of a submission, and the places that they would have had."""
    scores = result.scores
    if scores is None:
        return
    if result.was_there:
        yield f"{result.name} was submitted before, nothing was sent; --again submits it once more"
    for board, score, place in (("public", scores.public, scores.public_place),
                                ("private", scores.private, scores.private_place)):  # fmt: skip
        at = "place not known" if place is None else f"place {place:,} at the time of the competition"
        yield f"{result.name}: {board} score " + ("not told" if score is None else f"{score:.5f}, {at}")


def check_lines(result: "CheckResult", *, every: bool) -> Iterator[str]:
    """The faults of a submission, a line each, the notes, and the verdict."""
    # a wrong row first, then what is said of the whole file: thousands of images may be missing
    faults = sorted(result.faults, key=lambda fault: (fault.is_warning, not fault.line))
    shown = len(faults) if every else SHOWN_FAULTS
    for fault in faults[:shown]:
        at = f"{fault.place}: " if fault.line else ""
        yield f"{'warning' if fault.is_warning else 'fault'}: {at}{fault.message}"
    if len(faults) > shown:
        yield f"... and {len(faults) - shown} more: check --all"
    for note in result.notes:
        yield f"note: {note}"
    wrong = sum(not fault.is_warning for fault in result.faults)
    verdict = "valid" if not wrong else f"not valid, {wrong} fault{'s' if wrong > 1 else ''}"
    counts = f"{result.rows} rows, {result.images} images, {result.masks} masks, {result.classes} classes"
    yield f"{result.submission}: {verdict}; {result.layout} layout, {counts}"


def export_line(result: "ExportResult") -> str:
    """What `export` wrote, and how far its levels are from torch's."""
    size = result.file.stat().st_size / 2**20
    found = f"within {result.largest_difference} of 255" if result.largest_difference else "the same"
    return (
        f"wrote {result.file} ({size:.1f} MiB), levels {found} as torch's on {result.picture.name}; "
        f"next: severstal predict IMAGES --model {result.folder}"
    )


def prediction_line(result: "PredictResult") -> str:
    """What was predicted, how fast, and what was left out."""
    counts = ", ".join(f"class {number}: {count}" for number, count in enumerate(result.masks_by_class, start=1))
    line = f"{result.path}: {result.rows} rows for {result.images} images ({result.images_per_s:.1f} images/s)"
    skipped = f"; {len(result.skipped)} of them skipped" if result.skipped else ""
    return f"{line}; masks of {counts}{skipped}"


def print_demo(result: "DemoResult") -> None:
    """The models of the demo beside predicting nothing."""
    rows = [
        (name, _figure(score.mean_dice), _figure(score.mean_dice_present), _sum(score, "predicted_masks"))
        for name, score in result.scores.items()
    ]
    first = next(iter(result.scores.values()))
    rows.append(("predicting nothing", _figure(first.all_empty), _figure(0.0), "0"))
    true_masks = _sum(first, "true_masks")
    header = ("", "mean Dice", "where the class is there", "predicted masks")
    _print_table(f"{first.images} held-out images with {true_masks} true masks", header, rows)


def print_split(result: "SplitResult") -> None:
    """Images of each part, by class."""
    with_class = result.parts[-1].with_class
    # of many class ids most may be in no image, as in label images of other sets
    shown = [channel for channel, images in enumerate(with_class) if images or len(with_class) < 8]
    header = ("part", "images", "clean", *(f"class {channel + 1}" for channel in shown), "near-duplicates")
    rows = []
    for part in result.parts:
        counts = (part.images, part.clean, *(part.with_class[channel] for channel in shown))
        rows.append((part.part, *map(str, counts), f"{part.grouped_images} in {part.groups}"))
    _print_table(f"{result.path}", header, rows)


def print_thresholds(result: "ThresholdsResult") -> None:
    """The rule of each class, and its Dice before and after."""
    rows = []
    for class_id, choice in enumerate(result.choices, start=1):
        rule = choice.rule
        threshold = "never" if rule.pixel_threshold > 255 else f"{rule.pixel_threshold / 255:.3f}"
        dice = (choice.mean_dice_default, choice.mean_dice, choice.mean_dice_never)
        gate = f"{rule.min_image_score / 255:.3f}" if rule.min_image_score else ""
        sizes = (str(rule.min_component_px), str(rule.min_mask_px))
        rows.append((str(class_id), threshold, *sizes, gate, *map(_figure, dice)))
    means = (result.mean_dice_default, result.mean_dice, result.mean_dice_never)
    rows.append(("all", "", "", "", "", *map(_figure, means)))
    header = ("class", "threshold", "component px", "mask px", "gate", "at 0.5", "searched", "nothing")
    held_out = result.mean_dice_held_out
    by_halves = "on images that were not searched: each half by the rules of the other"
    caption = "" if held_out is None else f"{held_out:.4f} {by_halves}"
    _print_table(f"mean Dice on {result.images} validation images", header, rows, caption)


def print_score(title: str, result: "ScoreResult") -> None:
    """Dice of each class and over all."""
    rows = []
    for found in result.by_class:
        dice = (found.dice, found.dice_present, found.all_empty)
        rows.append((str(found.class_id), *map(_figure, dice), str(found.true_masks), str(found.predicted_masks)))
    dice = (result.mean_dice, result.mean_dice_present, result.all_empty)
    rows.append(("all", *map(_figure, dice), _sum(result, "true_masks"), _sum(result, "predicted_masks")))
    header = ("class", "Dice", "if present", "nothing", "true masks", "predicted")
    _print_table(f"{title}: mean Dice on {result.images} images", header, rows)


def print_submissions(rows: Sequence[Mapping[str, str]]) -> None:
    """The history of submissions, beside the local scores of their runs."""
    shown = []
    for row in rows:
        scored = row["status"] == "complete"
        figures = (
            row["validation_dice"],
            row["holdout_dice"],
            row["public"] if scored else row["status"],
            row["private"],
        )
        shown.append(
            (row["date"][:10], row["name"].removeprefix("severstal-"), *map(_shorter, figures), row["private_place"])
        )
    header = ("date", "runs", "valid", "holdout", "public", "private", "place")
    _print_table("submissions", header, shown)


def print_models(registry: dict[str, "Entry"], runs: Sequence[tuple[Path, "ModelCard", bool]]) -> None:
    """What can be trained, and what has been."""
    _print_table("networks", ("--arch", "what it is"), [(name, entry.about) for name, entry in registry.items()])
    rows = []
    for folder, card, has_thresholds in runs:
        network = card.arch if card.encoder is None else f"{card.arch} {card.encoder}"
        fold = "none" if card.fold is None else str(card.fold)
        rows.append((str(folder), network, fold, _figure(card.validation_dice), "yes" if has_thresholds else "no"))
    if rows:
        _print_table("trained runs", ("run", "network", "fold", "validation Dice", "thresholds"), rows)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _shorter(cell: str) -> str:
    """A number with four digits after the point; another text as it is."""
    try:
        return f"{float(cell):.4f}"
    except ValueError:
        return cell


def _sum(score: "ScoreResult", name: str) -> str:
    return str(sum(getattr(found, name) for found in score.by_class))


def _print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", caption=caption or None, caption_justify="left", box=box.SIMPLE_HEAD
    )
    for number, name in enumerate(header):
        is_text = any(row[number].strip(".0123456789") for row in rows)
        table.add_column(name, justify="left" if is_text or not number else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)
