"""Tables of masks as run lengths: annotations, submissions, sample files, in both layouts of the competition.

original (2019), a row for every image and class, empty where there is no defect:

    ImageId_ClassId,EncodedPixels
    0002cc93b.jpg_1,29102 12 29346 24
    0002cc93b.jpg_2,

current, usually rows for defects only; a clean image is known from the folder of images alone:

    ImageId,ClassId,EncodedPixels
    0002cc93b.jpg,1,29102 12 29346 24

The header tells which it is; its columns may stand in any order. Rows may stand in any order too. An empty mask is an
empty field, blanks, or "nan". Files are UTF-8, with or without a byte order mark, with any line ends. What run lengths
mean is told in steel/rle. A sample file of the current layout has a placeholder row
an image: `0000f269f.jpg,1 409600,0`.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.steel import rle
from severstal_cli.steel.files import replacing
from severstal_cli.steel.records import (
    BrokenRecord,
    RowError,
    check_count,
    check_image_id,
    place,
    read_class,
    read_records,
    split_pair,
)
from severstal_cli.steel.rle import RunLengthError, Runs

_IMAGE, _CLASS, _PAIR, _RUNS = "ImageId", "ClassId", "ImageId_ClassId", "EncodedPixels"


class Layout(StrEnum):
    """Which of the two layouts a table has."""

    ORIGINAL = "original"
    CURRENT = "current"


# The columns of each layout, in the order in which they are written unless told otherwise.
COLUMNS: Mapping[Layout, tuple[str, ...]] = {
    Layout.ORIGINAL: (_PAIR, _RUNS),
    Layout.CURRENT: (_IMAGE, _CLASS, _RUNS),
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something wrong in a table. `line`: as `records.place` takes it; 0: the table as a whole."""

    line: int
    message: str
    is_warning: bool = False

    @property
    def place(self) -> str:
        """The line, and of a table in parts the part, for people."""
        return place(self.line)


@dataclass(frozen=True, kw_only=True)
class MaskTable:
    """What a table of run lengths says. A pair without an entry in `masks` is an empty mask."""

    layout: Layout
    columns: tuple[str, ...]
    """The header, in the order of the file."""
    image_ids: tuple[str, ...]
    """Every image that a row names, in order of first appearance."""
    masks: Mapping[tuple[str, int], Runs]
    """(image_id, channel) -> runs, not empty."""
    classes: int
    """The highest class_id that a row names; 0 for a table without rows."""
    lines: Mapping[tuple[str, int], int]
    """(image_id, channel) -> line, for every row, with empty mask or not."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a sample submission or a list of images asks for."""

    layout: Layout | None
    """None for a mere list of images."""
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
        if not fault.is_warning:
            raise InputError(f"{path}, {fault.place}", fault.message)
    return table


def scan_table(path: Path, *, pixels: int | Mapping[str, int] | None = None) -> tuple[MaskTable, list[Fault]]:
    """Like `read_table`, but with every faulty row told. A row with a fault in its runs counts as an empty mask.

    Raises:
        InputError: the file cannot be read or its header is neither layout's.
    """
    columns, rows = read_records(path)
    layout = _layout(path, columns)
    scan = _Scan(columns, layout, pixels)
    try:
        for line, fields in rows:
            message = scan.add(line, fields)
            if message:
                scan.faults.append(Fault(line=line, message=message))
    except BrokenRecord as broken:
        scan.faults.append(Fault(line=broken.line, message=str(broken)))
    table = MaskTable(
        layout=layout,
        columns=columns,
        image_ids=tuple(scan.image_ids),
        masks=scan.masks,
        classes=max((channel + 1 for _, channel in scan.lines), default=0),
        lines=scan.lines,
    )
    return table, scan.faults


def read_image_list(path: Path) -> Sample:
    """Read which images, and for the original layout which rows, a sample submission or a list asks for.

    Args:
        path: a CSV file with a column ImageId_ClassId or ImageId; other columns are not looked at, so that
            annotations, `splits.csv` and the placeholders of a sample file do as well.

    Raises:
        InputError: the file cannot be read, has neither column, has a wrong or doubled row, or names no image.
    """
    columns, records = read_records(path)
    if (_PAIR in columns) == (_IMAGE in columns) or len(set(columns)) < len(columns):
        remedy = f"A list of images has a column {_IMAGE} or {_PAIR}"
        raise InputError(f"{path}, line 1", f"the header is {_show(columns)}", remedy)
    is_pairs = _PAIR in columns
    position = columns.index(_PAIR if is_pairs else _IMAGE)
    image_ids: dict[str, None] = {}
    rows: dict[tuple[str, int], int] = {}
    try:
        for line, fields in records:
            try:
                check_count(fields, columns)
                image_id, class_id = split_pair(fields[position]) if is_pairs else (fields[position], 0)
                check_image_id(image_id)
                if is_pairs and (image_id, class_id) in rows:
                    raise RowError(f"{image_id}, class {class_id} is in {place(rows[image_id, class_id])} already")
            except RowError as error:
                raise InputError(f"{path}, {place(line)}", str(error)) from error
            image_ids[image_id] = None
            rows[image_id, class_id] = line
    except BrokenRecord as broken:
        raise InputError(f"{path}, {place(broken.line)}", str(broken)) from broken
    if not image_ids:
        raise InputError(str(path), "it names no image")
    layout = next((layout for layout, names in COLUMNS.items() if sorted(names) == sorted(columns)), None)
    return Sample(layout=layout, columns=columns, image_ids=tuple(image_ids), rows=tuple(rows) if is_pairs else ())


