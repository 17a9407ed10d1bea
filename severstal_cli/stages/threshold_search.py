"""`thresholds`: search the post-processing of a run or an ensemble on its validation folds."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli import files
from severstal_cli.config import ThresholdsConfig
from severstal_cli.errors import InputError, UsageError, shown
from severstal_cli.learning.inference import held_out, rule_search, tta
from severstal_cli.learning.inference.rule_search import ThresholdsResult
from severstal_cli.learning.runs import run_folder
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import drawing
from severstal_cli.steel.masks import postprocess
from severstal_cli.steel.thresholds import rule_selection
from severstal_cli.steel.thresholds.per_image_gains import THRESHOLDS, PerImageGains
from severstal_cli.steel.thresholds.rule_selection import Choice
from severstal_cli.wording import class_label


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
    levels_of = part.levels(
        views=config.tta, exclusive=part.cards[0].exclusive, batch_size=config.batch_size, progress=progress
    )
    found = rule_search.search(part, levels_of)
    gains, choices = found.gains, found.chosen.choices
    for line in _on_absent(choices, found.counted, part):
        progress.log(line)
    result = found.result(path, part)
    thresholds = Thresholds(
        rules=tuple(choice.rule for choice in choices),
        exclusive=part.cards[0].exclusive,
        tta=config.tta,
        runs=tuple(map(str, config.runs)),
        weights=config.weights,
    )
    resampled = rule_selection.choose_resampled(gains, choices, found.groups)
    # before the post-processing, which must not stand beside the plot of another one
    _plot(path.with_suffix(".png"), gains, choices, resampled, part.class_names)
    run_folder.write_thresholds(path, thresholds, rule_search.report(result, part))
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
            jittered[:, 0] / 255,
            jittered[:, 1],
            ".",
            color="white",
            markersize=3,
            alpha=0.5,
            label=f"selected on {len(cells)} bootstrap samples",
        )
        is_disabled = rule.pixel_threshold == postprocess.DISABLED
        if not is_disabled:
            plot.plot(
                rule.pixel_threshold / 255,
                rule.min_component_px,
                "o",
                color=drawing.PALETTE[6],
                markeredgecolor="white",
                label="selected",
            )
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
