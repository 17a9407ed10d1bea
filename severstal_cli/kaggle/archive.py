"""A zip archive that someone else made, unpacked so that nothing can land outside its folder, or fill the disk.

All names are looked at before the first byte is written. Refused are absolute paths, `..`, drive letters, backslashes,
control characters, links and devices, encrypted members, unknown packings, and names that would be one file on some
disk: doubled, or differing in case or in the composition of accents only; and paths that are long or deep. What a
member unpacks to is bounded by the size that it declares, and its check sum must be right.
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
"""What the smallest file takes on a disk."""

DEEPEST, LONGEST = 32, 1000
"""Folders within each other, and characters of a path, that a member may have; the competition's have two and 40."""

LONGEST_NAME = 255

_DAMAGES = (BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError)
"""What zipfile raises for bytes that are no good zip; RuntimeError: a version or a packing of zip that it lacks."""


def unpack(archive: Path, folder: Path, progress: Progress = SILENT) -> None:
    """Unpack `archive` into `folder`, which is new.

    Raises:
        InputError: a member that must not be unpacked (nothing is written then), or damage.
        OutputError: not enough room (seen before), a full disk, no permission.
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
    """Tell in one line that the archive is no good. Raises InputError."""
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
        return "its name leads out of the folder"
    if kind not in (0, stat.S_IFDIR if _is_folder(member) else stat.S_IFREG):
        return "it is a link, a device or the like"
    if member.flag_bits & 0x1:
        return "it is encrypted"
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return f"it is packed in an unknown way, {member.compress_type}"
    return ""


def _clash(member: ZipInfo, known: dict[str, tuple[str, bool]]) -> str:
    """Enter a member and the folders above it into `known`: folded path -> (path, is a folder)."""
    parts = _parts(member)
    for depth in range(1, len(parts) + 1):
        path, is_folder = "/".join(parts[:depth]), depth < len(parts) or _is_folder(member)
        folded = nfc(path).casefold()
        former = known.get(folded)
        if former is None:
            known[folded] = path, is_folder
        elif former != (path, True) or not is_folder:  # only a folder may be met again
            return f"it is the same file as {former[0]!r} on some disks"
    return ""


def _is_folder(member: ZipInfo) -> bool:
    return member.orig_filename.endswith("/")


def _parts(member: ZipInfo) -> list[str]:
    return member.orig_filename.removesuffix("/").split("/")
