"""RLE: a mask as a list of runs of pixels, and its text in tables.

Pixels are counted down the columns, then from left to right. The text is `start length start length ...` with starts
from 1 and sorted, disjoint runs. In an image of 4 rows and 3 columns, "2 2 8 3" is

    . . #        pixels 2 and 3 (first column, rows 1 and 2)
    # . #        pixels 8, 9 and 10 (the last of the second column, the first two of the third)
    # . .
    . # .

In memory a mask is an `RLE`: (K, 2) int32, one row per run with its start, from 0, and its length. The text above is
[[1, 2], [7, 3]]. The format is defined on the competition's evaluation page.
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

# starts and lengths are int32, so any run ends at 2**31 - 1 at the latest
_MAX_PIXELS = 2**31 - 1


class RLEError(ValueError):
    """The text of an RLE is invalid. The message names the run and the number in the text."""

    def __init__(self, message: str, word: str = "") -> None:
        super().__init__(message)
        self.word = word
        """The word that is not a number; "" for other faults."""


def from_text(text: str, *, pixels: int | None = None) -> RLE:
    """Parse the text of a mask; "" is the empty mask.

    Args:
        text: `start length` pairs, separated by white space. Runs may touch ("1 3 4 2"), as in some annotations.
        pixels: height x width of the image, to refuse runs past the end.

    Raises:
        RLEError: for the first fault from the left: not a number, an odd count of numbers, a start or length below 1,
            a run past the end, unsorted or overlapping runs.
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
    """The RLE of a mask.

    Args:
        mask: (H, W) bool or uint8, in any memory order; non-zero pixels belong to the mask.

    Raises:
        ValueError: not two-dimensional, of another type, or 2**31 pixels or more.
    """
    if mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise ValueError(f"a mask is (H, W) bool or uint8, found {mask.shape} {mask.dtype}")
    if mask.size > _MAX_PIXELS:
        raise ValueError(f"a mask of {mask.size} pixels is too large for RLE")
    if mask.size == 0:
        return EMPTY
    runs: RLE
    if mask.flags.f_contiguous:
        runs = kernels.encode_columns(_plain(mask.T).view(np.uint8).reshape(-1))
        return runs
    height, width = mask.shape
    if width % 8:  # pad the rows with empty columns to whole words of 8 pixels
        padded = np.zeros((height, width + -width % 8), dtype=np.uint8)
        padded[:, :width] = mask.view(np.uint8) if mask.flags.c_contiguous else mask
    else:
        padded = _plain(mask).view(np.uint8)
    runs = kernels.encode_rows(padded.view(np.uint64))
    return runs


def decode(runs: RLE, size: tuple[int, int], *, columns: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """The mask of an RLE: (H, W) bool, row-major.

    Args:
        runs: (K, 2) int32, sorted.
        size: (H, W) of the image.
        columns: (x0, x1), to decode columns x0 to x1 - 1 only, as (H, x1 - x0), at the cost of those columns.

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
    """The number of pixels of a mask."""
    return int(kernels.area(_plain(runs)))


def overlap(a: RLE, b: RLE) -> int:
    """The number of pixels in both masks, without decoding them."""
    return int(kernels.overlap(_plain(a), _plain(b)))


def union(masks: Sequence[RLE]) -> RLE:
    """The pixels in any of the masks, which may overlap."""
    every = np.concatenate(masks).astype(np.int64)
    if not len(every):
        return EMPTY
    every = every[np.argsort(every[:, 0], kind="stable")]
    ends = np.maximum.accumulate(every.sum(axis=1))
    begins = np.flatnonzero(np.concatenate([[True], every[1:, 0] > ends[:-1]]))
    starts, ends = every[begins, 0], ends[np.append(begins[1:], len(every)) - 1]
    return np.stack([starts, ends - starts], axis=1).astype(np.int32)


def past_the_end(runs: RLE, pixels: int) -> str:
    """The message of `from_text` for the first run that ends past `pixels`; "" without one."""
    if not len(runs) or int(runs[-1, 0]) + int(runs[-1, 1]) <= pixels:
        return ""
    row = int(np.argmax(runs.astype(np.int64).sum(axis=1) > pixels))
    start, length = int(runs[row, 0]) + 1, int(runs[row, 1])
    number = 2 * row + (start <= pixels)
    what = f"start {start}" if start > pixels else f"length {length}"
    return f"{_position(number)}: {what} reaches past the end, pixel {pixels}"


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    # row-major and writable: numba treats read-only arrays as another type and would recompile everything
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()


def _describe(words: Sequence[str], fault: int, number: int, limit: int) -> str:
    """The message for the `number`-th number (from 0) of a text."""
    position = _position(number)
    nearby = ("", "", *words)[number : number + 3]  # the two numbers before it, and itself
    before, last, word = (each if len(each) <= 20 else each[:20] + "..." for each in nearby)
    what = f"{'length' if number % 2 else 'start'} {word}"
    if fault == kernels.NOT_A_NUMBER:
        return f"{position}: {word!r} is not a number in plain digits"
    if fault == kernels.BELOW_ONE:
        return f"{position}: {what} is below 1"
    if fault == kernels.PAST_THE_END:
        return f"{position}: {what} reaches past the end, pixel {limit}"
    if fault == kernels.UNSORTED:
        return f"{position}: {what} is before the start of the run before it, {before}: unsorted"
    if fault == kernels.OVERLAPPING:
        return f"{position}: {what} overlaps the run before it, {before} {last}"
    return f"{position}: {what} has no length, the count of numbers is odd"


def _position(number: int) -> str:
    """The position of the `number`-th number (from 0) of a text, for messages."""
    return f"run {number // 2 + 1} (number {number + 1})"
