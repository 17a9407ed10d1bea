"""How results look on a terminal: a table each, through rich, on stdout."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from severstal_cli.learning.registry import Entry
    from severstal_cli.learning.run import ModelCard
    from severstal_cli.stages.demonstration import DemoResult
    from severstal_cli.stages.scoring import ScoreResult
    from severstal_cli.stages.searching import ThresholdsResult
    from severstal_cli.stages.splitting import SplitResult


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
    classes = len(result.parts[-1].with_class)
    header = ("part", "images", "clean", *(f"class {number + 1}" for number in range(classes)), "near-duplicates")
    rows = []
    for part in result.parts:
        counts = (part.images, part.clean, *part.with_class)
        rows.append((part.part, *map(str, counts), f"{part.grouped_images} in {part.groups}"))
    _print_table(f"{result.path}", header, rows)


def print_thresholds(result: "ThresholdsResult") -> None:
    """The rule of each class, and its Dice before and after."""
    rows = []
    for class_id, choice in enumerate(result.choices, start=1):
        rule = choice.rule
        threshold = "never" if rule.pixel_threshold > 255 else f"{rule.pixel_threshold / 255:.3f}"
        dice = (choice.mean_dice_default, choice.mean_dice, choice.mean_dice_never)
        sizes = (str(rule.min_component_px), str(rule.min_mask_px))
        rows.append((str(class_id), threshold, *sizes, *map(_figure, dice)))
    means = (result.mean_dice_default, result.mean_dice, result.mean_dice_never)
    rows.append(("all", "", "", "", *map(_figure, means)))
    header = ("class", "threshold", "component px", "mask px", "at 0.5", "searched", "nothing")
    _print_table(f"mean Dice on {result.images} validation images", header, rows)


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


def _sum(score: "ScoreResult", name: str) -> str:
    return str(sum(getattr(found, name) for found in score.by_class))


def _print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, name in enumerate(header):
        is_text = any(row[number].strip(".0123456789") for row in rows)
        table.add_column(name, justify="left" if is_text or not number else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)
