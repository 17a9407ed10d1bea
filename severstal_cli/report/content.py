"""What a report shows: images, their ground truth, and the predictions of each candidate."""

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
    """Post-processing of each class; None for a submission, which has no levels either."""
    steps: tuple[NDArray[np.uint8], ...] = ()
    """Thresholds that the slider of each class offers, see `levels`; empty for a submission."""
    has_levels: NDArray[np.bool_] | None = None
    """(N,) whether any level of an image reaches the lowest step; None for a submission."""
    confidence: NDArray[np.float64] | None = None
    """(N, C) expected Dice; None if unknown."""
    history: tuple[Row, ...] = ()
    surface: Path | None = None
    """Plot of the validation score over thresholds and sizes."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that the page shows. Images and levels are not held in memory: they are written as they come."""

    title: str
    """Names the images, e.g. "the holdout of data"."""
    image_ids: tuple[str, ...]
    sizes: NDArray[np.int64]
    """(N, 2) height and width."""
    classes: int
    true: dice.Masks | None
    """Ground truth; None if unknown: then nothing is scored."""
    groups: Mapping[str, int] | None
    """Group of near-duplicates of each image; None if unknown."""
    candidates: tuple[Candidate, ...]
    class_names: tuple[str, ...] = ()

    def scores(self) -> list[Scores | None]:
        """Scores of each candidate; None without ground truth."""
        if self.true is None:
            return [None for _ in self.candidates]
        return [
            score_masks(candidate.masks, self.true, self.image_ids, self.classes, self.groups)
            for candidate in self.candidates
        ]

    def areas(self, masks: dice.Masks) -> NDArray[np.int64]:
        """(N, C) pixels of the mask of each image and class."""
        return self.overlaps(masks, masks)

    def overlaps(self, masks: dice.Masks, others: dice.Masks) -> NDArray[np.int64]:
        """(N, C) pixels that both masks of an image and class share."""
        counts = np.zeros((len(self.image_ids), self.classes), np.int64)
        row_of = {image_id: row for row, image_id in enumerate(self.image_ids)}
        for image_id, channel in masks.keys() & others.keys():
            if image_id in row_of and channel < self.classes:
                key = image_id, channel
                counts[row_of[image_id], channel] = rle.overlap(masks[key], others[key])
        return counts
