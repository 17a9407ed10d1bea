"""`check`: find every fault of a submission, with its line."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from severstal_cli.config import CheckConfig
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import class_names
from severstal_cli.steel.dataset.agreement import unread
from severstal_cli.steel.images.image_files import find_images, id_of, same_stem_names
from severstal_cli.steel.images.surveys import survey
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables.csv_rows import place, short
from severstal_cli.steel.tables.headers import Layout, show
from severstal_cli.steel.tables.mask_table import Fault, MaskTable, Sample, read_image_list, scan_table
from severstal_cli.steel.tables.table_files import SEPARATORS
from severstal_cli.wording import class_label, counted, listed


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The faults of a submission, and what it contains."""

    submission: Path
    layout: Layout
    rows: int
    images: int
    masks: int
    """Masks that are not empty and have no fault."""
    classes: int
    faults: tuple[Fault, ...]
    """Faults and warnings, sorted by line; line 0 stands for the whole file."""
    notes: tuple[str, ...]
    """Checks that were impossible, and assumptions."""
    labels: tuple[str, ...] = ()
    """The classes by number and name, if they have names."""

    @property
    def is_valid(self) -> bool:
        """Whether all faults are mere warnings."""
        return all(fault.is_warning for fault in self.faults)


def check(config: CheckConfig, progress: Progress = SILENT) -> CheckResult:
    """Check a submission against a sample file, the images and their sizes, as far as they are given.

    Raises:
        InputError: a file cannot be read, or the header of the submission fits neither layout.
    """
    notes: list[str] = []
    sample = read_image_list(config.sample) if config.sample else None
    listed, sizes = _images(config, notes, progress)
    pixels: int | Mapping[str, int] | None = {name: height * width for name, (height, width) in sizes.items()} or None
    if config.size is not None:
        pixels = config.size[0] * config.size[1]
    if pixels is None and not (config.images and config.images.is_dir()):
        notes.append("runs past the end of an image were not checked: give --size or a folder of --images")
    names = config.class_names or (class_names.names_for(config.sample, 0) if config.sample else ())
    table, faults = scan_table(config.submission, pixels=pixels)
    wanted_images = sample.image_ids if sample else listed
    wanted_rows = _wanted_rows(table, sample, wanted_images, notes)
    if not table.lines and not faults:
        faults.append(Fault(line=0, message="no rows after the header"))
    faults += _format_faults(table)
    faults += _missing_and_extra(table, wanted_images, wanted_rows, names)
    faults += _overlaps(table, names)
    if 0 < len(names) < table.classes:
        line = min(line for (_, channel), line in table.lines.items() if channel == table.classes - 1)
        message = f"class {table.classes} has no name: there are {len(names)} names of classes"
        faults.append(Fault(line=line, message=message, is_warning=True))
    return CheckResult(
        submission=config.submission,
        layout=table.layout,
        rows=len(table.lines),
        images=len(table.image_ids),
        masks=len(table.masks),
        classes=len(table.class_ids),
        faults=tuple(sorted(faults, key=lambda fault: (fault.line, fault.message))),
        notes=tuple(notes),
        labels=tuple(class_label(each - 1, names) for each in table.class_ids) if names else (),
    )


def _images(
    config: CheckConfig, notes: list[str], progress: Progress
) -> tuple[tuple[str, ...] | None, dict[str, tuple[int, int]]]:
    """The image_ids of `--images`, None without it, and the (height, width) of image files if no size is given.

    Files without a readable size, such as those that `predict` skipped, go to `notes`.
    """
    if config.images is None:
        return None, {}
    if not config.images.is_dir():
        return read_image_list(config.images).image_ids, {}
    paths = find_images([config.images], progress)
    headers = survey(paths, progress)
    for note in headers.notes:
        progress.log(note)
    sizes = {id_of(path): size for path, size in headers.sizes.items()} if config.size is None else {}
    if headers.wrong and config.size is None:
        notes.append(unread(list(map(str, headers.wrong.values()))))
    return tuple(map(id_of, paths)), sizes


def _format_faults(table: MaskTable) -> Iterator[Fault]:
    """Find formats that this program reads, but the competition may not."""
    if table.separator != ",":
        yield Fault(line=1, message=f"{SEPARATORS[table.separator]} separate the columns, not commas")
    extra = [name for name in table.columns if name not in table.layout.form.columns]
    if extra:
        yield Fault(line=1, message=f"columns outside the layout: {show(extra)}", is_warning=True)
    for word, line in table.words.items():
        message = f"{word} is read as an empty mask; a submission has an empty field instead"
        yield Fault(line=line, message=message, is_warning=True)
    for line, (image_id, channel) in table.merged.items():
        message = f"{short(image_id)}, class {channel + 1} is in {place(table.lines[image_id, channel])} already"
        is_warning = not table.layout.form.has_all_rows
        yield Fault(line=line, message=f"{message}{'; both are read as one mask' * is_warning}", is_warning=is_warning)


