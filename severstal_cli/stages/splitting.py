"""`split`: assign images to folds and a holdout set, with a table and a plot of the subsets."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config import SplitConfig
from severstal_cli.errors import shown as cut
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import class_names, drawing
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.splits import Split, split_data
from severstal_cli.wording import class_label


@dataclass(frozen=True, kw_only=True)
class PartCounts:
    """Counts of a subset. An image with several classes counts for each."""

    part: str
    """"0", "1", ... for the folds, "holdout", or "all"."""
    images: int
    clean: int
    with_class: tuple[int, ...]
    """Images with class 1, 2, ..."""
    groups: int
    """Groups of two or more near-duplicates."""
    grouped_images: int
    """Images in such groups."""


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """A written split."""

    path: Path
    fingerprint: str
    parts: tuple[PartCounts, ...]
    """The folds in order, the holdout if there is one, and all images."""
    largest_group: int
    """Number of images in the largest group of near-duplicates; 1: there are no near-duplicates."""
    class_names: tuple[str, ...] = ()


def split(config: SplitConfig, progress: Progress = SILENT) -> SplitResult:
    """Split a data folder, write its `splits.csv` over any former one, and count what is where.

    Raises InputError and OutputError as `split_data` does.
    """
    table = config.data / "train.csv"
    made = split_data(config, progress)
    classes = max((max(class_set) for class_set in made.class_sets.values() if class_set), default=0)
    sizes = Counter(made.groups.values())
    parts = [_count(made, part, made.ids_of(part), classes, sizes) for part in made.subset_names()]
    result = SplitResult(
        path=made.path,
        fingerprint=made.fingerprint,
        parts=(*parts, _count(made, "all", list(made.parts), classes, sizes)),
        largest_group=max(sizes.values()),
        class_names=class_names.names_for(table, classes),
    )
    _plot(made.path.with_suffix(".png"), result)
    return result


def _plot(path: Path, result: SplitResult) -> None:
    """Plot the shares of images that are clean, have each class, or have a near-duplicate, by subset and overall."""
    *parts, every = result.parts
    shown = [channel for channel, count in enumerate(every.with_class) if count]
    labels = {channel: cut(class_label(channel, result.class_names), drawing.LONGEST_LABEL) for channel in shown}
    kinds = [("clean", [part.clean / part.images for part in result.parts])]
    kinds += [
        (f"class {labels[channel]}", [part.with_class[channel] / part.images for part in result.parts])
        for channel in shown
    ]
    kinds.append(("near-duplicate", [part.grouped_images / part.images for part in result.parts]))
    figure, (plot,) = drawing.figure(columns=1, width=max(6.0, 1.2 + 0.3 * len(parts) * len(kinds)), height=3.4)
    width = 0.8 / len(parts)
    for number, part in enumerate(parts):
        positions = [kind + (number - (len(parts) - 1) / 2) * width for kind in range(len(kinds))]
        name = part.part if part.part == splits.HOLDOUT else f"fold {part.part}"
        plot.bar(
            positions, [100 * shares[number] for _, shares in kinds], 0.9 * width,
            color=drawing.PALETTE[number % len(drawing.PALETTE)], label=f"{name}: {part.images:,}",
        )  # fmt: skip
    for kind, (_, shares) in enumerate(kinds):
        plot.hlines(100 * shares[-1], kind - 0.45, kind + 0.45, color="black", linewidth=1,
                    label="" if kind else f"all: {every.images:,}")  # fmt: skip
    is_long = len(kinds) > 8 or bool(result.class_names)
    names = [name for name, _ in kinds]
    plot.set_xticks(range(len(kinds)), names, rotation=30 if is_long else 0, parse_math=False)
    plot.set_ylabel("% of the images of a subset")
    plot.legend(fontsize=8, ncols=2 if len(parts) > 5 else 1, title="images")
    drawing.write_figure(path, figure, dpi=110)


def _count(made: Split, part: str, image_ids: list[str], classes: int, sizes: Counter[int]) -> PartCounts:
    class_sets = [made.class_sets[image_id] for image_id in image_ids]
    grouped = [made.groups[image_id] for image_id in image_ids if sizes[made.groups[image_id]] > 1]
    return PartCounts(
        part=part,
        images=len(image_ids),
        clean=sum(not class_set for class_set in class_sets),
        with_class=tuple(sum(class_id in class_set for class_set in class_sets) for class_id in range(1, classes + 1)),
        groups=len(set(grouped)),
        grouped_images=len(grouped),
    )
