"""Worker processes on this machine, for `--devices`. None outlives the call that started them.

No network is needed. The workers meet at a file in a folder that only this user can open, and exchange tensors over
the loopback interface. Results and errors come back through an anonymous pipe; nothing from a socket is unpickled.
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
from multiprocessing import connection, resource_tracker, util
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch

from severstal_cli.errors import MachineError, SeverstalError

T = TypeVar("T")

REMEDY = "With --resume the same command continues after the finished work"

END_S = 30.0
"""How long a worker may take to end after Ctrl-C; then it is killed."""


def check_gpus(devices: int) -> None:
    """Check that there is a GPU for each device; without any GPU the workers share the CPU. Raises MachineError."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else devices
    if devices > gpus:
        raise MachineError("too few GPUs", f"{devices} asked for, {gpus} available", f"Give --devices {gpus} at most")


def run(function: Callable[..., T], devices: int, *args: object) -> T:
    """Call `function` in `devices` workers on this machine. Returns the result of rank 0.

    No worker is left when this returns or raises, nor when this process is killed.

    Raises:
        MachineError: too few GPUs, a worker was killed, or this machine has no loopback interface.
        KeyboardInterrupt: Ctrl-C.
        Exception: the first error that `function` raised in a worker.
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
                sys.stderr.write("\x1b[?25h")  # show the cursor: a killed worker leaves it hidden by its progress bar


@dataclass(frozen=True, kw_only=True)
class _Worker:
    process: SpawnProcess
    pipe: "connection.Connection[Any, Any]"
    """Receives the worker's result or error; closed when the worker ends."""


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM, SIGHUP and SIGQUIT end the workers before this process. Only the main thread can."""
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
    """State that new workers inherit: SIGINT stays blocked until they handle it, and torch logs fatal errors only."""
    name = "TORCH_CPP_LOG_LEVEL"
    is_quiet = os.environ.get("SEVERSTAL_DEBUG") != "1" and name not in os.environ
    _start_tracker()  # the first start would otherwise do it, and unblock the signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        if is_quiet:
            os.environ[name] = "FATAL"
        yield
    finally:
        if is_quiet:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _start_tracker() -> None:
    """Start Python's tracker of named semaphores. It removes those of a worker that was killed, without a warning."""
    name, quiet = "PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker"
    before = os.environ.get(name)
    os.environ[name] = f"{before},{quiet}" if before else quiet
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _start(rank: int, devices: int, store: Path, function: Callable[..., object], args: tuple[object, ...]) -> _Worker:
    """Start a worker, without shared memory: a container may have none."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_work, args=(rank, devices, store, sending, function, args))
    try:
        process.start()
    finally:
        sending.close()
    return _Worker(process=process, pipe=receiving)


def _outcome(started: Sequence[_Worker]) -> Any:
    """The result of rank 0, after all workers succeeded. Raises as soon as one fails."""
    results: dict[int, Any] = {}
    open_pipes = {worker.pipe: number for number, worker in enumerate(started)}
    while open_pipes:
        ended = []
        for pipe in connection.wait(list(open_pipes)):
            assert isinstance(pipe, connection.Connection)
            number = open_pipes.pop(pipe)
            try:
                # an anonymous pipe from a process of our own: nobody else can write to it
                is_error, results[number] = pipe.recv()
            except (EOFError, OSError):
                ended.append(number)
                continue
            if is_error:
                raise results[number]
        for number in ended:
            started[number].process.join(END_S)
            code = started[number].process.exitcode or 0
            if code == 128 + signal.SIGINT:  # the worker received Ctrl-C before this process did
                raise KeyboardInterrupt
            end = f"was killed (signal {-code})" if code < 0 else f"ended with exit code {code}"
            raise MachineError(f"worker {number + 1} of {len(started)} {end}", "", REMEDY)
    for worker in started:
        worker.process.join(END_S)
    return results[0]


def _end(started: Sequence[_Worker], number: signal.Signals) -> None:
    """Send this signal to the workers that still run, and SIGKILL after `END_S`."""
    until = time.monotonic() + END_S
    try:
        for worker in started:
            if worker.process.is_alive() and worker.process.pid is not None:
                os.kill(worker.process.pid, number)
        for worker in started:
            worker.process.join(max(0.0, until - time.monotonic()))
    finally:  # also after a second Ctrl-C
        for worker in started:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


def _work(
    rank: int,
    devices: int,
    store: Path,
    pipe: "connection.Connection[Any, Any]",
    function: Callable[..., object],
    args: tuple[object, ...],
) -> NoReturn:
    """Run a worker: send one message with the result or the error, then exit."""
    try:
        signal.signal(signal.SIGINT, interrupt_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        threading.Thread(target=_end_with_parent, args=(store.parent,), daemon=True).start()
        _join(rank, devices, store)
        message = False, function(*args)
    except KeyboardInterrupt:
        leave(128 + signal.SIGINT)
    except Exception as error:
        sent: Exception = error
        if not isinstance(error, SeverstalError | OSError | MemoryError):  # other kinds may not be picklable
            sent = RuntimeError(f"{type(error).__name__}: {error}")
        sent.add_note(traceback.format_exc())
        pipe.send((True, sent))
        leave(1)
    pipe.send(message)
    leave(0)


def _end_with_parent(folder: Path) -> None:
    """End this worker with its parent process, and remove `folder`, where the workers met."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _join(rank: int, devices: int, store: Path) -> None:
    """Join the process group that meets at the file `store`. Raises MachineError."""
    os.environ.update(
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(devices),
            "LOCAL_WORLD_SIZE": str(devices),
            "TORCHELASTIC_RUN_ID": "severstal",
        }
    )
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    if loopback is None:
        raise MachineError("several devices need the loopback interface", "this machine has none", "Give --devices 1")
    # a user's setting for several machines would open ports to the network
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
        raise MachineError(
            "the workers cannot reach each other over the loopback interface",
            str(error),
            "Set it up, or give --devices 1",
        ) from error


def interrupt_once(*_: object) -> NoReturn:
    """Raise KeyboardInterrupt at the first SIGINT and ignore the next: terminal and launcher both send one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """Exit without cleanup: NCCL's cleanup in a failed worker may wait for the other workers for ever.

    Only named semaphores are removed: in a command without workers the tracker would report them as leaked.
    torch.export makes one, the lock of a progress bar.
    """
    util._run_finalizers(0)  # type: ignore[attr-defined]  # what multiprocessing itself calls when a worker returns
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
