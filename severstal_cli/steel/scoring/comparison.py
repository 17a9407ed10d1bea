"""The result of `compare`: one row per candidate, as JSON values and as tables."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from severstal_cli.steel.scoring.scores import Difference, ScoreResult
from severstal_cli.wording import between, counted, percent, signed

if TYPE_CHECKING:
    import pandas as pd


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


def table(result: CompareResult) -> "pd.DataFrame":
    """The figures as texts, for every table that shows them; a row per candidate, and one of predicting nothing.

    An empty cell is not known; a column without a known value is left out, such as the weights of submissions. A mean
    Dice of several trainings has its standard deviation.
    """
    import pandas as pd

    first, rows = result.rows[0].score, []
    classes = [f"class {label}" for label in first.labels()]
    for row in result.rows:
        score, of_all = row.score, row.differences[-1] if row.differences else None
        spread = f" ± {np.std(row.trainings, ddof=1):.4f}" if len(row.trainings) > 1 else ""
        rows.append(
            [
                f"{score.mean_dice:.4f}{spread}",
                between(score.interval),
                "" if score.mean_dice_present is None else f"{score.mean_dice_present:.4f}",
                *(f"{of_class.dice:.4f}" for of_class in score.by_class),
                f"{sum(of_class.predicted_masks for of_class in score.by_class):.1f}".removesuffix(".0"),
                "" if row.parameters is None else f"{row.parameters / 1e6:.2f} M",
                "" if row.training_s is None else f"{row.training_s / 60:.1f} min",
                "" if row.images_per_s is None else f"{row.images_per_s:.1f}",
                "" if of_all is None else signed(of_all.difference),
                "" if of_all is None else between(of_all.interval, differences=True),
            ]
        )
    present = "" if first.mean_dice_present is None else f"{0:.4f}"
    of_classes = [f"{of_class.all_empty:.4f}" for of_class in first.by_class]
    rows.append([f"{first.all_empty:.4f}", "", present, *of_classes, "0", "", "", "", "", ""])
    level = percent(result.rows[-1].differences[-1].level)
    header = [
        "mean Dice",
        "95 % interval",
        "if present",
        *classes,
        "masks",
        "weights",
        "training",
        "images/s",
        "difference",
        f"{level} interval of the difference",
    ]
    shown = pd.DataFrame(rows, index=[*(row.name for row in result.rows), "predicting nothing"], columns=header)
    return shown.loc[:, (shown != "").any().to_numpy()]


def markdown(result: CompareResult) -> str:
    """The Markdown table, with the verdicts below it."""
    first, shown = result.rows[0].score, table(result)
    escaped = {f"class {label}": f"class {_literal(label)}" for label in first.labels()}
    header = ["", *(escaped.get(name, name) for name in map(str, shown))]
    names = [name.replace("|", "\\|") for name in map(str, shown.index)]
    rows = [[name, *cells] for name, cells in zip(names, shown.to_numpy().tolist(), strict=True)]
    true_masks = counted(sum(found.true_masks for found in first.by_class), "true mask")
    lines = [f"{counted(first.images)} with {true_masks}", "", _row(header), "|" + "---|" * len(header)]
    lines += [*map(_row, rows), "", *(f"- {row.verdict}" for row in result.rows if row.verdict)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _literal(text: str) -> str:
    """`text` with its punctuation escaped, so that Markdown shows it as it is."""
    return re.sub(r"([!-,./:-@\[-`{-~])", r"\\\1", text)
