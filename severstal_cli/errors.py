"""Errors of files and machines, each reported in one line: what is wrong, what was found, how to mend it.

    SeverstalError
    ├── InputError      a file or folder that the user gave is wrong
    │   └── UsageError  an option has a value that it cannot have: exit code 2, as for an unknown option
    ├── RunError        the folder of a trained model is incomplete or not ours
    ├── OutputError     a result cannot be written: no permission, no space
    └── MachineError    the machine lacks something: a library, memory, a device, the network

A wrong argument inside the program is a ValueError, not one of these.

Names and texts in a line come from files that others made, so `shown` makes each fit for a terminal.
"""

import errno
from typing import Any

LONGEST = 500
"""Characters of what is shown of a text."""


def shown(text: str, longest: int = LONGEST) -> str:
    """`text` as it may reach a terminal: control and bidirectional characters escaped, the middle cut where it is long.

    "a\\x1b[2Jb" becomes the ten characters a \\ x 1 b [ 2 J b: a terminal would have been cleared.
    """
    text = _cut(text, longest)
    if text.isprintable():
        return text
    # what takes the most characters is what was never meant to be read
    return _cut("".join(each if each.isprintable() else _escaped(each) for each in text), longest)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte of a name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _cut(text: str, longest: int) -> str:
    end = longest // 3
    return text if len(text) <= longest else f"{text[: longest - end - 5]} ... {text[-end:]}"


class SeverstalError(Exception):
    """A fault of the input or the machine. `str(error)` is one line that a terminal can show: "what: found. Remedy"."""

    def __init__(self, what: str, found: str = "", remedy: str = "") -> None:
        self.what, self.found, self.remedy = what, found, remedy
        # the remedy is what must be read: what was found gives way to it, and then what is wrong
        what, found, remedy = (" ".join(part.split()) for part in (what, found, remedy))
        remedy = shown(remedy, LONGEST)
        room = LONGEST + 100 - min(len(remedy), LONGEST - 100)
        found = shown(found, max(room - len(what), room // 2))
        what = shown(what, room - len(found))
        line = f"{what}: {found}" if found else what
        super().__init__(f"{line}. {remedy}" if remedy else line)

    def __reduce__(self) -> tuple[Any, ...]:  # to another process with its parts, which make the line again
        return type(self), (self.what, self.found, self.remedy), self.__dict__


class InputError(SeverstalError):
    """A file or folder that the user gave is missing, unreadable or wrong."""


class UsageError(InputError):
    """An option has a value that it cannot have, whatever the files."""


class RunError(SeverstalError):
    """The folder of a trained model is incomplete, damaged or of another version."""


class OutputError(SeverstalError):
    """A result cannot be written."""


class MachineError(SeverstalError):
    """The machine lacks something that the command needs."""


FULL = (
    "out of memory", "allocate memory", "not enough memory", "bad_alloc", "bad alloc", "bad allocation",
    "failed to allocate", "insufficient memory", "outofmemory", "unable to mmap", "failed to map segment",
    "start new thread", "unable to find an engine",
    "cudnn_status_alloc_failed", "cublas_status_alloc_failed",
)  # fmt: skip
"""What libraries say of a full memory, in lower case: few have a kind of error for it."""

PRIMITIVE = "could not create a primitive"
"""oneDNN says so of a full memory, and of what it cannot compute on a processor."""


def is_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is that the memory is full."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        said = "" if isinstance(error, SeverstalError) else str(error).lower()
        if any(word in said for word in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def check_memory(error: BaseException, doing: str) -> None:
    """Where `error` is that of a full memory, say so instead of blaming a file. Raises MachineError."""
    if is_memory(error):
        raise memory_is_full(doing) from error


def memory_is_full(doing: str = "", remedy: str = "") -> MachineError:
    """What to say of a full memory, met at `doing`."""
    if not remedy:
        remedy = "Free some, or raise its limit (ulimit -v, a container's)"
        remedy += "" if doing else ", or give a smaller --batch-size where that is above 1"
    return MachineError("the memory is full", doing, remedy)
