"""Files that appear whole or not at all, and the one place for what belongs to a data folder but is no data."""

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

    The folder that it lies in is made when it is missing. A reader sees what was there or what is new, never a part.
    What a writer that was killed left there is removed. `mode`: its permissions, less what the umask takes.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    with writing(path), _held(path, mode) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Likewise a folder, where there is nothing at `path`."""
    with writing(path), _held(path, None) as temporary:
        yield temporary
        temporary.rename(path)


_PART = f".{'[0-9a-f]' * 16}.part"
"""The names of temporary files and folders."""
_swept: set[Path] = set()
"""A folder may hold thousands of files, each written by a call of its own: it is looked through once."""


@contextmanager
def _held(path: Path, mode: int | None) -> Iterator[Path]:
    """A new file of this mode, for None a folder, beside `path`, held until the end of the block, and removed then.

    Held by a lock, not named after a process: containers that share a volume have the same numbers of processes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _swept:
        _swept.add(path.parent)
        remove_parts(path.parent)
    while True:
        part = path.with_name(f".{secrets.token_hex(8)}.part")
        if mode is None:
            part.mkdir()
        else:
            part.touch(mode, exist_ok=False)
        handle = _hold(part)
        # between the two lines another process may have taken it for one that was left
        if part.exists():
            break
        if handle is not None:
            os.close(handle)
    try:
        yield part
    finally:
        if mode is None:
            shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def remove_parts(folder: Path) -> None:
    """Remove what writers that were killed left in `folder`. What a living one holds, on any machine, stays."""
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
    """Lock a file or folder: the handle to close; None where another process has it, or there are no locks."""
    import fcntl  # POSIX alone has it

    handle = None
    try:
        handle = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # no link, nor a pipe without a writer
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if handle is not None:
            os.close(handle)
        return None
    return handle


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell in one line that `path` cannot be written. Raises OutputError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, shutil.Error):  # a list of (from, to, why), which says nothing in Python's own words
            error = OSError(None, str(error.args[0][0][2])) if error.args and error.args[0] else OSError()
        found = error.strerror or str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in found
        remedy = "Free some space or name another place" if full else "Name another place or mend its permissions"
        raise OutputError(f"cannot write {path}", found, remedy) from error


def unreadable(path: Path, error: OSError, kind: type[SeverstalError] = InputError) -> SeverstalError:
    """One line for a file that the system does not let us read. It may be whole: nothing is to be removed or redone.

    Raises MachineError: the memory is full.
    """
    check_memory(error, f"reading {path}")
    remedy = "Check the disk, and try again"
    if isinstance(error, PermissionError):
        remedy = "Mend its permissions"
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
    """Keep `folder` to this process. It is made, and removed at the end with what was made above it if all is empty.

    Where the file system has no locks, nothing is kept.

    Raises MachineError: another process holds it, which `what` tells; OutputError: it cannot be made.
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
    """See whether `needed` bytes fit on the disk of `folder`. Raises OutputError."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        found = f"{needed / 1e9:,.2f} GB needed, {free / 1e9:,.2f} GB free"
        raise OutputError(f"not enough space in {folder}", found, "Free some space or name another place")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all. Raises OutputError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def check_place(path: Path) -> None:
    """See now whether `path` can be written later, after hours of work perhaps. Nothing is made. Raises OutputError."""
    folder = next(above for above in path.absolute().parents if above.exists())
    if path.is_dir():
        raise OutputError(f"cannot write {path}", "it is a folder", "Name a file")
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}", f"{folder.name} is a file", "Name another place")
    if not is_writable(folder):
        raise OutputError(f"cannot write {path}", "no permission, or no space", "Name another place")


def nfc(name: str) -> str:
    """A file name as Unicode NFC: macOS stores the same name in another form (NFD)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder` (asked by making one: permission bits do not tell on every mount)."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def beside(folder: Path, name: str, *, new: bool = False) -> Path:
    """The path for `name`, kept with the data folder `folder`: in it, or where it is read-only in the user's cache.

    A Kaggle notebook mounts its input read-only; then `name` goes to a folder of its own under
    $XDG_CACHE_HOME/severstal (default ~/.cache/severstal). What came with read-only data counts until there is one of
    the user's own. `new`: one is about to be written.
    """
    given = folder / name
    if is_writable(folder):
        return given
    cache_root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "severstal"
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    own = cache_root / f"{folder.resolve().name}-{key}" / name
    return given if given.exists() and not own.exists() and not new else own
