"""`split`: assign images to folds and a holdout set, with a table and a plot of the subsets."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from severstal_cli.config import SplitConfig
from severstal_cli.errors import shown as cut
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import class_names, drawing
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.splits import Split, split_data
from severstal_cli.wording import class_label

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """A written split."""

    path: Path
    fingerprint: str
    counts: "pd.DataFrame"
    """A row for each fold, "0", "1", ..., for "holdout" if there is one, and for "all".

    Columns: images; clean; 1, 2, ...: images with this class, so an image with several counts for each; groups of two
    or more near-duplicates; near-duplicates: images in such groups.
    """
    largest_group: int
    """Number of images in the largest group of near-duplicates; 1: there are no near-duplicates."""
    class_names: tuple[str, ...] = ()


def split(config: SplitConfig, progress: Progress = SILENT) -> SplitResult:
    """Split a data folder, write its `splits.csv` over any former one, and count what is where.

    Raises InputError and OutputError as `split_data` does.
    """
    table = config.data / "train.csv"
    made = split_data(config, progress)
    counts = _counts(made)
    result = SplitResult(
        path=made.path,
        fingerprint=made.fingerprint,
        counts=counts,
        largest_group=max(Counter(made.groups.values()).values()),
        class_names=class_names.names_for(table, sum(isinstance(column, int) for column in counts)),
    )
    _plot(made.path.with_suffix(".png"), result)
    return result


def _plot(path: Path, result: SplitResult) -> None:
    """Plot the shares of images that are clean, have each class, or have a near-duplicate, by subset and overall."""
    counts, images = result.counts, result.counts["images"].astype(int)
    classes = [column for column in counts if isinstance(column, int) and counts.loc["all", column]]
    names = [cut(class_label(class_id - 1, result.class_names), drawing.LONGEST_LABEL) for class_id in classes]
    names = ["clean", *(f"class {name}" for name in names), "near-duplicate"]
    percentages = 100 * counts[["clean", *classes, "near-duplicates"]].div(counts["images"], axis=0)
    parts = counts.index[:-1]
    figure, (plot,) = drawing.figure(columns=1, width=max(6.0, 1.2 + 0.3 * len(parts) * len(names)), height=3.4)
    width = 0.8 / len(parts)
    for number, part in enumerate(parts):
        positions = [kind + (number - (len(parts) - 1) / 2) * width for kind in range(len(names))]
        name = part if part == splits.HOLDOUT else f"fold {part}"
        plot.bar(
            positions,
            percentages.loc[part],
            0.9 * width,
            color=drawing.PALETTE[number % len(drawing.PALETTE)],
            label=f"{name}: {images[part]:,}",
        )
    for kind, percentage in enumerate(percentages.loc["all"]):
        plot.hlines(
            percentage,
            kind - 0.45,
            kind + 0.45,
            color="black",
            linewidth=1,
            label="" if kind else f"all: {images['all']:,}",
        )
    is_long = len(names) > 8 or bool(result.class_names)
    plot.set_xticks(range(len(names)), names, rotation=30 if is_long else 0, parse_math=False)
    plot.set_ylabel("% of the images of a subset")
    plot.legend(fontsize=8, ncols=2 if len(parts) > 5 else 1, title="images")
    drawing.write_figure(path, figure, dpi=110)


def _counts(made: Split) -> "pd.DataFrame":
    """`SplitResult.counts` of a split."""
    import pandas as pd

    classes = max((max(class_set) for class_set in made.class_sets.values() if class_set), default=0)
    class_sets = [made.class_sets[image_id] for image_id in made.parts]
    groups = pd.Series([made.groups[image_id] for image_id in made.parts])
    is_near_duplicate = groups.duplicated(keep=False)
    columns: dict[str | int, Any] = {
        "images": 1,
        "clean": [not class_set for class_set in class_sets],
        **{class_id: [class_id in class_set for class_set in class_sets] for class_id in range(1, classes + 1)},
        "groups": is_near_duplicate & ~groups.duplicated(),  # each group is in one subset
        "near-duplicates": is_near_duplicate,
    }
    images = pd.DataFrame(columns).astype(int)
    counts = images.groupby(list(made.parts.values())).sum().loc[list(made.subset_names())]
    counts.loc["all"] = counts.sum()
    return counts
