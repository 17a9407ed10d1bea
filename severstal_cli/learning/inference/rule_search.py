"""The post-processing of runs, searched on the levels of their validation folds: `rule_selection` with its report."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli.learning.inference import held_out
from severstal_cli.parallel import map_in_order
from severstal_cli.steel.dataset.data_folder import DataFolder
from severstal_cli.steel.masks import rle
from severstal_cli.steel.thresholds import rule_selection
from severstal_cli.steel.thresholds.per_image_gains import PerImageGains
from severstal_cli.steel.thresholds.rule_selection import Choice, Chosen


@dataclass(frozen=True, kw_only=True)
class ThresholdsResult:
    """The chosen post-processing, and its Dice on the validation images."""

    path: Path
    images: int
    choices: tuple[Choice, ...]
    """One per class."""
    counted: tuple[int, ...] = ()
    """Channels of the classes in the annotations: means are over them. Empty: all."""
    class_names: tuple[str, ...] = ()
    mean_dice_held_out: float | None = None
    """Cross-validated on these images; None if they cannot be split."""
    interval_held_out: tuple[float, float] | None = None
    """95 % interval of `mean_dice_held_out`."""

    @property
    def mean_dice(self) -> float:
        """Mean Dice with the chosen post-processing."""
        return float(np.mean([choice.mean_dice for choice in self._counted()]))

    @property
    def mean_dice_default(self) -> float:
        """Mean Dice at threshold 0.5, without filters."""
        return float(np.mean([choice.mean_dice_default for choice in self._counted()]))

    @property
    def mean_dice_never(self) -> float:
        """Mean Dice of predicting nothing."""
        return float(np.mean([choice.mean_dice_never for choice in self._counted()]))

    def _counted(self) -> list[Choice]:
        return [self.choices[channel] for channel in self.counted or range(len(self.choices))]


@dataclass(frozen=True, kw_only=True)
class Searched:
    """The chosen post-processing, with the gains of each class that it was chosen by."""

    chosen: Chosen
    gains: Sequence[PerImageGains]
    groups: NDArray[np.int64]
    """(N,) the group of near-duplicates of each image."""
    counted: tuple[int, ...]
    """Channels of the classes in the annotations."""

    def result(self, path: Path, part: held_out.Subset) -> ThresholdsResult:
        """What `thresholds` reports, for a search on `part` that is stored at `path`."""
        return ThresholdsResult(
            path=path,
            images=len(part.image_ids),
            choices=self.chosen.choices,
            counted=self.counted,
            class_names=part.class_names,
            mean_dice_held_out=self.chosen.mean_dice_held_out,
            interval_held_out=self.chosen.interval_held_out,
        )


def search(part: held_out.Subset, levels_of: Iterable[tuple[str, NDArray[np.uint8]]]) -> Searched:
    """Choose the post-processing of each class on all images of `part`.

    levels_of: (image_id, levels (C, H, W)) of each image, in the order of `part.image_ids`.
    """
    return choose(part, gains_of(part.data_folder, levels_of))


def choose(part: held_out.Subset, gains: Sequence[PerImageGains]) -> Searched:
    """Choose the post-processing of each class by its gains on all images of `part`."""
    groups = rule_selection.groups_of(part.image_ids, part.split)
    counted = tuple(class_id - 1 for class_id in part.data_folder.class_ids)
    chosen = rule_selection.choose(gains, rule_selection.assign_folds(part.image_ids, part.split), groups, counted)
    return Searched(chosen=chosen, gains=gains, groups=groups, counted=counted)


def gains_of(data_folder: DataFolder, levels_of: Iterable[tuple[str, NDArray[np.uint8]]]) -> list[PerImageGains]:
    """The gains of each class by these (image_id, levels (C, H, W)), in threads beside the network."""
    height, width = data_folder.usual_size()
    gains = [PerImageGains.for_images(height * width) for _ in range(data_folder.classes)]

    def add(found: tuple[int, tuple[str, NDArray[np.uint8]]]) -> None:
        number, (image_id, levels) = found
        size = levels.shape[1:]
        for channel, of_class in enumerate(gains):
            runs = data_folder.masks.get((image_id, channel))
            of_class.add(number, levels[channel], None if runs is None else rle.decode(runs, (size[0], size[1])))

    # bounded: maps are large
    for _ in map_in_order(add, enumerate(levels_of), ahead=2 * (os.cpu_count() or 1), name="search"):
        pass
    return gains


def report(result: ThresholdsResult, part: held_out.Subset) -> dict[str, object]:
    """What was searched on and what it gave, for `thresholds.json`."""
    return {
        "folds": [
            {
                "fold": int(share.part),
                "runs": [str(part.folders[member]) for member in share.members],
                "images": len(share.image_ids),
            }
            for share in part.shares
        ],
        "data_fingerprint": part.data_folder.fingerprint,
        "split_fingerprint": part.cards[0].split_fingerprint,
        "images": result.images,
        "mean_dice": result.mean_dice,
        "mean_dice_default": result.mean_dice_default,
        "mean_dice_never": result.mean_dice_never,
        "mean_dice_held_out": result.mean_dice_held_out,
        "interval_held_out": result.interval_held_out,
        "by_class": [
            {name: value for name, value in dataclasses.asdict(choice).items() if name != "rule"}
            for choice in result.choices
        ],
    }
