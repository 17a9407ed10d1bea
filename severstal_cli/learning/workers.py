"""Work on several devices: a process each, a worker, started by `--devices` here or by `torchrun` on many machines.

Both go through torch's elastic launcher, which ends all workers when one has ended badly, and tells each by the
environment who it is: `RANK` of `WORLD_SIZE`, of which `LOCAL_WORLD_SIZE` are on its machine. The first one, rank 0,
writes and tells; the others are silent.
"""

import logging
import os
import pickle
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import torch

from severstal_cli.errors import MachineError, SeverstalError
from severstal_cli.progress import SILENT, Progress

T = TypeVar("T")


class Shared(Protocol):
    """The config of what several processes can do together."""

    @property
    def devices(self) -> int: ...


C = TypeVar("C", bound=Shared)

REMEDY = "With --resume the same command goes on from what is finished"

LAST_WORDS_S = 15.0
"""How long a worker that failed leaves the word to another one, whose end may take seconds on a busy machine."""


def is_worker() -> bool:
    """Whether a launcher started this process, here or by torchrun."""
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def is_first() -> bool:
    """Whether this process is to write and tell: the only one, or the first worker."""
    return not is_worker() or os.environ["RANK"] == "0"


def check_gpus(devices: int) -> None:
    """See whether each device of this machine would be a GPU of its own. Raises MachineError; a CPU can be shared."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else devices
    if devices > gpus:
        raise MachineError("too few GPUs", f"{devices} asked for, {gpus} there", f"Give --devices {gpus} at most")


@contextmanager
def one_voice() -> Iterator[None]:
    """Let one worker tell what went wrong: the first one where all found the same, else the one where it began."""
    if is_worker():
        signal.signal(signal.SIGINT, _interrupt_once)
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


def _interrupt_once(*_: object) -> NoReturn:
    """A terminal sends Ctrl-C to all and the launcher passes it on: the second must not disturb what the first ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """End a worker that failed, at once: what NCCL does at an ordinary end may wait for the other workers for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


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


def run(function: Callable[..., T], devices: int, *args: object) -> T:
    """Call `function` in as many workers on this machine; what it returns in the first one.

    No worker is left when this returns or raises.

    Raises:
        MachineError: too few GPUs, or a worker was killed.
        KeyboardInterrupt: as ever.
        Exception: what `function` raised in a worker, one of them if it was several.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    check_gpus(devices)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP,
                                                                signal.SIGQUIT)}  # fmt: skip
    level = logging.root.manager.disable
    if os.environ.get("SEVERSTAL_DEBUG") != "1":
        logging.disable(logging.CRITICAL)  # pages on which process ended when
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # the like of the workers
    try:
        with tempfile.TemporaryDirectory(prefix="severstal-") as logs:
            launch = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=devices,
                run_id="severstal",
                rdzv_backend="c10d",
                rdzv_endpoint="127.0.0.1:0",
                local_addr="127.0.0.1",
                max_restarts=0,
                monitor_interval=0.1,
                logs_specs=DefaultLogsSpecs(log_dir=logs),
            )
            told = Path(logs) / "error"  # no queue: its semaphores would outlive an error, and Python would tell so
            try:
                return elastic_launch(launch, _work)(told, function, *args)[0]  # type: ignore[no-any-return]
            except ChildFailedError as failed:
                if sys.stderr.isatty():
                    sys.stderr.write("\x1b[?25h")  # a bar hides the cursor, and a worker that is ended leaves it so
                if told.exists():
                    raise pickle.loads(told.read_bytes()) from None
                rank, failure = failed.get_first_failure()
                code = failure.exitcode
                end = f"was killed (signal {-code})" if code < 0 else f"ended with exit code {code}"
                raise MachineError(f"worker {rank + 1} of {devices} {end}", "", REMEDY) from None
    except SignalException as ended:
        if ended.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + ended.sigval) from None
    finally:
        logging.disable(level)
        with suppress(ValueError):  # in the main thread alone the launcher has set its own
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _work(told: Path, function: Callable[..., T], *args: object) -> T:
    """What a worker of `run` does; an error goes to the process that started it, in a file."""
    if "lo" in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else it listens where others can reach it
    try:
        return function(*args)
    except KeyboardInterrupt:
        leave(128 + signal.SIGINT)  # torch would keep the traceback for a launcher that is ending, too
    except Exception as error:
        travels: Exception = error
        if not isinstance(error, SeverstalError | OSError | MemoryError):  # others may not
            travels = RuntimeError(f"{type(error).__name__}: {error}")
        travels.add_note(traceback.format_exc())
        part = told.with_suffix(f".{os.getpid()}")
        part.write_bytes(pickle.dumps(travels))
        with suppress(FileExistsError):  # the first one counts
            os.link(part, told)
        leave(1)
