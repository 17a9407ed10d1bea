"""Reads a CSV file row by row, with line numbers, and checks the image and class ids in it.

Accepted are UTF-8 with or without a byte order mark, any line ends, quoted fields with commas, quotes and line breaks,
fields of any length, and blanks around column names. Blank lines are skipped. `table_files` lists the compressions and
column separators.

Image ids are compared as Unicode NFC, because macOS stores the same name in other bytes (NFD).
"""

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.files import nfc
from severstal_cli.steel.tables import table_files

# Class ids count from 1. 255 is left out: in a label image it means "no label".
MAX_CLASS_ID = 254

MAX_COLUMNS = 1000
"""A header with more columns holds the rows, too: the table has lost its line ends."""

MAX_NAME_BYTES = 255
"""The longest name that file systems accept."""

Rows = Iterator[tuple[int, list[str]]]
"""(line number, fields) of each row."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """An opened table."""

    columns: tuple[str, ...]
    """The header, stripped."""
    rows: Rows
    separator: str = ","


def is_table(path: Path) -> bool:
    """Whether the path is meant as a table: by its suffix, or as an existing file that is not JSON."""
    return table_files.is_named_as_table(path) or (path.is_file() and path.suffix != ".json")


def place(line: int) -> str:
    """`line 7`."""
    return f"line {line}"


def read_rows(path: Path) -> tuple[tuple[str, ...], Rows]:
    """The columns and rows of `open_rows`. Raises as that does."""
    opened = open_rows(path)
    return opened.columns, opened.rows


def open_rows(path: Path) -> Records:
    """The header of a CSV file and an iterator over its rows.

    Raises:
        InputError: the file cannot be read, is not text, or has no header. Iteration raises `BrokenRow`.
    """
    if path.is_dir():
        raise InputError(str(path), "it is a folder", "Name a CSV file")
    data = table_files.read_text(path)
    separator, hint = table_files.separator_of(data)
    rows = _walk(data, separator)
    try:
        for _ in range(hint):
            next(rows)
        _, header = next(rows)
    except StopIteration:
        raise InputError(str(path), "it is empty", "A table begins with a header") from None
    except BrokenRow as broken:
        raise InputError(f"{path}, line {broken.line}", str(broken)) from broken
    if len(header) > MAX_COLUMNS:
        raise InputError(
            f"{path}, line 1",
            f"it has {len(header):,} columns",
            "The table may have lost its line ends: save it again, one row per line",
        )
    return Records(columns=tuple(name.strip() for name in header), rows=rows, separator=separator)


class BrokenRow(ValueError):  # noqa: N818 (named after the row, not after an error)
    """The end of a row is unclear, so nothing after it can be read."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        super().__init__(message)


def _walk(data: bytes, separator: str) -> Rows:
    # the default limit of the process, 128 KiB, is too low for long masks
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    # decoded line by line: io.StringIO would take four bytes per character
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")
    reader = csv.reader(text, delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BrokenRow(line, f"not a row of a CSV file: {error}") from error
        if fields:
            yield line, fields


class RowError(ValueError):
    """A row is invalid; the message gives the reason."""


def quote(text: str) -> str:
    """`text` in quotes on one line, truncated: a mask may stand in place of an id."""
    return repr(text if len(text) <= 60 else text[:60] + "...")


def short(text: str) -> str:
    """A printable name, truncated in the middle where it is long."""
    return text if len(text) <= 80 else f"{text[:48]}...{text[-29:]}"


def check_count(fields: Sequence[str], columns: Sequence[str]) -> None:
    """Raises RowError: the row is shorter or longer than the header."""
    if len(fields) != len(columns):
        raise RowError(f"{len(fields)} field{'s' if len(fields) != 1 else ''} where the header has {len(columns)}")


_CLASS_IDS = {str(class_id): class_id for class_id in range(1, MAX_CLASS_ID + 1)}


def read_class(text: str) -> int:
    """Parse a class id; `1.0` is 1, because pandas may write it so. Raises RowError."""
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


def read_score(text: str) -> float:
    """A number from 0 to 1. Raises RowError."""
    try:
        score = float(text.replace(",", "."))  # spreadsheets write decimal commas in some locales
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise RowError(f"Score {quote(text)} is not a number from 0 to 1")
    return score


def read_image_id(text: str) -> str:
    """Parse an image id, normalised to NFC. Raises RowError as `check_image_id`."""
    image_id = nfc(text)
    check_image_id(image_id)
    return image_id


def check_image_id(image_id: str) -> None:
    """Raises RowError: it cannot be the name of a file in a folder of images."""
    if not image_id.strip():
        raise RowError("ImageId is empty")
    # Python calls no-break and other wide spaces unprintable, but the names of macOS screenshots hold them
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
