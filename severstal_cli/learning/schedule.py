"""How far a training is, and what that makes of the learning rate."""

import math
import time
from collections.abc import Callable

from severstal_cli.config import TrainConfig


def done_share(
    config: TrainConfig,
    steps_an_epoch: int,
    elapsed_s: float,
    began: float,
    validation_s: float,
    agree: Callable[[float], float],
) -> Callable[[int], float]:
    """How much of the training is done after a number of steps: of its epochs or of its time, whichever is more.

    `agree` gives all devices the time of the first one: each has a clock of its own, but they must stop together.
    """
    steps = config.epochs * steps_an_epoch

    def share_after(step: int) -> float:
        if config.time_limit_s is None:
            return step / steps
        # the last validation belongs to the time, too
        spent = agree(elapsed_s + time.monotonic() - began + validation_s)
        return max(step / steps, spent / config.time_limit_s)

    return share_after


def learning_rate(config: TrainConfig, done_share: float) -> float:
    """Linear warm-up, then a cosine to zero, by the share of the training that is done."""
    if done_share < config.warmup_share:
        return config.learning_rate * (done_share / config.warmup_share)
    after = (done_share - config.warmup_share) / (1 - config.warmup_share)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(after, 1.0)))


def is_coarse(config: TrainConfig, done_share: float) -> bool:
    """Whether an epoch that begins here is trained at half size."""
    return done_share < config.coarse_share


def validates(config: TrainConfig, epoch: int, done_share: float) -> bool:
    """Whether an epoch, counted from 0, that begins here is worth a validation: at half size one in four is.

    Such an epoch takes a quarter of the time of others, and the best one comes later.
    """
    return epoch % 4 == 3 or not is_coarse(config, done_share)
