"""The mean Dice of a class for every rule without a gate, exactly, and the best of them.

A rule of the search is a cell (t, s, m): mask = levels >= t, components of at least component_sizes[s] pixels, the
whole mask of at least mask_sizes[m]. Its score is the mean Dice over all images, clean ones too; both empty counts 1.

One image gives the area A and the Dice d that each (t, s) leaves (`components.tally`). For whole masks up to A pixels
it adds d to the score, for larger ones what the empty mask is worth: 1 on a clean image, else 0. So all m of an image
are one entry, d or d - 1, in the bin of A, summed over the bins at the end. Where nothing is left the entry is 0.

Worked example: two images, sizes (1, 50). One has no truth and keeps a false alarm of 40 px at some (t, s): entry -1 in
the bin 1..49. One keeps 900 px with Dice 0.8: entry 0.8 in the bin from 50 on. Scores: m = 1: (1 - 1 + 0.8) / 2 = 0.4;
m = 50: (1 + 0.8) / 2 = 0.9.

Sums are whole numbers of 2^-42, so they do not depend on the order of the images or on the number of threads. An image
adds at most 1.2e-13 of rounding to them; scores of whole ones and zeros are exact.
"""

import threading
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks.components import LEVELS, Tally, check_sizes, size_steps, tally
from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess

ONE = 1 << 42
"""A Dice of 1 in the sums; leaves room for 2 million images."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A rule for a class, and what it is worth on the images that it was chosen on: mean Dice over all."""

    rule: ClassPostprocess
    mean_dice: float
    mean_dice_default: float
    """With the default rule: level 128, no filter."""
    mean_dice_never: float
    """With no mask at all: the share of images without the class."""
    images: int
    present: int
    """Images with the class."""
    mean_dice_held_out: float | None = None
    """What a rule so chosen is worth on images that the choice has not seen, where that was tried (`choosing`)."""
    interval_held_out: tuple[float, float] | None = None
    """95 % for it."""


