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


class SeverstalError(Exception):
    """A fault of the input or the machine. `str(error)` is one line: "what: found. Remedy."""

    def __init__(self, what: str, found: str = "", remedy: str = "") -> None:
        self.what, self.found, self.remedy = what, found, remedy
        line = f"{what}: {found}" if found else what
        super().__init__(" ".join(f"{line}. {remedy}".split()) if remedy else " ".join(line.split()))


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
