"""Torch's threads, and the cores that other processes leave free."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from severstal_cli.config import TrainConfig
from severstal_cli.learning.training import free_cores
from severstal_cli.stages import training


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch):
    """A process that may use four threads on four cores, and whose clock stands at each look."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(free_cores, "FIRST_LOOK_S", 0)
    monkeypatch.setattr(free_cores, "_idle_seconds", lambda: [0.0] * 4)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def _others(monkeypatch: pytest.MonkeyPatch, *used: float) -> None:
    looks = iter(used)
    monkeypatch.setattr(free_cores.OthersUse, "since_last_look", lambda _: next(looks))


def _device(kind: str = "cpu", workers: int = 1):
    return SimpleNamespace(device=torch.device(kind), world_size=workers)


def test_there_are_as_many_threads_as_free_cores(four_threads, heard, monkeypatch: pytest.MonkeyPatch) -> None:
    _others(monkeypatch, 0.4, 0.9, 1.1, 4.0, 2.0, 0.0)
    threads = []
    with free_cores.threads_for(_device(), heard) as fit:
        for _ in range(6):
            fit()
            threads.append(torch.get_num_threads())
        torch.set_num_threads(2)
    assert threads == [4, 3, 3, 1, 2, 4]
    assert torch.get_num_threads() == 4
    assert heard.lines == [
        "other processes use 0.9 of 4 cores: training with 3 threads",
        "other processes use 4.0 of 4 cores: training with 1 thread",
        "other processes use 2.0 of 4 cores: training with 2 threads",
        "other processes use 0.0 of 4 cores: training with 4 threads",
    ]


@pytest.mark.parametrize(("kind", "workers", "variable"), [("cuda", 1, False), ("cpu", 2, False), ("cpu", 1, True)])
def test_threads_stay_on_a_gpu_in_workers_and_as_the_environment_says(
    four_threads, heard, monkeypatch: pytest.MonkeyPatch, kind: str, workers: int, variable: bool
) -> None:
    _others(monkeypatch, 3.0)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with free_cores.threads_for(_device(kind, workers), heard) as fit:
        fit()
        assert torch.get_num_threads() == 4
    assert heard.lines == []


def test_what_others_use_is_without_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {10.0: (3.0, [5.0, 5.0]), 20.0: (9.0, [6.0, 7.0]), 30.0: (19.0, [16.0, 17.0]), 40.0: (20.0, [1.0, 2.0])}
    now = 10.0
    monkeypatch.setattr(free_cores, "_idle_seconds", lambda: clocks[now][1])
    clock = SimpleNamespace(monotonic=lambda: now, process_time=lambda: clocks[now][0])
    monkeypatch.setattr(free_cores, "time", clock)
    others = free_cores.OthersUse()
    now = 20.0
    assert others.since_last_look() == pytest.approx(2 - (1 + 2 + 6) / 10)
    now = 30.0
    assert others.since_last_look() == 0  # clocks of other grain: 30 s of idle and own time in 10 s
    now = 40.0
    assert others.since_last_look() == 2  # other cores, with smaller counters


@pytest.mark.parametrize(
    ("allowed", "seconds"),
    [([0, 2], [3.0, 7.0]), ([1], [6.0]), ([0, 40], [3.0, 6.0, 7.0]), (None, [3.0, 6.0, 7.0])],
)
def test_idle_time_is_that_of_the_cores_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, allowed: list[int] | None, seconds: list[float]
) -> None:
    cores = [SimpleNamespace(idle=1.0, iowait=2.0), SimpleNamespace(idle=6.0), SimpleNamespace(idle=3.0, iowait=4.0)]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: cores)
    process = SimpleNamespace() if allowed is None else SimpleNamespace(cpu_affinity=lambda: allowed)
    monkeypatch.setattr(psutil, "Process", lambda: process)
    assert free_cores._idle_seconds() == seconds


@pytest.mark.parametrize(("own", "seconds"), [(0, [8.0]), (5, [1.0])])
def test_processes_of_lower_priority_count_as_idle_unless_this_one_is_such(
    monkeypatch: pytest.MonkeyPatch, own: int, seconds: list[float]
) -> None:
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [SimpleNamespace(idle=1.0, nice=7.0, user=3.0)])
    monkeypatch.setattr(psutil, "Process", SimpleNamespace)
    monkeypatch.setattr("os.nice", lambda _: own)
    assert free_cores._idle_seconds() == seconds


@pytest.mark.parametrize("error", [FileNotFoundError("/proc/stat"), psutil.AccessDenied()])
@pytest.mark.parametrize("looks", [0, 1])
def test_threads_stay_where_the_system_has_no_counters(
    four_threads, heard, monkeypatch: pytest.MonkeyPatch, looks: int, error: Exception
) -> None:
    left = iter([[0.0] * 4] * looks)

    def refuse() -> list[float]:
        for seconds in left:
            return seconds
        raise error

    monkeypatch.setattr(free_cores, "_idle_seconds", refuse)
    with free_cores.threads_for(_device(), heard) as fit:
        fit()
        assert torch.get_num_threads() == 4


def test_a_training_looks_before_each_epoch(four_threads, make_data, tmp_path: Path, heard, monkeypatch) -> None:
    _others(monkeypatch, 3.0, 1.0)
    config = TrainConfig(
        data=make_data(), models=tmp_path, arch="linknet", encoder="resnet18", encoder_weights=None, epochs=2
    )
    training.train(config, heard)
    assert [line for line in heard.lines if "other processes" in line] == [
        "other processes use 3.0 of 4 cores: training with 1 thread",
        "other processes use 1.0 of 4 cores: training with 3 threads",
    ]
    assert torch.get_num_threads() == 4
