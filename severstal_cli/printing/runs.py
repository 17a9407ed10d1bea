"""Tables of the networks and of trained runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from severstal_cli.printing.lines import int8_text
from severstal_cli.printing.table import figure, print_table
from severstal_cli.wording import age, class_label, listed

if TYPE_CHECKING:
    from severstal_cli.learning.runs.listing import Facts
    from severstal_cli.learning.runs.model_card import ModelCard


def print_networks(descriptions: Mapping[str, str]) -> None:
    """The networks of the registry."""
    print_table("networks", ("--arch", "description"), list(descriptions.items()))


def print_runs(
    models: Path, runs: Sequence[tuple[Path, "ModelCard", "Facts"]], damaged: Sequence[tuple[Path, Exception]] = ()
) -> None:
    """The trained runs of a folder, and its damaged runs with their faults."""
    rows: list[tuple[str, ...]] = []
    has_names = any(card.class_names for _, card, _ in runs)
    header = ("run", "fold", "valid Dice", "holdout", "thresholds", "MB", "age", *["classes"] * has_names)
    for folder, card, facts in runs:
        fold = "none" if card.fold is None else str(card.fold)
        labels = [class_label(channel, card.class_names) for channel in range(card.classes)]
        classes = (listed(labels),) if has_names else ()
        dice = figure(card.validation_dice), figure(facts.holdout_dice)
        thresholds = "yes" if facts.has_thresholds else "no"
        rows.append(
            (folder.name, fold, *dice, thresholds, f"{facts.size_bytes / 1e6:,.1f}", age(facts.age_s), *classes)
        )
    rows += [(folder.name, "damaged", *[""] * (len(header) - 2)) for folder, _ in damaged]
    if rows:
        faults = "\n".join(str(error) for _, error in damaged)
        print_table(f"trained runs in {models}", header, rows, faults)


def print_run(folder: Path, card: "ModelCard", facts: "Facts", defaults: Mapping[str, object]) -> None:
    """The facts of one run, and its settings: those that differ from the defaults first."""
    network = card.arch if card.encoder is None else f"{card.arch} {card.encoder}"
    classes = ", ".join(class_label(channel, card.class_names) for channel in range(card.classes))
    validation = "none" if card.fold is None else f"fold {card.fold}, {card.validation_images:,} images"
    rows = [
        ("network", network),
        ("classes", classes),
        ("data", card.data),
        ("training images", f"{card.train_images:,}"),
        ("validation", validation),
        ("epoch of the weights", ", ".join(map(str, card.averaged)) or str(card.epoch)),
        ("validation Dice", figure(card.validation_dice)),
        ("holdout Dice", figure(facts.holdout_dice)),
        ("int8", "" if card.int8 is None else int8_text(card.int8)),
        ("thresholds", "yes" if facts.has_thresholds else "no"),
        ("size", f"{facts.size_bytes / 1e6:,.1f} MB"),
        ("age", age(facts.age_s)),
        ("trained on", str(card.environment.get("gpu") or card.environment.get("cpu", ""))),
    ]
    print_table(str(folder), ("fact", "value"), [row for row in rows if row[1]])
    settings = {name: _cell(value) for name, value in card.config.items()}
    usual = {name: _cell(value) for name, value in defaults.items()}
    other = [name for name, value in settings.items() if value != usual.get(name)]
    if other:
        changed = [(name, settings[name], usual.get(name, "")) for name in other]
        print_table("settings that differ from the defaults", ("setting", "value", "default"), changed)
    rest = [(name, value) for name, value in settings.items() if name not in other]
    if rest:
        print_table("settings equal to the defaults", ("setting", "value"), rest)


def _cell(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
