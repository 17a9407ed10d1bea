"""A run quantised to int8, with thresholds of its own, and checked by its mean Dice on its validation fold.

Dice before and after are both with the thresholds of the run, averaged over those around them at which the run is
hardly worse (`PerImageGains.plateau`). At single thresholds, or with those that a search gives each network, the
difference is mostly chance: one level that crosses a threshold on a clean image changes the mean over 80 images and
four classes by 0.003.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from severstal_cli.errors import RunError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import engines, held_out, int8, rule_search, runtimes
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.inference.fuse_norms import with_folded_norms
from severstal_cli.learning.inference.rule_search import Searched
from severstal_cli.learning.inference.runtimes import Probs
from severstal_cli.learning.runs.model_card import Int8
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.masks.postprocess import ClassPostprocess
from severstal_cli.steel.thresholds.per_image_gains import PerImageGains


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A quantised run whose network is written."""

    int8: Int8
    searched: Searched
    """Its thresholds."""
    validation_dice: float
    """Its mean Dice at threshold 0.5 on the validation fold, without TTA."""


@dataclass(frozen=True, kw_only=True)
class _Validation:
    """The validation fold of the run, and how it is predicted."""

    part: held_out.Subset
    views: str
    batch_size: int
    progress: Progress

    def search(self, member: Probs | None = None) -> Searched:
        """The thresholds of a network; without `member`, of the run itself."""
        return rule_search.search(self.part, self._levels(self.part, self.views, member))

    def dice_at_half(self, member: Probs, searched: Searched) -> float:
        """Mean Dice of a network at threshold 0.5, without TTA. searched: its search."""
        gains = searched.gains
        if self.views != "none":
            gains = rule_search.gains_of(self.part.data_folder, self._levels(self.part, "none", member))
        return float(np.mean([gains[channel].dice(ClassPostprocess()) for channel in searched.counted]))

    def score_of(self, member: Probs, numbers: Sequence[int], before: Searched) -> tuple[float, list[float]]:
        """The mean of `dice_of` on these images without TTA, and the Dice of each."""
        [share], image_ids = self.part.shares, self.part.image_ids
        some = dataclasses.replace(share, image_ids=tuple(image_ids[number] for number in numbers))
        part = dataclasses.replace(self.part, shares=(some,))
        shown = self if len(numbers) == len(image_ids) else dataclasses.replace(self, progress=SILENT)
        each = dice_of(rule_search.gains_of(part.data_folder, shown._levels(part, "none", member)), before)
        return float(each.mean()), each.tolist()

    def _levels(
        self, part: held_out.Subset, views: str, member: Probs | None
    ) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        return part.levels(
            views=views,
            exclusive=part.cards[0].exclusive,
            batch_size=self.batch_size,
            progress=self.progress,
            members=None if member is None else [member],
        )


def dice_of(gains: Sequence[PerImageGains], before: Searched) -> NDArray[np.float64]:
    """(N,) the Dice of each image by these gains: the mean over classes and over plateaus of the run's thresholds.

    Classes that the run does not predict are left out.
    """
    of_classes = []
    for channel in before.counted:
        rules = before.gains[channel].plateau(before.chosen.choices[channel].rule)
        of_classes.append(np.mean([gains[channel].dice(rule) for rule in rules], axis=0))
    each: NDArray[np.float64] = np.mean(of_classes, axis=0)
    return each


def quantise_run(
    member: Member,
    part: held_out.Subset,
    path: Path,
    *,
    views: str,
    max_drop: float,
    batch_size: int,
    progress: Progress,
) -> Quantised:
    """Quantise the network of a run and write it to `path`.

    member: the network of the run. part: its validation fold. views: TTA views of its thresholds.

    Raises RunError: the mean Dice drops by more than `max_drop`, even with the most sensitive layers in floating point.
    """
    [run], [card] = part.folders, part.cards
    assert card.fold is not None, "it has a validation fold"
    validation = _Validation(part=part, views=views, batch_size=batch_size, progress=progress)
    progress.log(f"{run}: mean Dice of fold {card.fold} before int8")
    before = validation.search()
    dice_before = float(dice_of(before.gains, before).mean())
    with runtimes.quiet(), torch.no_grad():
        model = runtimes.to_openvino(with_folded_norms(member))
    calibration = int8.calibration_ids(part.data_folder, part.split, card.fold)
    images = int8.pixels_of(part.data_folder, calibration)

    def opened(quantised: object) -> Probs:
        int8.write(quantised, path)
        return engines.open_exported(path, card, open_device(), name=str(run), progress=progress)

    quantised = int8.quantise(model, images, progress)
    possible, _ = int8.layers(quantised)
    found = opened(quantised)
    progress.log(f"{run}: mean Dice of fold {card.fold} in int8")
    after = validation.search(found)
    dice_after = float(dice_of(after.gains, before).mean())
    if (drop := dice_before - dice_after) > max_drop:
        progress.log(
            f"{run}: int8 loses {drop:.4f} of mean Dice, more than {max_drop:g}: looking for the layers that "
            f"cost most, among {len(possible)}, to keep them in floating point"
        )
        quantised = int8.quantise_within(model, images, _validate(validation, before), len(part.image_ids), max_drop)
        found = opened(quantised)
        after = validation.search(found)
        dice_after = float(dice_of(after.gains, before).mean())
        drop = dice_before - dice_after
    layers, _ = int8.layers(quantised)
    if drop > max_drop or not layers:
        why = f"{dice_before:.4f} before and {dice_after:.4f} after, --max-drop is {max_drop:g}"
        why += "" if layers else ", and no layer is left in int8"
        raise RunError(f"{run} loses too much mean Dice by int8", why, "Give a higher --max-drop, or leave out --int8")
    return Quantised(
        searched=after,
        validation_dice=validation.dice_at_half(found, after),
        int8=Int8(
            calibration_images=len(calibration),
            dice_before=dice_before,
            dice_after=dice_after,
            max_drop=max_drop,
            tta=views,
            layers=len(layers),
            kept=tuple(name for name in possible if name not in layers),
            versions={name: version(name) for name in ("nncf", "openvino")},
        ),
    )


def _validate(
    validation: _Validation, before: Searched
) -> Callable[[Callable[[int8.Pixels], int8.Pixels], Sequence[int]], tuple[float, list[float]]]:
    """`validate` of `int8.quantise_within`."""

    def validate(network: Callable[[int8.Pixels], int8.Pixels], numbers: Sequence[int]) -> tuple[float, list[float]]:
        def probs(pixels: Tensor) -> Tensor:
            each = [network(np.ascontiguousarray(image[None])) for image in pixels.cpu().numpy()]
            return torch.from_numpy(np.concatenate(each)).to(pixels.device)

        return validation.score_of(probs, numbers, before)

    return validate
