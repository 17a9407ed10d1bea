"""Worker processes on this machine, for `--devices`: started, waited for, and ended whatever happens.

No network is needed. The workers meet at a file in a folder that only this user can open, and exchange tensors over
the loopback interface. Results and errors come back through a pipe that only the worker holds, and nothing that
arrives at a socket is unpickled.
"""

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch

from severstal_cli.errors import MachineError, SeverstalError

T = TypeVar("T")

REMEDY = "With --resume the same command goes on from what is finished"

END_S = 30.0
"""How long a worker may take to end after Ctrl-C; then it is killed."""


def check_gpus(devices: int) -> None:
    """See whether each device of this machine would be a GPU of its own. Raises MachineError; a CPU can be shared."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else devices
    if devices > gpus:
        raise MachineError("too few GPUs", f"{devices} asked for, {gpus} there", f"Give --devices {gpus} at most")


def run(function: Callable[..., T], devices: int, *args: object) -> T:
    """Call `function` in as many workers on this machine; what it returns in the first one.

    No worker is left when this returns or raises, nor when this process is killed.

    Raises:
        MachineError: too few GPUs, a worker was killed, or this machine has no loopback interface.
        KeyboardInterrupt: as ever.
        Exception: what `function` raised in a worker, one of them if it was several.
    """
    check_gpus(devices)
    started: list[_Worker] = []
    # mkdtemp makes the folder for this user alone, whatever the umask
    with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="severstal-") as folder:
        last_signal = signal.SIGTERM
        try:
            with _starting():
                for rank in range(devices):
                    started.append(_start(rank, devices, Path(folder) / "store", function, args))
            result: T = _outcome(started)
            return result
        except KeyboardInterrupt:
            last_signal = signal.SIGINT
            raise
        finally:
            _end(started, last_signal)
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h")  # a bar hides the cursor, and a worker that is ended leaves it so


@dataclass(frozen=True, kw_only=True)
class _Worker:
    process: SpawnProcess
    words: "connection.Connection[Any, Any]"
    """Where its result or its error arrives; it is closed when the worker ends."""


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals that would end this process at once end its workers first. Only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave_in_order(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {
        number: signal.signal(number, leave_in_order) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _starting() -> Iterator[None]:
    """What workers take over from this process: Ctrl-C waits until they can end in order, and torch is quiet."""
    name = "TORCH_CPP_LOG_LEVEL"
    is_quiet = os.environ.get("SEVERSTAL_DEBUG") != "1" and name not in os.environ
    resource_tracker.ensure_running()  # else the first start does, and unblocks the signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        if is_quiet:
            os.environ[name] = "FATAL"
        yield
    finally:
        if is_quiet:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _start(rank: int, devices: int, store: Path, function: Callable[..., object], args: tuple[object, ...]) -> _Worker:
    """Start a worker. It needs no shared memory: that may be missing in a container."""
    listening, speaking = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_work, args=(rank, devices, store, speaking, function, args))
    try:
        process.start()
    finally:
        speaking.close()
    return _Worker(process=process, words=listening)


def _outcome(started: Sequence[_Worker]) -> Any:
    """What the first worker returned, after all have ended well. Raises as soon as one has not."""
    results: dict[int, Any] = {}
    open_ones = {worker.words: number for number, worker in enumerate(started)}
    while open_ones:
        ended = []
        for words in connection.wait(list(open_ones)):
            assert isinstance(words, connection.Connection)
            number = open_ones.pop(words)
            try:
                # an anonymous pipe from a process of our own: nobody else can write to it
                is_error, results[number] = words.recv()
            except (EOFError, OSError):
                ended.append(number)
                continue
            if is_error:
                raise results[number]
        for number in ended:
            started[number].process.join(END_S)
            code = started[number].process.exitcode or 0
            if code == 128 + signal.SIGINT:  # it has seen Ctrl-C before this process did
                raise KeyboardInterrupt
            end = f"was killed (signal {-code})" if code < 0 else f"ended with exit code {code}"
            raise MachineError(f"worker {number + 1} of {len(started)} {end}", "", REMEDY)
    for worker in started:
        worker.process.join(END_S)
    return results[0]


def _end(started: Sequence[_Worker], number: signal.Signals) -> None:
    """End what still runs, by this signal, and in the end by one that cannot be ignored."""
    until = time.monotonic() + END_S
    try:
        for worker in started:
            if worker.process.is_alive() and worker.process.pid is not None:
                os.kill(worker.process.pid, number)
        for worker in started:
            worker.process.join(max(0.0, until - time.monotonic()))
    finally:  # also at a second Ctrl-C
        for worker in started:
            worker.process.kill()
            worker.process.join()
            worker.words.close()


def _work(
    rank: int,
    devices: int,
    store: Path,
    words: "connection.Connection[Any, Any]",
    function: Callable[..., object],
    args: tuple[object, ...],
) -> NoReturn:
    """What a worker of `run` does: one message with the result or the error, and an end."""
    try:
        signal.signal(signal.SIGINT, interrupt_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        threading.Thread(target=_end_with_parent, args=(store.parent,), daemon=True).start()
        _join(rank, devices, store)
        message = False, function(*args)
    except KeyboardInterrupt:
        leave(128 + signal.SIGINT)
    except Exception as error:
        travels: Exception = error
        if not isinstance(error, SeverstalError | OSError | MemoryError):  # others may not
            travels = RuntimeError(f"{type(error).__name__}: {error}")
        travels.add_note(traceback.format_exc())
        words.send((True, travels))
        leave(1)
    words.send(message)
    leave(0)


def _end_with_parent(folder: Path) -> None:
    """A worker must not outlive the process that started it, whatever ended that, nor `folder`, where they met."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _join(rank: int, devices: int, store: Path) -> None:
    """Make this process one of a group that meets at the file `store`. Raises MachineError."""
    os.environ.update({
        "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
        "WORLD_SIZE": str(devices), "LOCAL_WORLD_SIZE": str(devices), "TORCHELASTIC_RUN_ID": "severstal",
    })  # fmt: skip
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    if loopback is None:
        raise MachineError("several devices need the loopback interface", "this machine has none", "Give --devices 1")
    # what the user set for several machines would open ports to them, and here are none
    os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    is_gpu = torch.cuda.is_available()
    if is_gpu:
        torch.cuda.set_device(rank)
    try:
        torch.distributed.init_process_group(
            "nccl" if is_gpu else "gloo",
            store=torch.distributed.FileStore(  # type: ignore[attr-defined]
                str(store), devices
            ),
            rank=rank,
            world_size=devices,
        )
    except (RuntimeError, ValueError) as error:
        raise MachineError("the workers cannot reach each other over the loopback interface", str(error),
                           "Set it up, or give --devices 1") from error  # fmt: skip


def interrupt_once(*_: object) -> NoReturn:
    """A terminal sends Ctrl-C to all and the launcher passes it on: the second must not disturb what the first ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """End a worker that failed, at once: what NCCL does at an ordinary end may wait for the other workers for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