def write_table(
    path: Path,
    masks: Mapping[tuple[str, int], Runs],
    image_ids: Sequence[str],
    classes: int,
    *,
    layout: Layout,
    columns: Sequence[str] | None = None,
    rows: Sequence[tuple[str, int]] | None = None,
    empty_rows: bool = True,
) -> int:
    """Write a table, whole or not at all; the number of rows behind the header.

    Args:
        path: the CSV file.
        masks: (image_id, channel) -> runs; a pair without an entry is an empty mask.
        image_ids: the images, in the order of the rows; within an image, rows go by class.
        classes: C; channels are 0..C-1.
        layout: which layout to write.
        columns: the header, a permutation of `COLUMNS[layout]`.
        rows: (image_id, class_id) of each row, where they are to stand in another order or are fewer.
        empty_rows: whether empty masks get rows; False gives rows for defects only, as in annotations of today.

    Raises:
        ValueError: `masks` names an image or channel that would not be written, an image is given twice, or
            `columns` are not the layout's.
        OutputError: the file cannot be written.
    """
    header = tuple(columns or COLUMNS[layout])
    if sorted(header) != sorted(COLUMNS[layout]):
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
        for image_id, class_id in rows or product(image_ids, range(1, classes + 1)):
            runs = masks.get((image_id, class_id - 1), rle.EMPTY)
            if not len(runs) and not empty_rows:
                continue
            values = {_RUNS: rle.to_text(runs) if len(runs) else "", _IMAGE: image_id, _CLASS: str(class_id)}
            values[_PAIR] = f"{image_id}_{class_id}"
            writer.writerow([values[name] for name in header])
            count += 1
    return count


class _Scan:
    """Rows of a table, taken one by one."""

    def __init__(self, columns: tuple[str, ...], layout: Layout, pixels: int | Mapping[str, int] | None) -> None:
        self.image_ids: dict[str, None] = {}
        self.masks: dict[tuple[str, int], Runs] = {}
        self.lines: dict[tuple[str, int], int] = {}
        self.faults: list[Fault] = []
        self._columns, self._pixels = columns, pixels
        self._runs = columns.index(_RUNS)
        self._pair = columns.index(_PAIR) if layout is Layout.ORIGINAL else None
        self._image, self._class = (0, 0) if self._pair is not None else (columns.index(_IMAGE), columns.index(_CLASS))

    def add(self, line: int, fields: list[str]) -> str:
        """Take a row; what is wrong with it, "" if nothing."""
        try:
            check_count(fields, self._columns)
            if self._pair is None:
                image_id, class_id = fields[self._image], read_class(fields[self._class])
            else:
                image_id, class_id = split_pair(fields[self._pair])
            if image_id not in self.image_ids:
                check_image_id(image_id)
                self.image_ids[image_id] = None
            key = image_id, class_id - 1
            if key in self.lines:
                raise RowError(f"{image_id}, class {class_id} is in {place(self.lines[key])} already")
            self.lines[key] = line
            text = fields[self._runs].strip()
            if text and text.lower() != "nan":
                pixels = self._pixels.get(image_id) if isinstance(self._pixels, Mapping) else self._pixels
                self.masks[key] = rle.from_text(text, pixels=pixels)
        except RunLengthError as error:
            return f"{image_id}, class {class_id}: {error}"
        except RowError as error:
            return str(error)
        return ""


def _layout(path: Path, columns: tuple[str, ...]) -> Layout:
    for layout, names in COLUMNS.items():
        if sorted(columns) == sorted(names):
            return layout
    wanted = " or ".join(",".join(names) for names in COLUMNS.values())
    nearest = COLUMNS[Layout.ORIGINAL if _PAIR in columns else Layout.CURRENT]
    found = f"the header is {_show(columns)}"
    for label, some in (
        ("missing", [name for name in nearest if name not in columns]),
        ("unknown", [name for name in columns if name not in nearest]),
        ("doubled", sorted({name for name in columns if columns.count(name) > 1})),
    ):
        if some:
            found += f"; {label}: {_show(some)}"
    raise InputError(f"{path}, line 1", found, f"A table has {wanted}")


def _show(names: Sequence[str]) -> str:
    """Names of columns on one line, whatever is in them."""
    text = ",".join(name if name.isprintable() and name else repr(name) for name in names)
    return text if len(text) <= 200 else text[:200] + "..."
