"""How far a training is, and what follows: the learning rate, the size of the pieces, which epochs are validated."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from severstal_cli.config import TrainConfig

GUESS_STEPS = 3
"""Steps of an epoch before the time of a validation is guessed by them; a guess is never above half the time limit."""


@dataclass(kw_only=True)
class Clock:
    """How much of a training is done, as one of its epochs goes on: of the epochs or of the time, whichever is more."""

    config: TrainConfig
    epoch: int
    """Counted from 0."""
    steps_an_epoch: int
    """With other devices than before, others than in the epochs before."""
    elapsed_s: float
    """Of the training as the epoch begins."""
    validation_s: float | None
    """What the last validation will take: it belongs to the time, too, and so does that of the best epochs' mean. None:
    there was none yet; it is guessed."""
    validation_steps: float
    """Steps that take about as long as a validation, for the guess."""
    agree: Callable[[float], float]
    """Gives all devices the time of the first one: each has a clock of its own, but they must stop together."""
    began: float = field(default_factory=lambda: time.monotonic())  # noqa: PLW0108 (a test sets the clock)
    _first_s: float | None = field(default=None, init=False)
    """Of the first step, which may have taken far longer than others: what compiles does so then."""

    def share_done(self, step: int) -> float:
        """After so many steps of the epoch."""
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


def learning_rate(config: TrainConfig, share_done: float) -> float:
    """Linear warm-up, then a cosine to zero, by the share of the training that is done."""
    if share_done < config.warmup_share:
        return config.learning_rate * (share_done / config.warmup_share)
    after = (share_done - config.warmup_share) / (1 - config.warmup_share)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(after, 1.0)))


def rate_of_step(config: TrainConfig, share: float, *, step_share: float, is_first: bool) -> float:
    """The learning rate of a step that begins at `share` of the training and is `step_share` of it.

    In the warm-up that of its middle: at its beginning the first one, which may be the only one, would learn nothing.
    With a time limit nobody knows how long the first one takes: then the middle of the warm-up at least.
    """
    if share < config.warmup_share:
        share += step_share / 2
        if is_first and config.time_limit_s is not None:
            share = max(share, config.warmup_share / 2)
    return learning_rate(config, share)


def is_half_size(config: TrainConfig, share_done: float) -> bool:
    """Whether an epoch that begins here is trained at half size."""
    return share_done < config.half_size_share


def validates(config: TrainConfig, epoch: int, share_done: float) -> bool:
    """Whether an epoch, counted from 0, that begins here is worth a validation: at half size one in four is.

    Such an epoch takes a quarter of the time of others, and the best one comes later.
    """
    return epoch % 4 == 3 or not is_half_size(config, share_done)
