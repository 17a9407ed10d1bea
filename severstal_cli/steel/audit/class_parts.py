"""One class of an image: its drawn and its predicted mask, and the components of their union."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle

THRESHOLD = 128
"""Lowest level of a predicted mask: a probability of one half."""
SEEN = 0.1
"""A drawn part is confirmed if at least this share of it is predicted."""

Mask = NDArray[np.bool_]


@dataclass(kw_only=True)
class Part:
    """A component of the union of a drawn and a predicted mask."""

    label: int
    window: tuple[slice, slice]
    drawn_px: int
    predicted_px: int
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
    moved_here: Mask | None = None
    """Drawn parts of other classes that are suspected to be of this one."""
    doubtful: Mask | None = None
    """Drawn parts that are not confirmed."""

    @classmethod
    def of(cls, levels: NDArray[np.uint8], highest: NDArray[np.uint8], runs: rle.RLE, size: tuple[int, int]) -> "Class":
        drawn = rle.decode(runs, size) if len(runs) else None
        predicted = highest >= THRESHOLD if int(levels.max(initial=0)) >= THRESHOLD else None
        if drawn is None and (predicted is None or not predicted.any()):
            return cls(levels=levels, drawn=None, predicted=None, labels=None, parts=[])
        union = drawn if predicted is None else predicted if drawn is None else drawn | predicted
        assert union is not None
        columns = np.flatnonzero(union.any(axis=0))
        first, end = int(columns[0]), int(columns[-1]) + 1  # most defects take few columns, and OpenCV takes them all
        crop = np.ascontiguousarray(union[:, first:end]).view(np.uint8)
        count, components, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
        labels = np.zeros(size, np.int32)
        labels[:, first:end] = components
        both = None if drawn is None or predicted is None else drawn & predicted
        drawn_px, predicted_px, both_px = (
            np.zeros(count, np.int64) if mask is None else np.bincount(labels[mask], minlength=count)
            for mask in (drawn, predicted, both)
        )
        parts = []
        for label in range(1, count):
            x, y, width, height = (int(value) for value in stats[label, :4])
            x += first
            parts.append(
                Part(
                    label=label,
                    window=(slice(y, y + height), slice(x, x + width)),
                    drawn_px=int(drawn_px[label]),
                    predicted_px=int(predicted_px[label]),
                    both_px=int(both_px[label]),
                )
            )
        return cls(levels=levels, drawn=drawn, predicted=predicted, labels=labels, parts=parts)

    def expected_dice(self) -> float:
        """The expected Dice of the drawn mask: 2 * (sum inside it) / (its pixels + sum over the image)."""
        if self.drawn is None:
            return 1 - int(self.levels.max(initial=0)) / 255
        inside, total = int(self.levels[self.drawn].sum()), int(self.levels.sum())
        return 2 * inside / (255 * int(np.count_nonzero(self.drawn)) + total)

    def share(self, part: Part, px: int, larger: int = 0) -> float:
        """The share of `px` pixels of a part in these, the confirmed drawn pixels of the other parts, and `larger`."""
        others = sum(each.drawn_px for each in self.parts if each.is_confirmed and each.label != part.label)
        return px / (px + others + larger)

    def larger_drawn(self, part: Part) -> int:
        """The pixels of the unconfirmed drawn parts that are larger than this one."""
        own = part.drawn_px, -part.label
        return sum(each.drawn_px for each in self.parts if not each.is_confirmed and (each.drawn_px, -each.label) > own)

    def larger_predicted(self, part: Part) -> int:
        """The predicted pixels of the parts that are not confirmed and larger than this one, and those moved here."""
        own = part.predicted_px, -part.label
        assert self.predicted is not None
        moved = 0 if self.moved_here is None else int(np.count_nonzero(self.moved_here & ~self.predicted))
        return moved + sum(
            each.predicted_px for each in self.parts if not each.is_confirmed and (each.predicted_px, -each.label) > own
        )

    def part_of(self, part: Part, mask: Mask | None) -> Mask:
        """The pixels of `mask` in a part, within its window."""
        assert self.labels is not None
        assert mask is not None
        pixels: Mask = (self.labels[part.window] == part.label) & mask[part.window]
        return pixels


def touched(own: Mask, mask: Mask) -> Mask:
    """The 8-connected components of `own` that overlap or touch `mask`."""
    _, labels = cv2.connectedComponents((own | mask).view(np.uint8), connectivity=8)
    hit = np.zeros(int(labels.max()) + 1, np.bool_)
    hit[labels[mask]] = True
    return np.asarray(hit[labels] & own)
