"""The rule of each class: one that holds up on new images, and what it is worth there.

The best cell of a surface of scores is the best by luck as well. `bench/regret.py` compares ways to choose by what they
lose on new images; this one lost least where all pools are taken together:
1. A class borrows from the others, as if it had 4 more images with a defect, like the mean of theirs: what suits one
   class of a network mostly suits another, and a rare class has few images to tell.
2. A cell must earn its distance from the default rule: half the standard error of what it gains over that is taken off.
3. All this is done 50 times on images drawn anew, groups of near-duplicates as wholes; each time the highest cell is
   taken, of equal ones that of `search.middle_of_the_top`. The choice is their median along each axis (bagging,
   Breiman, Machine Learning 24, 1996). The drawings tell the standard errors, too.
A class that gains nothing over the default rule keeps that; one that gains nothing by either is never predicted.

What this is worth on new images is told by leaving out: the groups of near-duplicates are dealt to five folds, and each
image is scored with the rules chosen without its fold. A gate is used where it gains more by this than its own error;
for the figure that is told, a fold has no say in whether it gets one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.dataset.splits import Split
from severstal_cli.steel.dataset.stratification import make_splits
from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess
from severstal_cli.steel.scoring import intervals
from severstal_cli.steel.thresholds.per_image_gains import GATES, THRESHOLDS, Contributions
from severstal_cli.steel.thresholds.score_surface import ONE, Choice, middle_of_the_top

FOLDS = 5
BORROWED = 4
"""Images."""
CAUTION = 0.5
"""Standard errors."""
DRAWINGS = 50
_DEFAULT = int(np.searchsorted(THRESHOLDS, ClassPostprocess.pixel_threshold)), 0, 0


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


def choose(
    classes: Sequence[Contributions],
    fold_of: NDArray[np.int8],
    groups: NDArray[np.int64],
    counted: Sequence[int] | None = None,
) -> Chosen:
    """The rules of all classes by what each image contributes; the same for any order of adding.

    fold_of, groups: (N,) of each image. counted: the channels that means are over, by default all; the others
    are disabled. Raises ValueError without images.
    """
    if not len(fold_of):
        raise ValueError("no image was added")
    folds = int(fold_of.max()) + 1
    sums = [one.sums(fold_of, folds) for one in classes]
    rules, with_gate = _rules(classes, [of_class.sum(axis=0) for of_class in sums], np.arange(len(groups)), groups)
    held_out = None
    if folds > 1:
        held_out, gated = (np.empty((len(groups), len(classes))) for _ in range(2))
        for fold in range(folds):
            others = [of_class.sum(axis=0) - of_class[fold] for of_class in sums]
            inside, rows = np.flatnonzero(fold_of != fold), fold_of == fold
            for scores, found in zip((held_out, gated), _rules(classes, others, inside, groups), strict=True):
                for channel, (one, rule) in enumerate(zip(classes, found, strict=True)):
                    scores[rows, channel] = one.dice(rule)[rows]
        for channel, rule in enumerate(with_gate):
            gains = gated[:, channel] - held_out[:, channel]
            if rule.min_image_score and _gains(gains, groups):
                rules[channel] = rule
            for fold in range(folds):
                others, rows = fold_of != fold, fold_of == fold
                if _gains(gains[others], groups[others]):
                    held_out[rows, channel] = gated[rows, channel]
    if counted is not None:  # there may be no class of the other channels, and a mask of it could only be wrong
        rules = [
            rule if channel in counted else ClassPostprocess(pixel_threshold=DISABLED)
            for channel, rule in enumerate(rules)
        ]
    return _told(classes, rules, held_out, groups, range(len(classes)) if counted is None else counted)


def _told(
    classes: Sequence[Contributions],
    rules: Sequence[ClassPostprocess],
    held_out: NDArray[np.float64] | None,
    groups: NDArray[np.int64],
    counted: Sequence[int],
) -> Chosen:
    of_counted = held_out
    found = of_all = None if held_out is None else intervals.intervals(held_out, groups)
    if held_out is not None and len(counted) < len(classes):
        of_counted = np.ascontiguousarray(held_out[:, counted])
        of_all = intervals.intervals(of_counted, groups)
    choices = tuple(
        Choice(
            rule=rule,
            mean_dice=float(one.dice(rule).mean()),
            mean_dice_default=float(one.dice(ClassPostprocess()).mean()),
            mean_dice_never=float(one.dice(ClassPostprocess(pixel_threshold=DISABLED)).mean()),
            images=len(groups),
            present=int(one.present.sum()),
            mean_dice_held_out=None if held_out is None else float(held_out[:, channel].mean()),
            interval_held_out=None if found is None else (float(found[channel][0]), float(found[channel][1])),
        )
        for channel, (one, rule) in enumerate(zip(classes, rules, strict=True))
    )
    return Chosen(
        choices=choices,
        mean_dice_held_out=None if of_counted is None else float(of_counted.mean()),
        interval_held_out=None if of_all is None else (float(of_all[-1][0]), float(of_all[-1][1])),
    )


def _gains(differences: NDArray[np.float64], groups: NDArray[np.int64]) -> bool:
    """Is the mean of `differences` above its own standard error, images of a group being no news of each other?"""
    of_groups = np.bincount(np.unique(groups, return_inverse=True)[1], differences)
    return bool(differences.sum() > np.sqrt((of_groups**2).sum()))


def _rules(
    classes: Sequence[Contributions],
    sums: Sequence[NDArray[np.int64]],
    images: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> tuple[list[ClassPostprocess], list[ClassPostprocess]]:
    """The rule of each class by some images, without a gate, and what it would be with one if that seems better.

    sums: of a class the gains of these images, (1 + G, T, S, M). groups: (N,) of all images.
    """
    weights = np.concatenate(list(_weights(groups, images, DRAWINGS)))
    lent = _lent([own / ONE for own in sums], [int(one.present[images].sum()) for one in classes])
    plain, gated = [], []
    for one, own, borrowed in zip(classes, sums, lent, strict=True):
        cell = _middle(_cells(one.drawn_sums(weights, 0), borrowed[0], len(images)))
        plain.append(_rule(one, own[0], cell, own[0], len(images)))
        level = _best_gate(own / ONE + borrowed, len(images))
        gated.append(plain[-1])
        if level:
            below = int(GATES[level - 1])
            cell = _middle(_cells(one.drawn_sums(weights, level), borrowed[level], len(images), below=below))
            gated[-1] = _rule(one, own[level], cell, own[0], len(images), gate=below)
    return plain, gated


def _lent(sums: Sequence[NDArray[np.float64]], present: Sequence[int]) -> list[NDArray[np.float64]]:
    """What each class borrows: the gains of `BORROWED` images of the others. present: of each class, images with it."""
    everything = np.sum(sums, axis=0)
    return [
        (everything - own) * (BORROWED / max(1, sum(present) - there)) for own, there in zip(sums, present, strict=True)
    ]


def _best_gate(looks: NDArray[np.float64], images: int) -> int:
    """The place of the gate, from 1, whose surface is the highest below it; 0 where it is not above that without."""
    looks[1:][GATES[:, None] <= THRESHOLDS] = -np.inf  # at or below the threshold it does nothing
    tops = looks.max(axis=(1, 2, 3))
    level = int(tops.argmax())
    return level if tops[level] > tops[0] + images / ONE else 0


def _rule(
    one: Contributions,
    own: NDArray[np.int64],
    cell: tuple[int, int, int],
    plain: NDArray[np.int64],
    images: int,
    gate: int = 0,
) -> ClassPostprocess:
    """The rule of a cell; never or the default one where it gains nothing. own, plain: with this gate, and without."""
    gain, default, (t, s, m) = int(own[cell]), int(plain[_DEFAULT]), cell
    if max(gain, default) <= images and int(plain.min()) < -images:  # a sum is wrong by less than a unit an image
        return ClassPostprocess(pixel_threshold=DISABLED)
    if gain <= default + images:
        return ClassPostprocess()
    return ClassPostprocess(
        pixel_threshold=int(THRESHOLDS[t]),
        min_component_px=int(one.component_sizes[s]),
        min_mask_px=int(one.mask_sizes[m]),
        min_image_score=gate,
    )


def _weights(groups: NDArray[np.int64], images: NDArray[np.int64], samples: int) -> Iterator[NDArray[np.float64]]:
    """How often each image is drawn, (B, N) at a time: whole groups, and none but `images`."""
    _, group_of = np.unique(groups[images], return_inverse=True)
    for drawn in intervals.draws(int(group_of.max()) + 1, samples=samples):
        weights = np.zeros((len(drawn), len(groups)))
        weights[:, images] = drawn[:, group_of]
        yield weights


def _cells(
    surfaces: NDArray[np.float64], lent: NDArray[np.float64], images: int, below: int = DISABLED
) -> NDArray[np.int64]:
    """(B, 3): the cell that is chosen of each of (B, T, S, M), with what is lent, among thresholds below `below`."""
    error = (surfaces - surfaces[(slice(None), *_DEFAULT)][:, None, None, None]).std(axis=0)
    looks = (surfaces + lent - CAUTION * error)[:, below > THRESHOLDS]
    tied = looks >= looks.max(axis=(1, 2, 3), keepdims=True) - images * 2.0**-20  # what they were rounded to
    cells = np.stack(np.unravel_index(tied.reshape(len(tied), -1).argmax(axis=1), tied.shape[1:]), axis=1)
    for number in np.flatnonzero(tied.sum(axis=(1, 2, 3)) > 1):
        cells[number] = middle_of_the_top(tied[number])
    return cells


def _middle(cells: NDArray[np.int64]) -> tuple[int, int, int]:
    t, s, m = np.sort(cells, axis=0)[len(cells) // 2].tolist()
    return t, s, m


def chosen_again(
    classes: Sequence[Contributions], choices: Sequence[Choice], groups: NDArray[np.int64], *, samples: int = 200
) -> list[NDArray[np.int64]]:
    """What would be chosen on other images like these: (samples, 2) thresholds and component sizes, a class.

    Groups are drawn as `intervals.draws` does; a gate stays as it was chosen. Of a class that would never be predicted
    the threshold is DISABLED.
    """
    found: list[list[NDArray[np.int64]]] = [[] for _ in classes]
    present = [int(one.present.sum()) for one in classes]
    gates = [int(np.searchsorted(GATES, choice.rule.min_image_score, side="right")) for choice in choices]
    for weights in _weights(groups, np.arange(len(groups)), samples):
        sums = [one.drawn_sums(weights, gate) for one, gate in zip(classes, gates, strict=True)]
        for of_class, one, own, lent in zip(found, classes, sums, _lent(sums, present), strict=True):
            cells = _cells(own, lent, len(groups))
            gains = own[(np.arange(len(own)), *cells.T)]
            of_class.append(
                np.stack(
                    [np.where(gains > 0, THRESHOLDS[cells[:, 0]], DISABLED), one.component_sizes[cells[:, 1]]], axis=1
                ).astype(np.int64)
            )
    return [np.concatenate(of_class) for of_class in found]
