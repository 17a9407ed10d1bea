"""What is changed at random in a training image. Every draw comes from a generator that the caller keys by
(seed, epoch, position), so nothing has to be saved for a training to go on where it was.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from severstal_cli.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Change:
    """One draw: flips are made where the crop is cut, gain and offset on the device."""

    flip_columns: bool
    flip_rows: bool
    gain: float
    """Contrast: the distance from mid-grey is multiplied by it."""
    offset: float
    """Brightness, in shares of the full range."""


def draw(rng: np.random.Generator, config: TrainConfig) -> Change:
    """A change within the ranges of `config`."""
    left_right, up_down = rng.random(2) < 0.5
    return Change(
        flip_columns=bool(left_right),
        flip_rows=bool(up_down),
        gain=float(np.exp(rng.uniform(-1, 1) * np.log1p(config.contrast))),
        offset=float(rng.uniform(-1, 1) * config.brightness),
    )


def change_light(images: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """`images: (N, 1, H, W) float in [0, 1]`, `gain, offset: (N,)` -> the same shape, still in [0, 1].

    Clipping is meant: a camera clips too.
    """
    gain, offset = gain.view(-1, 1, 1, 1), offset.view(-1, 1, 1, 1)
    return ((images - 0.5) * gain + (0.5 + offset)).clamp_(0, 1)
