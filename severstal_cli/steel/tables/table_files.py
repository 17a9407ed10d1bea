"""The bytes of a table: UTF-8 text, plain or compressed by gzip or zip.

The first bytes decide the compression, not the name: `train.csv.gz`, or `train.csv.zip` with one table in it.
Unpacking is bounded, because a few kilobytes of a hostile archive may unpack to many gigabytes. The header decides the
column separator: spreadsheets write semicolons or tabs where the locale has decimal commas.
"""

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from severstal_cli import files
from severstal_cli.errors import InputError

SUFFIXES = (".csv", ".txt", ".tsv")
PACKED = (".gz", ".zip")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}

LARGEST = 1 << 31
"""Bytes of a table once unpacked."""
RATIO, FREE = 200, 1 << 24
"""The highest compression ratio of a table of more than `FREE` bytes. Rows of empty masks reach about 50; deflate can
reach 1,032."""

_OTHER_KINDS = (
    (b"\xff\xfe", "it is not UTF-8 text but UTF-16, as Excel's Unicode text"),
    (b"\xfe\xff", "it is not UTF-8 text but UTF-16"),
    (b"\xd0\xcf\x11\xe0", "it is an Excel workbook"),
    (b"PAR1", "it is a Parquet file"),
    (b"\x28\xb5\x2f\xfd", "it is packed by Zstandard"),
    (b"7z\xbc\xaf", "it is packed by 7-Zip"),
    (b"BZh", "it is packed by bzip2"),
    (b"\xfd7zXZ\0", "it is packed by xz"),
)
_SAVE = "Save the table as CSV in UTF-8"
# zipfile raises errors of other modules, too, for a damaged archive
_PACKING_ERRORS = (OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)


def is_named_as_table(path: Path) -> bool:
    """Whether the suffix is that of a table, such as `.csv`, `.CSV` and `.csv.gz`."""
    return unpacked_name(path).suffix.lower() in SUFFIXES or path.suffix.lower() in PACKED


def unpacked_name(path: Path) -> Path:
    """`s.csv` for `s.csv.gz` and `s.csv.zip`; other names as they are."""
    return path.with_suffix("") if path.suffix.lower() in PACKED and path.stem else path


def metadata_path(submission: Path) -> Path:
    """The JSON file beside a submission that describes how it was made."""
    return unpacked_name(submission).with_suffix(".json")


def bare_name(path: Path) -> str:
    """`s` for `s.csv` and `s.csv.gz`; other names as they are."""
    name = unpacked_name(path)
    return name.stem if name.stem and name.suffix.lower() in SUFFIXES else name.name


def read_text(path: Path) -> bytes:
    """The text of a table as UTF-8, with any byte order mark.

    Raises:
        InputError: the file cannot be read or unpacked, is of another kind, or is not UTF-8 text.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        packed = [name for name in (f"{path.name}{suffix}" for suffix in PACKED) if path.with_name(name).is_file()]
        raise InputError(str(path), "no such file", f"{packed[0]} is there: unpack it" if packed else "") from error
    except OSError as error:
        raise files.unreadable(path, error) from error
    data = _unpack(path, data)
    for start, kind in _OTHER_KINDS:
        if data.startswith(start):
            raise InputError(f"{path}, line 1", kind, _SAVE)
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}", "it is not UTF-8 text", _SAVE) from error
    if b"\0" in data[:64].partition(b"\n")[0]:
        raise InputError(f"{path}, line 1", "it holds null bytes: it is no text, or UTF-16", _SAVE)
    return data


def separator_of(data: bytes) -> tuple[str, int]:
    """The column separator, and the number of lines before the header: Excel writes a line `sep=;`.

    It is a comma, or in a header without one a semicolon or a tab.
    """
    begin = data[: 1 << 16].removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    header = (begin.splitlines() or [b""])[0].decode(errors="replace")
    if header[:4].lower() == "sep=" and header[4:] in SEPARATORS:
        return header[4:], 1
    return next((mark for mark in SEPARATORS if mark in header), ","), 0


def _unpack(path: Path, data: bytes) -> bytes:
    try:
        if data.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                return _bounded(path, stream, len(data))
        if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(_only_table(path, archive)) as stream:
                return _bounded(path, stream, len(data))
    except _PACKING_ERRORS as error:
        found = "it is damaged or cut short"
        if isinstance(error, RuntimeError):  # it needs a password, or Python does not know the compression
            found = "it has a password, or is packed in an unusual way"
        raise InputError(f"{path} cannot be unpacked", found, "Unpack it yourself, or download it again") from error
    return data


def _only_table(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [info for info in archive.infolist() if not info.is_dir()]
    if any(info.filename == "[Content_Types].xml" for info in members):
        raise InputError(str(path), "it is an Excel workbook", _SAVE)
    tables = [info for info in members if _is_table_name(PurePosixPath(info.filename))]
    if len(tables) != 1:
        raise InputError(
            str(path), f"an archive with {len(tables)} tables", "Name a table, or an archive with one table"
        )
    return tables[0]


def _is_table_name(name: PurePosixPath) -> bool:
    """Whether a file in an archive is a table; macOS adds hidden files with the same suffix."""
    return name.suffix.lower() in SUFFIXES and not name.name.startswith(".") and "__MACOSX" not in name.parts


def _bounded(path: Path, stream: IO[bytes] | gzip.GzipFile, packed: int) -> bytes:
    limit = min(LARGEST, max(FREE, RATIO * packed))
    chunks, size = [], 0
    while chunk := stream.read(1 << 20):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise InputError(
                f"{path} unpacks to more than {limit:,} bytes",
                f"from {packed:,}",
                "Unpack it yourself if it is a table",
            )
    return b"".join(chunks)
