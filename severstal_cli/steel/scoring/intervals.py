"""Bootstrap confidence intervals of a mean Dice, over groups of near-duplicates.

Images of one group show the same steel, so they are right or wrong together. A bootstrap sample draws whole groups with
replacement, as many as there are. The mean over all pairs of the drawn images is one sample of the mean, and the 95 %
interval holds the middle 95 % of the samples (Efron and Tibshirani, An Introduction to the Bootstrap, chapters 8, 13).

Worked example: the Dice 1, 1 and 0 of three images, the first two in one group. Drawing two groups gives (1 + 1) / 2,
(1 + 1 + 0) / 3 or 0: 1 in a quarter of the samples, 2/3 in a half, 0 in a quarter.

With few groups the samples are too close together (Hesterberg, What Teachers Should Know About the Bootstrap, The
American Statistician 69, 2015, on the percentile interval). Their variance is (n - 1) / n of the unbiased one, and the
variance between groups is itself an estimate. So the distance of each sample from the mean is multiplied by
sqrt(n / (n - 1)) and divided by a random error of that estimate, sqrt(chi2 / (n - 1)). For normal samples this gives
Student's distribution (Student, The probable error of a mean, Biometrika 6, 1908). The interval is 22 % wider with 10
groups, and half a percent with 300. Large groups dominate the mean, so n is the effective number of groups of equal
size: the square of the sum of the sizes over the sum of their squares (Kish, Survey Sampling, 1965). With fewer than
`LEAST` groups there is no interval.

Faults are rare, so the mean of a few groups is skewed: mostly a little too high, and rarely far too low. The quantiles
that bound the interval are adjusted for the bias and the skewness of the group contributions, after
Efron (Better Bootstrap Confidence Intervals, Journal of the American Statistical Association 82, 1987: BCa).
"""

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2000
LEVEL = 0.95
LEAST = 6
"""The minimum number of groups for an interval. By chance, five groups all favour one side in 1 of 16 cases, 2 / 2^5,
and six in 1 of 32: fewer cannot be significant at 95 % (sign test)."""
_NORMAL = NormalDist()
_CHUNK = 1 << 21
"""Counts of groups in memory at a time: 16 MB."""


def draws(groups: int, *, samples: int = SAMPLES, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Bootstrap samples as the number of draws of each group: `(B, groups)` at a time, `samples` rows in all."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // groups)
    for first in range(0, samples, rows):
        count = min(rows, samples - first)
        drawn = rng.integers(0, groups, (count, groups)) + groups * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups)


def intervals(scores: NDArray[np.float64], groups: NDArray[np.integer]) -> NDArray[np.float64] | None:
    """The interval of the mean of each column and, in the last row, of all columns: `(C + 1, 2)`, low and high.

    scores: `(N, C)` in [0, 1], N images. groups: `(N,)`, any numbers, equal for images of one group.
    None with fewer than `LEAST` groups. Raises ValueError: no scores, or not one group per image.
    """
    sums, sizes = of_groups(scores, groups)
    if len(sizes) < LEAST:
        return None
    samples = sampled_means(sums, sizes, effective(np.ones(sums.shape, bool), sizes))
    means = sums.sum(axis=0) / sizes.sum()
    # spreading the samples kept each on its side of the mean; those equal to the mean are on neither
    below = (1 - np.sign(np.where(abs(samples - means) < 1e-12, 0, samples - means)).mean(axis=0)) / 2
    added = sums - means * sizes[:, None]
    spread = (added**2).sum(axis=0) ** 1.5
    skewness = (added**3).sum(axis=0) / np.where(spread > 0, 6 * spread, 1)
    bounds: NDArray[np.float64] = np.array(
        [np.quantile(*column) for column in zip(samples.T, map(levels_of, below, skewness), strict=True)]
    )
    return np.clip(bounds, 0, 1)


def levels_of(below: float, skewness: float, level: float = LEVEL) -> tuple[float, float]:
    """The quantiles of the samples that bound the interval of a mean (Efron, 1987).

    below: the share of samples below the mean. skewness: the skewness of the group contributions, divided by 6 and by
    the square root of their number. 0.5 and 0 give 0.025 and 0.975.
    """
    bias = _NORMAL.inv_cdf(min(max(below, 1 / SAMPLES), 1 - 1 / SAMPLES))
    low, high = (bias + _NORMAL.inv_cdf(share) for share in ((1 - level) / 2, (1 + level) / 2))
    return _NORMAL.cdf(bias + low / (1 - skewness * low)), _NORMAL.cdf(bias + high / (1 - skewness * high))


def effective(selected: NDArray[np.bool_], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(K,)` the effective number of groups of equal size, at least 2, among those that `selected: (G, K)` marks."""
    own = selected * sizes[:, None]
    count: NDArray[np.float64] = np.maximum(2, own.sum(axis=0) ** 2 / np.maximum((own**2).sum(axis=0), 1))
    return count


def of_groups(
    scores: NDArray[np.float64], groups: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over the images of each group, `(G, C + 1)`, the last column of the mean over C; and group sizes, `(G,)`.

    Arguments and errors as `intervals`.
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
    sums: NDArray[np.float64], sizes: NDArray[np.float64], count: NDArray[np.integer | np.floating]
) -> NDArray[np.float64]:
    """`(SAMPLES, C + 1)`: the mean of each column in each bootstrap sample, spread for few groups.

    sums, sizes: of `of_groups`. count: `(C + 1,)` the effective number of groups of a column, at least 2.
    """
    samples = np.concatenate([(drawn @ sums) / (drawn @ sizes)[:, None] for drawn in draws(len(sizes))])
    means = sums.sum(axis=0) / sizes.sum()
    further = np.sqrt(count / np.random.default_rng(1).chisquare(count - 1, samples.shape))
    spread: NDArray[np.float64] = means + (samples - means) * further
    return spread


def middle(samples: NDArray[np.float64], level: float = LEVEL) -> NDArray[np.float64]:
    """`(B, K)` samples -> `(K, 2)`: bounds of the middle 95 % of each column, or of another share."""
    tail = (1 - level) / 2
    bounds: NDArray[np.float64] = np.quantile(samples, [tail, 1 - tail], axis=0).T
    return bounds
