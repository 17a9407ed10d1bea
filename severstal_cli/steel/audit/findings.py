"""The suspected faults of the drawn masks of one image, judged by levels of runs that have not seen it.

Per class, the drawn mask D and the predicted mask M (levels of at least 128) are joined, and the 8-connected components
of the union are visited. A component has a drawn part, a predicted part, or both:

    missed        predicted, and hardly drawn
    invented      drawn, and less than a tenth of it is predicted
    wrong_class   the same, but at least half of it is predicted as another class, which is not drawn there
    boundary      drawn and predicted, with different pixels

The score is the gain: the rise of the expected Dice of the class if the finding is accepted, that is with the predicted
part added, the drawn part removed, moved to the other class (the mean of both gains), or replaced by the predicted one.
The expected Dice of a mask under the probabilities is 2 * (sum inside the mask) / (its pixels + sum over the image),
and of an empty mask 1 less the peak probability, as in `steel.tables.confidence`.

Take the levels 255 255 0 204, that is probabilities 1.0 1.0 0.0 0.8, and the first two pixels as drawn. The last pixel
is missed. Before, the expected Dice is 2 * 2.0 / (2 + 2.8) = 0.833, with it 2 * 2.8 / (3 + 2.8) = 0.966: its score is
0.132.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.postprocess import make_exclusive

THRESHOLD = 128
"""Lowest level of a predicted mask: a probability of one half."""
SEEN = 0.1
"""A drawn part is confirmed if at least this share of it is predicted."""
COVERED = 0.5
"""Share of a part that another mask must cover to be about the same defect."""
LEAST_SCORE = 0.05
"""Findings with a lower score are left out: every drawn outline differs a little from the predicted one."""

Mask = NDArray[np.bool_]


class Kind(StrEnum):
    """Kinds of suspected faults."""

    MISSED = "missed"
    INVENTED = "invented"
    WRONG_CLASS = "wrong_class"
    BOUNDARY = "boundary"
    DISAGREEMENT = "disagreement"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One suspected fault: a row of `audit.csv`."""

    image_id: str
    class_id: int
    kind: Kind
    score: float
    """0 to 1; higher is more suspicious."""
    box: tuple[int, int, int, int]
    """x, y, width, height in pixels."""
    pixels: int
    """Area of the component in the box."""
    mask: rle.RLE
    """missed, boundary: the predicted component; invented, wrong_class: the drawn one; disagreement: the whole mask of
    the other image, which may be empty."""
    predicted_class_id: int | None = None
    """wrong_class: the class that is predicted there."""
    other_image_id: str | None = None
    """disagreement: the near-duplicate."""


def find(
    image_id: str, levels: NDArray[np.uint8], drawn: Sequence[rle.RLE], *, exclusive: bool
) -> tuple[list[Finding], list[float]]:
    """The findings of one image, and the expected Dice of each drawn mask.

    levels: (C, H, W) uint8; drawn: C masks. exclusive: no drawn masks overlap, so predicted ones must not either, nor
    reach into drawn masks of other classes that are confirmed. Raises ValueError: `drawn` is not of C masks.
    """
    if len(levels) != len(drawn):
        raise ValueError(f"levels of {len(levels)} classes, and {len(drawn)} masks")
    size = levels.shape[1], levels.shape[2]
    highest = make_exclusive(levels) if exclusive else levels
    classes = [
        _Class.of(own, top, runs, size) for own, top, runs in zip(levels, highest, drawn, strict=True)
    ]  # fmt: skip
    findings: list[Finding] = []
    for channel, of_class in enumerate(classes):
        for part in of_class.parts:
            if part.drawn_px and not part.is_confirmed:
                findings.append(_unconfirmed(image_id, channel, part, classes))
    for channel, of_class in enumerate(classes):
        for part in of_class.parts:
            if part.predicted_px:
                findings += _predicted(image_id, channel, part, classes, exclusive)
    found = [finding for finding in findings if finding.score >= LEAST_SCORE]
    return found, [of_class.expected_dice() for of_class in classes]


