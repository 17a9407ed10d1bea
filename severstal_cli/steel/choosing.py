"""The rule of each class: one that holds up on new images, and what it is worth there.

The best cell of a surface of scores is the best by luck as well. `bench/regret.py` compares ways to choose by what they
lose on new images; this one lost least:
1. A class borrows from the others: to its own surface 0.15 of their mean is added. What suits one class of a network
   mostly suits another, and a rare class has few images to tell.
2. The surface is smoothed: a quadratic is fitted around each cell along thresholds and component sizes, so that a cell
   counts with its neighbours, and a slope or a peak stays what it is. Not along mask sizes: where they begin to drop
   true masks there is a cliff.
3. The highest cell is taken. No cell counts for more than the highest one before smoothing, for beside a cliff a
   quadratic shoots over; of equal cells it is the one that `search.middle_of_the_top` tells.
A class that gains nothing so is never predicted, and one that gains nothing over the default rule keeps that.

What this is worth on new images is told by leaving out: the groups of near-duplicates are dealt to five folds, and each
image is scored with the rules chosen without its fold. A gate is used where it gains more by this than its own error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel import intervals
from severstal_cli.steel.contributions import GATES, THRESHOLDS, Contributions
from severstal_cli.steel.postprocess import NEVER, ClassRule
from severstal_cli.steel.search import Choice, middle_of_the_top
from severstal_cli.steel.splits import Split, make_splits

FOLDS = 5
BORROWED = 0.15
HALF_WIDTHS = 6, 3
"""Of the fits, in steps along thresholds and component sizes: factors of 4.5 in odds and 3.5 in size."""
_DEFAULT = int(np.searchsorted(THRESHOLDS, ClassRule.pixel_threshold))


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The rules of all classes, and what they are worth on images that the choice has not seen."""

    choices: tuple[Choice, ...]
    mean_dice_held_out: float | None
    """Over the classes; None where there is one group of images alone."""
    interval_held_out: tuple[float, float] | None
    """95 % for it."""


def deal(image_ids: Sequence[str], split: Split) -> NDArray[np.int8]:
    """The fold of each image, 0 to 4: near-duplicates together, each fold with its share of every set of classes."""
    class_sets = [split.class_sets[image_id] for image_id in image_ids]
    groups = groups_of(image_ids, split)
    folds = min(FOLDS, len(np.unique(groups)))
    return make_splits(image_ids, class_sets, groups, holdout=0, folds=folds, seed=0)


def groups_of(image_ids: Sequence[str], split: Split) -> NDArray[np.int64]:
    """(N,) the group of near-duplicates of each image."""
    return np.array([split.groups[image_id] for image_id in image_ids], np.int64)


def choose(classes: Sequence[Contributions], fold_of: NDArray[np.int8], groups: NDArray[np.int64]) -> Chosen:
    """The rules of all classes by what each image contributes; the same for any order of adding.

    fold_of, groups: (N,) of each image. Raises ValueError without images.
    """
    if not len(fold_of):
        raise ValueError("no image was added")
    folds = int(fold_of.max()) + 1
    sums = [one.sums(fold_of, folds) for one in classes]
    sizes = np.bincount(fold_of, minlength=folds)
    total = [of_class.sum(axis=0) for of_class in sums]
    rules = _rules(total, classes, len(fold_of), gate=False)
    held_out = None
    if folds > 1:
        parts = [[of_class.sum(axis=0) - of_class[fold] for of_class in sums] for fold in range(folds)]
        held_out, gated = (_held_out(parts, classes, fold_of, sizes, gate=gate) for gate in (False, True))
        with_gate = _rules(total, classes, len(fold_of), gate=True)
        for channel in range(len(classes)):
            if with_gate[channel].min_image_score and _gains(gated[:, channel] - held_out[:, channel], groups):
                rules[channel], held_out[:, channel] = with_gate[channel], gated[:, channel]
    return _told(classes, rules, held_out, groups)


def _told(
    classes: Sequence[Contributions],
    rules: Sequence[ClassRule],
    held_out: NDArray[np.float64] | None,
    groups: NDArray[np.int64],
) -> Chosen:
    found = None if held_out is None else intervals.intervals(held_out, groups).tolist()
    choices = tuple(
        Choice(
            rule=rule,
            mean_dice=float(one.dice(rule).mean()),
            mean_dice_default=float(one.dice(ClassRule()).mean()),
            mean_dice_never=float(one.dice(ClassRule(pixel_threshold=NEVER)).mean()),
            images=len(groups),
            present=int(one.present.sum()),
            mean_dice_held_out=None if held_out is None else float(held_out[:, channel].mean()),
            interval_held_out=None if found is None else (found[channel][0], found[channel][1]),
        )
        for channel, (one, rule) in enumerate(zip(classes, rules, strict=True))
    )
    return Chosen(
        choices=choices,
        mean_dice_held_out=None if held_out is None else float(held_out.mean()),
        interval_held_out=None if found is None else (found[-1][0], found[-1][1]),
    )


