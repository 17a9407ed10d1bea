"""`history.csv` and `history.png` of a run: a row an epoch, and its curves."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli import files
from severstal_cli.steel import drawing

BLUE, RED = drawing.PALETTE[5], drawing.PALETTE[6]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One epoch. The Dice are of the averaged weights on the validation fold, None without one."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Mean over the training images."""
    dice: float | None
    dice_present: float | None
    """Over the (image, class) pairs whose true mask is not empty."""
    learning_rate: float
    """At the last step."""
    images_per_s: float
    """Of training, without validation."""
    validation_s: float
    elapsed_s: float
    """Since the training began, over all sittings."""


def line(row: Row, epochs: int) -> str:
    """An epoch in one line, for the terminal."""
    score = "" if row.dice is None else f", Dice {row.dice:.4f}"
    if row.dice_present is not None:
        score += f" ({row.dice_present:.4f} where the class is there)"
    rate = f"{row.images_per_s:.1f} images/s, {row.elapsed_s:.0f} s"
    return f"epoch {row.epoch}/{epochs}: loss {row.loss:.4f}{score}, {rate}"


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write both files. Raises OutputError."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in dataclasses.fields(Row)], lineterminator="\n")
    table.writeheader()
    table.writerows(dataclasses.asdict(row) for row in rows)
    files.write_text(folder / "history.csv", text.getvalue())
    with files.replacing(folder / "history.png") as temporary:
        _draw(temporary, rows)


def _draw(path: Path, rows: Sequence[Row]) -> None:
    figure, (loss_axes, dice_axes) = drawing.figure(columns=2, width=4.0, height=3.2)
    epochs = [row.epoch for row in rows]
    loss_axes.plot(epochs, [row.loss for row in rows], color=BLUE, marker=".")
    loss_axes.set(xlabel="epoch", ylabel="training loss")
    scored = [row for row in rows if row.dice is not None]
    for name, label, color in (("dice", "all pairs", BLUE), ("dice_present", "class present", RED)):
        points = [(row.epoch, getattr(row, name)) for row in scored if getattr(row, name) is not None]
        if points:
            dice_axes.plot(*zip(*points, strict=True), color=color, marker=".", label=label)
    dice_axes.set(xlabel="epoch", ylabel="validation Dice")
    if scored:
        dice_axes.legend()
    for axes in (loss_axes, dice_axes):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, format="png", dpi=120)
