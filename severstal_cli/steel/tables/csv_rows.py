"""Rows of a CSV file with the lines where they begin, and the ids that they may hold; `mask_table` builds on it.

UTF-8 with or without a byte order mark, line ends of any kind, quoted fields with commas, quotes and line breaks in
them, fields of any length, blanks around the names of columns. Blank lines are passed over. `table_files` has
the compressions and the column separators that are read.

Names of images are compared as Unicode NFC: macOS writes the same name in other bytes (NFD).

A table may also be a folder of parts, `part-00001.csv` and so on, each with the same header, as `predict --keep-parts`
leaves them. The lines of part N are counted from N * `PART_LINES`; `place` tells them to people.
"""

import csv
import io
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli import typed
from severstal_cli.errors import InputError
from severstal_cli.steel.tables import table_files

# Class ids count from 1. 255 is left out: in a label image it means "no label".
MAX_CLASS_ID = 254

MAX_COLUMNS = 1000
"""Columns beyond it are rows: a table that has lost its line ends has all of them in its header."""

MAX_NAME_BYTES = 255
"""File systems keep no longer names."""

PART_LINES = 10**9

MAX_PARTS = 99_999
"""As many as five digits count."""

PLAN = "plan.json"
"""Of a folder of parts; its number `parts` tells how many there will be."""

Rows = Iterator[tuple[int, list[str]]]
"""(line, fields) of each row."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """A table that is opened."""

    columns: tuple[str, ...]
    """The header, without blanks around the names."""
    rows: Rows
    separator: str = ","


def part_path(folder: Path, number: int, suffix: str = ".csv") -> Path:
    """The file of a part; numbers count from 1."""
    return folder / f"part-{number:05d}{suffix}"


def is_table(path: Path) -> bool:
    """Whether it is meant as a table: by its name, as a file that is no JSON, or as a folder of parts."""
    if table_files.is_named_as_table(path) or (path.is_file() and path.suffix != ".json"):
        return True
    return (path / PLAN).is_file() or part_path(path, 1).is_file()


def place(line: int) -> str:
    """`line 7`, or of a table in parts `line 7 of part-00001.csv`."""
    number, line = divmod(line, PART_LINES)
    return f"line {line} of {part_path(Path(), number)}" if number else f"line {line}"


def read_records(path: Path) -> tuple[tuple[str, ...], Rows]:
    """The header of a table and its rows, as `open_records` reads them. Raises as that does."""
    opened = open_records(path)
    return opened.columns, opened.rows


def open_records(path: Path) -> Records:
    """The header of a CSV file or a folder of parts, and its rows.

    Raises:
        InputError: the file cannot be read, is not text, or has no header; while the rows are walked: `BrokenRecord`,
            and InputError for a part.
    """
    if not path.is_dir():
        return _open_file(path)
    parts = _parts_of(path)
    first = _open_file(parts[1])

    def walk() -> Rows:
        for number, part in parts.items():
            opened = first if number == 1 else _open_file(part)
            if opened.columns != first.columns:
                raise InputError(f"{part}, line 1", f"another header than in {parts[1].name}", "Predict again")
            try:
                for line, fields in opened.rows:
                    yield number * PART_LINES + line, fields
            except BrokenRecord as broken:
                raise BrokenRecord(number * PART_LINES + broken.line, str(broken)) from broken

    return Records(columns=first.columns, rows=walk(), separator=first.separator)


def _parts_of(folder: Path) -> dict[int, Path]:
    """The parts of a table by their numbers. Raises InputError: there are none, or some are missing."""
    names = {path.name for path in folder.glob(part_path(Path(), 0).name.replace("0", "?"))}
    if not names:
        raise InputError(str(folder), "it is a folder", "Name a CSV file")
    try:
        wanted = typed.as_type(int, typed.read_table(folder / PLAN).get("parts"), "parts")
    except FileNotFoundError:  # others may have made the parts
        wanted = len(names)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / PLAN} is damaged", str(error), "Predict again") from error
    if not 0 < wanted <= MAX_PARTS:
        raise InputError(f"{folder / PLAN} is damaged", f"{wanted} parts", "Predict again")
    missing = next(number for number in range(1, len(names) + 2) if part_path(Path(), number).name not in names)
    if missing <= wanted:
        there = sum(part_path(Path(), number).name in names for number in range(1, wanted + 1))
        found = f"{wanted - there} of {wanted} parts are missing, first {part_path(Path(), missing).name}"
        raise InputError(f"{folder} is not complete", found, "Finish it: predict --resume")
    return {number: part_path(folder, number) for number in range(1, max(wanted, 1) + 1)}


def _open_file(path: Path) -> Records:
    data = table_files.read_text(path)
    separator, hint = table_files.separator_of(data)
    rows = _walk(data, separator)
    try:
        for _ in range(hint):
            next(rows)
        _, header = next(rows)
    except StopIteration:
        raise InputError(str(path), "it is empty", "A table begins with a header") from None
    except BrokenRecord as broken:
        raise InputError(f"{path}, line {broken.line}", str(broken)) from broken
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{path}, line 1", f"it has {len(header):,} columns",
                         "The table may have lost its line ends: save it again, a row a line")  # fmt: skip
    return Records(columns=tuple(name.strip() for name in header), rows=rows, separator=separator)


class BrokenRecord(ValueError):  # noqa: N818 (it names the thing that was found)
    """A row that cannot be told from the next one; nothing behind it can be read."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        super().__init__(message)


