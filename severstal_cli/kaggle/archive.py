"""Safe unpacking of a zip archive from others: nothing outside the folder, and no full disk.

All names are checked before the first byte is written. Refused are absolute paths, `..`, drive letters, backslashes,
control characters, links and devices, encrypted members, unknown compression methods, long or deep paths, and names
that are the same file on some disks: duplicates, or names that differ in case or in the composition of accents only.
A member's content is limited to its declared size, and its checksum must be right.
"""

import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from severstal_cli.errors import InputError
from severstal_cli.files import check_room, nfc, writing
from severstal_cli.progress import SILENT, Progress

_BLOCK = 1 << 20
_DISK_BLOCK = 4096
"""Disk space of the smallest file."""

DEEPEST, LONGEST = 32, 1000
"""Most nested folders, and most characters of a path. The competition's archive has 2 and 40."""

LONGEST_NAME = 255

_DAMAGES = (BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError)
"""Exceptions of zipfile for damaged archives; RuntimeError: an unsupported version or compression method."""


def unpack(archive: Path, folder: Path, progress: Progress = SILENT) -> None:
    """Unpack `archive` into `folder`, which is new.

    Raises:
        InputError: a member that must not be unpacked (before anything is written), or damage.
        OutputError: not enough space (checked first), a full disk, no permission.
    """
    with _reading():
        opened = ZipFile(archive)
    with opened:
        members = opened.infolist()
        _check(members)
        with writing(folder):
            folder.mkdir(parents=True)
        check_room(folder, sum(member.file_size + _DISK_BLOCK for member in members))
        with progress.bar("unpacking", len(members), "files") as bar:
            for member in members:
                _unpack(opened, member, folder / member.orig_filename)
                bar.advance()


@contextmanager
def _reading() -> Iterator[None]:
    """Report a damaged archive in one line. Raises InputError."""
    try:
        yield
    except _DAMAGES as error:
        raise InputError("the archive is damaged", str(error) or type(error).__name__) from None


def _unpack(opened: ZipFile, member: ZipInfo, target: Path) -> None:
    with writing(target):
        (target if _is_folder(member) else target.parent).mkdir(parents=True, exist_ok=True)
    if _is_folder(member):
        return
    with _reading():
        source = opened.open(member)
    with source, writing(target), target.open("xb") as file:
        while True:
            with _reading():
                block = source.read(_BLOCK)
            if not block:
                return
            file.write(block)


def _check(members: Sequence[ZipInfo]) -> None:
    """Raises InputError for the first member that must not be unpacked."""
    known: dict[str, tuple[str, bool]] = {}
    for member in members:
        fault = _fault(member) or _clash(member, known)
        if fault:
            raise InputError(f"the archive must not be unpacked: {member.orig_filename!r}", fault)


def _fault(member: ZipInfo) -> str:
    name = member.orig_filename  # as stored: `filename` ends at a zero byte
    kind = stat.S_IFMT(member.external_attr >> 16)
    if "\\" in name or ":" in name or not name.isprintable():
        return "its name has a backslash, a colon or a control character"
    if len(name) > LONGEST or len(_parts(member)) > DEEPEST:
        return f"its path is longer than {LONGEST} characters, or deeper than {DEEPEST} folders"
    if any(len(part.encode(errors="replace")) > LONGEST_NAME for part in _parts(member)):
        return f"a name in its path is longer than {LONGEST_NAME} bytes, which no disk takes"
    if any(part in ("", ".", "..") for part in _parts(member)):
        return "its path leaves the folder"
    if kind not in (0, stat.S_IFDIR if _is_folder(member) else stat.S_IFREG):
        return "it is a link, a device or the like"
    if member.flag_bits & 0x1:
        return "it is encrypted"
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return f"its compression method {member.compress_type} is unknown"
    return ""


def _clash(member: ZipInfo, known: dict[str, tuple[str, bool]]) -> str:
    """Add a member and its parent folders to `known`: normalised path -> (path, is a folder)."""
    parts = _parts(member)
    for depth in range(1, len(parts) + 1):
        path, is_folder = "/".join(parts[:depth]), depth < len(parts) or _is_folder(member)
        folded = nfc(path).casefold()
        former = known.get(folded)
        if former is None:
            known[folded] = path, is_folder
        elif former != (path, True) or not is_folder:  # only a folder may occur twice
            return f"it is the same file as {former[0]!r} on some disks"
    return ""


def _is_folder(member: ZipInfo) -> bool:
    return member.orig_filename.endswith("/")


def _parts(member: ZipInfo) -> list[str]:
    return member.orig_filename.removesuffix("/").split("/")
