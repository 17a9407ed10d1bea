"""What goes wrong with files and machines, each told in one line: what, what was found, how to mend it.

    SeverstalError
    ├── InputError      a file or folder that the user gave is wrong
    │   └── UsageError  an option has a value that it cannot have: exit code 2, as for an unknown option
    ├── RunError        the folder of a trained model is incomplete or not ours
    ├── OutputError     a result cannot be written: no permission, no space
    └── MachineError    the machine lacks something: a library, memory, a device, the network

A wrong argument inside the program is a ValueError, not one of these.
"""

import errno


def printable(text: str) -> str:
    """Return `text` with everything escaped that a terminal would not show as it is, but for line ends.

    Names of files may hold control characters, which would move the cursor, and bytes that are no UTF-8.
    """
    return "".join(each if each.isprintable() or each == "\n" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte of a name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


class SeverstalError(Exception):
    """A fault of the input or the machine. `str(error)` is one line: "what: found. Remedy."""

    def __init__(self, what: str, found: str = "", remedy: str = "") -> None:
        self.what, self.found, self.remedy = what, found, remedy
        line = f"{what}: {found}" if found else what
        super().__init__(printable(" ".join((f"{line}. {remedy}" if remedy else line).split())))


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
    "start new thread", "could not create a primitive", "could not create a memory", "unable to find an engine",
    "cudnn_status_alloc_failed", "cublas_status_alloc_failed",
)  # fmt: skip
"""What libraries say of a full memory, in lower case: few have a kind of error for it."""


def is_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is that the memory is full."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if not isinstance(error, SeverstalError) and any(word in str(error).lower() for word in FULL):
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
