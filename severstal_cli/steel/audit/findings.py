"""The suspected faults of the drawn masks of one image, judged by levels of runs that have not seen it.

Per class, the drawn mask D and the predicted mask M (levels of at least 128) are joined, and the 8-connected components
of the union are visited. A component has a drawn part, a predicted part, or both:

    missed        predicted, and hardly drawn
    invented      drawn, and less than a tenth of it is predicted
    wrong_class   the same, but at least a quarter of it is predicted as another class, which is not drawn there
    boundary      drawn and predicted, with different pixels

The score is the share of a component that the runs are confident to be wrong:

    invented      drawn pixels with a probability below 0.03
    wrong_class   the same, and the probability of the other class: 1 - (1 - share) * (1 - its mean over the component)
    boundary      drawn pixels below 0.03 and undrawn ones of at least 0.9, of all drawn and predicted pixels
    missed        the geometric mean of the peak and of the mean probability of the predicted component

The component with most wrong boundary pixels has the score of all outlines of the mask. Every other score is multiplied
by the component's share of the mask: of its pixels, those of the confirmed drawn components elsewhere, and those of the
larger components of its kind. So the largest component of a mask that no run sees counts in full, and a speck beside
another component little.

Take the levels 255 255 0 204, that is probabilities 1.0 1.0 0.0 0.8, and the first two pixels as drawn. The last pixel
is missed, with a peak and a mean of 0.8. It is one of 1 + 2 pixels, so its score is 0.8 / 3 = 0.267.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.audit.class_parts import THRESHOLD, Class, Mask, Part, touched
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.postprocess import make_exclusive

ABSENT, PRESENT = 8, 230
"""Levels below the first, a probability of 0.03, are confident that there is no defect, and those from the second on, a
probability of 0.9, that there is one. Chosen on NEU-Seg with injected faults (`bench/audit.py`)."""
MOVED = 0.25
"""Share of a drawn part that must be predicted as another class, if it is to be of that class."""
COVERED = 0.5
"""Share of a part that another mask must cover to be about the same defect."""
LEAST_SCORE = 0.05
"""Findings with a lower score are left out: every drawn outline differs a little from the predicted one."""


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
    predicted = sum(int(of_class.max(initial=0)) >= THRESHOLD for of_class in levels)
    highest = make_exclusive(levels) if exclusive and predicted > 1 else levels
    classes = [Class.of(own, top, runs, size) for own, top, runs in zip(levels, highest, drawn, strict=True)]
    drafts = [
        _unconfirmed(channel, part, classes)
        for channel, of_class in enumerate(classes)
        for part in of_class.parts
        if part.drawn_px and not part.is_confirmed
    ]
    for channel, of_class in enumerate(classes):
        for part in of_class.parts:
            if part.predicted_px and (draft := _predicted(channel, part, classes, exclusive)):
                drafts.append(draft)
    _raise_boundaries(drafts, classes)
    findings = [draft.finding(image_id, size) for draft in drafts if draft.score >= LEAST_SCORE]
    return findings, [of_class.expected_dice() for of_class in classes]


@dataclass(kw_only=True)
class _Draft:
    """A finding. `concerned` gives the box and the area, `mask` the RLE; both are within `window`."""

    kind: Kind
    channel: int
    score: float
    window: tuple[slice, slice]
    concerned: Mask
    mask: Mask
    predicted_channel: int | None = None
    wrong_px: int = 0
    """boundary: pixels that the runs are confident to be wrong."""
    union_px: int = 0
    """boundary: drawn and predicted pixels."""

    def finding(self, image_id: str, size: tuple[int, int]) -> Finding:
        rows, columns = self.window
        x, y, width, height = box_of(self.concerned)
        whole = np.zeros((size[0], columns.stop - columns.start), np.bool_)  # RLE counts down whole columns
        whole[rows] = self.mask
        runs = rle.encode(whole)
        if len(runs):
            runs[:, 0] += columns.start * size[0]
        return Finding(
            image_id=image_id,
            class_id=self.channel + 1,
            kind=self.kind,
            score=min(float(self.score), 1.0),
            box=(x + columns.start, y + rows.start, width, height),
            pixels=int(np.count_nonzero(self.concerned)),
            mask=runs,
            predicted_class_id=None if self.predicted_channel is None else self.predicted_channel + 1,
        )


def _unconfirmed(channel: int, part: Part, classes: Sequence[Class]) -> _Draft:
    """The finding of a drawn part that its class does not confirm: invented, or of another class."""
    own, window = classes[channel], part.window
    inside = own.part_of(part, own.drawn)
    if own.doubtful is None:
        own.doubtful = np.zeros(own.levels.shape, np.bool_)
    own.doubtful[window] |= inside
    best, predicted = MOVED * part.drawn_px, None
    for other, candidate in enumerate(classes):
        if other == channel or candidate.predicted is None:
            continue
        covered = int(np.count_nonzero(candidate.predicted[window] & inside))
        already = 0 if candidate.drawn is None else int(np.count_nonzero(candidate.drawn[window] & inside))
        if covered >= best and already < COVERED * part.drawn_px:
            best, predicted = covered, other
    score = np.count_nonzero(own.levels[window][inside] < ABSENT) / part.drawn_px
    if predicted is not None:
        target = classes[predicted]
        score = 1 - (1 - score) * (1 - float(target.levels[window][inside].mean()) / 255)
        if target.moved_here is None:
            target.moved_here = np.zeros(own.levels.shape, np.bool_)
        target.moved_here[window] |= inside
    kind = Kind.INVENTED if predicted is None else Kind.WRONG_CLASS
    return _Draft(
        kind=kind,
        channel=channel,
        score=score * own.share(part, part.drawn_px, own.larger_drawn(part)),
        window=window,
        concerned=inside,
        mask=inside,
        predicted_channel=predicted,
    )


def _predicted(channel: int, part: Part, classes: Sequence[Class], exclusive: bool) -> _Draft | None:
    """The finding of a predicted part: missed, or another outline; None where it is drawn, or of a moved part."""
    own, window = classes[channel], part.window
    mask = own.part_of(part, own.predicted)
    if own.moved_here is not None:
        moved = own.moved_here[window] & mask
        if not part.is_confirmed and np.count_nonzero(moved) >= COVERED * part.predicted_px:
            return None  # the row of the drawn part is about the same defect
        mask &= ~(moved if own.drawn is None else moved & ~own.drawn[window])
    if exclusive:
        for other, candidate in enumerate(classes):
            if other != channel and candidate.drawn is not None:
                kept = candidate.drawn[window]
                mask &= ~(kept if candidate.doubtful is None else kept & ~candidate.doubtful[window])
    px = int(np.count_nonzero(mask))
    if not px:
        return None
    if part.is_confirmed:
        drawn = touched(own.part_of(part, own.drawn), mask)
        if not drawn.any() or (drawn == mask).all():
            return None
        levels = own.levels[window]
        wrong = (drawn & (levels < ABSENT)) | (mask & ~drawn & (levels >= PRESENT))
        union = int(np.count_nonzero(drawn | mask))
        wrong_px = int(np.count_nonzero(wrong))
        return _Draft(
            kind=Kind.BOUNDARY,
            channel=channel,
            score=wrong_px / union * own.share(part, union),
            window=window,
            concerned=drawn,
            mask=mask,
            wrong_px=wrong_px,
            union_px=union,
        )
    if part.both_px >= COVERED * part.predicted_px:
        return None
    inside = own.levels[window][mask]
    score = float(np.sqrt(float(inside.max()) * float(inside.mean()))) / 255
    score *= own.share(part, px, own.larger_predicted(part))
    return _Draft(kind=Kind.MISSED, channel=channel, score=float(score), window=window, concerned=mask, mask=mask)


def _raise_boundaries(drafts: Sequence[_Draft], classes: Sequence[Class]) -> None:
    """Give the component with most wrong pixels the score of the outline of the whole mask, where that is higher."""
    for channel, of_class in enumerate(classes):
        own = [draft for draft in drafts if draft.kind == Kind.BOUNDARY and draft.channel == channel]
        if len(own) > 1:
            exact = sum(part.drawn_px for part in of_class.parts if part.is_confirmed) - sum(
                int(np.count_nonzero(draft.concerned)) for draft in own
            )
            union = exact + sum(draft.union_px for draft in own)
            worst = max(own, key=lambda draft: draft.wrong_px)
            worst.score = max(worst.score, sum(draft.wrong_px for draft in own) / union)


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """x, y, width, height of the pixels of a mask; all 0 for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
