"""Detects RLE that was encoded for another image height: a wrong height shifts each column, so masks become jagged.

RLE does not hold the height of its image. But in an annotated mask nearly every run touches a run in the next column,
so at the right height `h` a run [start, end) meets another one, or its corner, at [start + h, end + h). Of 1,500 real
annotations of the competition 97 % of the runs touch at height 256, and 51 % at 1600; in the worst annotation 71 %
touch. Thin lines of any slope touch, tiny masks have too few runs to decide, and noise touches equally at any height.

Where height and width may be exchanged, the pixels that runs share with the next column count as well. That decides for
large masks, which touch at any height. Thin lines share no pixels, and other heights would win by their slope.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE

_LEAST_HEIGHT = 8  # the pattern of a texture repeats at fewer pixels than that
_LEAST_GAIN = 0.1  # of the share of runs that touch
_LEAST_Z = 3.0  # 10 runs that touch at another height, and none at this one
_LEAST_SHARE = 0.8  # of runs that touch, for a height that is neither given side

# With so many masks, nearly all touching more, a small gain counts, except for textures that repeat in a column.
_LEAST_MASKS, _LEAST_VOTE, _STEADY_GAIN, _LEAST_RATIO = 20, 0.9, 0.015, 0.25


def likelier_height(masks: Sequence[RLE], size: tuple[int, int]) -> int | None:
    """The height at which the masks are coherent, where they are not at that of `size`; None where `size` fits.

    A height that is wrong by a pixel or two only slants the masks, and is not detected.

    Args:
        masks: none empty.
        size: (height, width). The width is tried as a height, too, because the two may be exchanged.
    """
    height, width = size
    masks = [short for runs in masks if len(short := runs[runs[:, 1] < height])]  # whole columns touch at any height
    if not masks:
        return None
    given = _touching(masks, height)
    candidates: dict[int, float] = {}
    if width != height:
        other = _touching(masks, width)
        more_is_shared = _mean_share(other - given, masks) > 0 and _is_better(
            _shared(masks, width), _shared(masks, height), masks
        )
        if _is_better(other, given, masks) or more_is_shared:
            candidates[width] = other.sum()
    usual = _usual_distance(masks)
    if usual >= _LEAST_HEIGHT and usual != height:
        other = _touching(masks, usual)
        wins, losses = int((other > given).sum()), int((other < given).sum())
        is_steady = wins >= _LEAST_MASKS and wins >= _LEAST_VOTE * (wins + losses) and usual >= _LEAST_RATIO * height
        if _mean_share(other, masks) >= _LEAST_SHARE and (
            _is_better(other, given, masks) or (is_steady and _mean_share(other - given, masks) > _STEADY_GAIN)
        ):
            candidates[usual] = other.sum()
    return max(candidates, key=lambda candidate: candidates[candidate], default=None)  # on a tie the width


def _is_better(other: NDArray[np.float64], given: NDArray[np.float64], masks: Sequence[RLE]) -> bool:
    """Whether significantly more runs touch at the other height than at the given one."""
    gained, total = other.sum() - given.sum(), other.sum() + given.sum()
    return bool(_mean_share(other - given, masks) > _LEAST_GAIN and gained > _LEAST_Z * total**0.5)


def _mean_share(counts: NDArray[np.float64], masks: Sequence[RLE]) -> float:
    """Counts as shares of the runs of each mask, averaged over the masks."""
    return float((counts / [len(runs) for runs in masks]).mean())


def _touching(masks: Sequence[RLE], height: int) -> NDArray[np.float64]:
    """The number of runs of each mask that touch another run `height` pixels on, also at a corner."""
    counts = []
    for runs in masks:
        starts = runs[:, 0].astype(np.int64)
        ends = starts + runs[:, 1]
        nearest = np.searchsorted(ends, starts + height)  # the first run that does not end before the moved one begins
        is_other = (nearest < len(runs)) & (nearest > np.arange(len(runs)))  # long runs would meet themselves
        counts.append(float((is_other & (starts[np.minimum(nearest, len(runs) - 1)] <= ends + height)).sum()))
    return np.array(counts)


def _shared(masks: Sequence[RLE], height: int) -> NDArray[np.float64]:
    """As `_touching`, but each run counts by the share of its pixels in other runs `height` pixels on."""
    counts = []
    for runs in masks:
        moved = runs.copy()
        moved[:, 0] += height
        own = int(np.maximum(runs[:, 1] - height, 0).sum())
        counts.append((rle.overlap(runs, moved) - own) / rle.area(runs) * len(runs))
    return np.array(counts)


def _usual_distance(masks: Sequence[RLE]) -> int:
    """The most common distance between the starts of successive runs; 0 without any.

    For masks with one run per column it is the height of the image.
    """
    distances = np.concatenate([np.diff(runs[:, 0]) for runs in masks])
    if not len(distances):
        return 0
    values, counts = np.unique(distances, return_counts=True)
    return int(values[counts.argmax()])
