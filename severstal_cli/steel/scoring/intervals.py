"""How sure a mean Dice is: an interval of 95 % by the bootstrap over groups of near-duplicates.

Images of one group show the same steel, so they are right or wrong together. Groups are drawn, with replacement and as
wholes, as many as there are; the mean over all pairs of the images drawn is one sample of the mean, and the interval
holds the middle 95 % of the samples (Efron and Tibshirani, An Introduction to the Bootstrap, chapters 8 and 13).

Worked example: the Dice 1, 1 and 0 of three images, the first two of one group. Drawing two groups gives (1 + 1) / 2,
(1 + 1 + 0) / 3 or 0: one time in four 1, two in four 2/3, one in four 0.

Of few groups these samples lie too close together (Hesterberg, What Teachers Should Know About the Bootstrap, The
American Statistician 69, 2015, on the percentile interval): their variance is (n - 1) / n of what it should be, and how
far groups are apart is itself but an estimate. So each sample is moved away from the mean by sqrt(n / (n - 1)), and its
distance is divided by a drawn error of that estimate, sqrt(chi2 / (n - 1)): of normal samples this makes Student's
distribution (Student, The probable error of a mean, Biometrika 6, 1908). Of 10 groups the interval is 22 % wider, of
300 half a percent. Of groups of unlike sizes the large ones rule the mean: as n counts how many of one size would tell
as much, the square of their sum over the sum of their squares (Kish, Survey Sampling, 1965). Of fewer than `LEAST`
groups no interval is told.

Faults are rare, so the mean of a few groups is skewed: mostly a little too high, now and then far too low. Which
quantiles of the samples bound the interval is chosen by their bias and by the skewness of what the groups add, after
Efron (Better Bootstrap Confidence Intervals, Journal of the American Statistical Association 82, 1987: BCa).
"""

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2000
LEVEL = 0.95
LEAST = 6
"""Groups that an interval needs. Five all speak for one side by chance once in sixteen times, 2 / 2^5, and six once in
32: fewer can show nothing at 95 % (sign test)."""
_NORMAL = NormalDist()
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


def intervals(scores: NDArray[np.float64], groups: NDArray[np.integer]) -> NDArray[np.float64] | None:
    """The intervals of the mean of each column and, in the last row, of all together: `(C + 1, 2)`, low and high.

    scores: `(N, C)` in [0, 1], N images. groups: `(N,)`, any numbers, equal ones for images of one group.
    None of fewer than `LEAST` groups. Raises ValueError: no scores, or not a group for each image.
    """
    sums, sizes = of_groups(scores, groups)
    if len(sizes) < LEAST:
        return None
    samples = sampled_means(sums, sizes, effective(np.ones(sums.shape, bool), sizes))
    means = sums.sum(axis=0) / sizes.sum()
    # moving samples away from the mean left each on its side; those that hit it are on neither
    below = (1 - np.sign(np.where(abs(samples - means) < 1e-12, 0, samples - means)).mean(axis=0)) / 2
    added = sums - means * sizes[:, None]
    spread = (added**2).sum(axis=0) ** 1.5
    skewness = (added**3).sum(axis=0) / np.where(spread > 0, 6 * spread, 1)
    found: NDArray[np.float64] = np.array(
        [np.quantile(*of_one) for of_one in zip(samples.T, map(levels_of, below, skewness), strict=True)]
    )
    return np.clip(found, 0, 1)


def levels_of(below: float, skewness: float, level: float = LEVEL) -> tuple[float, float]:
    """Which quantiles of the samples of a mean bound its interval, by the share of them `below` it (Efron, 1987).

    skewness: a sixth of that of what each group adds, over the root of their count. 0.5 and 0 give 0.025 and 0.975.
    """
    bias = _NORMAL.inv_cdf(min(max(below, 1 / SAMPLES), 1 - 1 / SAMPLES))
    low, high = (bias + _NORMAL.inv_cdf(share) for share in ((1 - level) / 2, (1 + level) / 2))
    return _NORMAL.cdf(bias + low / (1 - skewness * low)), _NORMAL.cdf(bias + high / (1 - skewness * high))


def effective(telling: NDArray[np.bool_], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(K,)` how many groups of one size tell as much as those of each column of `telling: (G, K)`: 2 or more."""
    own = telling * sizes[:, None]
    found: NDArray[np.float64] = np.maximum(2, own.sum(axis=0) ** 2 / np.maximum((own**2).sum(axis=0), 1))
    return found


def of_groups(
    scores: NDArray[np.float64], groups: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over the images of each group, `(G, C + 1)`, the last column of the mean of all; and their count, `(G,)`.

    As `intervals`.
    """
    if scores.ndim != 2 or not scores.size or groups.shape != scores.shape[:1]:
        raise ValueError(f"scores of shape {scores.shape} and groups of shape {groups.shape}")
    _, group_of = np.unique(groups, return_inverse=True)
    sums: NDArray[np.float64] = np.stack(
        [np.bincount(group_of, column) for column in (*scores.T, scores.mean(axis=1))], axis=1
    )
    sizes: NDArray[np.float64] = np.bincount(group_of).astype(np.float64)
    return sums, sizes


def sampled_means(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], telling: NDArray[np.integer | np.floating]
) -> NDArray[np.float64]:
    """`(SAMPLES, C + 1)`: the mean of each column in each drawing, as far from the mean of all as few groups need.

    sums, sizes: as `of_groups` gives them. telling: `(C + 1,)` how many groups tell anything of a column, at least 2.
    """
    samples = np.concatenate([(drawn @ sums) / (drawn @ sizes)[:, None] for drawn in draws(len(sizes))])
    means = sums.sum(axis=0) / sizes.sum()
    further = np.sqrt(telling / np.random.default_rng(1).chisquare(telling - 1, samples.shape))
    moved: NDArray[np.float64] = means + (samples - means) * further
    return moved


def middle(samples: NDArray[np.float64], level: float = LEVEL) -> NDArray[np.float64]:
    """`(B, K)` samples -> `(K, 2)`: what holds the middle 95 % of each column, or another share."""
    tail = (1 - level) / 2
    found: NDArray[np.float64] = np.quantile(samples, [tail, 1 - tail], axis=0).T
    return found
