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
from severstal_cli.errors import InputError, UsageError, shown
from severstal_cli.learning.inference import held_out, tta
from severstal_cli.learning.runs import run_folder
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import drawing
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.thresholds import rule_selection
from severstal_cli.steel.thresholds.per_image_gains import THRESHOLDS, PerImageGains
from severstal_cli.steel.thresholds.rule_selection import Choice
from severstal_cli.wording import class_label


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


def search(config: ThresholdsConfig, progress: Progress = SILENT) -> ThresholdsResult:
    """Score a grid of post-processing on the validation images; write the one per class that holds up on new images.

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
    files.check_writable(path)
    part = held_out.open_validation(config.runs, config.data, progress, config.weights)
    height, width = part.data_folder.usual_size()
    gains = [PerImageGains.for_images(height * width) for _ in range(part.data_folder.classes)]
    _fill(gains, part, config, progress)
    groups = rule_selection.groups_of(part.image_ids, part.split)
    counted = tuple(class_id - 1 for class_id in part.data_folder.class_ids)
    chosen = rule_selection.choose(gains, rule_selection.assign_folds(part.image_ids, part.split), groups, counted)
    choices = chosen.choices
    for line in _on_absent(choices, counted, part):
        progress.log(line)
    result = ThresholdsResult(
        path=path,
        images=len(part.image_ids),
        choices=choices,
        counted=counted,
        class_names=part.class_names,
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
    resampled = rule_selection.choose_resampled(gains, choices, groups)
    # before the post-processing, which must not stand beside the plot of another one
    _plot(path.with_suffix(".png"), gains, choices, resampled, part.class_names)
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
                f"class {class_label(channel, part.class_names)} has no mask on the {len(part.image_ids):,} images of "
                f"{where}, where nothing is right everywhere, so it is "
                f"{'disabled (never)' if is_never else 'not tuned'}; search on a fold that has it, or on several: "
                "thresholds RUN RUN --out FILE"
            )


def _fill(gains: Sequence[PerImageGains], part: held_out.Subset, config: ThresholdsConfig, progress: Progress) -> None:
    """Add every image to the gains of each class, in threads beside the network."""
    masks = part.data_folder.masks

    def add(found: tuple[int, tuple[str, NDArray[np.uint8]]]) -> None:
        number, (image_id, levels) = found
        size = levels.shape[1:]
        for channel, of_class in enumerate(gains):
            runs = masks.get((image_id, channel))
            of_class.add(number, levels[channel], None if runs is None else rle.decode(runs, (size[0], size[1])))

    levels_of = part.levels(views=config.tta, exclusive=part.cards[0].exclusive, batch_size=config.batch_size,
                            progress=progress)  # fmt: skip
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


def _plot(
    path: Path,
    gains: Sequence[PerImageGains],
    choices: Sequence[Choice],
    resampled: Sequence[NDArray[np.int64]],
    class_names: Sequence[str],
) -> None:
    """Plot the searched grid of each class: mean Dice over threshold and minimum component size.

    The minimum mask size is the selected one, and no gate is applied. Markers show the selected cell and those that
    bootstrap samples of the images select.
    """
    figure, axes = drawing.figure(columns=len(gains), width=4.2, height=3.6)
    rng = np.random.default_rng(0)
    for channel, (of_class, choice, cells) in enumerate(zip(gains, choices, resampled, strict=True)):
        plot, sizes, rule = axes[channel], of_class.component_sizes, choice.rule
        means = of_class.mean_dice()[:, :, int(np.searchsorted(of_class.mask_sizes, rule.min_mask_px))]
        high = float(means.max())
        low = min(float(np.quantile(means, 0.25)), high - 0.01)  # a flat surface needs a scale, too
        colours = plot.pcolormesh(
            THRESHOLDS / 255, sizes, means.T, vmin=low, vmax=high, cmap="viridis", shading="nearest"
        )
        figure.colorbar(colours, ax=plot)
        predicted = cells[cells[:, 0] < postprocess.DISABLED]
        jittered = predicted * np.exp(rng.normal(0, 0.03, predicted.shape))  # many share a cell
        plot.plot(
            jittered[:, 0] / 255, jittered[:, 1], ".", color="white", markersize=3, alpha=0.5,
            label=f"selected on {len(cells)} bootstrap samples",
        )  # fmt: skip
        is_disabled = rule.pixel_threshold == postprocess.DISABLED
        if not is_disabled:
            plot.plot(
                rule.pixel_threshold / 255, rule.min_component_px, "o", color=drawing.PALETTE[6],
                markeredgecolor="white", label="selected",
            )  # fmt: skip
        gate = f", gate {rule.min_image_score / 255:.3f}" if rule.min_image_score else ""
        disabled = len(cells) - len(predicted)
        title = "disabled" if is_disabled else f"masks from {rule.min_mask_px} px{gate}"
        if disabled:
            title += f"; disabled in {disabled} of {len(cells)} samples"
        label = shown(class_label(channel, class_names), drawing.LONGEST_LABEL)
        then = ":\n" if class_names else ": "
        plot.set_title(
            f"class {label}{then}{title}\nDice {choice.mean_dice:.4f}, at 0.5 {choice.mean_dice_default:.4f}",
            fontsize=9,
            parse_math=False,
        )
        plot.set(yscale="log", xlabel="threshold", ylabel="minimum component size, px", xlim=(0, 1))
        plot.set_ylim(sizes[0] * 0.9, sizes[-1] * 1.1)
    axes[0].legend(fontsize=7, loc="upper right", labelcolor="white", facecolor="#444444", framealpha=0.7)
    drawing.write_figure(path, figure, dpi=100)
