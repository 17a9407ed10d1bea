"""Post-processing: from the levels of a class to its mask. The search and prediction apply the same code.

It has four steps, in this order. Take the map 200 190 0 150 90 (one row) with pixel_threshold 128, min_component_px 2,
min_mask_px 2, min_image_score 195:
1. pixel_threshold: keep levels of at least 128                         # # . # .
2. min_component_px: drop 8-connected components below 2 pixels         # # . . .
3. min_mask_px: 2 pixels are left, not below 2, so the mask stays       # # . . .
4. min_image_score, the gate: the peak level, 200, reaches 195          # # . . .
In a file it is an object with these four numbers. `pixel_threshold` 256, which no level reaches, disables the class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.components import LEVELS, drop_small

DISABLED = LEVELS
"""The pixel threshold of a class that is never predicted."""


@dataclass(frozen=True, kw_only=True)
class ClassPostprocess:
    """The post-processing of one class. The default is a probability of one half and no filter.

    Raises ValueError when a number is out of its range.
    """

    pixel_threshold: int = 128
    """1..255: the lowest level of the mask's pixels; DISABLED: no mask."""
    min_component_px: int = 1
    """Minimum size of an 8-connected component; 1: all."""
    min_mask_px: int = 1
    """Minimum size of a mask, after the components; 1: all."""
    min_image_score: int = 0
    """0..255, the gate: the mask is empty where the peak level is lower."""

    def __post_init__(self) -> None:
        limits = {"pixel_threshold": (1, DISABLED), "min_image_score": (0, LEVELS - 1)}
        for name, value in asdict(self).items():
            low, high = limits.get(name, (1, 2**31 - 1))
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, not {value!r}")

    def to_dict(self) -> dict[str, int]:
        """The four numbers, for JSON."""
        return {name: int(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> "ClassPostprocess":
        """Inverse of `to_dict`. Raises ValueError when a number is missing, unknown or out of range."""
        names = {field.name for field in fields(cls)}
        if set(numbers) != names:
            raise ValueError(f"a rule has the numbers {sorted(names)}, not {sorted(numbers)}")
        return cls(**numbers)


def _mask(levels: NDArray[np.uint8], rule: ClassPostprocess) -> NDArray[np.bool_] | None:
    """The mask, or None where it is known to be empty before it is made."""
    # the last step first: it needs the levels alone, and most maps end here
    if levels.size == 0 or int(levels.max()) < max(rule.pixel_threshold, rule.min_image_score):
        return None
    mask: NDArray[np.bool_] = levels >= rule.pixel_threshold
    if max(rule.min_component_px, rule.min_mask_px) > 1:
        if np.count_nonzero(mask) < max(rule.min_component_px, rule.min_mask_px):
            return None
        if rule.min_component_px > 1:
            mask = drop_small(mask, rule.min_component_px)
            if rule.min_mask_px > 1 and np.count_nonzero(mask) < rule.min_mask_px:
                return None
    return mask


def make_exclusive(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep one class per pixel: zero all levels but the highest; on a tie the lower channel stays.

    levels: (C, H, W) uint8 -> a new array of the same shape. For data whose training annotations do not overlap, before
    the search and before prediction.
    """
    if levels.ndim != 3 or levels.dtype != np.uint8:
        raise ValueError(f"levels must be (C, H, W) uint8, not {levels.shape} {levels.dtype}")
    channels, pixels = levels.shape[0], levels.shape[1] * levels.shape[2]
    exclusive = np.array(levels, order="C")  # always a copy
    _keep_highest(exclusive.reshape(channels, pixels))
    return exclusive


@numba.njit(cache=True, nogil=True)
def _keep_highest(levels):  # type: ignore[no-untyped-def]
    """levels: (C, P), changed in place, in chunks that fit the L1 cache, with vectorised loops."""
    channels, pixels = levels.shape
    chunk = 4096
    best, owner = np.empty(chunk, np.uint8), np.empty(chunk, np.uint8)
    for begin in range(0, pixels, chunk):
        size = min(chunk, pixels - begin)
        best[:] = 0
        for channel in range(channels):
            row = levels[channel, begin : begin + size]
            for i in range(size):
                higher = row[i] > best[i]
                owner[i] = np.uint8(channel) if higher else owner[i]
                best[i] = row[i] if higher else best[i]
        for channel in range(channels):
            row = levels[channel, begin : begin + size]
            for i in range(size):
                row[i] = row[i] if owner[i] == np.uint8(channel) else np.uint8(0)


def levels_to_rle(levels: NDArray[np.uint8], rules: Sequence[ClassPostprocess]) -> list[rle.RLE]:
    """The masks of one image as RLE, one per class.

    levels: (C, H, W) uint8; rules: C of them. Raises ValueError when the number of rules is not C.
    """
    if len(levels) != len(rules):
        raise ValueError(f"{len(levels)} classes and {len(rules)} rules")
    masks = map(_mask, levels, rules)
    return [rle.EMPTY if mask is None else rle.encode(mask) for mask in masks]
