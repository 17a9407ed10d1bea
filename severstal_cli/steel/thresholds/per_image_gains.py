"""What each image adds to the mean Dice of a class, for every post-processing of a grid.

The grid that `thresholds` searches, at 256 x 1600: 29 thresholds, evenly spaced in log-odds, 22 minimum component sizes
(1 to 40,960 px), 14 minimum mask sizes (1 to 31,393 px), and 16 gates. A cell (t, s, m) is a threshold, a minimum
component size and a minimum mask size. Each cell is scored exactly, and separately for each image, so that images can
be resampled and held out. A finer grid does not help: the highest of 255 x 64 x 28 cells scores no better on new images
than the highest of these.

The gain of an image is its Dice less that of the empty mask: -1 for a false alarm on an image without the class, the
Dice on an image with it, 0 where nothing is left. It is stored once per pair (t, s), with the number of mask sizes that
the mask reaches. A map takes 6 KB, and nothing where it is empty at the lowest threshold.

Worked example: mask sizes (1, 50). On a clean image a false alarm of 40 px is left: gain -1 for mask size 1, and 0 for
50. On another image 900 px are left with Dice 0.8: gain 0.8 for both. The gains sum to -0.2 and 0.8, and the mean Dice
of the two images are (1 - 0.2) / 2 and (1 + 0.8) / 2.

Gains are integers in units of 2^-42, so sums depend neither on the order of the images nor on the number of threads.
Rounding adds at most 1.2e-13 per image; Dice of 0 and 1 are exact.
"""

import dataclasses
import threading
from collections.abc import Iterator

import numba
import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks.components import check_sizes, size_steps, tally
from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess

ONE = 1 << 42
"""A Dice of 1 in the sums; leaves room for 2 million images."""
_STEP = 1 / 4
THRESHOLDS = np.round(255 / (1 + np.exp(-np.arange(-12, 17) * _STEP))).astype(np.int64)
"""(29,) levels 12 to 250, with 128: steps of a quarter in log-odds, because networks crowd their levels at the ends."""
_GATE_STEP = 6.4 / 15
GATES = np.round(255 / (1 + np.exp(1.4 - np.arange(16) * _GATE_STEP))).astype(np.int64)
"""(16,) levels 50 to 253, probabilities 0.2 to 0.99, to try as `min_image_score`."""
PLATEAU_STEPS = 4
"""Steps of `THRESHOLDS` that a `plateau` goes either way at most: one unit of log-odds."""
PLATEAU_DROP = 0.03
"""How much lower the mean Dice may be on a `plateau` than at its post-processing."""
_CHUNK = 128
"""Maps whose gains are expanded to all mask sizes at a time: 9 MB."""


