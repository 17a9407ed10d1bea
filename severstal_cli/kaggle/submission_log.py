"""`submissions/history.csv`: a row for each submission, with its scores and the scores of its runs.

    date,name,runs,validation_dice,holdout_dice,ref,status,public,private,public_place,private_place,bundle
    2026-11-23T04:55:00Z,severstal-unet-fold0,unet-fold0,0.91,,7001,complete,0.88,0.87,812,1043,0123456789ab

A cell holds several runs, separated by spaces. People may edit the file: columns that they add are kept, and a file
whose cells would be lost is refused.
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
    """The rows of `folder/history.csv`, each with all of `COLUMNS`; [] if there is no file.

    Raises InputError: it is unreadable, or writing it would lose cells.
    """
    path = folder / NAME
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read {path}", error.strerror or "", "Fix its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path}", f"byte {error.start} is not UTF-8", "Save it as UTF-8") from None
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
            raise InputError(
                f"{path}, line {reader.line_num}", "a cell without a column name", "Name its column in the first line"
            )
        if any(cells):
            yield empty | {name: cell for name, cell in pairs if name}


def _records(path: Path, reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}", str(error), "Fix the line") from None


def record(folder: Path, ref: int, fields: Mapping[str, object]) -> None:
    """Update the row of submission `ref`, or append one. None becomes an empty cell.

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
