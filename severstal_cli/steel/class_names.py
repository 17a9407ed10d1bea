"""Names of classes, from a text file with one name per line, in the order of class ids.

    scratch
    inclusion

names class 1 scratch and class 2 inclusion. All commands read `classes.txt` beside `train.csv`; `--class-names` names
another file. `wording.class_label` makes labels of the names.
"""

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from severstal_cli import files
from severstal_cli.errors import InputError, OutputError, UsageError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.tables.csv_rows import MAX_CLASS_ID

FILE = "classes.txt"

LONGEST_NAME = 100
"""Characters of a name."""

LARGEST_FILE = 1 << 18
"""Bytes of a file of names."""

_REMEDY = "Give one name per line, in the order of the class ids"


def check(names: Sequence[str]) -> None:
    """Raise ValueError unless all names can be shown, in one line each, and differ."""
    if len(names) > MAX_CLASS_ID:
        raise ValueError(f"{len(names)} names, but at most {MAX_CLASS_ID} classes are possible")
    first: dict[str, int] = {}
    for class_id, name in enumerate(names, start=1):
        if not name.strip():
            raise ValueError(f"the name of class {class_id} is empty")
        if len(name) > LONGEST_NAME:
            raise ValueError(f"the name of class {class_id} has {len(name):,} characters, at most {LONGEST_NAME}")
        if not name.isprintable():  # control and bidirectional characters, escape sequences of terminals
            raise ValueError(f"the name of class {class_id} has characters that cannot be shown, {name!r}")
        if name in first:
            raise ValueError(f"classes {first[name]} and {class_id} have the same name, {name}")
        first[name] = class_id


def check_count(names: Sequence[str], classes: int, source: object, table: object) -> None:
    """Raise InputError if `names`, of `source`, are fewer than the classes of `table`. No names are accepted."""
    if 0 < len(names) < classes:
        count = "one name" if len(names) == 1 else f"{len(names)} names"
        raise InputError(f"{source} has {count}", f"{table} has {classes} classes", "Name every class")


def read(path: Path) -> tuple[str, ...]:
    """Read a file of names. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}", "it is no file" if path.exists() else "no such file", "Name a file of class names")
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise files.unreadable(path, error) from error
    except UnicodeDecodeError:
        raise InputError(f"{path}", "it is not UTF-8 text", "Save it as UTF-8") from None
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path}", f"more than {LARGEST_FILE:,} bytes, too many for names of classes", _REMEDY)
    # not `splitlines`, which takes control characters for ends of lines
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n\t ").split("\n")
    names = tuple(_normal(line) for line in lines)
    if names == ("",):
        raise InputError(f"{path}", "it has no names", _REMEDY)
    try:
        check(names)
    except ValueError as error:
        raise InputError(f"{path}", str(error), _REMEDY) from None
    return names


def parse(text: str) -> tuple[str, ...]:
    """Return the names that `--class-names` gives: a file of names, or names joined by commas.

    Raises InputError: the file is wrong. UsageError: the names are.
    """
    path = Path(text)
    if text and (path.is_file() or ("," not in text and (path.suffix == ".txt" or len(path.parts) > 1))):
        return read(path)
    names = tuple(map(_normal, text.split(",")))
    try:
        check(names)
    except ValueError as error:
        raise UsageError("wrong class names", str(error), "Give a file of names, or names joined by commas") from None
    return names


def names_for(table: Path, classes: int, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the classes 1 to `classes` of annotations: `given` by the option, else those beside `table`.

    () if there are none. Raises InputError: the file is wrong, or has too few names.
    """
    path = table.parent / FILE
    names = tuple(given) or (read(path) if path.exists() or path.is_symlink() else ())
    check_count(names, classes, "--class-names" if given else path, table)
    return names


def path_beside(
    table: Path, names: Sequence[str], classes: int, overwrite: bool, progress: Progress = SILENT
) -> Path | None:
    """Return where the names of the classes of a new `train.csv` are written; None for other tables, or unfit names.

    Raises OutputError: a file with other names exists, and `overwrite` is False.
    """
    path = table.parent / FILE
    if table.name != "train.csv":
        return None
    try:
        check(names)
        check_count(names, classes, "the annotations", table)
    except (ValueError, InputError) as error:
        progress.log(f"note: {path} is not written: {error}")
        return None
    if not overwrite and (path.exists() or path.is_symlink()):
        with suppress(InputError):
            if read(path) == tuple(map(_normal, names)):
                return None
        raise OutputError(f"{path} exists already", "it has other names", "Replace it by --overwrite, or move it away")
    return path


def to_text(names: Sequence[str]) -> str:
    """The content of a file of names."""
    return "".join(f"{name}\n" for name in names)


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip(" \t"))
