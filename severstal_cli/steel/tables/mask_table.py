"""Tables of masks as RLE: annotations, submissions, sample files, in both layouts of the competition.

original (2019), one row per image and class, empty where there is no defect:

    ImageId_ClassId,EncodedPixels
    0002cc93b.jpg_1,29102 12 29346 24
    0002cc93b.jpg_2,

current, usually with rows for defects only, so that clean images occur in the folder of images alone:

    ImageId,ClassId,EncodedPixels
    0002cc93b.jpg,1,29102 12 29346 24

The header decides the layout. Columns may have any order, with others among them, and so may rows. Several rows of one
image and class are one mask. An empty mask is an empty field, blanks, or a word such as "nan", "None" or "-1". Files
are UTF-8, with or without a byte order mark, with any line ends; `table_files` lists the compressions, and
`steel/masks/rle` defines RLE. A sample file of the current layout has one placeholder row per image:
`0000f269f.jpg,1 409600,0`.

A class counts where a row names it. A table of few images may lack rows of a class below the highest; an empty row, as
`0002cc93b.jpg,2,`, declares that class.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.files import replacing
from severstal_cli.progress import Progress
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE
from severstal_cli.steel.tables.csv_rows import (
    BrokenRow,
    RowError,
    check_count,
    open_rows,
    read_image_id,
    read_rows,
    short,
)
from severstal_cli.steel.tables.headers import PART, check_layout, image_column, layout_of, show
from severstal_cli.steel.tables.headers import Layout as Layout
from severstal_cli.steel.tables.mask_rows import Fault as Fault
from severstal_cli.steel.tables.mask_rows import Scan
from severstal_cli.wording import counted, spans


@dataclass(frozen=True, kw_only=True)
class MaskTable:
    """The content of a table. A pair without an entry in `masks` is an empty mask."""

    layout: Layout
    columns: tuple[str, ...]
    """The header, in the order of the file."""
    image_ids: tuple[str, ...]
    """Every image that a row names, in order of first appearance."""
    masks: Mapping[tuple[str, int], RLE]
    """(image_id, channel) -> runs, not empty."""
    classes: int
    """The highest class_id that a row names; 0 for a table without rows."""
    lines: Mapping[tuple[str, int], int]
    """(image_id, channel) -> line of its first row, also of empty masks."""
    class_ids: tuple[int, ...] = ()
    """Every class_id that a row names, sorted."""
    merged: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    """Line -> (image_id, channel) of the further rows of an image and class."""
    words: Mapping[str, int] = field(default_factory=dict)
    """Words for an empty mask that pandas does not parse as empty, such as -1 -> the line of the first."""
    separator: str = ","
    """The column separator: a comma, a semicolon or a tab."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The images and rows that a sample submission or a list of images asks for."""

    layout: Layout | None
    """None for a list of images."""
    columns: tuple[str, ...]
    image_ids: tuple[str, ...]
    """In the order of the file, each once."""
    rows: tuple[tuple[str, int], ...] = ()
    """(image_id, class_id) of every row in its order, for the original layout."""


def read_table(path: Path, *, pixels: int | Mapping[str, int] | None = None) -> MaskTable:
    """Read annotations or a submission, strictly.

    Args:
        path: a CSV file in either layout.
        pixels: height x width of the images, or that of each image by its image_id, to refuse runs past the end.

    Raises:
        InputError: the file cannot be read, its header is neither layout's, or a row is wrong: the first such line.
    """
    table, faults = scan_table(path, pixels=pixels)
    for fault in faults:
        raise InputError(f"{path}, {fault.place}", fault.message)
    return table


def scan_table(path: Path, *, pixels: int | Mapping[str, int] | None = None) -> tuple[MaskTable, list[Fault]]:
    """Like `read_table`, but returns all faults. A row with a fault in its RLE counts as an empty mask.

    Raises:
        InputError: the file cannot be read or its header is neither layout's.
    """
    opened = open_rows(path)
    layout = check_layout(path, opened.columns)
    scan = Scan(opened.columns, layout, pixels)
    try:
        for line, fields in opened.rows:
            scan.add(line, fields)
    except BrokenRow as broken:
        scan.faults.append(Fault(line=broken.line, message=str(broken)))
    scan.end()
    channels = {channel for _, channel in scan.lines}
    table = MaskTable(
        layout=layout,
        columns=opened.columns,
        image_ids=tuple(scan.image_ids),
        masks=scan.masks,
        classes=max(channels, default=-1) + 1,
        class_ids=tuple(channel + 1 for channel in sorted(channels)),
        lines=scan.lines,
        merged=scan.merged,
        words=scan.words,
        separator=opened.separator,
    )
    return table, scan.faults


def log_merged(path: Path, table: MaskTable, progress: Progress) -> None:
    """Log how many rows were merged with an earlier one of their image and class."""
    if table.merged:
        line = min(table.merged)
        image_id, channel = table.merged[line]
        progress.log(
            f"{path}: {counted(len(table.merged), 'row')} merged with an earlier one of the same image and "
            f"class: first line {line}, {short(image_id)}, class {channel + 1}"
        )


def unnamed_classes(class_ids: Sequence[int]) -> list[int]:
    """The class ids below the highest that no row of annotations names; they may not exist."""
    return sorted(set(range(1, max(class_ids, default=0))) - set(class_ids))


