"""Work on several devices: one worker process per device, started by `--devices` or, on several machines, `torchrun`.

The environment of a worker gives its `RANK`, the number of workers (`WORLD_SIZE`) and how many of them are on its
machine (`LOCAL_WORLD_SIZE`). Only rank 0 writes files and reports progress. `--devices` (see launching) opens no
network port; `torchrun` does: see docs/security.md.
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
    """A config of a stage that can run on several devices."""

    @property
    def devices(self) -> int: ...


C = TypeVar("C", bound=Shared)

GRACE_S = 15.0
"""Grace period before a failing worker reports: another rank may hold the root cause."""


def is_worker() -> bool:
    """Whether `--devices` or torchrun started this process."""
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def is_first() -> bool:
    """Whether this process writes files and reports: the only process, or the worker of rank 0."""
    return not is_worker() or os.environ["RANK"] == "0"


@contextmanager
def one_voice() -> Iterator[None]:
    """Let one worker report an error: rank 0 if all raise the same error, else the worker with the root cause."""
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
            # during the grace period the launcher notices how another worker ended, and ends this one
            if not is_first():
                time.sleep(GRACE_S)
            if isinstance(error, RuntimeError):  # a lost connection to another worker: a consequence, not the cause
                time.sleep(GRACE_S)
        raise


def on_devices(
    stage: Callable[[C, Progress], T],
) -> Callable[..., T]:
    """Decorator: run a stage in `config.devices` workers, unless this process is a worker already.

    Only rank 0 reports progress. The stage then raises what `run` raises, too.
    """

    @wraps(stage)
    def launched(config: C, progress: Progress = SILENT) -> T:
        if config.devices > 1 and not is_worker():
            return run(launched, config.devices, config, progress)
        with one_voice():
            return stage(config, progress if is_first() else SILENT)

    return launched
