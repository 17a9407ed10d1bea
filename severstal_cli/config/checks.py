"""Checks that several configs share. Each reports a wrong value in one line."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli.errors import UsageError


@dataclass(frozen=True)
class Bounds:
    """Limits of a number, as a test and in words."""

    hold: Callable[[float], bool]
    words: str


AT_LEAST_1 = Bounds(lambda value: value >= 1, "at least 1")
POSITIVE = Bounds(lambda value: 0 < value < math.inf, "above 0")
NOT_NEGATIVE = Bounds(lambda value: 0 <= value < math.inf, "at least 0")
SHARE = Bounds(lambda value: 0 <= value <= 1, "between 0 and 1")

JPEG_SIDE_PX = 65_500
"""Largest height or width of a JPEG (JPEG_MAX_DIMENSION of libjpeg)."""


def check(fits: bool, name: str, found: object, wanted: str) -> None:
    """Raises UsageError unless `fits`."""
    if not fits:
        raise UsageError(f"wrong {name}", str(found), f"It must be {wanted}")


def check_size(size: tuple[int, int], least_px: int = 1) -> None:
    """Raises UsageError unless RLE can count the pixels of `size`: (height, width)."""
    fits = min(size) >= least_px and size[0] * size[1] < 2**31  # RLE holds int32 positions
    check(fits, "size", "{}x{}".format(*size), f"at least {least_px}x{least_px}, and fewer than 2,147,483,648 pixels")


_OTHER_KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".xml", ".yaml", ".yml")


def check_table_name(out: Path) -> None:
    """Raises UsageError for a table whose name is that of another kind of file, which may exist and would be lost, or
    promises compression: tables are written as plain CSV.
    """
    check(out.suffix.lower() not in _OTHER_KINDS, "name for a table", out, "that of a CSV file")
    check(out.suffix.lower() not in (".gz", ".zip"), "name for a table", out, "that of a plain CSV file: pack it later")


def are_weights(weights: Sequence[float], runs: int) -> bool:
    """Whether `weights` can weight the mean of this number of runs."""
    return len(weights) == runs and all(0 <= weight < math.inf for weight in weights) and any(weights)


def check_weights(weights: Sequence[float], runs: int) -> None:
    """Raises UsageError unless `weights` is empty or has one usable weight per run."""
    if weights and not are_weights(weights, runs):
        raise UsageError(
            "wrong weights",
            ", ".join(f"{weight:g}" for weight in weights),
            f"Give {runs}, one per run, none below 0 and not all 0",
        )
