"""`thresholds`: search the post-processing of a run or an ensemble on its validation folds."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli import files
from severstal_cli.config import ThresholdsConfig
from severstal_cli.errors import InputError, UsageError
from severstal_cli.learning.inference import held_out, tta
from severstal_cli.learning.runs import run_folder
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import drawing
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.thresholds import rule_selection
from severstal_cli.steel.thresholds.per_image_gains import Contributions
from severstal_cli.steel.thresholds.score_surface import Choice, ScoreSurface


@dataclass(frozen=True, kw_only=True)
class ThresholdsResult:
    """The chosen post-processing, and its Dice on the validation images."""

    path: Path
    images: int
    choices: tuple[Choice, ...]
    """One per class."""
    counted: tuple[int, ...] = ()
    """Channels of the classes in the annotations: means are over them. Empty: all."""
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


def search(config: ThresholdsConfig, progress: Progress = SILENT) -> ThresholdsResult:
    """Score every threshold, component and mask size on the validation images, exactly; write what will hold up.

    Raises:
        InputError: a run has no validation fold, runs or weights do not fit together, or several runs have no `out`.
        RunError: a run is incomplete, or its data or split has changed since the training.
        OutputError: the result cannot be written.
    """
    tta.views_of(config.tta)
    if len(config.runs) > 1 and config.out is None:
        raise InputError("several runs", "their thresholds belong to no single run", "Give --out FILE.json")
    path = config.out or config.runs[0] / run_folder.THRESHOLDS
    if path.suffix == ".png":
        raise UsageError("wrong name for thresholds", str(path), "A plot with this name is written beside them")
    files.check_place(path)
    part = held_out.open_validation(config.runs, config.data, progress, config.weights)
    height, width = part.data_folder.usual_size()
    surfaces = [ScoreSurface.for_images(height * width) for _ in range(part.data_folder.classes)]
    contributions = list(map(Contributions, surfaces))
    _fill(surfaces, contributions, part, config, progress)
    groups = rule_selection.groups_of(part.image_ids, part.split)
    counted = tuple(class_id - 1 for class_id in part.data_folder.class_ids)
    chosen = rule_selection.choose(contributions, rule_selection.deal(part.image_ids, part.split), groups, counted)
    choices = chosen.choices
    for line in _on_absent(choices, counted, part):
        progress.log(line)
    result = ThresholdsResult(
        path=path,
        images=len(part.image_ids),
        choices=choices,
        counted=counted,
        mean_dice_held_out=chosen.mean_dice_held_out,
        interval_held_out=chosen.interval_held_out,
    )
    thresholds = Thresholds(
        rules=tuple(choice.rule for choice in choices),
        exclusive=part.cards[0].exclusive,
        tta=config.tta,
        runs=tuple(map(str, config.runs)),
        weights=config.weights,
    )
    clouds = rule_selection.chosen_again(contributions, choices, groups)
    _draw(
        path.with_suffix(".png"), surfaces, choices, clouds
    )  # first: the rules are what must not stand beside another's
    run_folder.write_thresholds(path, thresholds, _report(result, part))
    if config.out is None:
        (config.runs[0] / run_folder.SCORE).unlink(missing_ok=True)  # it belongs to other post-processing
    return result


def _on_absent(choices: Sequence[Choice], counted: Sequence[int], part: held_out.Subset) -> Iterator[str]:
    """Warnings for classes without a mask on the validation images: their post-processing is not tuned."""
    where = " and ".join(f"fold {share.part}" for share in part.shares)
    for channel in counted:
        if (choice := choices[channel]).present == 0:
            is_never = choice.rule.pixel_threshold == postprocess.DISABLED
            yield (
                f"class {channel + 1} has no mask on the {len(part.image_ids):,} images of {where}, where nothing is "
                f"right everywhere, so it is {'disabled (never)' if is_never else 'not tuned'}; search on a fold that "
                "has it, or on several: thresholds RUN RUN --out FILE"
            )


def _fill(
    surfaces: Sequence[ScoreSurface],
    contributions: Sequence[Contributions],
    part: held_out.Subset,
    config: ThresholdsConfig,
    progress: Progress,
) -> None:
    """Add every image to the surface and the contributions of each class, in threads beside the network."""
    masks, exclusive = part.data_folder.masks, part.cards[0].exclusive

    def add(found: tuple[int, tuple[str, NDArray[np.uint8]]]) -> None:
        number, (image_id, levels) = found
        size = levels.shape[1:]
        shown = postprocess.make_exclusive(levels) if exclusive else levels
        for channel, (surface, kept) in enumerate(zip(surfaces, contributions, strict=True)):
            runs = masks.get((image_id, channel))
            counted = surface.add(shown[channel], None if runs is None else rle.decode(runs, (size[0], size[1])))
            kept.add(number, counted)

    levels_of = part.levels(views=config.tta, batch_size=config.batch_size, progress=progress)
    # bounded: maps are large
    for _ in map_in_order(add, enumerate(levels_of), ahead=2 * (os.cpu_count() or 1), name="search"):
        pass


def _report(result: ThresholdsResult, part: held_out.Subset) -> dict[str, object]:
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


def _draw(
    path: Path,
    surfaces: Sequence[ScoreSurface],
    choices: Sequence[Choice],
    clouds: Sequence[NDArray[np.int64]],
) -> None:
    """A map a class: mean Dice over threshold and smallest component, with the chosen smallest mask, without a gate.

    On it what was chosen, the best cell of the whole surface, and what would be chosen on other images like these.
    """
    figure, axes = drawing.figure(columns=len(surfaces), width=4.2, height=3.6)
    rng = np.random.default_rng(0)
    for number, (surface, choice, cloud) in enumerate(zip(surfaces, choices, clouds, strict=True)):
        plot, sizes, rule = axes[number], surface.component_sizes, choice.rule
        means = surface.means()[1:, :, int(np.searchsorted(surface.mask_sizes, rule.min_mask_px))]
        high = float(means.max())
        low = min(float(np.quantile(means, 0.25)), high - 0.01)  # a flat surface needs a scale, too
        colours = plot.pcolormesh(
            np.arange(1, 256) / 255, sizes, means.T, vmin=low, vmax=high, cmap="viridis", shading="nearest"
        )
        figure.colorbar(colours, ax=plot)
        predicted = cloud[cloud[:, 0] < postprocess.DISABLED]
        spread = predicted * np.exp(rng.normal(0, 0.03, predicted.shape))  # many are of the same cell
        plot.plot(
            spread[:, 0] / 255, spread[:, 1], ".", color="white", markersize=3, alpha=0.5,
            label=f"on images drawn anew, {len(cloud)} times",
        )  # fmt: skip
        best = surface.best().rule
        if best.pixel_threshold < postprocess.DISABLED:
            plot.plot(best.pixel_threshold / 255, best.min_component_px, "x", color="black", label="best on these")
        if rule.pixel_threshold < postprocess.DISABLED:
            plot.plot(
                rule.pixel_threshold / 255, rule.min_component_px, "o", color=drawing.PALETTE[6],
                markeredgecolor="white", label="chosen",
            )  # fmt: skip
        gate = f", gate {rule.min_image_score / 255:.3f}" if rule.min_image_score else ""
        never = len(cloud) - len(predicted)
        drawn = f"; never in {never} of {len(cloud)}" if never else ""
        is_never = rule.pixel_threshold == postprocess.DISABLED
        told = "never" if is_never else f"masks from {rule.min_mask_px} px{gate}"
        plot.set_title(
            f"class {number + 1}: {told}{drawn}\nDice {choice.mean_dice:.4f}, at 0.5 {choice.mean_dice_default:.4f}",
            fontsize=9,
        )
        plot.set(yscale="log", xlabel="threshold", ylabel="smallest component, px", xlim=(0, 1))
        plot.set_ylim(sizes[0] * 0.9, sizes[-1] * 1.1)
    axes[0].legend(fontsize=7, loc="upper right", labelcolor="white", facecolor="#444444", framealpha=0.7)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
