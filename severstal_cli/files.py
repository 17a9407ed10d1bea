"""Atomic writes, locks of folders, and the folder for caches and splits of a data folder."""

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from severstal_cli.errors import InputError, MachineError, OutputError, SeverstalError, check_memory


@contextmanager
def replacing(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary file beside `path`, empty; rename it to `path` at the end, remove it on any failure.

    A missing parent folder is created. A reader sees the old file or the complete new one. Temporary files of killed
    writers are removed. `mode`: permissions, before the umask.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    with writing(path), _held(path, mode) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Like `replacing`, for a folder; `path` must not exist."""
    with writing(path), _held(path, None) as temporary:
        yield temporary
        temporary.rename(path)


_PART = f".{'[0-9a-f]' * 16}.part"
"""The names of temporary files and folders."""
_swept: set[Path] = set()
"""Folders whose old temporary files are removed already: one scan serves thousands of writes."""


@contextmanager
def _held(path: Path, mode: int | None) -> Iterator[Path]:
    """Yield a new locked file of this mode (None: a folder) beside `path`, and remove it after the block.

    A lock marks it as in use, not a process id: containers that share a volume have equal process ids.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _swept:
        _swept.add(path.parent)
        remove_temporaries(path.parent)
    while True:
        part, handle = path.with_name(f".{secrets.token_hex(8)}.part"), None
        try:  # an interrupt may come as soon as it exists
            if mode is None:
                part.mkdir()
            else:
                part.touch(mode, exist_ok=False)
            handle = _hold(part)
            if part.exists():  # else another process has removed it before it was locked
                yield part
                return
        finally:
            if mode is None:
                shutil.rmtree(part, ignore_errors=True)
            with suppress(OSError):
                part.unlink(missing_ok=True)
            if handle is not None:
                os.close(handle)


def remove_temporaries(folder: Path) -> None:
    """Remove temporary files of killed writers from `folder`. Files that a running writer has locked stay."""
    with suppress(OSError):
        for part in sorted(folder.glob(_PART)):
            handle = _hold(part)
            if handle is not None:
                if part.is_dir():
                    shutil.rmtree(part, ignore_errors=True)
                else:
                    part.unlink(missing_ok=True)
                os.close(handle)


def _hold(part: Path) -> int | None:
    """Lock a file or folder and return its handle; None if another process holds the lock or there are no locks."""
    import fcntl  # POSIX alone has it

    handle = None
    try:
        handle = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # no link, no pipe
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if handle is not None:
            os.close(handle)
        return None
    return handle


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of writing `path` into an OutputError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, shutil.Error):  # its argument is a list of (from, to, reason)
            error = OSError(None, str(error.args[0][0][2])) if error.args and error.args[0] else OSError()
        found = error.strerror or str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in found
        remedy = "Free some space or name another folder" if full else "Name another folder or change its permissions"
        raise OutputError(f"cannot write {path}", found, remedy) from error


def unreadable(path: Path, error: OSError, kind: type[SeverstalError] = InputError) -> SeverstalError:
    """The error for a file that the system cannot read. The file may be intact, so the remedy is not to remove it.

    Raises MachineError: the memory is full.
    """
    check_memory(error, f"reading {path}")
    remedy = "Check the disk, and try again"
    if isinstance(error, PermissionError):
        remedy = "Change its permissions"
    elif isinstance(error, IsADirectoryError):
        remedy = "Move that folder away"
    elif error.errno == errno.ENAMETOOLONG:
        remedy = "Give a shorter name"
    return kind(f"cannot read {path}", error.strerror or str(error), remedy)


def lock(handle: int, *, wait: bool = False) -> bool:
    """Lock an open file or folder until it is closed; False where another process holds it and `wait` is not given.

    On a file system without locks nothing is locked, and the result is True. Raises OSError.
    """
    import fcntl  # POSIX only

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
    return True


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Lock `folder` for this process. It is created, and removed afterwards with its new parents if they are empty.

    On a file system without locks there is no protection.

    Raises:
        MachineError: another process holds the lock; `what` is the message.
        OutputError: the folder cannot be created.
    """
    own = [folder, *(above for above in folder.parents if not above.exists())]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        if not lock(handle):
            raise MachineError(what, "", "Wait for it")
        try:
            yield
        finally:
            with suppress(OSError):
                for path in own:
                    path.rmdir()
    finally:
        os.close(handle)


def check_room(folder: Path, needed: int) -> None:
    """Raises OutputError unless `needed` bytes fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        found = f"{needed / 1e9:,.2f} GB needed, {free / 1e9:,.2f} GB free"
        raise OutputError(f"not enough space in {folder}", found, "Free some space or name another folder")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all. Raises OutputError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def check_writable(path: Path) -> None:
    """Raises OutputError if `path` cannot be written, before hours of work are lost. Nothing is created."""
    folder = next(above for above in path.absolute().parents if above.exists())
    if path.is_dir():
        raise OutputError(f"cannot write {path}", "it is a folder", "Name a file")
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}", f"{folder.name} is a file", "Name another folder")
    if not is_writable(folder):
        raise OutputError(f"cannot write {path}", "no permission, or no space", "Name another folder")


def nfc(name: str) -> str:
    """A file name as Unicode NFC: macOS stores the same name in another form (NFD)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_writable(folder: Path) -> bool:
    """Whether files can be created in `folder`, by creating one: permission bits are not reliable on every mount."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def beside(folder: Path, name: str, *, new: bool = False) -> Path:
    """The path of `name` in the data folder `folder`, or in the user's cache if that folder is read-only.

    A Kaggle notebook mounts its input read-only; then `name` goes to a subfolder of $XDG_CACHE_HOME/severstal (default
    ~/.cache/severstal). A file in the read-only folder is used until the cache has one. `new`: to write the file.
    """
    given = folder / name
    if is_writable(folder):
        return given
    cache_root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "severstal"
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    own = cache_root / f"{folder.resolve().name}-{key}" / name
    return given if given.exists() and not own.exists() and not new else own
