"""What each image adds to the mean Dice of a class, for every rule of a grid: so that images can be drawn and left out.

The grid has 29 thresholds, evenly spaced in log-odds, every third component size and every second mask size of the
exact surface of `search`, and `GATES`, levels to try for `min_image_score`. An image without the class adds 1 less
where a false alarm is left, one with it the Dice of what is left; that is its gain over the empty mask, and where
nothing is left it is 0. Kept are, a map and a pair (threshold, component size): the gain, in whole units as in
`search`, and how many mask sizes it passes. A map takes 6 KB, and none where it shows nothing at the lowest threshold.

Worked example: mask sizes (1, 50). A clean image keeps a false alarm of 40 px at some pair: gain -1 for mask size 1,
and 0 for 50. One keeps 900 px with Dice 0.8: gain 0.8 for both. Sums of gains 1: -0.2; 50: 0.8. With one image of two
clean the mean Dice are (1 - 0.2) / 2 and (1 + 0.8) / 2.
"""

import threading
from collections.abc import Iterator

import numba
import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks.components import Tally
from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess
from severstal_cli.steel.thresholds.score_surface import ONE, ScoreSurface, place

THRESHOLDS = np.round(255 / (1 + np.exp(-np.arange(-12, 17) / 4))).astype(np.int64)
"""(29,) levels 12 to 250, and 128 among them: steps of a quarter in log-odds, for networks crowd at the ends."""
GATES = np.round(255 / (1 + np.exp(-np.linspace(-1.4, 5, 16)))).astype(np.int64)
"""(16,) levels 50 to 253: 0.2 to 0.99."""
_AT_ONCE = 128
"""Maps whose gains are laid out for all mask sizes at a time: 9 MB."""


class Contributions:
    """The gains of one class over images. Threads may add at once."""

    def __init__(self, surface: ScoreSurface) -> None:
        """With sizes taken from those of `surface`."""
        self.component_sizes = surface.component_sizes[::3]
        self.mask_sizes = surface.mask_sizes[::2]
        self._kept: dict[int, tuple[NDArray[np.int64], NDArray[np.uint8], int]] = {}
        self._present: dict[int, bool] = {}
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, int, int]:
        """T thresholds, S component sizes, M mask sizes."""
        return len(THRESHOLDS), len(self.component_sizes), len(self.mask_sizes)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N,) which images have the class."""
        return np.array([self._present[image] for image in range(len(self._present))], np.bool_)

    def add(self, image: int, found: Tally) -> None:
        """Count what the `image`-th image keeps and hits, by the component sizes of the exact surface."""
        area = np.ascontiguousarray(found.kept_area[THRESHOLDS, ::3])
        entry = None
        if area[0, 0]:
            gains = np.where(area > 0, -ONE, 0)
            if found.overlap is not None:
                overlap = found.overlap[THRESHOLDS, ::3]
                gains = (2.0 * overlap / (area.astype(np.float64) + found.truth_area) * ONE + 0.5).astype(np.int64)
            # 0: nothing is left, else one more than the place of the largest mask size that it reaches
            reached = np.searchsorted(self.mask_sizes, area, side="right").astype(np.uint8)
            entry = gains, reached, int((found.kept_area[GATES, 0] > 0).sum())
        with self._lock:
            self._present[image] = found.overlap is not None
            if entry is not None:
                self._kept[image] = entry

    def sums(self, fold_of: NDArray[np.int8], folds: int) -> NDArray[np.int64]:
        """The gains of each fold's images that reach no gate or more, one or more, ...: (folds, 1 + G, T, S, M).

        fold_of: (N,) the fold of each image. Exact, so the order of the images does not matter.
        """
        totals = np.zeros((folds, 1 + len(GATES), *self.shape), np.int64)
        for image, (gains, reached, gates) in self._kept.items():
            _enter(gains, reached, totals[fold_of[image], gates])
        totals = totals[..., ::-1].cumsum(axis=-1)[..., ::-1]
        return totals[:, ::-1].cumsum(axis=1)[:, ::-1]

    def dice(self, rule: ClassPostprocess) -> NDArray[np.float64]:
        """(N,) the Dice of each image by a rule of the grid. Raises ValueError for another rule."""
        scores = np.where(self.present, 0.0, 1.0)
        if rule.pixel_threshold == DISABLED:
            return scores
        t = place(THRESHOLDS, rule.pixel_threshold)
        s = place(self.component_sizes, rule.min_component_px)
        m = place(self.mask_sizes, rule.min_mask_px)
        least = place(GATES, rule.min_image_score) + 1 if rule.min_image_score > rule.pixel_threshold else 0
        for image, (gains, reached, gates) in self._kept.items():
            if gates >= least and reached[t, s] > m:
                scores[image] += gains[t, s] / ONE
        return scores

    def drawn_sums(self, weights: NDArray[np.float64], gate: int) -> NDArray[np.float64]:
        """The gains of images that reach the `gate`-th gate (0: all), each so many times as drawn: (B, T, S, M).

        weights: (B, N), whole numbers. A gain is rounded to a multiple of 2^-20, so that the sums have no error and do
        not depend on the order.
        """
        totals = np.zeros((len(weights), int(np.prod(self.shape))))
        for images, gains in self._laid_out(gate):
            totals += weights[:, images] @ gains
        return totals.reshape(len(weights), *self.shape)

    def _laid_out(self, gate: int) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
        """Some images and their gains for all cells, (n, T * S * M), at a time."""
        images = sorted(image for image, entry in self._kept.items() if entry[2] >= gate)
        for first in range(0, len(images), _AT_ONCE):
            some = images[first : first + _AT_ONCE]
            gains = np.round(np.stack([self._kept[image][0] for image in some]) / (ONE >> 20)) / (1 << 20)
            reached = np.stack([self._kept[image][1] for image in some])
            passes = reached[..., None] > np.arange(len(self.mask_sizes))
            yield some, np.where(passes, gains[..., None], 0.0).reshape(len(some), -1)


@numba.njit(cache=True, nogil=True)
def _enter(gains, reached, totals):  # type: ignore[no-untyped-def]
    """Add one image, (T, S), to the bins of the mask sizes that it reaches at most, (T, S, M)."""
    for t in range(gains.shape[0]):
        for s in range(gains.shape[1]):
            if reached[t, s]:
                totals[t, s, reached[t, s] - 1] += gains[t, s]
