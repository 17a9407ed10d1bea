"""Errors of files and machines. Each is reported in one line: what is wrong, the actual value, the remedy.

    SeverstalError
    ├── InputError      a file or folder that the user gave is wrong
    │   └── UsageError  an option has an invalid value: exit code 2, as for an unknown option
    ├── RunError        the folder of a trained model is incomplete or damaged
    ├── OutputError     a result cannot be written: no permission or no space
    └── MachineError    the machine lacks something: a library, memory, a device, the network

A wrong argument inside the program is a ValueError, not one of these.

Names and texts may come from untrusted files, so `shown` escapes them for the terminal.
"""

import errno
from typing import Any

LONGEST = 500
"""Characters of a text that are shown."""


def shown(text: str, longest: int = LONGEST) -> str:
    """`text` for a terminal: control and bidirectional characters are escaped, the middle of a long text is cut.

    "a\\x1b[2Jb" becomes the ten characters a \\ x 1 b [ 2 J b: a terminal would have been cleared.
    """
    text = _cut(text, longest)
    if text.isprintable():
        return text
    # escapes lengthen the text, so cut again
    return _cut("".join(each if each.isprintable() else _escaped(each) for each in text), longest)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # Python's surrogate for a byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _cut(text: str, longest: int) -> str:
    end = longest // 3
    return text if len(text) <= longest else f"{text[: longest - end - 5]} ... {text[-end:]}"


class SeverstalError(Exception):
    """An error of the input or the machine. `str(error)` is one printable line: "what: found. Remedy"."""

    def __init__(self, what: str, found: str = "", remedy: str = "") -> None:
        self.what, self.found, self.remedy = what, found, remedy
        # a long line keeps the remedy and shortens `found` first, then `what`
        what, found, remedy = (" ".join(part.split()) for part in (what, found, remedy))
        remedy = shown(remedy, LONGEST)
        room = LONGEST + 100 - min(len(remedy), LONGEST - 100)
        found = shown(found, max(room - len(what), room // 2))
        what = shown(what, room - len(found))
        line = f"{what}: {found}" if found else what
        super().__init__(f"{line}. {remedy}" if remedy else line)

    def __reduce__(self) -> tuple[Any, ...]:  # another process rebuilds the line from its parts
        return type(self), (self.what, self.found, self.remedy), self.__dict__


class InputError(SeverstalError):
    """A file or folder that the user gave is missing, unreadable or wrong."""


class UsageError(InputError):
    """An option has an invalid value."""


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
"""Texts of libraries for a full memory, in lower case: few have an exception type for it."""

PRIMITIVE = "could not create a primitive"
"""oneDNN's text for a full memory, and for operations that the processor does not support."""


def is_memory(error: BaseException | None) -> bool:
    """Whether an error or one of its causes means that the memory is full."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        text = "" if isinstance(error, SeverstalError) else str(error).lower()
        if any(words in text for words in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def check_memory(error: BaseException, doing: str) -> None:
    """Raises MachineError if `error` means that the memory is full, so that no file is blamed."""
    if is_memory(error):
        raise memory_is_full(doing) from error


def memory_is_full(doing: str = "", remedy: str = "") -> MachineError:
    """The error for a full memory during `doing`."""
    if not remedy:
        remedy = "Free some, or raise its limit (ulimit -v, a container's)"
        remedy += "" if doing else ", or give a smaller --batch-size where that is above 1"
    return MachineError("the memory is full", doing, remedy)
