"""Does a size fit the run lengths of a table? A wrong height shifts each column against the next: masks become jagged.

Run lengths do not say how high their image is. But in a drawn mask nearly every run touches a run in the next column,
so at the right height `h` a run [start, end) meets another one, or its corner, at [start + h, end + h). Of 1,500 real
annotations of the competition 97 % of the runs do at 256, and 51 % at 1600; in the worst annotation 71 % do. Thin
lines of any slope touch, tiny masks have too few runs to say anything, and noise touches at any height alike.

Where height and width may be exchanged, the pixels that runs share with the next column count as well: that tells
large masks, which touch at any height. Thin lines share none, and other heights would win by their slope.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE

_LEAST_HEIGHT = 8  # the pattern of a texture repeats at fewer pixels than that
_LEAST_GAIN = 0.1  # of the share of runs that touch
_LEAST_Z = 3.0  # 10 runs that touch at another height, and none at this one
_LEAST_SHARE = 0.8  # of runs that touch at a height that nobody named

# So many masks, of which nearly all touch more: then a small gain counts, but for textures that repeat in a column.
_LEAST_MASKS, _LEAST_VOTE, _STEADY_GAIN, _LEAST_RATIO = 20, 0.9, 0.015, 0.25


def likelier_height(masks: Sequence[RLE], size: tuple[int, int]) -> int | None:
    """The height at which masks hang together, where they do not at that of `size`; None if nothing is wrong with it.

    A height that is wrong by a pixel or two only slants the masks, and is not seen.

    Args:
        masks: runs of each mask, none empty.
        size: (height, width), whose width is one of the heights that are tried: the two may be exchanged.
    """
    height, width = size
    masks = [part for runs in masks if len(part := runs[runs[:, 1] < height])]  # whole columns touch at any height
    if not masks:
        return None
    here = _touching(masks, height)
    found: dict[int, float] = {}
    if width != height:
        there = _touching(masks, width)
        more_is_shared = _mean_share(there - here, masks) > 0 and _is_better(
            _shared(masks, width), _shared(masks, height), masks
        )
        if _is_better(there, here, masks) or more_is_shared:
            found[width] = there.sum()
    usual = _usual_distance(masks)
    if usual >= _LEAST_HEIGHT and usual != height:
        there = _touching(masks, usual)
        wins, losses = int((there > here).sum()), int((there < here).sum())
        is_steady = wins >= _LEAST_MASKS and wins >= _LEAST_VOTE * (wins + losses) and usual >= _LEAST_RATIO * height
        if _mean_share(there, masks) >= _LEAST_SHARE and (
            _is_better(there, here, masks) or (is_steady and _mean_share(there - here, masks) > _STEADY_GAIN)
        ):
            found[usual] = there.sum()
    return max(found, key=lambda other: found[other], default=None)  # where both are as good, the width


def _is_better(there: NDArray[np.float64], here: NDArray[np.float64], masks: Sequence[RLE]) -> bool:
    """Whether more runs of the masks touch `there` than `here`, by more than chance."""
    gained, total = there.sum() - here.sum(), there.sum() + here.sum()
    return bool(_mean_share(there - here, masks) > _LEAST_GAIN and gained > _LEAST_Z * total**0.5)


def _mean_share(counts: NDArray[np.float64], masks: Sequence[RLE]) -> float:
    """Counts as shares of the runs of each mask, averaged over the masks."""
    return float((counts / [len(runs) for runs in masks]).mean())


def _touching(masks: Sequence[RLE], height: int) -> NDArray[np.float64]:
    """How many runs of each mask touch, or meet at a corner, another run `height` pixels on."""
    counts = []
    for runs in masks:
        starts = runs[:, 0].astype(np.int64)
        ends = starts + runs[:, 1]
        nearest = np.searchsorted(ends, starts + height)  # the first run that does not end before this one begins
        is_other = (nearest < len(runs)) & (nearest > np.arange(len(runs)))  # long runs would meet themselves
        counts.append(float((is_other & (starts[np.minimum(nearest, len(runs) - 1)] <= ends + height)).sum()))
    return np.array(counts)


def _shared(masks: Sequence[RLE], height: int) -> NDArray[np.float64]:
    """As `_touching`, but a run counts by the share of its pixels that are in other runs `height` pixels on."""
    counts = []
    for runs in masks:
        moved = runs.copy()
        moved[:, 0] += height
        own = int(np.maximum(runs[:, 1] - height, 0).sum())
        counts.append((rle.overlap(runs, moved) - own) / rle.area(runs) * len(runs))
    return np.array(counts)


def _usual_distance(masks: Sequence[RLE]) -> int:
    """The most common distance from the start of a run to that of the next; 0 without one.

    Where a mask has one run a column, that is the height of the image.
    """
    distances = np.concatenate([np.diff(runs[:, 0]) for runs in masks])
    if not len(distances):
        return 0
    values, counts = np.unique(distances, return_counts=True)
    return int(values[counts.argmax()])
