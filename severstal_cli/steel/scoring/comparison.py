"""The result of `compare`: one row per candidate, as JSON values and as a Markdown table."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from severstal_cli.steel.scoring.scores import Difference, ScoreResult
from severstal_cli.wording import between, counted, percent


@dataclass(frozen=True, kw_only=True)
class Row:
    """One candidate; figures of several trainings are their mean."""

    name: str
    score: ScoreResult
    trainings: tuple[float, ...]
    """The mean Dice of each training; a submission counts as one."""
    parameters: int | None = None
    training_s: float | None = None
    images_per_s: float | None = None
    """Prediction speed."""
    differences: tuple[Difference, ...] = ()
    """From the first candidate, the baseline: per class, and last over all classes. Empty for the baseline."""
    verdict: str = ""


@dataclass(frozen=True, kw_only=True)
class CompareResult:
    """The compared candidates, and the folder of the comparison."""

    rows: tuple[Row, ...]
    folder: Path
    has_plot: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "images": self.rows[0].score.images,
            "all_empty": self.rows[0].score.all_empty,
            "candidates": [
                {
                    "name": row.name,
                    **{
                        name: value
                        for name, value in row.score.to_dict().items()
                        if name not in ("images", "all_empty")
                    },
                    "trainings": row.trainings,
                    "parameters": row.parameters,
                    "training_s": row.training_s,
                    "images_per_s": row.images_per_s,
                    "differences": [dataclasses.asdict(difference) for difference in row.differences],
                    "verdict": row.verdict,
                }
                for row in self.rows
            ],
        }


def markdown(result: CompareResult) -> str:
    """The Markdown table, with the verdicts below it."""
    first = result.rows[0].score
    classes = [f"class {_literal(label)}" for label in first.labels()]
    level = percent(result.rows[-1].differences[-1].level)
    header = ["", "mean Dice", "95 % interval", "Dice if present", *classes, "masks", "weights", "training",
              "images/s", "difference", f"{level} interval of it"]  # fmt: skip
    lines = [counted(first.images), "", f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for row in result.rows:
        cells = cells_of(row)
        texts = [
            row.name.replace("|", "\\|"), cells.mean_dice, cells.interval, cells.mean_dice_present,
            *cells.dice_by_class, cells.masks, cells.weights, cells.training, cells.images_per_s,
            cells.difference, cells.difference_interval,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(texts)} |")
    true_masks = sum(found.true_masks for found in first.by_class)
    nothing = ["predicting nothing", f"{first.all_empty:.4f}", "", "0.0000",
               *(f"{score.all_empty:.4f}" for score in first.by_class), f"0 of {true_masks}"]  # fmt: skip
    lines.append(f"| {' | '.join(nothing + [''] * (len(header) - len(nothing)))} |")
    lines += ["", *(f"- {row.verdict}" for row in result.rows if row.verdict)]
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    """`text` with its punctuation escaped, so that Markdown shows it as it is."""
    return re.sub(r"([!-,./:-@\[-`{-~])", r"\\\1", text)


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The figures of a row as texts, for every table that shows them; empty: not known."""

    mean_dice: str
    """With the standard deviation over several trainings."""
    interval: str
    mean_dice_present: str
    dice_by_class: tuple[str, ...]
    masks: str
    weights: str
    training: str
    images_per_s: str
    difference: str
    difference_interval: str


def cells_of(row: Row) -> Cells:
    """Return the figures of a row as texts."""
    score, of_all = row.score, row.differences[-1] if row.differences else None
    spread = f" ± {np.std(row.trainings, ddof=1):.4f}" if len(row.trainings) > 1 else ""
    return Cells(
        mean_dice=f"{score.mean_dice:.4f}{spread}",
        interval=between(score.interval),
        mean_dice_present="" if score.mean_dice_present is None else f"{score.mean_dice_present:.4f}",
        dice_by_class=tuple(f"{of_class.dice:.4f}" for of_class in score.by_class),
        masks=f"{sum(of_class.predicted_masks for of_class in score.by_class):.10g}",
        weights="" if row.parameters is None else f"{row.parameters / 1e6:.2f} M",
        training="" if row.training_s is None else f"{row.training_s / 60:.1f} min",
        images_per_s="" if row.images_per_s is None else f"{row.images_per_s:.1f}",
        difference="" if of_all is None else f"{of_all.difference:+.4f}",
        difference_interval="" if of_all is None else between(of_all.interval, signed=True),
    )
