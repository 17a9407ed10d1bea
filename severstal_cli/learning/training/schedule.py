"""Progress of a training, and what depends on it: learning rate, crop resolution, validated epochs."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from severstal_cli.config import TrainConfig
from severstal_cli.wording import counted

SMALL_SET, ENOUGH_STEPS = 200, 1500
"""With fewer training images, a note says that fewer steps may not do: the default number of epochs is for thousands of
images."""

GUESS_STEPS = 3
"""Steps before the duration of a validation is estimated from them; the estimate is at most half the time limit."""


@dataclass(kw_only=True)
class Clock:
    """Share of a training that is done, within an epoch: the share of the epochs or of the time limit, if larger."""

    config: TrainConfig
    epoch: int
    """Counted from 0."""
    steps_an_epoch: int
    """Steps per epoch with the current number of devices."""
    elapsed_s: float
    """Training time before the epoch."""
    validation_s: float | None
    """Time reserved for the final validation (twice, if best epochs are averaged). None: estimated, as there was no
    validation yet."""
    validation_steps: float
    """Number of steps that take about as long as a validation, for the estimate."""
    agree: Callable[[float], float]
    """Returns the time of rank 0 on all devices: their clocks differ, but they must stop together."""
    began: float = field(default_factory=lambda: time.monotonic())  # noqa: PLW0108 (a test sets the clock)
    _first_s: float | None = field(default=None, init=False)
    """Duration of the first step, which may be far longer than others because of compilation."""

    def share_done(self, step: int) -> float:
        """The share of the training after `step` steps of the epoch."""
        share = (self.epoch + step / self.steps_an_epoch) / self.config.epochs
        if self.config.time_limit_s is None:
            return share
        epoch_s = time.monotonic() - self.began
        if step and self._first_s is None:
            self._first_s = epoch_s
        if self.validation_s is not None:
            left_s = self.validation_s * (2 if self.config.best_epochs > 1 else 1)
        elif self._first_s is not None and step >= GUESS_STEPS:
            step_s = (epoch_s - self._first_s) / (step - 1)
            left_s = min(step_s * self.validation_steps, self.config.time_limit_s / 2)
        else:
            left_s = 0.0
        spent = self.agree(self.elapsed_s + epoch_s + left_s)
        return max(share, spent / self.config.time_limit_s)


def small_set_note(config: TrainConfig, images: int, steps_an_epoch: int) -> str | None:
    """The note that a small set makes few steps; None if there are enough."""
    steps = config.epochs * steps_an_epoch
    if images >= SMALL_SET or steps >= ENOUGH_STEPS:
        return None
    epochs = math.ceil(ENOUGH_STEPS / steps_an_epoch)
    made = f"{counted(images, 'training image')} make {counted(steps_an_epoch, 'step')} per epoch, {steps:,} in total"
    return f"note: {made}, which may be too few to learn from; --epochs {epochs} makes {epochs * steps_an_epoch:,}"


def learning_rate(config: TrainConfig, share_done: float) -> float:
    """Linear warm-up, then a cosine to zero."""
    if share_done < config.warmup_share:
        return config.learning_rate * (share_done / config.warmup_share)
    after = (share_done - config.warmup_share) / (1 - config.warmup_share)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(after, 1.0)))


def rate_of_step(config: TrainConfig, share: float, *, step_share: float, is_first: bool) -> float:
    """The learning rate of a step that begins at `share` of the training and takes `step_share` of it.

    During the warm-up the rate at the middle of the step: at its beginning the first step, which may be the only one,
    would have rate 0. With a time limit the length of the first step is unknown, so it gets at least the rate at the
    middle of the warm-up.
    """
    if share < config.warmup_share:
        share += step_share / 2
        if is_first and config.time_limit_s is not None:
            share = max(share, config.warmup_share / 2)
    return learning_rate(config, share)


def is_half_size(config: TrainConfig, share_done: float) -> bool:
    """Whether an epoch that begins at `share_done` trains on crops at half resolution."""
    return share_done < config.half_size_share


def validates(config: TrainConfig, epoch: int, share_done: float) -> bool:
    """Whether an epoch, counted from 0, that begins at `share_done` is validated: at half size every fourth one.

    Half-size epochs take a quarter of the time, and the best epoch comes later.
    """
    return epoch % 4 == 3 or not is_half_size(config, share_done)