def log_gaps(path: Path, table: MaskTable, progress: Progress) -> None:
    """Log which classes no row of annotations names; means exclude them."""
    unnamed = unnamed_classes(table.class_ids)
    if unnamed:
        are = "classes" if len(unnamed) > 1 else "class"
        row = f"{short(table.image_ids[0])},{unnamed[0]},"
        progress.log(
            f"{path}: no row names {are} {spans(unnamed)}, so the mean Dice is over {spans(table.class_ids)} "
            f"alone; a class without defects counts once an empty row names it, as {row}"
        )


def past_the_end(table: MaskTable, pixels: Mapping[str, int]) -> Iterator[Fault]:
    """The masks with a run past the end of their image. pixels: height x width of the known images."""
    for (image_id, channel), runs in table.masks.items():
        message = rle.past_the_end(runs, pixels.get(image_id, 2**31))
        if message:
            line = table.lines[image_id, channel]
            yield Fault(line=line, message=f"{short(image_id)}, class {channel + 1}: {message}")


def read_image_list(path: Path) -> Sample:
    """Read the images, and for the original layout the rows, that a sample submission or a list asks for.

    Args:
        path: a CSV file with a column ImageId_ClassId or ImageId; other columns are ignored, so annotations,
            `splits.csv` and sample files are accepted, too. Rows may repeat. `splits.csv:holdout` stands for
            the rows of this subset, likewise `splits.csv:0`.

    Raises:
        InputError: the file cannot be read, has neither column or both, has a wrong row, or names no image.
    """
    path, subset = _subset_of(path)
    columns, records = read_rows(path)
    if subset and PART not in columns:
        raise InputError(f"{path} has no subset {subset}", f"the header is {show(columns)}", "Name a splits.csv")
    part = columns.index(PART) if subset else 0
    image, form = image_column(path, columns)
    layout = layout_of(columns)
    form = layout.form if layout else form
    names_classes = len(form.key) == 1 or (layout is not None and form.has_all_rows)
    key = [columns.index(name) for name in form.key] if names_classes else []
    image_ids: dict[str, None] = {}
    rows: dict[tuple[str, int], None] = {}
    try:
        for line, fields in records:
            try:
                check_count(fields, columns)
                if subset and fields[part] != subset:
                    continue
                image_id, class_id = form.parse(*(fields[at] for at in key)) if key else (fields[image], 0)
                if image_id not in image_ids:
                    image_id = read_image_id(image_id)
            except RowError as error:
                raise InputError(f"{path}, line {line}", str(error)) from error
            image_ids[image_id] = None
            rows[image_id, class_id] = None
    except BrokenRow as broken:
        raise InputError(f"{path}, line {broken.line}", str(broken)) from broken
    if not image_ids:
        raise InputError(str(path), f"it names no image{f' of subset {subset}' if subset else ''}")
    return Sample(
        layout=layout,
        columns=columns if layout is None else tuple(name for name in columns if name in form.columns),
        image_ids=tuple(image_ids),
        rows=tuple(rows) if key else (),
    )


def _subset_of(path: Path) -> tuple[Path, str]:
    """`splits.csv:holdout` -> `splits.csv` and "holdout"; an existing path has no subset."""
    file, colon, subset = str(path).rpartition(":")
    return (Path(file), subset) if colon and subset and not path.exists() and Path(file).is_file() else (path, "")


def write_table(
    path: Path,
    masks: Mapping[tuple[str, int], RLE],
    image_ids: Sequence[str],
    classes: int,
    *,
    layout: Layout,
    columns: Sequence[str] | None = None,
    rows: Sequence[tuple[str, int]] | None = None,
    empty_rows: bool = True,
) -> int:
    """Write a table, whole or not at all. Returns the number of rows below the header.

    Args:
        path: the CSV file.
        masks: (image_id, channel) -> runs; a pair without an entry is an empty mask.
        image_ids: the images, in the order of the rows; within an image, rows go by class.
        classes: C; channels are 0..C-1.
        layout: which layout to write.
        columns: the header, a permutation of the layout's columns.
        rows: (image_id, class_id) of each row, where their order differs or they are fewer.
        empty_rows: whether empty masks get rows; False gives rows for defects only, as in the current annotations.

    Raises:
        ValueError: `masks` names an image or channel without a row, an image is given twice, or `columns` are not the
            layout's.
        OutputError: the file cannot be written.
    """
    form = layout.form
    header = tuple(columns or form.columns)
    if sorted(header) != sorted(form.columns):
        raise ValueError(f"columns {header} are not those of the {layout} layout")
    known = set(image_ids)
    if len(known) != len(image_ids):
        raise ValueError("an image is given twice")
    for image_id, channel in masks:
        if image_id not in known or not 0 <= channel < classes:
            raise ValueError(f"the mask of {image_id}, class {channel + 1} has no row among {classes} classes")
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        fields_of = form.writer(header)
        for image_id, class_id in rows or product(image_ids, range(1, classes + 1)):
            runs = masks.get((image_id, class_id - 1), rle.EMPTY)
            if not len(runs) and not empty_rows:
                continue
            writer.writerow(fields_of(image_id, class_id, rle.to_text(runs) if len(runs) else ""))
            count += 1
    return count
