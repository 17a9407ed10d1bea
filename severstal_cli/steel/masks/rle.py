"""Run lengths: a mask as a list of runs of pixels, and the text that tables hold.

Pixels are counted down the columns, then from left to right. The text is `start length start length ...`, starts
counted from 1, runs sorted and apart. In an image of 4 rows and 3 columns, "2 2 8 3" is

    . . #        pixels 2 and 3 (first column, rows 1 and 2)
    # . #        pixels 8, 9 and 10 (the last of the second column, the first two of the third)
    # . .
    . # .

In memory a mask is `Runs`: (K, 2) int32, a row a run: its start counted from 0, and its length. The text above is
[[1, 2], [7, 3]]. The source of the format is the competition's evaluation page.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks import rle_kernels as kernels

RLE = NDArray[np.int32]

EMPTY: RLE = np.empty((0, 2), dtype=np.int32)
EMPTY.flags.writeable = False

# A run ends at 2**31 - 1 at the latest, whatever the image: starts and lengths are int32.
_MAX_PIXELS = 2**31 - 1


class RLEError(ValueError):
    """A text of run lengths is wrong. The message names the run and the number in the text."""

    def __init__(self, message: str, word: str = "") -> None:
        super().__init__(message)
        self.word = word
        """What stands where a number should; "" where it is one."""


def from_text(text: str, *, pixels: int | None = None) -> RLE:
    """Read the text of a mask; "" is the empty mask.

    Args:
        text: `start length` pairs, split by white space. Runs may touch ("1 3 4 2"), as in some annotations.
        pixels: height x width of the image; a run that ends behind it is then an error.

    Raises:
        RLEError: not a number, odd count of numbers, start or length below 1, past the end, unsorted,
            overlapping; the first of them from the left.
    """
    limit = _MAX_PIXELS if pixels is None else min(pixels, _MAX_PIXELS)
    data = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)
    runs: RLE
    runs, fault, number = kernels.parse(data, limit)
    if fault:
        words = re.split(r"[ \t\n\r\v\f]+", text.strip(" \t\n\r\v\f"))
        is_word = fault == kernels.NOT_A_NUMBER
        raise RLEError(_describe(words, fault, number, limit), words[number] if is_word else "")
    return runs


def to_text(runs: RLE) -> str:
    """The text of a mask; "" for the empty one."""
    return bytes(kernels.to_bytes(_plain(runs))).decode("ascii")


def encode(mask: NDArray[Any]) -> RLE:
    """The runs of a mask.

    Args:
        mask: (H, W) bool or uint8, any memory order; non-zero pixels are in.

    Raises:
        ValueError: not two-dimensional, of another type, or 2**31 pixels or more.
    """
    if mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise ValueError(f"a mask is (H, W) bool or uint8, found {mask.shape} {mask.dtype}")
    if mask.size > _MAX_PIXELS:
        raise ValueError(f"a mask of {mask.size} pixels is too large for run lengths")
    if mask.size == 0:
        return EMPTY
    runs: RLE
    if mask.flags.f_contiguous:
        runs = kernels.encode_columns(_plain(mask.T).view(np.uint8).reshape(-1))
        return runs
    height, width = mask.shape
    if width % 8:  # pad the rows to whole words of 8 pixels; a padding column holds nothing
        padded = np.zeros((height, width + -width % 8), dtype=np.uint8)
        padded[:, :width] = mask.view(np.uint8) if mask.flags.c_contiguous else mask
    else:
        padded = _plain(mask).view(np.uint8)
    runs = kernels.encode_rows(padded.view(np.uint64))
    return runs


def decode(runs: RLE, size: tuple[int, int], *, columns: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """The mask of `runs`: (H, W) bool, row-major, for `size` = (H, W).

    Args:
        runs: (K, 2) int32, sorted.
        size: (H, W) of the image.
        columns: (x0, x1): only the strip of columns x0 to x1 - 1, as (H, x1 - x0). Its cost follows the strip.

    Raises:
        ValueError: a run past the end of the image, or columns outside it.
    """
    height, width = size
    x0, x1 = (0, width) if columns is None else columns
    if not 0 <= x0 <= x1 <= width:
        raise ValueError(f"columns {x0}..{x1} are not inside 0..{width}")
    if len(runs) and int(runs[-1, 0]) + int(runs[-1, 1]) > height * width:
        raise ValueError(f"a run ends at pixel {int(runs[-1, 0]) + int(runs[-1, 1])} of {height * width}")
    mask: NDArray[np.uint8] = kernels.decode(_plain(runs), height, x0, x1)
    return mask.view(np.bool_)


def area(runs: RLE) -> int:
    """How many pixels a mask holds."""
    return int(kernels.area(_plain(runs)))


def overlap(a: RLE, b: RLE) -> int:
    """How many pixels are in both masks; no mask is built."""
    return int(kernels.overlap(_plain(a), _plain(b)))


def union(parts: Sequence[RLE]) -> RLE:
    """The pixels that are in any of the masks: `parts` may overlap, each is sorted as `Runs` are."""
    every = np.concatenate(parts).astype(np.int64)
    if not len(every):
        return EMPTY
    every = every[np.argsort(every[:, 0], kind="stable")]
    ends = np.maximum.accumulate(every.sum(axis=1))
    begins = np.flatnonzero(np.concatenate([[True], every[1:, 0] > ends[:-1]]))
    starts, ends = every[begins, 0], ends[np.append(begins[1:], len(every)) - 1]
    return np.stack([starts, ends - starts], axis=1).astype(np.int32)


def past_the_end(runs: RLE, pixels: int) -> str:
    """What `from_text` says of the first run that ends behind the last of `pixels`; "" where none does."""
    if not len(runs) or int(runs[-1, 0]) + int(runs[-1, 1]) <= pixels:
        return ""
    row = int(np.argmax(runs.astype(np.int64).sum(axis=1) > pixels))
    start, length = int(runs[row, 0]) + 1, int(runs[row, 1])
    number = 2 * row + (start <= pixels)
    what = f"start {start}" if start > pixels else f"length {length}"
    return f"{_place(number)}: {what} reaches past the end, pixel {pixels}"


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    # Row-major and writable: to numba, read-only arrays are another type, for which it would compile all anew.
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()


def _describe(words: Sequence[str], fault: int, number: int, limit: int) -> str:
    """The message for the `number`-th number (from 0) of a text."""
    place = _place(number)
    nearby = ("", "", *words)[number : number + 3]  # the two numbers before it, and itself
    before, last, word = (each if len(each) <= 20 else each[:20] + "..." for each in nearby)
    what = f"{'length' if number % 2 else 'start'} {word}"
    if fault == kernels.NOT_A_NUMBER:
        return f"{place}: {word!r} is not a number in plain digits"
    if fault == kernels.BELOW_ONE:
        return f"{place}: {what} is below 1"
    if fault == kernels.PAST_THE_END:
        return f"{place}: {what} reaches past the end, pixel {limit}"
    if fault == kernels.UNSORTED:
        return f"{place}: {what} is before the start of the run before it, {before}: unsorted"
    if fault == kernels.OVERLAPPING:
        return f"{place}: {what} overlaps the run before it, {before} {last}"
    return f"{place}: {what} has no length, the count of numbers is odd"


def _place(number: int) -> str:
    """The `number`-th number (from 0) of a text, for people."""
    return f"run {number // 2 + 1} (number {number + 1})"
