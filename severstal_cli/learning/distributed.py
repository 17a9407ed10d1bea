"""Work on several devices: a process each, a worker, started by `--devices` here or by `torchrun` on many machines.

Each worker reads in its environment who it is: `RANK` of `WORLD_SIZE`, of which `LOCAL_WORLD_SIZE` are on its machine.
The first one, rank 0, writes and reports; the others are silent. `--devices` (see launching) opens no port to others;
`torchrun` does: see docs/security.md.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Protocol, TypeVar

import torch

from severstal_cli.learning.launching import interrupt_once, leave, run
from severstal_cli.progress import SILENT, Progress

T = TypeVar("T")


class Shared(Protocol):
    """The config of what several processes can do together."""

    @property
    def devices(self) -> int: ...


C = TypeVar("C", bound=Shared)

LAST_WORDS_S = 15.0
"""How long a worker that failed leaves the word to another one, whose end may take seconds on a busy machine."""


def is_worker() -> bool:
    """Whether a launcher started this process, here or by torchrun."""
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def is_first() -> bool:
    """Whether this process is to write and tell: the only one, or the first worker."""
    return not is_worker() or os.environ["RANK"] == "0"


@contextmanager
def one_voice() -> Iterator[None]:
    """Let one worker tell what went wrong: the first one where all found the same, else the one where it began."""
    if is_worker():
        signal.signal(signal.SIGINT, interrupt_once)
    try:
        yield
    except KeyboardInterrupt:
        if is_first():
            raise
        leave(128 + signal.SIGINT)
    except Exception as error:
        if is_worker():
            # meanwhile the launcher sees how another one ended, and ends this one
            if not is_first():
                time.sleep(LAST_WORDS_S)
            if isinstance(error, RuntimeError):  # that another worker has gone, which is never the cause
                time.sleep(LAST_WORDS_S)
        raise


def on_devices(
    stage: Callable[[C, Progress], T],
) -> Callable[..., T]:
    """Decorator of a stage: it runs in as many workers as its config asks for, unless a launcher started them.

    Of several workers only the first one reports its progress. Raises what `run` raises, too.
    """

    @wraps(stage)
    def launched(config: C, progress: Progress = SILENT) -> T:
        if config.devices > 1 and not is_worker():
            return run(launched, config.devices, config, progress)
        with one_voice():
            return stage(config, progress if is_first() else SILENT)

    return launched
