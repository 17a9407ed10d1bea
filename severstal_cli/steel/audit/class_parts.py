"""One class of an image: its drawn and its predicted mask, the components of their union, and its expected Dice."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle

THRESHOLD = 128
"""Lowest level of a predicted mask: a probability of one half."""
SEEN = 0.1
"""A drawn part is confirmed if at least this share of it is predicted."""

Mask = NDArray[np.bool_]


class Change(NamedTuple):
    """A change of a drawn mask: pixels and levels that it gains, or loses where negative."""

    px: int
    inside: int


@dataclass(kw_only=True)
class Part:
    """A component of the union of a drawn and a predicted mask. Sums are of levels."""

    label: int
    window: tuple[slice, slice]
    drawn_px: int
    drawn_sum: int
    predicted_px: int
    predicted_sum: int
    both_px: int

    @property
    def is_confirmed(self) -> bool:
        """Whether there is a drawn part, and the prediction confirms it."""
        return self.drawn_px > 0 and self.both_px >= SEEN * self.drawn_px


@dataclass(kw_only=True)
class Class:
    """One class of an image."""

    levels: NDArray[np.uint8]
    drawn: Mask | None
    predicted: Mask | None
    labels: NDArray[np.int32] | None
    parts: list[Part]
    total: int
    """Sum of the levels over the image."""
    peak: int
    drawn_px: int
    drawn_sum: int
    all_px: int = 0
    """Sum of the changes of all findings; `all_inside`: that of their levels."""
    all_inside: int = 0
    moved_here: Mask | None = None
    """Drawn parts of other classes that are suspected to be of this one."""
    doubtful: Mask | None = None
    """Drawn parts that are not confirmed."""

    @classmethod
    def of(cls, levels: NDArray[np.uint8], highest: NDArray[np.uint8], runs: rle.RLE, size: tuple[int, int]) -> "Class":
        peak = int(levels.max(initial=0))
        drawn = rle.decode(runs, size) if len(runs) else None
        predicted = highest >= THRESHOLD if peak >= THRESHOLD else None
        empty = cls(levels=levels, drawn=drawn, predicted=predicted, labels=None, parts=[], total=int(levels.sum()),
                    peak=peak, drawn_px=0, drawn_sum=0)  # fmt: skip
        if drawn is None and predicted is None:
            return empty
        union = drawn if predicted is None else predicted if drawn is None else drawn | predicted
        assert union is not None
        count, components, stats, _ = cv2.connectedComponentsWithStats(union.view(np.uint8), connectivity=8)
        labels = np.asarray(components, np.int32)
        nothing = np.zeros(count, np.int64)
        drawn_px, drawn_sum = (nothing, nothing) if drawn is None else _tally(labels[drawn], levels[drawn], count)
        predicted_px, predicted_sum = (
            (nothing, nothing) if predicted is None else _tally(labels[predicted], levels[predicted], count)
        )
        both = nothing
        if drawn is not None and predicted is not None:
            both = np.bincount(labels[drawn & predicted], minlength=count)
        empty.labels = labels
        empty.drawn_px, empty.drawn_sum = int(drawn_px.sum()), int(drawn_sum.sum())
        for label in range(1, count):
            x, y, width, height = (int(value) for value in stats[label, :4])
            empty.parts.append(
                Part(
                    label=label,
                    window=(slice(y, y + height), slice(x, x + width)),
                    drawn_px=int(drawn_px[label]),
                    drawn_sum=int(drawn_sum[label]),
                    predicted_px=int(predicted_px[label]),
                    predicted_sum=int(predicted_sum[label]),
                    both_px=int(both[label]),
                )
            )
        return empty

    def expected_dice(self, px: int = 0, inside: int = 0) -> float:
        """The expected Dice of the drawn mask, changed by so many pixels and levels."""
        px, inside = self.drawn_px + px, self.drawn_sum + inside
        return 2 * inside / (255 * px + self.total) if px else 1 - self.peak / 255

    def change(self, change: Change) -> None:
        """Count a change among those of all findings."""
        self.all_px, self.all_inside = self.all_px + change.px, self.all_inside + change.inside

    def gain(self, change: Change) -> float:
        """The rise of the expected Dice by a change, alone or after all others, whichever is higher."""
        alone = self.expected_dice(*change) - self.expected_dice()
        before = self.expected_dice(self.all_px - change.px, self.all_inside - change.inside)
        return max(alone, self.expected_dice(self.all_px, self.all_inside) - before)

    def added(self, window: tuple[slice, slice], mask: Mask) -> Change:
        """The change by adding a mask."""
        new = mask if self.drawn is None else mask & ~self.drawn[window]
        return Change(int(np.count_nonzero(new)), int(self.levels[window][new].sum()))

    def part_of(self, part: Part, mask: Mask | None) -> Mask:
        """The pixels of `mask` in a part, within its window."""
        assert self.labels is not None
        assert mask is not None
        pixels: Mask = (self.labels[part.window] == part.label) & mask[part.window]
        return pixels


def _tally(
    labels: NDArray[np.int32], levels: NDArray[np.uint8], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pixels and the sum of levels of each label."""
    sums = np.bincount(labels, weights=levels, minlength=count)
    return np.bincount(labels, minlength=count), np.rint(sums).astype(np.int64)
