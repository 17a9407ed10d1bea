"""Selects the post-processing of each class so that it holds up on new images, and estimates its score there.

The highest cell of the grid (`per_image_gains`) is highest partly by luck. `bench/regret.py` compares ways to select by
their loss on new images; this one had the lowest loss over all pools of images:
1. Shrinkage: each class gets a prior worth 4 images with a defect, the mean of the other classes. What suits one class
   of a network mostly suits another, and a rare class has few images.
2. A cell is penalised by half the standard error of its gain over the default post-processing.
3. Bagging (Breiman, Machine Learning 24, 1996): steps 1 and 2 run on 50 bootstrap samples of the groups of
   near-duplicates. Each sample votes for its highest cell, or for the one that `middle_of_the_top` selects among equal
   ones, and the result is the median of the votes along each axis. The samples also give the standard errors.
A class that gains nothing over the default keeps the default; one that gains nothing with either is disabled.

The score on new images comes from cross-validation: the groups are assigned to five folds, and each image is scored
with the post-processing that the other four folds select. A gate is used where its cross-validated gain exceeds the
standard error of that gain. For the cross-validated score, the other folds decide whether a fold gets a gate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.dataset.splits import Split
from severstal_cli.steel.dataset.stratification import make_splits
from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess
from severstal_cli.steel.scoring import intervals
from severstal_cli.steel.thresholds.per_image_gains import GATES, ONE, THRESHOLDS, PerImageGains

FOLDS = 5
PRIOR_IMAGES = 4
PENALTY = 0.5
"""Standard errors."""
SAMPLES = 50
_DEFAULT = int(np.searchsorted(THRESHOLDS, ClassPostprocess.pixel_threshold)), 0, 0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The post-processing of a class, and its mean Dice over all images that it was selected on."""

    rule: ClassPostprocess
    mean_dice: float
    mean_dice_default: float
    """With the default: level 128, no filter."""
    mean_dice_never: float
    """Without any mask: the share of images without the class."""
    images: int
    present: int
    """Images with the class."""
    mean_dice_held_out: float | None = None
    """Cross-validated; None where there is one group of images alone."""
    interval_held_out: tuple[float, float] | None = None
    """Its 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The post-processing of all classes, and its cross-validated score."""

    choices: tuple[Choice, ...]
    mean_dice_held_out: float | None
    """Over the classes; None where there is one group of images alone."""
    interval_held_out: tuple[float, float] | None
    """Its 95 % interval."""


def assign_folds(image_ids: Sequence[str], split: Split) -> NDArray[np.int8]:
    """(N,) the fold of each image, 0 to 4: near-duplicates together, stratified by the set of classes of an image."""
    class_sets = [split.class_sets[image_id] for image_id in image_ids]
    groups = groups_of(image_ids, split)
    folds = min(FOLDS, len(np.unique(groups)))
    return make_splits(image_ids, class_sets, groups, holdout=0, folds=folds, seed=0)


def groups_of(image_ids: Sequence[str], split: Split) -> NDArray[np.int64]:
    """(N,) the group of near-duplicates of each image."""
    return np.array([split.groups[image_id] for image_id in image_ids], np.int64)


def choose(
    classes: Sequence[PerImageGains],
    fold_of: NDArray[np.int8],
    groups: NDArray[np.int64],
    counted: Sequence[int] | None = None,
) -> Chosen:
    """Select the post-processing of all classes; the order in which images were added does not matter.

    fold_of, groups: (N,) of each image. counted: the channels that means are over, by default all; the others
    are disabled. Raises ValueError without images.
    """
    if not len(fold_of):
        raise ValueError("no image was added")
    folds = int(fold_of.max()) + 1
    sums = [gains.sums(fold_of, folds) for gains in classes]
    rules, with_gate = _rules(classes, [of_class.sum(axis=0) for of_class in sums], np.arange(len(groups)), groups)
    held_out = None
    if folds > 1:
        held_out, gated = (np.empty((len(groups), len(classes))) for _ in range(2))
        for fold in range(folds):
            others = [of_class.sum(axis=0) - of_class[fold] for of_class in sums]
            inside, rows = np.flatnonzero(fold_of != fold), fold_of == fold
            for scores, selected in zip((held_out, gated), _rules(classes, others, inside, groups), strict=True):
                for channel, (gains, rule) in enumerate(zip(classes, selected, strict=True)):
                    scores[rows, channel] = gains.dice(rule)[rows]
        for channel, rule in enumerate(with_gate):
            differences = gated[:, channel] - held_out[:, channel]
            if rule.min_image_score and _is_gain(differences, groups):
                rules[channel] = rule
            for fold in range(folds):
                others, rows = fold_of != fold, fold_of == fold
                if _is_gain(differences[others], groups[others]):
                    held_out[rows, channel] = gated[rows, channel]
    if counted is not None:  # the other channels may be no classes at all, and any mask of them would be wrong
        rules = [
            rule if channel in counted else ClassPostprocess(pixel_threshold=DISABLED)
            for channel, rule in enumerate(rules)
        ]
    return _summary(classes, rules, held_out, groups, range(len(classes)) if counted is None else counted)


