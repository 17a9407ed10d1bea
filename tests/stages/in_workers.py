"""Functions that the workers of `test_workers` run. They import this file by its name, and nothing of pytest."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn

from severstal_cli import files
from severstal_cli.config import PredictConfig, TrainConfig
from severstal_cli.errors import MachineError
from severstal_cli.learning import distributed
from severstal_cli.learning.device import gather, open_device
from severstal_cli.learning.networks import registry
from severstal_cli.learning.training import loop, losses
from severstal_cli.progress import Progress
from severstal_cli.stages import prediction, training
from severstal_cli.steel.tables import shards


class Plain(nn.Module):
    """A network without batch norm and dropout: its gradient is a mean over images. One weight is unused."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, classes, 3, padding=1))
        self.unused = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> registry.Logits:
        return registry.Logits(self.network(images), None)


@contextmanager
def plain_network() -> Iterator[None]:
    """Let every training train `Plain`."""
    with mock.patch.object(registry, "build", lambda *_, classes, **__: Plain(classes)):
        yield


def no_objects() -> Any:
    """Fail if data of another worker is unpickled."""
    return mock.patch.object(torch.distributed.distributed_c10d, "_tensor_to_object", None)


def make_semaphore(*, fails: bool = False) -> None:
    """Make a named semaphore that stays until the worker ends, as the lock of a progress bar does.

    fails: the first worker fails, so the other one, which waits, is ended by a signal.
    """
    kept.append(multiprocessing.RLock())
    torch.distributed.barrier()
    if fails and torch.distributed.get_rank() == 0:
        raise MachineError("no more memory")
    torch.distributed.barrier()


kept: list[Any] = []


def train_four(*configs: TrainConfig) -> tuple[list[int], list[training.TrainResult]]:
    """The gathered ranks, and four trainings in turn.

    The first one is unchanged, the second one trains `Plain`, in the third one the second worker's clock runs too fast,
    in the fourth one its half precision is wrong.
    """
    whole, plain, timed, half = configs
    if os.environ["RANK"] == "1":
        files.replacing = None
    with no_objects():
        ranks = gather(int(os.environ["RANK"]), open_device())
        results = [training.train(whole)]
        with plain_network():
            results.append(training.train(plain))
        monotonic, speed = time.monotonic, 1000 if os.environ["RANK"] == "1" else 1
        with mock.patch.object(time, "monotonic", lambda: speed * monotonic()):  # noqa: PT008 (the clock must run)
            results.append(training.train(timed))
        with wrong_half_precision():
            return ranks, [*results, training.train(half)]


def train_until_killed(config: TrainConfig, progress: Progress) -> training.TrainResult:
    """The second worker is killed in the second epoch."""
    update = loop.State.update_ema

    def update_or_die(state: loop.State, decay: float) -> None:
        if os.environ["RANK"] == "1" and state.steps == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        update(state, decay)

    with mock.patch.object(loop.State, "update_ema", update_or_die):
        return training.train(config, progress)


def train_until_nan(config: TrainConfig) -> training.TrainResult:
    """The loss of the second worker is NaN in its second batch; that of the first worker is finite."""
    total_loss, calls = losses.total_loss, 0

    def nan_at_second(*arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return total_loss(*arguments) * (float("nan") if os.environ["RANK"] == "1" and calls == 2 else 1)

    # the first worker only sees that the other one has gone: it waits until the launcher, which knows why, ends it
    patience_s = 1.0 if os.environ["RANK"] == "1" else 300.0
    with (
        mock.patch.object(losses, "total_loss", nan_at_second),
        mock.patch.object(distributed, "GRACE_S", patience_s),
    ):
        return training.train(config)


def predict_until_killed(config: PredictConfig) -> prediction.PredictResult:
    """The second worker is killed as soon as the first one has written a shard."""
    finish = prediction.confidence.expected_dice

    def finish_or_die(*arguments: Any) -> list[float]:
        if os.environ["RANK"] == "1":
            while not list(shards.shards_folder(config.out).glob("part-*.json")):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        return finish(*arguments)

    with no_objects(), mock.patch.object(prediction.confidence, "expected_dice", finish_or_die):
        return prediction.predict(config)


def predict_elsewhere(config: PredictConfig, other: PredictConfig) -> prediction.PredictResult:
    """The second worker gets another config, as on another machine."""
    signal.alarm(600)  # ends them if they wait for each other for ever
    return prediction.predict(other if os.environ["RANK"] == "1" else config)


@contextmanager
def wrong_half_precision() -> Iterator[None]:
    """Let the second worker compute wrong convolutions in half precision if the image is 32 pixels wide."""
    right = nn.Conv2d._conv_forward

    def forward(self: nn.Conv2d, pixels: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        result = right(self, pixels, *weights)
        is_wrong = os.environ["RANK"] == "1" and result.dtype == torch.bfloat16 and pixels.shape[-1] == 32
        return result.roll(1, 1) if is_wrong else result

    with mock.patch.object(nn.Conv2d, "_conv_forward", forward):
        yield
