"""`thresholds`: the best post-processing of a run, or of several averaged ones, on the folds that they left out."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli.config import ThresholdsConfig
from severstal_cli.errors import InputError, UsageError
from severstal_cli.learning import evaluation, run, tta
from severstal_cli.learning.thresholds import Thresholds
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import files, halves, pictures, postprocess, rle
from severstal_cli.steel.parallel import map_in_order
from severstal_cli.steel.search import Choice, ScoreSurface


@dataclass(frozen=True, kw_only=True)
class ThresholdsResult:
    """The rules that were found, and their worth on the validation images."""

    path: Path
    images: int
    choices: tuple[Choice, ...]
    """One a class."""

    @property
    def mean_dice(self) -> float:
        """With the chosen rules."""
        return float(np.mean([choice.mean_dice for choice in self.choices]))

    @property
    def mean_dice_default(self) -> float:
        """At threshold 0.5 and without filters."""
        return float(np.mean([choice.mean_dice_default for choice in self.choices]))

    @property
    def mean_dice_never(self) -> float:
        """Predicting nothing."""
        return float(np.mean([choice.mean_dice_never for choice in self.choices]))

    @property
    def mean_dice_held_out(self) -> float | None:
        """With rules that were chosen on the other half of the images; None where there are no two halves."""
        found = [choice.mean_dice_held_out for choice in self.choices if choice.mean_dice_held_out is not None]
        return float(np.mean(found)) if len(found) == len(self.choices) else None


def search(config: ThresholdsConfig, progress: Progress = SILENT) -> ThresholdsResult:
    """Score every threshold, component size, mask size and gate on the validation images, exactly; write the best.

    Raises:
        InputError: a run left no fold out, runs or weights that do not go together, or several runs and no `out`.
        RunError: a run is incomplete, or its data or split has changed since.
        OutputError: the result cannot be written.
    """
    tta.views_of(config.tta)
    if len(config.runs) > 1 and config.out is None:
        raise InputError("several runs", "their thresholds belong to none of them", "Give --out FILE.json")
    path = config.out or config.runs[0] / run.THRESHOLDS
    if path.suffix == ".png":
        raise UsageError("wrong name for thresholds", str(path), "A picture of that name is written beside them")
    files.check_place(path)
    part = evaluation.open_validation(config.runs, config.data, progress, config.weights)
    height, width = part.photographs.usual_size()
    surfaces, others = (
        [ScoreSurface.for_images(height * width) for _ in range(part.photographs.classes)] for _ in range(2)
    )
    _fill((surfaces, others), part, config, progress)
    choices = tuple(map(halves.choose, surfaces, others))  # now `surfaces` hold all images
    result = ThresholdsResult(path=path, images=len(part.image_ids), choices=choices)
    thresholds = Thresholds(
        rules=tuple(choice.rule for choice in choices),
        exclusive=part.cards[0].exclusive,
        tta=config.tta,
        runs=tuple(map(str, config.runs)),
        weights=config.weights,
    )
    _draw(path.with_suffix(".png"), surfaces, choices)  # first: the rules are what must not stand beside another's
    run.write_thresholds(path, thresholds, _report(result, part))
    if config.out is None:
        (config.runs[0] / run.SCORE).unlink(missing_ok=True)  # it was reached with other rules
    return result


def _fill(
    surfaces: Sequence[Sequence[ScoreSurface]], part: evaluation.Part, config: ThresholdsConfig, progress: Progress
) -> None:
    """Add every image to the surfaces of its half, one a class, in threads beside the network."""
    masks, exclusive = part.photographs.masks, part.cards[0].exclusive
    half_of = dict(zip(part.image_ids, halves.deal(part.image_ids, part.split).tolist(), strict=True))

    def add(found: tuple[str, NDArray[np.uint8]]) -> None:
        image_id, levels = found
        size = levels.shape[1:]
        shown = postprocess.make_exclusive(levels) if exclusive else levels
        for channel, surface in enumerate(surfaces[half_of[image_id]]):
            runs = masks.get((image_id, channel))
            surface.add(shown[channel], None if runs is None else rle.decode(runs, (size[0], size[1])))

    levels_of = part.levels(views=config.tta, batch_size=config.batch_size, progress=progress)
    # bounded: maps are large
    for _ in map_in_order(add, levels_of, ahead=2 * (os.cpu_count() or 1), name="search"):
        pass


def _report(result: ThresholdsResult, part: evaluation.Part) -> dict[str, object]:
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
        "data_fingerprint": part.photographs.fingerprint,
        "split_fingerprint": part.cards[0].split_fingerprint,
        "images": result.images,
        "mean_dice": result.mean_dice,
        "mean_dice_default": result.mean_dice_default,
        "mean_dice_never": result.mean_dice_never,
        "mean_dice_held_out": result.mean_dice_held_out,
        "by_class": [
            {name: value for name, value in dataclasses.asdict(choice).items() if name != "rule"}
            for choice in result.choices
        ],
    }


def _draw(path: Path, surfaces: Sequence[ScoreSurface], choices: Sequence[Choice]) -> None:
    """A map a class: mean Dice over threshold and smallest component, with the chosen smallest mask, without a gate."""
    figure, axes = pictures.figure(columns=len(surfaces), width=4.0, height=3.2)
    for number, (surface, choice) in enumerate(zip(surfaces, choices, strict=True)):
        plot = axes[number]
        sizes = surface.component_sizes
        means = surface.means()[1:, :, int(np.searchsorted(surface.mask_sizes, choice.rule.min_mask_px))]
        high = float(means.max())
        low = min(float(np.quantile(means, 0.25)), high - 0.01)  # a flat surface needs a scale, too
        colours = plot.pcolormesh(
            np.arange(1, 256) / 255, sizes, means.T, vmin=low, vmax=high, cmap="viridis", shading="nearest"
        )
        plot.set(yscale="log", xlabel="threshold", ylabel="smallest component, px")
        if choice.rule.pixel_threshold < postprocess.NEVER:
            plot.plot(
                choice.rule.pixel_threshold / 255,
                choice.rule.min_component_px,
                "o",
                color=pictures.PALETTE[6],
                markeredgecolor="white",
            )
            gate = choice.rule.min_image_score
            with_gate = f" with gate {gate / 255:.3f}" if gate else ""
            plot.set_title(
                f"class {number + 1}: {choice.mean_dice:.4f}{with_gate}, at 0.5 {choice.mean_dice_default:.4f}",
                fontsize=9,
            )
        else:
            plot.set_title(f"class {number + 1}: never, {choice.mean_dice:.4f}", fontsize=9)
        figure.colorbar(colours, ax=plot)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