def _summary(
    classes: Sequence[PerImageGains],
    rules: Sequence[ClassPostprocess],
    held_out: NDArray[np.float64] | None,
    groups: NDArray[np.int64],
    counted: Sequence[int],
) -> Chosen:
    of_counted = held_out
    by_class = of_all = None if held_out is None else intervals.intervals(held_out, groups)
    if held_out is not None and len(counted) < len(classes):
        of_counted = np.ascontiguousarray(held_out[:, counted])
        of_all = intervals.intervals(of_counted, groups)
    choices = tuple(
        Choice(
            rule=rule,
            mean_dice=float(gains.dice(rule).mean()),
            mean_dice_default=float(gains.dice(ClassPostprocess()).mean()),
            mean_dice_never=float(gains.dice(ClassPostprocess(pixel_threshold=DISABLED)).mean()),
            images=len(groups),
            present=int(gains.present.sum()),
            mean_dice_held_out=None if held_out is None else float(held_out[:, channel].mean()),
            interval_held_out=None if by_class is None else (float(by_class[channel][0]), float(by_class[channel][1])),
        )
        for channel, (gains, rule) in enumerate(zip(classes, rules, strict=True))
    )
    return Chosen(
        choices=choices,
        mean_dice_held_out=None if of_counted is None else float(of_counted.mean()),
        interval_held_out=None if of_all is None else (float(of_all[-1][0]), float(of_all[-1][1])),
    )


def _is_gain(differences: NDArray[np.float64], groups: NDArray[np.int64]) -> bool:
    """Whether the mean of `differences` exceeds its standard error, with the groups as the independent units."""
    of_groups = np.bincount(np.unique(groups, return_inverse=True)[1], differences)
    return bool(differences.sum() > np.sqrt((of_groups**2).sum()))