def _walk(data: bytes, separator: str) -> Rows:
    # The limit belongs to the whole process; the module's own, 128 KiB, is less than a long mask may take.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    # decoded line by line: io.StringIO would keep four bytes a character
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")
    reader = csv.reader(text, delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BrokenRecord(line, f"not a row of a CSV file: {error}") from error
        if fields:
            yield line, fields


class RowError(ValueError):
    """A row is wrong; the message says how."""


def quote(text: str) -> str:
    """`text` between quotes on one line, cut where it is long: a mask may stand where an id should."""
    return repr(text if len(text) <= 60 else text[:60] + "...")


def short(text: str) -> str:
    """A name that is known to be printable, cut in the middle where it is long."""
    return text if len(text) <= 80 else f"{text[:48]}...{text[-29:]}"


def check_count(fields: Sequence[str], columns: Sequence[str]) -> None:
    """Raise RowError for a row that is shorter or longer than the header."""
    if len(fields) != len(columns):
        raise RowError(f"{len(fields)} field{'s' if len(fields) != 1 else ''} where the header has {len(columns)}")


def split_pair(text: str) -> tuple[str, int]:
    """`0002cc93b.jpg_1` -> (`0002cc93b.jpg`, 1). Image ids may hold underscores: the last one counts."""
    image_id, underscore, class_text = text.rpartition("_")
    if not underscore:
        raise RowError(f"ImageId_ClassId {quote(text)} is not an image, an underscore and a class")
    return image_id, read_class(class_text)


_CLASS_IDS = {str(class_id): class_id for class_id in range(1, MAX_CLASS_ID + 1)}


def read_class(text: str) -> int:
    """The class id that `text` is, `1.0` among them, as pandas writes 1; raise RowError where it is none."""
    return _CLASS_IDS.get(text) or _read_odd_class(text)


def _read_odd_class(text: str) -> int:
    number = re.sub(r"[.,]0+$", "", text.strip(" \t"))
    if number in _CLASS_IDS:
        return _CLASS_IDS[number]
    if number == "0":
        raise RowError(
            "ClassId 0 is below 1 (where ids count from 0, add 1 to each; in a sample file it is a placeholder)"
        )
    if not (number.isascii() and number.isdigit()) or number.startswith("0"):
        raise RowError(f"ClassId {quote(text)} is not a whole number from 1")
    raise RowError(f"ClassId {quote(text)} is above {MAX_CLASS_ID}")


def read_image_id(text: str) -> str:
    """The image id that `text` is, in NFC. Raise RowError for what cannot be the name of an image."""
    image_id = text if text.isascii() else unicodedata.normalize("NFC", text)
    check_image_id(image_id)
    return image_id


def check_image_id(image_id: str) -> None:
    """Raise RowError for what cannot be the name of a file in a folder of images."""
    if not image_id.strip():
        raise RowError("ImageId is empty")
    # no-break and other wide spaces are not printable to Python, but names hold them: those of macOS' screenshots do
    if image_id != image_id.strip() or not _SPACES.sub(" ", image_id).isprintable():
        raise RowError(f"ImageId {quote(image_id)} has blanks around it or characters that cannot be shown")
    if "/" in image_id or "\\" in image_id or image_id in (".", ".."):
        raise RowError(f"ImageId {quote(image_id)} is a path, not the name of a file")
    if len(image_id.encode()) > MAX_NAME_BYTES:
        raise RowError(f"ImageId {quote(image_id)} is longer than the {MAX_NAME_BYTES} bytes of a file's name")
    if _ROUNDED.fullmatch(image_id):
        raise RowError(f"ImageId {quote(image_id)} is a number that a spreadsheet has rounded: the name is lost")


_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_ROUNDED = re.compile(r"\d([.,]\d+)?E\+\d+")
