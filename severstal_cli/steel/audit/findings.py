"""The suspected faults of the drawn masks of one image, judged by levels of runs that have not seen it.

Per class, the drawn mask D and the predicted mask M (levels of at least 128) are joined, and the 8-connected components
of the union are visited. A component has a drawn part, a predicted part, or both:

    missed        predicted, and hardly drawn
    invented      drawn, and less than a tenth of it is predicted
    wrong_class   the same, but at least half of it is predicted as another class, which is not drawn there
    boundary      drawn and predicted, with different pixels

The score is the gain: the rise of the expected Dice of the class if the finding is accepted, that is with the predicted
part added, the drawn part removed, moved to the other class (the mean of both gains), or replaced by the predicted one.
It is computed twice, alone and with all other findings of the class accepted, and the higher gain counts: of a mask
with two invented components, dropping one helps little, and dropping the second one helps a lot. The expected Dice of a
mask under the probabilities is 2 * (sum inside the mask) / (its pixels + sum over the image), and of an empty mask 1
less the peak probability, as in `steel.tables.confidence`.

Take the levels 255 255 0 204, that is probabilities 1.0 1.0 0.0 0.8, and the first two pixels as drawn. The last pixel
is missed. Before, the expected Dice is 2 * 2.0 / (2 + 2.8) = 0.833, with it 2 * 2.8 / (3 + 2.8) = 0.966: its score is
0.132.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.audit.class_parts import Change, Class, Mask, Part
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.postprocess import make_exclusive

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
    highest = make_exclusive(levels) if exclusive else levels
    classes = [
        Class.of(own, top, runs, size) for own, top, runs in zip(levels, highest, drawn, strict=True)
    ]  # fmt: skip
    drafts: list[_Draft] = []
    for channel, of_class in enumerate(classes):
        drafts += [
            _unconfirmed(channel, part, classes) for part in of_class.parts if part.drawn_px and not part.is_confirmed
        ]
    for channel, of_class in enumerate(classes):
        for part in of_class.parts:
            if part.predicted_px and (draft := _predicted(channel, part, classes, exclusive)):
                drafts.append(draft)
    for draft in drafts:
        for channel, change in draft.changes:
            classes[channel].change(change)
    scores = [np.mean([classes[channel].gain(change) for channel, change in draft.changes]) for draft in drafts]
    findings = [
        draft.finding(image_id, min(float(score), 1.0), size)
        for draft, score in zip(drafts, scores, strict=True)
        if score >= LEAST_SCORE
    ]
    return findings, [of_class.expected_dice() for of_class in classes]


@dataclass(kw_only=True)
class _Draft:
    """A finding without a score. `concerned` gives the box and the area, `mask` the RLE; both are within `window`."""

    kind: Kind
    window: tuple[slice, slice]
    concerned: Mask
    mask: Mask
    changes: list[tuple[int, Change]]
    """(channel, change); the first is that of the class of the finding."""

    def finding(self, image_id: str, score: float, size: tuple[int, int]) -> Finding:
        rows, columns = self.window
        x, y, width, height = box_of(self.concerned)
        whole = np.zeros((size[0], columns.stop - columns.start), np.bool_)  # RLE counts down whole columns
        whole[rows] = self.mask
        runs = rle.encode(whole)
        if len(runs):
            runs[:, 0] += columns.start * size[0]
        channel, *other = [channel for channel, _ in self.changes]
        return Finding(
            image_id=image_id,
            class_id=channel + 1,
            kind=self.kind,
            score=score,
            box=(x + columns.start, y + rows.start, width, height),
            pixels=int(np.count_nonzero(self.concerned)),
            mask=runs,
            predicted_class_id=other[0] + 1 if other else None,
        )


def _unconfirmed(channel: int, part: Part, classes: Sequence[Class]) -> _Draft:
    """The finding of a drawn part that its class does not confirm: invented, or of another class."""
    own, window = classes[channel], part.window
    inside = own.part_of(part, own.drawn)
    if own.doubtful is None:
        own.doubtful = np.zeros(own.levels.shape, np.bool_)
    own.doubtful[window] |= inside
    best, predicted = COVERED * part.drawn_px, None
    for other, candidate in enumerate(classes):
        if other == channel or candidate.predicted is None:
            continue
        covered = int(np.count_nonzero(candidate.predicted[window] & inside))
        already = 0 if candidate.drawn is None else int(np.count_nonzero(candidate.drawn[window] & inside))
        if covered >= best and already < COVERED * part.drawn_px:
            best, predicted = covered, other
    changes = [(channel, Change(-part.drawn_px, -part.drawn_sum))]
    if predicted is not None:
        target = classes[predicted]
        changes.append((predicted, target.added(window, inside)))
        if target.moved_here is None:
            target.moved_here = np.zeros(own.levels.shape, np.bool_)
        target.moved_here[window] |= inside
    kind = Kind.INVENTED if predicted is None else Kind.WRONG_CLASS
    return _Draft(kind=kind, window=window, concerned=inside, mask=inside, changes=changes)


def _predicted(channel: int, part: Part, classes: Sequence[Class], exclusive: bool) -> _Draft | None:
    """The finding of a predicted part: missed, or another outline; None where it is drawn, or of a moved part."""
    own, window = classes[channel], part.window
    mask = own.part_of(part, own.predicted)
    if exclusive:
        for other, candidate in enumerate(classes):
            if other != channel and candidate.drawn is not None:
                kept = candidate.drawn[window]
                mask = mask & ~(kept if candidate.doubtful is None else kept & ~candidate.doubtful[window])
    px = int(np.count_nonzero(mask))
    if not px:
        return None
    if part.is_confirmed:
        drawn = own.part_of(part, own.drawn)
        if (drawn == mask).all():
            return None
        change = Change(px - part.drawn_px, int(own.levels[window][mask].sum()) - part.drawn_sum)
        return _Draft(kind=Kind.BOUNDARY, window=window, concerned=drawn, mask=mask, changes=[(channel, change)])
    if own.moved_here is not None and np.count_nonzero(own.moved_here[window] & mask) >= COVERED * px:
        return None  # the row of the drawn part is about the same defect
    if part.both_px >= COVERED * part.predicted_px:
        return None
    return _Draft(kind=Kind.MISSED, window=window, concerned=mask, mask=mask,
                  changes=[(channel, own.added(window, mask))])  # fmt: skip


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """x, y, width, height of the pixels of a mask; all 0 for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
