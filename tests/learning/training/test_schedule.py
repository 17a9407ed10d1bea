"""The learning rate over a training, and what a time limit holds."""

import time

import pytest

from severstal_cli.config import TrainConfig
from severstal_cli.learning.training import schedule


def test_learning_rate_rises_then_falls_to_zero() -> None:
    config = TrainConfig(learning_rate=2.0, warmup_share=0.1)
    rates = [schedule.learning_rate(config, share) for share in (0.0, 0.05, 0.1, 0.55, 1.0, 1.2)]
    assert rates == pytest.approx([0.0, 1.0, 2.0, 1.0, 0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize(("best_epochs", "share"), [(1, 0.7), (3, 0.8)])
def test_a_time_limit_holds_what_is_validated_at_the_end(best_epochs: int, share: float) -> None:
    clock = schedule.Clock(
        config=TrainConfig(time_limit_s=1e4, epochs=1000, best_epochs=best_epochs),
        epoch=0,
        steps_an_epoch=10,
        elapsed_s=6000,
        validation_s=1000,
        validation_steps=0,
        agree=lambda seconds: seconds,
        began=time.monotonic(),
    )
    assert clock.share_done(0) == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize(("steps", "guess"), [(4, 0.04), (1000, 0.5)])
def test_the_time_of_a_first_validation_is_guessed_by_the_steps_after_the_first(
    monkeypatch: pytest.MonkeyPatch, steps: int, guess: float
) -> None:
    now = 0.0
    monkeypatch.setattr(schedule.time, "monotonic", lambda: now)
    clock = schedule.Clock(
        config=TrainConfig(time_limit_s=1e4, epochs=1000),
        epoch=0,
        steps_an_epoch=10**9,
        elapsed_s=0,
        validation_s=None,
        validation_steps=steps,
        agree=lambda seconds: seconds,
        began=0.0,
    )
    shares = []
    for step in range(6):
        shares.append(clock.share_done(step))
        now += 100 if step else 3000  # the first step compiles
    assert shares == pytest.approx([0, 0.3, 0.31, 0.32 + guess, 0.33 + guess, 0.34 + guess])


@pytest.mark.parametrize(("epochs", "steps", "warmup"), [(1, 1, 0.05), (1, 2, 0.05), (1, 1, 0.9), (3, 1, 0.99)])
def test_no_step_of_a_short_training_learns_nothing(epochs: int, steps: int, warmup: float) -> None:
    config = TrainConfig(epochs=epochs, warmup_share=warmup, learning_rate=1.0)
    count = epochs * steps
    rates = [
        schedule.rate_of_step(config, step / count, step_share=1 / count, is_first=not step) for step in range(count)
    ]
    assert min(rates) > 0.05
    assert max(rates) > 0.5


def test_the_first_step_of_a_time_limit_which_may_be_the_only_one_learns() -> None:
    config = TrainConfig(epochs=10_000, time_limit_s=1.0, learning_rate=1.0)
    first, second = (schedule.rate_of_step(config, 0.0, step_share=1e-5, is_first=flag) for flag in (True, False))
    assert first == pytest.approx(0.5)
    assert second < 0.001
