"""How sure a mean Dice is: an interval of 95 % by the bootstrap over groups of near-duplicates.

Images of one group show the same steel, so they are right or wrong together. Groups are drawn, with replacement and as
wholes, as many as there are; the mean over all pairs of the images drawn is one sample of the mean, and the interval
holds the middle 95 % of the samples (Efron and Tibshirani, An Introduction to the Bootstrap, chapters 8 and 13).

Worked example: the Dice 1, 1 and 0 of three images, the first two of one group. Drawing two groups gives (1 + 1) / 2,
(1 + 1 + 0) / 3 or 0: one time in four 1, two in four 2/3, one in four 0.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2000
LEVEL = 0.95
_AT_ONCE = 1 << 21
"""Counts of groups in memory at once: 16 MB."""


def draws(groups: int, *, samples: int = SAMPLES, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """How often each of `groups` was drawn, `(B, groups)` at a time, `samples` rows in all."""
    rng = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // groups)
    for first in range(0, samples, rows):
        count = min(rows, samples - first)
        drawn = rng.integers(0, groups, (count, groups)) + groups * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups)


def intervals(scores: NDArray[np.float64], groups: NDArray[np.integer]) -> NDArray[np.float64]:
    """The intervals of the mean of each column and, in the last row, of all together: `(C + 1, 2)`, low and high.

    scores: `(N, C)`, N images. groups: `(N,)`, any numbers, equal ones for images of one group.
    Raises ValueError: no scores, or not a group for each image.
    """
    return middle(sampled_means(scores, groups))


def sampled_means(scores: NDArray[np.float64], groups: NDArray[np.integer]) -> NDArray[np.float64]:
    """`(SAMPLES, C + 1)`: of each drawing the mean of each column and of all together. As `intervals`."""
    if scores.ndim != 2 or not scores.size or groups.shape != scores.shape[:1]:
        raise ValueError(f"scores of shape {scores.shape} and groups of shape {groups.shape}")
    _, group_of = np.unique(groups, return_inverse=True)
    sums = np.stack([np.bincount(group_of, column) for column in (*scores.T, scores.mean(axis=1))], axis=1)
    sizes = np.bincount(group_of).astype(np.float64)
    return np.concatenate([(drawn @ sums) / (drawn @ sizes)[:, None] for drawn in draws(len(sizes))])


def middle(samples: NDArray[np.float64], level: float = LEVEL) -> NDArray[np.float64]:
    """`(B, K)` samples -> `(K, 2)`: what holds the middle 95 % of each column, or another share."""
    tail = (1 - level) / 2
    found: NDArray[np.float64] = np.quantile(samples, [tail, 1 - tail], axis=0).T
    return found