class ScoreSurface:
    """The sum of Dice of one class over images, for every cell (t, s, m). Threads may add at once.

    component_sizes: (S,) int32 ascending from 1; mask_sizes: (M,) likewise. Takes 8 * 256 * S * M bytes, however many
    images.
    """

    def __init__(self, *, component_sizes: NDArray[np.int32], mask_sizes: NDArray[np.int32]) -> None:
        check_sizes(component_sizes)
        check_sizes(mask_sizes)
        self.component_sizes, self.mask_sizes = component_sizes, mask_sizes
        self.images, self.clean = 0, 0
        # (256, S, M) by the bin of the kept area: Dice less what an empty mask is worth
        self._gains = np.zeros((LEVELS, len(component_sizes), len(mask_sizes)), np.int64)
        self._lock = threading.Lock()

    @classmethod
    def for_images(cls, pixels: int, *, component_sizes: int = 64, mask_sizes: int = 28) -> "ScoreSurface":
        """For images of about `pixels`: sizes from 1/50,000 (masks: 1/10,000) to a tenth of the image, and 1.

        At 256 x 1600 these are 8 and 41 to 40,960 pixels, in steps of 15 and 30 %.
        """
        return cls(
            component_sizes=size_steps(pixels, count=component_sizes, smallest=1 / 50_000, largest=0.1),
            mask_sizes=size_steps(pixels, count=mask_sizes, smallest=1 / 10_000, largest=0.1),
        )

    def add(self, levels: NDArray[np.uint8], truth: NDArray[np.bool_] | None) -> Tally:
        """Count one image. levels: (H, W) uint8; truth: (H, W) bool, or None: empty, which is quicker.

        Returns what was counted, by the component sizes.
        """
        found = tally(levels, truth, self.component_sizes)
        has_truth = found.overlap is not None
        overlap = found.kept_area if found.overlap is None else found.overlap
        with self._lock:
            self.images += 1
            self.clean += not has_truth
            _enter(found.kept_area, overlap, found.truth_area, self.mask_sizes, self._gains)
        return found

    def means(self) -> NDArray[np.float64]:
        """(256, S, M): mean Dice of each cell without a gate; row t is pixel_threshold t.

        Raises ValueError before the first image.
        """
        return self._sums() / (float(ONE) * self.images)

    def sum_of(self, rule: ClassPostprocess) -> int:
        """The sum of Dice that a rule, as chosen on other images, gives on these, in units of 1 / ONE.

        Raises ValueError for a rule that is no cell: another size, or a gate.
        """
        if rule.pixel_threshold == DISABLED:
            return self.clean * ONE
        if rule.min_image_score > rule.pixel_threshold:
            raise ValueError(f"{rule} has a gate")
        s, m = place(self.component_sizes, rule.min_component_px), place(self.mask_sizes, rule.min_mask_px)
        return self.clean * ONE + int(self._gains[rule.pixel_threshold, s, m:].sum())

    def best(self) -> Choice:
        """The best cell, or "never" if that is better than every cell by more than rounding.

        Of cells that are equal within rounding, as on small sets, in this order:
        1. the fewest filters, and a filter of components before one of whole masks: what gains nothing is left off;
        2. the sizes with the most consecutive thresholds that are equal: the flattest top; of several such sizes the
           middle one;
        3. the middle of these thresholds (1..255 gives 128), so that both edges are far.
        Raises ValueError before the first image.
        """
        sums = self._sums()[1:]  # threshold 0 takes every pixel: no candidate
        never = self.clean * ONE
        best = int(sums.max())
        # an image's rounding is half a unit, so a difference of two sums may be wrong by a unit an image
        if never > best + self.images:
            rule, found = ClassPostprocess(pixel_threshold=DISABLED), never
        else:
            t, s, m = middle_of_the_top(sums >= best - self.images)
            component, mask = int(self.component_sizes[s]), int(self.mask_sizes[m])
            rule = ClassPostprocess(pixel_threshold=t + 1, min_component_px=component, min_mask_px=mask)
            found = int(sums[t, s, m])
        scale = float(ONE) * self.images
        return Choice(
            rule=rule,
            mean_dice=found / scale,
            mean_dice_default=int(sums[ClassPostprocess.pixel_threshold - 1, 0, 0]) / scale,
            mean_dice_never=never / scale,
            images=self.images,
            present=self.images - self.clean,
        )

    def _sums(self) -> NDArray[np.int64]:
        """(256, S, M) sums of Dice in units of 1 / ONE."""
        if self.images == 0:
            raise ValueError("no image was added")
        sums: NDArray[np.int64] = self._gains[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
        sums += self.clean * ONE
        return sums


def place(values: NDArray[np.integer], value: int) -> int:
    """Where `value` is in ascending `values`. Raises ValueError: nowhere."""
    place = int(np.searchsorted(values, value))
    if place == len(values) or values[place] != value:
        raise ValueError(f"{value} is none of {values}")
    return place


def middle_of_the_top(tied: NDArray[np.bool_]) -> tuple[int, int, int]:
    """The cell that `ScoreSurface.best` describes, of the `tied` ones: (T, S, M) bool, some true."""
    sizes = np.argwhere(tied.any(axis=0))  # (P, 2) pairs (s, m), in ascending order
    burden = 2 * (sizes > 0).sum(axis=1) + (sizes[:, 1] > 0)
    sizes = sizes[burden == burden.min()]
    columns = tied[:, sizes[:, 0], sizes[:, 1]]  # (T, P)
    lengths = np.zeros(columns.shape, np.int64)  # consecutive tied thresholds that end here
    lengths[0] = columns[0]
    for t in range(1, len(columns)):
        lengths[t] = (lengths[t - 1] + 1) * columns[t]
    longest = lengths.max()
    flattest = np.flatnonzero(lengths.max(axis=0) == longest)
    pair = flattest[len(flattest) // 2]
    last = int(lengths[:, pair].argmax())  # the lower one of equally long stretches
    first = last - int(longest) + 1
    return (first + last + 1) // 2, int(sizes[pair, 0]), int(sizes[pair, 1])


@numba.njit(cache=True, nogil=True)
def _enter(kept_area, overlap, truth_area, mask_sizes, gains):  # type: ignore[no-untyped-def]
    """Add one image. Areas and overlaps are (256, S); `overlap` is not read where `truth_area` is 0."""
    for t in range(LEVELS):
        m = mask_sizes.size - 1
        for s in range(kept_area.shape[1]):
            area = kept_area[t, s]
            if area == 0:
                break  # larger sizes keep nothing either, and an empty mask gains nothing
            while mask_sizes[m] > area:
                m -= 1
            gain = np.int64(-ONE)
            if truth_area > 0:
                dice = 2.0 * overlap[t, s] / (np.float64(area) + np.float64(truth_area))
                gain = np.int64(dice * ONE + 0.5)
            gains[t, s, m] += gain