@dataclass(kw_only=True)
class _Part:
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
class _Class:
    """One class of an image."""

    levels: NDArray[np.uint8]
    drawn: Mask | None
    predicted: Mask | None
    labels: NDArray[np.int32] | None
    parts: list[_Part]
    total: int
    """Sum of the levels over the image."""
    peak: int
    drawn_px: int
    drawn_sum: int
    moved_here: Mask | None = None
    """Drawn parts of other classes that are suspected to be of this one."""
    doubtful: Mask | None = None
    """Drawn parts that are not confirmed."""

    @classmethod
    def of(
        cls, levels: NDArray[np.uint8], highest: NDArray[np.uint8], runs: rle.RLE, size: tuple[int, int]
    ) -> "_Class":
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
                _Part(
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

    def gain(self, px: int, inside: int) -> float:
        """The rise of the expected Dice by this change of the drawn mask."""
        return self.expected_dice(px, inside) - self.expected_dice()

    def part_of(self, part: _Part, mask: Mask | None) -> Mask:
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


def _unconfirmed(image_id: str, channel: int, part: _Part, classes: Sequence[_Class]) -> Finding:
    """The finding of a drawn part that its class does not confirm: invented, or of another class."""
    own, window = classes[channel], part.window
    inside = own.part_of(part, own.drawn)
    if own.doubtful is None:
        own.doubtful = np.zeros(own.levels.shape, np.bool_)
    own.doubtful[window] |= inside
    score, kind, predicted = own.gain(-part.drawn_px, -part.drawn_sum), Kind.INVENTED, None
    best = COVERED * part.drawn_px
    for other, candidate in enumerate(classes):
        if other == channel or candidate.predicted is None:
            continue
        covered = int(np.count_nonzero(candidate.predicted[window] & inside))
        already = 0 if candidate.drawn is None else int(np.count_nonzero(candidate.drawn[window] & inside))
        if covered >= best and already < COVERED * part.drawn_px:
            best, kind, predicted = covered, Kind.WRONG_CLASS, other
    if predicted is not None:
        target = classes[predicted]
        new = inside if target.drawn is None else inside & ~target.drawn[window]
        there = target.gain(int(np.count_nonzero(new)), int(target.levels[window][new].sum()))
        score = (score + there) / 2
        if target.moved_here is None:
            target.moved_here = np.zeros(own.levels.shape, np.bool_)
        target.moved_here[window] |= inside
    return _finding(image_id, channel, kind, score, window, inside, inside, own.levels.shape,
                    predicted_class_id=None if predicted is None else predicted + 1)  # fmt: skip


def _predicted(image_id: str, channel: int, part: _Part, classes: Sequence[_Class], exclusive: bool) -> list[Finding]:
    """The finding of a predicted part: missed, or another outline; none where it is drawn, or of a moved part."""
    own, window = classes[channel], part.window
    mask = own.part_of(part, own.predicted)
    if exclusive:
        for other, candidate in enumerate(classes):
            if other != channel and candidate.drawn is not None:
                kept = candidate.drawn[window]
                mask = mask & ~(kept if candidate.doubtful is None else kept & ~candidate.doubtful[window])
    px = int(np.count_nonzero(mask))
    if not px:
        return []
    inside = int(own.levels[window][mask].sum())
    if part.is_confirmed:
        drawn = own.part_of(part, own.drawn)
        if (drawn == mask).all():
            return []
        score = own.gain(px - part.drawn_px, inside - part.drawn_sum)
        return [_finding(image_id, channel, Kind.BOUNDARY, score, window, drawn, mask, own.levels.shape)]
    if own.moved_here is not None and np.count_nonzero(own.moved_here[window] & mask) >= COVERED * px:
        return []  # the row of the drawn part is about the same defect
    if part.both_px >= COVERED * part.predicted_px:
        return []
    new = mask if own.drawn is None else mask & ~own.drawn[window]
    score = own.gain(int(np.count_nonzero(new)), int(own.levels[window][new].sum()))
    return [_finding(image_id, channel, Kind.MISSED, score, window, mask, mask, own.levels.shape)]


def _finding(
    image_id: str, channel: int, kind: Kind, score: float, window: tuple[slice, slice], concerned: Mask, mask: Mask,
    shape: tuple[int, ...], predicted_class_id: int | None = None,
) -> Finding:  # fmt: skip
    """`concerned` gives the box and the area, `mask` the RLE; both are within `window`."""
    y0, x0 = window[0].start, window[1].start
    x, y, width, height = box_of(concerned)
    whole = np.zeros((shape[0], window[1].stop - x0), np.bool_)  # RLE runs down the columns: those of the window do
    whole[window[0]] = mask
    runs = rle.encode(whole)
    if len(runs):
        runs[:, 0] += x0 * shape[0]
    return Finding(
        image_id=image_id, class_id=channel + 1, kind=kind, score=min(max(score, 0.0), 1.0),
        box=(x + x0, y + y0, width, height), pixels=int(np.count_nonzero(concerned)), mask=runs,
        predicted_class_id=predicted_class_id,
    )  # fmt: skip


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """x, y, width, height of the pixels of a mask; all 0 for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