def _rules(
    classes: Sequence[PerImageGains],
    sums: Sequence[NDArray[np.int64]],
    images: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> tuple[list[ClassPostprocess], list[ClassPostprocess]]:
    """The post-processing of each class by some images: without a gate, and with one where that seems better.

    sums: of each class the gains of these images, (1 + G, T, S, M). groups: (N,) of all images.
    """
    weights = np.concatenate(list(_weights(groups, images, SAMPLES)))
    priors = _priors([own / ONE for own in sums], [int(gains.present[images].sum()) for gains in classes])
    plain, gated = [], []
    for gains, own, prior in zip(classes, sums, priors, strict=True):
        cell = _median(_cells(gains.weighted_sums(weights, 0), prior[0], len(images)))
        plain.append(_rule(gains, own[0], cell, own[0], len(images)))
        level = _best_gate(own / ONE + prior, len(images))
        gated.append(plain[-1])
        if level:
            gate = int(GATES[level - 1])
            cell = _median(_cells(gains.weighted_sums(weights, level), prior[level], len(images), below=gate))
            gated[-1] = _rule(gains, own[level], cell, own[0], len(images), gate=gate)
    return plain, gated


def _priors(sums: Sequence[NDArray[np.float64]], present: Sequence[int]) -> list[NDArray[np.float64]]:
    """The prior of each class: the gains of `PRIOR_IMAGES` images of the others. present: images with each class."""
    total = np.sum(sums, axis=0)
    return [
        (total - own) * (PRIOR_IMAGES / max(1, sum(present) - count)) for own, count in zip(sums, present, strict=True)
    ]


def _best_gate(surfaces: NDArray[np.float64], images: int) -> int:
    """The gate, counted from 1, whose surface has the highest cell; 0 where none exceeds the surface without a gate."""
    surfaces[1:][GATES[:, None] <= THRESHOLDS] = -np.inf  # a gate at or below the threshold has no effect
    tops = surfaces.max(axis=(1, 2, 3))
    level = int(tops.argmax())
    return level if tops[level] > tops[0] + images / ONE else 0


def _rule(
    gains: PerImageGains,
    own: NDArray[np.int64],
    cell: tuple[int, int, int],
    plain: NDArray[np.int64],
    images: int,
    gate: int = 0,
) -> ClassPostprocess:
    """The post-processing of a cell; disabled or the default where it gains nothing.

    own, plain: the summed gains with this gate, and without any.
    """
    gain, default, (t, s, m) = int(own[cell]), int(plain[_DEFAULT]), cell
    if max(gain, default) <= images and int(plain.min()) < -images:  # rounding is below one unit per image
        return ClassPostprocess(pixel_threshold=DISABLED)
    if gain <= default + images:
        return ClassPostprocess()
    return ClassPostprocess(
        pixel_threshold=int(THRESHOLDS[t]),
        min_component_px=int(gains.component_sizes[s]),
        min_mask_px=int(gains.mask_sizes[m]),
        min_image_score=gate,
    )


def _weights(groups: NDArray[np.int64], images: NDArray[np.int64], samples: int) -> Iterator[NDArray[np.float64]]:
    """Bootstrap samples of whole groups of `images`: how often each image is drawn, (B, N) at a time."""
    _, group_of = np.unique(groups[images], return_inverse=True)
    for drawn in intervals.draws(int(group_of.max()) + 1, samples=samples):
        weights = np.zeros((len(drawn), len(groups)))
        weights[:, images] = drawn[:, group_of]
        yield weights


def _cells(
    surfaces: NDArray[np.float64], prior: NDArray[np.float64], images: int, below: int = DISABLED
) -> NDArray[np.int64]:
    """(B, 3): the cell that each of (B, T, S, M) surfaces votes for, among thresholds below `below`."""
    error = (surfaces - surfaces[(slice(None), *_DEFAULT)][:, None, None, None]).std(axis=0)
    penalised = (surfaces + prior - PENALTY * error)[:, below > THRESHOLDS]
    tied = penalised >= penalised.max(axis=(1, 2, 3), keepdims=True) - images * 2.0**-20  # gains are rounded to that
    cells = np.stack(np.unravel_index(tied.reshape(len(tied), -1).argmax(axis=1), tied.shape[1:]), axis=1)
    for sample in np.flatnonzero(tied.sum(axis=(1, 2, 3)) > 1):
        cells[sample] = middle_of_the_top(tied[sample])
    return cells


def middle_of_the_top(tied: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Select one of the cells that are equal within rounding, which is frequent on small sets. tied: (T, S, M).

    In this order:
    1. the fewest filters, and a filter of components before one of whole masks, so a filter without a gain is off;
    2. the sizes with the longest stretch of equal thresholds, i.e. the flattest maximum; of several, the middle one;
    3. the middle of that stretch, so that both edges are far.
    """
    sizes = np.argwhere(tied.any(axis=0))  # (P, 2) pairs (s, m), in ascending order
    burden = 2 * (sizes > 0).sum(axis=1) + (sizes[:, 1] > 0)
    sizes = sizes[burden == burden.min()]
    columns = tied[:, sizes[:, 0], sizes[:, 1]]  # (T, P)
    lengths = np.zeros(columns.shape, np.int64)  # of the stretch of tied thresholds that ends here
    lengths[0] = columns[0]
    for t in range(1, len(columns)):
        lengths[t] = (lengths[t - 1] + 1) * columns[t]
    longest = lengths.max()
    flattest = np.flatnonzero(lengths.max(axis=0) == longest)
    pair = flattest[len(flattest) // 2]
    last = int(lengths[:, pair].argmax())  # of equally long stretches the lower one
    first = last - int(longest) + 1
    return (first + last + 1) // 2, int(sizes[pair, 0]), int(sizes[pair, 1])


def _median(cells: NDArray[np.int64]) -> tuple[int, int, int]:
    t, s, m = np.sort(cells, axis=0)[len(cells) // 2].tolist()
    return t, s, m


def choose_resampled(
    classes: Sequence[PerImageGains], choices: Sequence[Choice], groups: NDArray[np.int64], *, samples: int = 200
) -> list[NDArray[np.int64]]:
    """The cells that bootstrap samples vote for: (samples, 2) thresholds and component sizes, per class.

    The gate stays as selected. The threshold is DISABLED where a sample would disable the class.
    """
    cells_of: list[list[NDArray[np.int64]]] = [[] for _ in classes]
    present = [int(gains.present.sum()) for gains in classes]
    gates = [int(np.searchsorted(GATES, choice.rule.min_image_score, side="right")) for choice in choices]
    for weights in _weights(groups, np.arange(len(groups)), samples):
        sums = [gains.weighted_sums(weights, gate) for gains, gate in zip(classes, gates, strict=True)]
        for of_class, gains, own, prior in zip(cells_of, classes, sums, _priors(sums, present), strict=True):
            cells = _cells(own, prior, len(groups))
            is_gain = own[(np.arange(len(own)), *cells.T)] > 0
            thresholds = np.where(is_gain, THRESHOLDS[cells[:, 0]], DISABLED)
            of_class.append(np.stack([thresholds, gains.component_sizes[cells[:, 1]]], axis=1).astype(np.int64))
    return [np.concatenate(of_class) for of_class in cells_of]
