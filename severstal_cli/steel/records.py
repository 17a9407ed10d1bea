"""Rows of a CSV file with the lines where they begin, and what ids in them may be: what `steel/tables` is built on.

UTF-8 with or without a byte order mark, line ends of any kind, quoted fields with commas, quotes and line breaks in
them, fields of any length. Blank lines are passed over.

A table may also be a folder of parts, `part-00001.csv` and so on, each with the same header, as `predict --keep-parts`
leaves them. The lines of part N are counted from N * `PART_LINES`; `place` tells them to people.
"""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from severstal_cli import typed
from severstal_cli.errors import InputError

# Class ids count from 1. 255 is left out: in a label image it means "no label".
MAX_CLASS_ID = 254

PART_LINES = 10**9

MAX_PARTS = 99_999
"""As many as five digits count."""

PLAN = "plan.json"
"""Of a folder of parts; its number `parts` tells how many there will be."""


def part_path(folder: Path, number: int, suffix: str = ".csv") -> Path:
    """The file of a part; numbers count from 1."""
    return folder / f"part-{number:05d}{suffix}"


def is_table(path: Path) -> bool:
    """Whether it is meant as a table: by its name, or as a folder of parts."""
    return path.suffix == ".csv" or (path / PLAN).is_file() or part_path(path, 1).is_file()


def place(line: int) -> str:
    """`line 7`, or of a table in parts `line 7 of part-00001.csv`."""
    number, line = divmod(line, PART_LINES)
    return f"line {line} of {part_path(Path(), number)}" if number else f"line {line}"


def read_records(path: Path) -> tuple[tuple[str, ...], Iterator[tuple[int, list[str]]]]:
    """The header of a CSV file or a folder of parts, and its rows as (line, fields).

    Raises:
        InputError: the file cannot be read, is not text, or has no header; while the rows are walked: `BrokenRecord`,
            and InputError for a part.
    """
    if not path.is_dir():
        return _read_file(path)
    parts = _parts_of(path)
    header, _ = _read_file(parts[1])

    def walk() -> Iterator[tuple[int, list[str]]]:
        for number, part in parts.items():
            columns, rows = _read_file(part)
            if columns != header:
                raise InputError(f"{part}, line 1", f"another header than in {parts[1].name}", "Predict again")
            try:
                for line, fields in rows:
                    yield number * PART_LINES + line, fields
            except BrokenRecord as broken:
                raise BrokenRecord(number * PART_LINES + broken.line, str(broken)) from broken

    return header, walk()


def _parts_of(folder: Path) -> dict[int, Path]:
    """The parts of a table by their numbers. Raises InputError: there are none, or some are missing."""
    there = len(list(folder.glob(part_path(Path(), 0).name.replace("0", "?"))))
    if not there:
        raise InputError(str(folder), "it is a folder", "Name a CSV file")
    try:
        wanted = typed.as_type(int, typed.read_table(folder / PLAN).get("parts"), "parts")
    except FileNotFoundError:  # others may have made the parts
        wanted = there
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / PLAN} is damaged", str(error), "Predict again") from error
    if not 0 < wanted <= MAX_PARTS:
        raise InputError(f"{folder / PLAN} is damaged", f"{wanted} parts", "Predict again")
    parts = {number: part_path(folder, number) for number in range(1, wanted + 1)}
    missing = [part.name for part in parts.values() if not part.exists()]
    if missing:
        found = f"{len(missing)} of {wanted} parts are missing, first {missing[0]}"
        raise InputError(f"{folder} is not complete", found, "Finish it: predict --resume")
    return parts


def _read_file(path: Path) -> tuple[tuple[str, ...], Iterator[tuple[int, list[str]]]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(str(path), "no such file") from error
    except OSError as error:
        raise InputError(str(path), error.strerror or str(error)) from error
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}", "it is not UTF-8 text", "Save the table as CSV in UTF-8") from error
    rows = _walk(data)
    try:
        _, header = next(rows)
    except StopIteration:
        raise InputError(str(path), "it is empty", "A table begins with a header") from None
    except BrokenRecord as broken:
        raise InputError(f"{path}, line {broken.line}", str(broken)) from broken
    return tuple(header), rows


class BrokenRecord(ValueError):  # noqa: N818 (it names the thing that was found)
    """A row that cannot be told from the next one; nothing behind it can be read."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        super().__init__(message)


def _walk(data: bytes) -> Iterator[tuple[int, list[str]]]:
    # The limit belongs to the whole process; the module's own, 128 KiB, is less than a long mask may take.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    # decoded line by line: io.StringIO would keep four bytes a character
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""), strict=True)
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


def read_class(text: str) -> int:
    """The class id that `text` is; raise RowError where it is none."""
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0"):
        raise RowError(f"ClassId {quote(text)} is not a whole number from 1")
    if text == "0":
        raise RowError("ClassId 0 is below 1 (it marks a placeholder of a sample file)")
    if len(text) > 3 or int(text) > MAX_CLASS_ID:
        raise RowError(f"ClassId {quote(text)} is above {MAX_CLASS_ID}")
    return int(text)


def check_image_id(image_id: str) -> None:
    """Raise RowError for what cannot be the name of a file in a folder of images."""
    if not image_id.strip():
        raise RowError("ImageId is empty")
    if image_id != image_id.strip() or not image_id.isprintable():
        raise RowError(f"ImageId {quote(image_id)} has blanks around it or characters that cannot be shown")
    if "/" in image_id or "\\" in image_id or image_id in (".", ".."):
        raise RowError(f"ImageId {quote(image_id)} is a path, not the name of a file")
