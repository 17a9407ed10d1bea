"""The learning rate over a training."""

import pytest

from severstal_cli.config import TrainConfig
from severstal_cli.learning import schedule


def test_learning_rate_rises_then_falls_to_zero() -> None:
    config = TrainConfig(learning_rate=2.0, warmup_share=0.1)
    rates = [schedule.learning_rate(config, share) for share in (0.0, 0.05, 0.1, 0.55, 1.0, 1.2)]
    assert rates == pytest.approx([0.0, 1.0, 2.0, 1.0, 0.0, 0.0], abs=1e-12)
