"""What the settings have in common: one line for a value that cannot be."""

import math
from collections.abc import Sequence
from pathlib import Path

from severstal_cli.errors import UsageError


def check(fits: bool, name: str, found: object, wanted: str) -> None:
    """Raises UsageError unless `fits`."""
    if not fits:
        raise UsageError(f"wrong {name}", str(found), f"It must be {wanted}")


def check_size(size: tuple[int, int], least_px: int = 1) -> None:
    """Raises UsageError unless run lengths can count the pixels of `size`: (height, width)."""
    fits = min(size) >= least_px and size[0] * size[1] < 2**31  # run lengths count no further
    check(fits, "size", "{}x{}".format(*size), f"at least {least_px}x{least_px}, and fewer than 2,147,483,648 pixels")


def check_unpacked(out: Path) -> None:
    """Raises UsageError for a table that would be named as if it were packed: tables are written as plain CSV."""
    check(out.suffix.lower() not in (".gz", ".zip"), "name for a table", out, "that of a plain CSV file: pack it later")


def are_weights(weights: Sequence[float], runs: int) -> bool:
    """Whether the mean of so many runs can be weighted so."""
    return len(weights) == runs and all(0 <= weight < math.inf for weight in weights) and any(weights)


def check_weights(weights: Sequence[float], runs: int) -> None:
    """Raises UsageError unless there are no weights, or one for each of so many runs, as a mean needs them."""
    if weights and not are_weights(weights, runs):
        raise UsageError("wrong weights", ", ".join(f"{weight:g}" for weight in weights),
                         f"Give {runs}, one a run, none below 0 and not all 0")  # fmt: skip
