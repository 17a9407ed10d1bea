"""Random augmentation. The caller seeds the generator by (seed, epoch, position), so resuming needs no saved state.

Crops are flipped when they are cut; contrast and brightness are changed on the device, batch by batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from severstal_cli.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Change:
    """Augmentation of one image."""

    flip_columns: bool
    flip_rows: bool
    gain: float
    """Contrast: factor of the distance from mid-grey."""
    offset: float
    """Brightness, as a share of the full range."""


def draw(rng: np.random.Generator, config: TrainConfig) -> Change:
    """A random change within the limits of `config`."""
    left_right, up_down = rng.random(2) < 0.5
    contrast, brightness = rng.uniform(-1, 1, 2)
    return Change(
        flip_columns=bool(left_right),
        flip_rows=bool(up_down),
        gain=float(np.exp(contrast * np.log1p(config.contrast))),
        offset=float(brightness * config.brightness),
    )


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Augmentation of a batch on the device: float32 arrays `(N,)`."""

    gain: NDArray[np.float32]
    offset: NDArray[np.float32]

    @classmethod
    def of(cls, changes: Sequence[Change]) -> "Changes":
        """The stacked changes of single images."""
        names = ("gain", "offset")
        return cls(**{name: np.array([getattr(change, name) for change in changes], np.float32) for name in names})


def apply(images: Tensor, changes: Changes) -> Tensor:
    """Augment `images: (N, 1, H, W) float in [0, 1]`."""
    images = (images - 0.5) * _column(changes.gain, images) + (0.5 + _column(changes.offset, images))
    return images.clamp_(0, 1)  # clipped on purpose, as by a camera


def _column(values: NDArray[np.float32], images: Tensor) -> Tensor:
    """`values` on the device of `images`, without waiting for the device."""
    return torch.from_numpy(values).to(images.device, non_blocking=True).view(-1, 1, 1, 1)
