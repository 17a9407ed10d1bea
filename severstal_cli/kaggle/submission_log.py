"""`submissions/history.csv`: a row for each submission, beside what was known of its runs before.

    date,name,runs,validation_dice,holdout_dice,ref,status,public,private,public_place,private_place,bundle
    2026-11-23T04:55:00Z,severstal-unet-fold0,unet-fold0,0.91,,7001,complete,0.88,0.87,812,1043,0123456789ab

Several runs stand in one cell, separated by spaces. It is a file for people: columns that they add are kept, and a
file of which something would be lost is refused.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from severstal_cli import files
from severstal_cli.errors import InputError

NAME = "history.csv"
COLUMNS = (
    "date", "name", "runs", "validation_dice", "holdout_dice", "ref", "status", "public", "private",
    "public_place", "private_place", "bundle",
)  # fmt: skip

Row = dict[str, str]


def read(folder: Path) -> list[Row]:
    """The rows of `folder/history.csv`, with every one of `COLUMNS`; none where there is no such file.

    Raises InputError: it cannot be read, or holds cells that would be lost when it is written.
    """
    path = folder / NAME
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read {path}", error.strerror or "", "Mend its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path}", f"byte {error.start} is no UTF-8", "Save it as UTF-8") from None
    return list(_rows(path, text))


def _rows(path: Path, text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""))
    names = next(_records(path, reader), [])
    if len(set(filter(None, names))) < len(list(filter(None, names))):
        raise InputError(f"{path} has two columns of one name", ",".join(names), "Rename one")
    empty = dict.fromkeys(COLUMNS, "")
    for cells in _records(path, reader):
        pairs = list(zip_longest(names, cells, fillvalue=""))
        if any(cell and not name for name, cell in pairs):
            raise InputError(f"{path}, line {reader.line_num}", "a cell that no column is named for",
                             "Name its column in the first line")  # fmt: skip
        if any(cells):
            yield empty | {name: cell for name, cell in pairs if name}


def _records(path: Path, reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}", str(error), "Mend the line") from None


def record(folder: Path, ref: int, fields: Mapping[str, object]) -> None:
    """Write what is known of submission `ref` over its row, or into a new one at the end. None is an empty cell.

    Raises InputError as `read` does, OutputError: it cannot be written.
    """
    rows = read(folder)
    cells = {"ref": str(ref)} | {name: "" if value is None else str(value) for name, value in fields.items()}
    for row in rows:
        if row["ref"] == cells["ref"]:
            row.update(cells)
            break
    else:
        rows.append(cells)
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    content = io.StringIO()
    writer = csv.DictWriter(content, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(folder / NAME, content.getvalue())