class PerImageGains:
    """The gains of one class over images. Thread-safe.

    component_sizes: (S,) int32 ascending from 1; mask_sizes: (M,) likewise. Raises ValueError for other sizes.
    """

    def __init__(self, *, component_sizes: NDArray[np.int32], mask_sizes: NDArray[np.int32]) -> None:
        check_sizes(component_sizes)
        check_sizes(mask_sizes)
        self.component_sizes, self.mask_sizes = component_sizes, mask_sizes
        self._stored: dict[int, tuple[NDArray[np.int64], NDArray[np.uint8], int]] = {}
        self._present: dict[int, bool] = {}
        self._lock = threading.Lock()

    @classmethod
    def for_images(cls, pixels: int) -> "PerImageGains":
        """For images of about `pixels`: 1 px (no filter), then even steps in logarithm to about a tenth of the image.

        At 256 x 1600 components continue from 10 px in steps of 50 %, masks from 53 px in steps of 70 %.
        """
        return cls(
            component_sizes=size_steps(pixels, count=64, smallest=1 / 50_000, largest=0.1)[::3].copy(),
            mask_sizes=size_steps(pixels, count=28, smallest=1 / 10_000, largest=0.1)[::2].copy(),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """T thresholds, S component sizes, M mask sizes."""
        return len(THRESHOLDS), len(self.component_sizes), len(self.mask_sizes)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N,) which images have the class."""
        return np.array([self._present[image] for image in range(len(self._present))], np.bool_)

    def add(self, image: int, levels: NDArray[np.uint8], truth: NDArray[np.bool_] | None) -> None:
        """Add the `image`-th image. levels: (H, W); truth: (H, W), or None where it is empty, which is faster.

        Raises ValueError as `components.tally`.
        """
        areas = tally(levels, truth, self.component_sizes)
        kept_area = areas.kept_area[THRESHOLDS]
        entry = None
        if kept_area[0, 0]:
            gains = np.where(kept_area > 0, -ONE, 0)
            if areas.overlap is not None:
                total = kept_area.astype(np.float64) + areas.truth_area
                gains = (2.0 * areas.overlap[THRESHOLDS] / total * ONE + 0.5).astype(np.int64)
            # 0: nothing is left, else one more than the index of the largest mask size that is reached
            reached = np.searchsorted(self.mask_sizes, kept_area, side="right").astype(np.uint8)
            entry = gains, reached, int((areas.kept_area[GATES, 0] > 0).sum())
        with self._lock:
            self._present[image] = areas.overlap is not None
            if entry is not None:
                self._stored[image] = entry

    def sums(self, fold_of: NDArray[np.int8], folds: int) -> NDArray[np.int64]:
        """The summed gains per fold and gate, in units of 1 / ONE: (folds, 1 + G, T, S, M).

        Row g of the second axis sums the images that reach at least g gates; 0: all. fold_of: (N,) fold of each image.
        """
        totals = np.zeros((folds, 1 + len(GATES), *self.shape), np.int64)
        for image, (gains, reached, gates) in self._stored.items():
            _enter(gains, reached, totals[fold_of[image], gates])
        totals = totals[..., ::-1].cumsum(axis=-1)[..., ::-1]
        return totals[:, ::-1].cumsum(axis=1)[:, ::-1]

    def mean_dice(self) -> NDArray[np.float64]:
        """(T, S, M): mean Dice of each cell without a gate. Raises ValueError before the first image."""
        images = len(self._present)
        if not images:
            raise ValueError("no image was added")
        clean = images - int(self.present.sum())
        gains = self.sums(np.zeros(images, np.int8), 1)[0, 0]
        means: NDArray[np.float64] = (gains + clean * ONE) / (float(ONE) * images)
        return means

    def dice(self, rule: ClassPostprocess) -> NDArray[np.float64]:
        """(N,) the Dice of each image with post-processing of the grid. Raises ValueError for any other."""
        scores = np.where(self.present, 0.0, 1.0)
        if rule.pixel_threshold == DISABLED:
            return scores
        t = _index_of(THRESHOLDS, rule.pixel_threshold)
        s = _index_of(self.component_sizes, rule.min_component_px)
        m = _index_of(self.mask_sizes, rule.min_mask_px)
        least = _index_of(GATES, rule.min_image_score) + 1 if rule.min_image_score > rule.pixel_threshold else 0
        for image, (gains, reached, gates) in self._stored.items():
            if gates >= least and reached[t, s] > m:
                scores[image] += gains[t, s] / ONE
        return scores

    def plateau(self, rule: ClassPostprocess) -> list[ClassPostprocess]:
        """`rule`, and the same with the thresholds around its own at which the mean Dice is hardly lower.

        The gate moves along. To compare two networks by the mean over a plateau has less noise than by one threshold,
        where a single level that crosses it can change the Dice of an image by 1. Raises ValueError as `dice`.
        """
        found = [rule]
        if rule.pixel_threshold == DISABLED:
            return found
        least = float(self.dice(rule).mean()) - PLATEAU_DROP
        at = _index_of(THRESHOLDS, rule.pixel_threshold)
        for direction, room in ((-1, at), (1, len(THRESHOLDS) - 1 - at)):
            for step in range(1, min(PLATEAU_STEPS, room) + 1):
                moved = _moved(rule, direction * step)
                if float(self.dice(moved).mean()) < least:
                    break
                found.append(moved)
        return found

    def weighted_sums(self, weights: NDArray[np.float64], gate: int) -> NDArray[np.float64]:
        """The summed gains of B bootstrap samples of the images that reach at least `gate` gates: (B, T, S, M).

        weights: (B, N), how often each image was drawn. Gains are rounded to multiples of 2^-20, so the sums are exact
        and do not depend on the order.
        """
        totals = np.zeros((len(weights), int(np.prod(self.shape))))
        for images, gains in self._chunks(gate):
            totals += weights[:, images] @ gains
        return totals.reshape(len(weights), *self.shape)

    def _chunks(self, gate: int) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
        """Chunks of images, with their gains for all cells: (n, T * S * M)."""
        images = sorted(image for image, entry in self._stored.items() if entry[2] >= gate)
        for first in range(0, len(images), _CHUNK):
            chunk = images[first : first + _CHUNK]
            gains = np.round(np.stack([self._stored[image][0] for image in chunk]) / (ONE >> 20)) / (1 << 20)
            reached = np.stack([self._stored[image][1] for image in chunk])
            passes = reached[..., None] > np.arange(len(self.mask_sizes))
            yield chunk, np.where(passes, gains[..., None], 0.0).reshape(len(chunk), -1)


def _moved(rule: ClassPostprocess, steps: int) -> ClassPostprocess:
    """`rule` with its pixel threshold moved by steps of `THRESHOLDS`, and its gate by about as much in log-odds."""
    gate = 0  # also where it has no effect: a lower threshold would give it one
    if rule.min_image_score > rule.pixel_threshold:
        at = _index_of(GATES, rule.min_image_score) + round(steps * _STEP / _GATE_STEP)
        gate = int(GATES[min(max(at, 0), len(GATES) - 1)])
    threshold = int(THRESHOLDS[_index_of(THRESHOLDS, rule.pixel_threshold) + steps])
    return dataclasses.replace(rule, pixel_threshold=threshold, min_image_score=gate)


def _index_of(values: NDArray[np.integer], value: int) -> int:
    """The index of `value` in ascending `values`. Raises ValueError where it is missing."""
    index = int(np.searchsorted(values, value))
    if index == len(values) or values[index] != value:
        raise ValueError(f"{value} is none of {values}")
    return index


@numba.njit(cache=True, nogil=True)
def _enter(gains, reached, totals):  # type: ignore[no-untyped-def]
    """Add one image, (T, S), to the bins of the largest mask sizes that it reaches, (T, S, M)."""
    for t in range(gains.shape[0]):
        for s in range(gains.shape[1]):
            if reached[t, s]:
                totals[t, s, reached[t, s] - 1] += gains[t, s]
