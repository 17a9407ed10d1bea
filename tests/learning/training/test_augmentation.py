"""Augmentation on the device: by hand where it can be, within its range everywhere."""

import dataclasses

import numpy as np
import torch

from severstal_cli.config import TrainConfig
from severstal_cli.learning.training import augmentation

ALL = TrainConfig(brightness=0.3, contrast=0.5)


def _apply(image: torch.Tensor, **change: float) -> torch.Tensor:
    """One change of an `(H, W)` image."""
    still = augmentation.draw(np.random.default_rng(0), TrainConfig(brightness=0, contrast=0))
    changes = augmentation.Changes.of([dataclasses.replace(still, **change)])
    return augmentation.apply(image[None, None], changes)[0, 0]


def test_brightness_and_contrast_by_hand() -> None:
    image = torch.tensor([[0.25, 0.5], [0.75, 1.0]])
    torch.testing.assert_close(_apply(image), image)
    torch.testing.assert_close(_apply(image, gain=0.5, offset=0.125), torch.tensor([[0.5, 0.625], [0.75, 0.875]]))
    assert _apply(image, offset=0.5).max() == 1


def test_draws_stay_in_their_ranges_and_reach_them() -> None:
    changes = [augmentation.draw(np.random.default_rng(seed), ALL) for seed in range(500)]
    gain, offset = (np.array([getattr(change, name) for change in changes]) for name in ("gain", "offset"))
    assert 1 / 1.5 <= gain.min() < 0.7 < 1.4 < gain.max() <= 1.5
    assert -0.3 <= offset.min() < -0.27 < 0.27 < offset.max() <= 0.3
    for name in ("flip_rows", "flip_columns"):
        assert 0.4 < np.mean([getattr(change, name) for change in changes]) < 0.6


def test_the_same_key_draws_the_same() -> None:
    one, other = (augmentation.draw(np.random.default_rng((1, 2, 3)), ALL) for _ in range(2))
    assert one == other
