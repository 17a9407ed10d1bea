"""The search tried on images that it has not seen: two halves, each scored with the rule that the other gave.

This tells what a search is worth on new images, where its own best score flatters, and whether a class gains by a gate:
with gates there are four times the cells, so their best score is higher even where there is nothing to gain.

Worked example: without a gate the rule of the first half has a mean Dice of 0.80 on the second, and that of the second
0.84 on the first: held out 0.82, for halves of equal size. With a gate 0.79 and 0.83: held out 0.81, so the class goes
without, though on all images together a gate may lead by 0.85 to 0.84.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.search import ONE, Choice, ScoreSurface
from severstal_cli.steel.splits import Split, make_splits


def deal(image_ids: Sequence[str], split: Split) -> NDArray[np.int8]:
    """The half, 0 or 1, of each image: near-duplicates together, each half with its share of every set of classes."""
    class_sets = [split.class_sets[image_id] for image_id in image_ids]
    groups = np.array([split.groups[image_id] for image_id in image_ids], np.int64)
    return make_splits(image_ids, class_sets, groups, holdout=0, folds=2, seed=0)


def choose(first: ScoreSurface, second: ScoreSurface) -> Choice:
    """The rule of a class by the images of both halves, with a gate only if that is better on the half not searched.

    `first` holds all images afterwards. The choice's `mean_dice_held_out` is that of rules searched on half of the
    images, and where a gate is used, the better of two such figures. None where a half is empty: then there is no gate.

    Raises ValueError when both are empty, or their sizes differ.
    """
    if not (first.images and second.images):
        first.merge(second)
        return first.choose()
    plain, gated = (
        second.sum_of(first.choose(gate=gate).rule) + first.sum_of(second.choose(gate=gate).rule)
        for gate in (False, True)
    )
    first.merge(second)
    gate = gated > plain + first.images  # by more than rounding
    held_out = (gated if gate else plain) / (float(ONE) * first.images)
    return dataclasses.replace(first.choose(gate=gate), mean_dice_held_out=held_out)