def _wanted_rows(
    table: MaskTable, sample: Sample | None, wanted_images: Iterable[str] | None, notes: list[str]
) -> dict[str, list[int]]:
    """image_id -> class_ids that need a row each; none for a layout without all rows, where any row suffices."""
    if sample and sample.rows:
        wanted: dict[str, list[int]] = defaultdict(list)
        for image_id, class_id in sample.rows:
            wanted[image_id].append(class_id)
        if table.layout.form.has_all_rows:
            return wanted
        theirs = sample.layout or Layout.ORIGINAL
        notes.append(f"the sample has the {theirs} layout, the submission the {table.layout} one")
        return {image_id: [] for image_id in wanted}
    if wanted_images is None:
        notes.append("missing images were not checked: give --sample or --images")
        wanted_images = table.image_ids
    if not table.layout.form.has_all_rows:
        return {image_id: [] for image_id in wanted_images}
    if sample and sample.layout not in (None, table.layout):
        notes.append(f"the sample has the {sample.layout} layout, the submission the {table.layout} one")
    notes.append(f"the classes were assumed to be 1 to {table.classes}, the highest in the submission")
    return {image_id: list(range(1, table.classes + 1)) for image_id in wanted_images}


def _missing_and_extra(
    table: MaskTable, wanted_images: Iterable[str] | None, wanted_rows: Mapping[str, list[int]], names: Sequence[str]
) -> Iterator[Fault]:
    lines: dict[str, dict[int, int]] = defaultdict(dict)  # image_id -> class_id -> line
    for (image_id, channel), line in table.lines.items():
        lines[image_id][channel + 1] = line
    endings = same_stem_names(wanted_rows, table.image_ids)
    absent = []
    for image_id, class_ids in wanted_rows.items():
        if image_id not in lines:
            if image_id in endings:
                other = short(endings[image_id])
                yield Fault(line=0, message=f"{short(image_id)} is missing: {other} has another suffix or case")
            else:
                absent.append(image_id)
            continue
        missing = [class_id for class_id in class_ids if class_id not in lines[image_id]]
        if missing:
            labels = [class_label(class_id - 1, names) for class_id in missing]
            yield Fault(line=0, message=f"{short(image_id)} has no row for class {listed(labels)}")
        wanted = set(class_ids)
        for class_id, line in lines[image_id].items():
            if wanted and class_id not in wanted:
                label = class_label(class_id - 1, names)
                yield Fault(line=line, message=f"{short(image_id)} has no class {label} in the sample")
    if table.layout.form.has_all_rows or len(absent) == len(wanted_rows):
        yield from (Fault(line=0, message=f"{short(image_id)} is missing") for image_id in absent)
    elif absent:  # annotations in such a layout have rows for defects only
        images = f"{counted(len(absent))} without a row, first {short(absent[0])}"
        yield Fault(line=0, message=f"{images}, counted as clean, as in annotations", is_warning=True)
    if wanted_images is not None:
        for image_id in lines.keys() - wanted_rows.keys():
            line = min(lines[image_id].values())
            yield Fault(line=line, message=f"{short(image_id)} is not one of the expected images")


def _overlaps(table: MaskTable, names: Sequence[str]) -> Iterator[Fault]:
    """Warn of pixels that belong to two classes of an image: those of the competition's annotations never do."""
    channels: dict[str, list[int]] = defaultdict(list)
    for image_id, channel in table.masks:
        channels[image_id].append(channel)
    for image_id, present in channels.items():
        for a, b in _pairs(table, image_id, sorted(present)):
            shared_px = rle.overlap(table.masks[image_id, a], table.masks[image_id, b])
            if shared_px:
                first, second = sorted((table.lines[image_id, a], table.lines[image_id, b]))
                message = (
                    f"{short(image_id)}: classes {class_label(a, names)} and {class_label(b, names)} "
                    f"share {shared_px} pixels (other row: {place(first)})"
                )
                yield Fault(line=second, message=message, is_warning=True)


def _pairs(table: MaskTable, image_id: str, channels: list[int]) -> Iterable[tuple[int, int]]:
    """Pairs of classes that may share pixels: all pairs of up to 8 classes, else those that a sweep of the runs finds.

    All pairs of 254 classes would take hours for a large table. The sweep finds a partner for every class that has one.
    """
    if len(channels) <= 8:
        return combinations(channels, 2)
    runs = np.concatenate([table.masks[image_id, channel] for channel in channels]).astype(np.int64)
    owners = np.repeat(channels, [len(table.masks[image_id, channel]) for channel in channels])
    order = np.argsort(runs[:, 0], kind="stable")
    ends, owners = runs[order].sum(axis=1), owners[order]
    furthest = np.maximum.accumulate(ends)
    first = np.maximum.accumulate(np.where(ends == furthest, np.arange(len(ends)), 0))  # run with the furthest end
    inside = np.flatnonzero(runs[order][1:, 0] < furthest[:-1]) + 1
    pairs = np.sort(np.stack([owners[inside], owners[first[inside - 1]]], axis=1), axis=1)
    return [(int(a), int(b)) for a, b in np.unique(pairs, axis=0)]
