"""What a report shows: images, what is true of them, and what each candidate predicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli.learning.training.history import Row
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.postprocess import ClassPostprocess
from severstal_cli.steel.scoring import dice
from severstal_cli.steel.scoring.scores import Scores, score_masks


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run or a submission."""

    name: str
    masks: dice.Masks
    rules: tuple[ClassPostprocess, ...] | None = None
    """Of a run; a submission has none, and no levels."""
    steps: tuple[NDArray[np.uint8], ...] = ()
    """Of a run: the thresholds that can be chosen for each class, see `levels`."""
    has_levels: NDArray[np.bool_] | None = None
    """Of a run: (N,) whether any level of an image reaches the lowest step."""
    sure: NDArray[np.float64] | None = None
    """(N, C) the Dice that it expects; None where that is not known."""
    history: tuple[Row, ...] = ()
    surface: Path | None = None
    """The picture of the score over thresholds and sizes."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that the page shows, but for images and levels, which are written as they come."""

    title: str
    """What the images are, as "the holdout of data"."""
    image_ids: tuple[str, ...]
    sizes: NDArray[np.int64]
    """(N, 2) height and width."""
    classes: int
    true: dice.Masks | None
    """None: not known, so nothing is scored."""
    groups: Mapping[str, int] | None
    """The group of near-duplicates of each image; None: not known."""
    candidates: tuple[Candidate, ...]

    def scores(self) -> list[Scores | None]:
        """Of each candidate; None without the truth."""
        if self.true is None:
            return [None for _ in self.candidates]
        return [
            score_masks(candidate.masks, self.true, self.image_ids, self.classes, self.groups)
            for candidate in self.candidates
        ]

    def areas(self, masks: dice.Masks) -> NDArray[np.int64]:
        """(N, C) pixels of the mask of each image and class."""
        return self._counted(masks, masks)

    def overlaps(self, masks: dice.Masks) -> NDArray[np.int64]:
        """(N, C) pixels that they share with the true ones."""
        return self._counted(masks, self.true or {})

    def _counted(self, one: dice.Masks, other: dice.Masks) -> NDArray[np.int64]:
        counts = np.zeros((len(self.image_ids), self.classes), np.int64)
        row_of = {image_id: row for row, image_id in enumerate(self.image_ids)}
        for image_id, channel in one.keys() & other.keys():
            if image_id in row_of and channel < self.classes:
                key = image_id, channel
                counts[row_of[image_id], channel] = rle.overlap(one[key], other[key])
        return counts
