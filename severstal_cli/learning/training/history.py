"""`history.csv` of a run, one row per epoch: written and read here alone. `history.png` plots it."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli import files, typed
from severstal_cli.errors import RunError
from severstal_cli.steel import drawing

NAME = "history.csv"

BLUE, RED = drawing.PALETTE[5], drawing.PALETTE[6]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One epoch. Both Dice are those of the EMA weights on the validation fold; None without a validation."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Mean training loss per image."""
    dice: float | None
    dice_present: float | None
    """Mean over the (image, class) pairs whose ground-truth mask is not empty."""
    learning_rate: float
    """Learning rate of the last step."""
    images_per_s: float
    """Training throughput, without validation."""
    validation_s: float
    elapsed_s: float
    """Training time since the first epoch, over all sessions."""


def line(row: Row, epochs: int) -> str:
    """The progress line of an epoch."""
    score = "" if row.dice is None else f", Dice {row.dice:.4f}"
    if row.dice_present is not None:
        score += f" ({row.dice_present:.4f} where the class is present)"
    rate = f"{row.images_per_s:.1f} images/s, {row.elapsed_s:.0f} s"
    return f"epoch {row.epoch}/{epochs}: loss {row.loss:.4f}{score}, {rate}"


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write `history.csv` and `history.png`. Raises OutputError."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in dataclasses.fields(Row)], lineterminator="\n")
    table.writeheader()
    table.writerows(dataclasses.asdict(row) for row in rows)
    files.write_text(folder / NAME, text.getvalue())
    with files.replacing(folder / "history.png") as temporary:
        _draw(temporary, rows)


def read(folder: Path) -> tuple[Row, ...]:
    """The epochs of a run; none if the run has no history, as after an export.

    Raises RunError: the file cannot be read, or is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return ()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(
                typed.make(Row, {name: _value(name, text) for name, text in cells.items()})
                for cells in csv.DictReader(file)
            )
    except OSError as error:
        raise files.unreadable(path, error, RunError) from error
    except (TypeError, ValueError, csv.Error) as error:
        raise RunError(f"{path} is damaged", str(error), "Restore it, or remove it") from error


def _value(name: str, text: str) -> float | None:
    if name == "epoch":
        return int(text)
    return float(text) if text else None


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