def _held_out(
    parts: Sequence[Sequence[NDArray[np.int64]]],
    classes: Sequence[Contributions],
    fold_of: NDArray[np.int8],
    sizes: NDArray[np.int64],
    *,
    gate: bool,
) -> NDArray[np.float64]:
    """(N, C): the Dice of each image by the rules chosen without its fold. parts: by fold and class the other sums."""
    scores = np.empty((len(fold_of), len(classes)))
    for fold, others in enumerate(parts):
        rules = _rules(others, classes, len(fold_of) - int(sizes[fold]), gate=gate)
        for channel, (one, rule) in enumerate(zip(classes, rules, strict=True)):
            scores[fold_of == fold, channel] = one.dice(rule)[fold_of == fold]
    return scores


def _gains(differences: NDArray[np.float64], groups: NDArray[np.int64]) -> bool:
    """Is the mean of `differences` above its own standard error, images of a group being no news of each other?"""
    of_groups = np.bincount(np.unique(groups, return_inverse=True)[1], differences)
    return bool(differences.sum() > np.sqrt((of_groups**2).sum()))


def _rules(
    sums: Sequence[NDArray[np.int64]], classes: Sequence[Contributions], images: int, *, gate: bool
) -> list[ClassRule]:
    """The rule of each class by sums of gains, (1 + G, T, S, M) each; with `gate` those with a gate compete as well."""
    plain = [of_class[0] for of_class in sums]
    rules = []
    for one, own in zip(classes, sums, strict=True):
        lent = (np.sum(plain, axis=0) - own[0]) / max(1, len(classes) - 1)
        count = len(own) if gate else 1
        looks = smoothed(own[:count] + BORROWED * lent)
        if gate:  # a gate at or below the threshold does nothing
            looks[1:][GATES[:, None] <= THRESHOLDS] = -np.inf
        tied = looks >= looks.max() - images  # sums are wrong by less than a unit an image
        level = int(np.flatnonzero(tied.any(axis=(1, 2, 3)))[0])
        t, s, m = middle_of_the_top(tied[level])
        gain = int(own[level, t, s, m])
        if gain <= images and int(own[0].min()) < -images:
            rules.append(ClassRule(pixel_threshold=NEVER))
        elif gain <= int(own[0, _DEFAULT, 0, 0]) + images:
            rules.append(ClassRule())
        else:
            rules.append(
                ClassRule(
                    pixel_threshold=int(THRESHOLDS[t]),
                    min_component_px=int(one.component_sizes[s]),
                    min_mask_px=int(one.mask_sizes[m]),
                    min_image_score=int(GATES[level - 1]) if level else 0,
                )
            )
    return rules


def smoothed(surfaces: NDArray[np.floating]) -> NDArray[np.floating]:
    """`(..., T, S, M)`: each surface after the local fits, and no higher than it was at its highest."""
    found = surfaces
    for axis, half_width in zip((-3, -2), HALF_WIDTHS, strict=True):
        fit = _local_fit(surfaces.shape[axis], half_width).astype(surfaces.dtype)
        found = np.moveaxis(np.moveaxis(found, axis, -1) @ fit.T, -1, axis)
    lower: NDArray[np.floating] = np.minimum(found, surfaces.max(axis=(-3, -2, -1), keepdims=True))
    return lower


@cache
def _local_fit(count: int, half_width: int) -> NDArray[np.float64]:
    """(count, count): row i gives the value at i of a quadratic fitted to all values, near ones above all.

    The weight at distance d is (1 - (d / (half_width + 1/2))^3)^3, none beyond (Cleveland, Robust locally weighted
    regression, JASA 74, 1979).
    """
    fit = np.empty((count, count))
    for at in range(count):
        distance = (np.arange(count) - at) / (half_width + 0.5)
        weight = np.sqrt(np.clip(1 - np.abs(distance) ** 3, 0, None) ** 3)
        powers = distance[:, None] ** np.arange(min(3, count))
        fit[at] = np.linalg.pinv(powers * weight[:, None])[0] * weight
    return fit


def chosen_again(
    classes: Sequence[Contributions], choices: Sequence[Choice], groups: NDArray[np.int64], *, samples: int = 200
) -> list[NDArray[np.int64]]:
    """What would be chosen on other images like these: (samples, 2) thresholds and component sizes, a class.

    Groups are drawn as `intervals.draws` does; a gate stays as it was chosen. Of a class that would never be predicted
    the threshold is NEVER.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    found: list[list[NDArray[np.int64]]] = [[] for _ in classes]
    for drawn in intervals.draws(int(group_of.max()) + 1, samples=samples):
        weights = drawn[:, group_of].astype(np.float32)
        gates = [int(np.searchsorted(GATES, choice.rule.min_image_score, side="right")) for choice in choices]
        sums = [one.drawn_sums(weights, gate) for one, gate in zip(classes, gates, strict=True)]
        everything = np.sum(sums, axis=0)
        for of_class, one, own in zip(found, classes, sums, strict=True):
            looks = smoothed(own + np.float32(BORROWED / max(1, len(classes) - 1)) * (everything - own))
            best = looks.reshape(len(own), -1).argmax(axis=1)
            t, s, _ = np.unravel_index(best, one.shape)
            gains = own.reshape(len(own), -1)[np.arange(len(own)), best]
            of_class.append(
                np.stack([np.where(gains > 0, THRESHOLDS[t], NEVER), one.component_sizes[s]], axis=1).astype(np.int64)
            )
    return [np.concatenate(of_class) for of_class in found]
