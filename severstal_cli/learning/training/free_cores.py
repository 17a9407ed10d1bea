"""As many threads of torch as other processes leave cores free."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric

from severstal_cli.progress import Progress

FIRST_LOOK_S = 1.0
"""How long the first look at the cores takes; a later one is over the time since the last."""


@contextmanager
def threads_for(fabric: Fabric, progress: Progress) -> Iterator[Callable[[], None]]:
    """Yields a function that fits torch's threads to the free cores; at the end there are as many as before.

    A step ends when its slowest thread does, so one thread that shares its core with another process halves the speed
    of all. Nothing changes on a GPU, in one of several workers, or if OMP_NUM_THREADS says how many. Another number of
    threads adds floats in another order, so it gives other bits.
    """
    most = torch.get_num_threads()
    fixed = fabric.device.type != "cpu" or fabric.world_size > 1 or most == 1 or "OMP_NUM_THREADS" in os.environ
    used = None if fixed else others_use()
    if used is None:
        yield lambda: None
        return
    import psutil  # here, as only training on a CPU needs it

    time.sleep(FIRST_LOOK_S)

    def fit() -> None:
        try:
            others = used.since_last_look()
        except (OSError, psutil.Error):
            return
        threads = min(most, max(1, round(used.cores - others)))
        if threads != torch.get_num_threads():
            free = f"other processes use {others:.1f} of {used.cores} cores"
            progress.log(f"{free}: training with {threads} thread{'' if threads == 1 else 's'}")
            torch.set_num_threads(threads)

    try:
        yield fit
    finally:
        torch.set_num_threads(most)


class OthersUse:
    """How many of the cores that this process may run on other processes keep busy.

    Raises OSError or psutil.Error: the system has no such counters.
    """

    def __init__(self) -> None:
        self._last = self._look()

    @property
    def cores(self) -> int:
        """Number of cores that this process may run on."""
        return len(_idle_seconds())

    def _look(self) -> tuple[float, float, float]:
        return time.monotonic(), sum(_idle_seconds()), time.process_time()

    def since_last_look(self) -> float:
        """Mean number of busy cores since the last look, without those that this process kept busy."""
        (began, idle_before, own_before), self._last = self._last, self._look()
        now, idle, own = self._last
        used = self.cores - (idle - idle_before + own - own_before) / max(now - began, 1e-9)
        return min(max(0.0, used), float(self.cores))


def others_use() -> OthersUse | None:
    """A first look at the cores; None if the system has no such counters, as some containers."""
    import psutil

    try:
        return OthersUse()
    except (OSError, psutil.Error):
        return None


def _idle_seconds() -> list[float]:
    """How long each core that this process may run on has been idle since the system started.

    Processes of lower priority (`nice`) count as idle, as they give way to one of normal priority.
    """
    import psutil

    idle = ("idle", "iowait", *(() if _is_nice() else ("nice",)))
    every = [sum(getattr(times, name, 0.0) for name in idle) for times in psutil.cpu_times(percpu=True)]
    process = psutil.Process()
    allowed = process.cpu_affinity() if hasattr(process, "cpu_affinity") else range(len(every))
    # a container may number its cores from 0 and yet allow those of the host
    return [every[core] for core in allowed] if max(allowed) < len(every) else every


def _is_nice() -> bool:
    return hasattr(os, "nice") and os.nice(0) > 0
