"""The score of masks per class, with confidence intervals, and differences between scores on the same images.

The Dice per image and class, `(N, C)`, is stored, and all other figures are computed from it, without decoding masks.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.scoring import intervals
from severstal_cli.steel.scoring.dice import Masks, dice_matrix
from severstal_cli.wording import class_label

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """The score of one class over all images."""

    class_id: int
    dice: float
    dice_present: float | None
    """Over the images with this class; None without any."""
    all_empty: float
    """The score of predicting nothing."""
    true_masks: int
    predicted_masks: float
    """Fractional for the mean of several trainings."""
    interval: Interval | None
    """95 % interval of `dice`; None with too few images, see `intervals`."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference between two mean Dice on the same images."""

    difference: float
    groups: int
    """The groups of near-duplicates in which the two differ."""
    interval: Interval | None
    """None with fewer than `intervals.LEAST` such groups."""
    level: float
    """The confidence level of the interval: 0.95, or higher for one of several comparisons."""
    probability: float | None
    """The probability that the sign holds on other images like these: the share of bootstrap samples with it."""

    @property
    def is_real(self) -> bool:
        """The interval has one sign."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    @property
    def few(self) -> str:
        """The reason for a missing interval; empty where there is one."""
        if self.interval is not None:
            return ""
        if not self.groups:
            return "their scores differ on no image"
        images = "one image" if self.groups == 1 else f"{self.groups} images"
        return f"their scores differ on {images}, near-duplicates counted once: too few to decide which is better"


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """Means over (image, class) pairs."""

    mean_dice: float
    mean_dice_present: float | None
    """Over the pairs whose true mask is not empty; None without any."""
    all_empty: float
    """The score of predicting nothing on the same images."""
    images: int
    by_class: tuple[ClassScore, ...]
    interval: Interval | None
    """95 % interval of `mean_dice`; None with too few images."""
    knows_duplicates: bool
    """Whether the intervals keep near-duplicates together; else they may be too narrow."""

    against: "ScoreResult | None" = None
    """Another score on the same images."""
    differences: tuple[Difference, ...] = ()
    """From `against`, per class, and last over all classes."""
    class_names: tuple[str, ...] = ()
    """Names of all classes, also of those that do not count; or none."""

    def labels(self) -> list[str]:
        """The label of each class that counts."""
        return [class_label(each.class_id - 1, self.class_names) for each in self.by_class]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with each difference beside its score."""
        content = dataclasses.asdict(self)
        del content["differences"]
        if not self.class_names:
            del content["class_names"]
        if self.against is None:
            del content["against"]
            return content
        content["against"] = self.against.to_dict()
        for score, difference in zip((*content["by_class"], content), self.differences, strict=True):
            score |= {
                "difference": difference.difference,
                "difference_interval": difference.interval,
                "probability": difference.probability,
            }
        return content


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The Dice per image and class."""

    image_ids: tuple[str, ...]
    dice: NDArray[np.float64]
    """(N, C)"""
    there: NDArray[np.bool_]
    """(N, C) whether the true mask is not empty."""
    found: NDArray[np.bool_]
    """(N, C) whether the predicted mask is not empty."""
    groups: NDArray[np.int64]
    """(N,) the group of near-duplicates of each image."""
    knows_duplicates: bool
    class_ids: tuple[int, ...] = ()
    """The C classes that count; empty: 1 to C."""
    masks: Masks = dataclasses.field(default_factory=dict, repr=False)
    """The predicted masks."""
    class_names: tuple[str, ...] = ()
    images_per_s: float | None = None
    """Prediction speed, where the score included prediction."""

    def summary(self, against: "Scores | None" = None) -> ScoreResult:
        """Means, counts and intervals, and the differences from `against`. Raises ValueError as `differences`."""
        bounds = intervals.intervals(self.dice, self.groups)
        of_classes = [None] * self.dice.shape[1] if bounds is None else list(map(_pair, bounds[:-1]))
        by_class = tuple(
            ClassScore(
                class_id=class_id,
                dice=float(scores.mean()),
                dice_present=float(scores[there].mean()) if there.any() else None,
                all_empty=float((~there).mean()),
                true_masks=int(there.sum()),
                predicted_masks=int(predicted.sum()),
                interval=interval,
            )
            for class_id, scores, there, predicted, interval in zip(
                self.class_ids or range(1, self.dice.shape[1] + 1),
                self.dice.T,
                self.there.T,
                self.found.T,
                of_classes,
                strict=True,
            )
        )
        return ScoreResult(
            mean_dice=float(self.dice.mean()),
            mean_dice_present=float(self.dice[self.there].mean()) if self.there.any() else None,
            all_empty=float((~self.there).mean()),
            images=len(self.image_ids),
            by_class=by_class,
            interval=None if bounds is None else _pair(bounds[-1]),
            knows_duplicates=self.knows_duplicates,
            against=None if against is None else against.summary(),
            differences=() if against is None else tuple(differences([self], [against])),
            class_names=self.class_names,
        )


def score_masks(
    predicted: Masks,
    true: Masks,
    image_ids: Sequence[str],
    classes: int,
    groups: Mapping[str, int] | None = None,
    class_ids: Sequence[int] = (),
) -> Scores:
    """Score predicted masks against true ones over `image_ids` and `classes`, without decoding them.

    groups: the group of near-duplicates of each image; None: unknown. class_ids: the classes of the means; empty: all
    of `classes`. A class that does not exist would raise every mean, because its empty masks have a Dice of 1.
    """
    channels = [class_id - 1 for class_id in class_ids] or list(range(classes))
    matrix = dice_matrix(predicted, true, image_ids, classes)
    there, found = (
        np.array([[(image_id, channel) in masks for channel in channels] for image_id in image_ids])
        for masks in (true, predicted)
    )
    return Scores(
        image_ids=tuple(image_ids),
        class_ids=tuple(channel + 1 for channel in channels),
        dice=matrix if len(channels) == classes else np.ascontiguousarray(matrix[:, channels]),
        there=there,
        found=found,
        groups=np.arange(len(image_ids)) if groups is None else np.array([groups[name] for name in image_ids]),
        knows_duplicates=groups is not None,
        masks=predicted,
    )


def differences(one: Sequence[Scores], other: Sequence[Scores], *, level: float = intervals.LEVEL) -> list[Difference]:
    """The mean Dice of `one` minus that of `other`, per class; the last value is over all classes.

    Each side may be several trainings of the same settings with different seeds. Then their means are compared, and the
    interval includes the variation by seed: its standard deviation is that of the trainings around the mean of their
    side, pooled over both sides, and its error follows Student's distribution. With one training per side the interval
    is about these two models alone. The effective number of groups counts only those that differ: six of a thousand
    are as little evidence as six.

    Raises ValueError: the images or classes differ.
    """
    first = one[0]
    if any(
        each.image_ids != first.image_ids or (each.class_ids, each.dice.shape) != (first.class_ids, first.dice.shape)
        for each in (*one, *other)
    ):
        raise ValueError("the scores are of different images or classes")
    sides = [np.stack([each.dice for each in side]) for side in (one, other)]
    per_image = sides[0].mean(axis=0) - sides[1].mean(axis=0)  # (N, C)
    sums, sizes = intervals.of_groups(per_image, first.groups)  # (G, C + 1), (G,)
    differing = (sums != 0).sum(axis=0)
    samples = intervals.sampled_means(sums, sizes, intervals.effective(sums != 0, sizes))  # (B, C + 1)
    freedom = len(one) + len(other) - 2
    if freedom:
        of_trainings = [_with_all(side.mean(axis=1)) for side in sides]  # (trainings, C + 1)
        squares = sum(((means - means.mean(axis=0)) ** 2).sum(axis=0) for means in of_trainings)
        error = np.sqrt(squares / freedom * (1 / len(one) + 1 / len(other)))
        samples = samples + error * np.random.default_rng(0).standard_t(freedom, samples.shape)
    shares = (samples > 0).mean(axis=0)
    bounds = np.clip(intervals.middle(samples, level), -1, 1)
    return [
        Difference(
            difference=float(mean),
            groups=int(groups),
            interval=_pair(interval) if groups >= intervals.LEAST else None,
            level=level,
            probability=float(max(share, 1 - share)) if groups >= intervals.LEAST else None,
        )
        for mean, groups, interval, share in zip(sums.sum(axis=0) / sizes.sum(), differing, bounds, shares, strict=True)
    ]


def _with_all(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(..., C)` -> `(..., C + 1)`: with the mean over the classes appended."""
    return np.concatenate([means, means.mean(axis=-1, keepdims=True)], axis=-1)


def _pair(interval: NDArray[np.float64]) -> Interval:
    return float(interval[0]), float(interval[1])
