"""Random augmentation. The caller seeds the generator by (seed, epoch, position), so resuming needs no saved state.

Crops are flipped when they are cut; all other changes are applied on the device, batch by batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

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
    gamma: float
    """Exponent of the grey values."""
    detail: float
    """Below 0 blurs, above 0 sharpens; -1 is a 3 x 3 binomial filter, 1 the opposite (unsharp mask)."""
    noise: float
    """Standard deviation, as a share of the full range."""
    warp: NDArray[np.float32]
    """`(2, 3)`: maps output coordinates (x, y, 1) to input coordinates, in [-1, 1] across the crop."""


def draw(rng: np.random.Generator, config: TrainConfig) -> Change:
    """A random change within the limits of `config`."""
    left_right, up_down = rng.random(2) < 0.5
    contrast, brightness, gamma, detail, turn, zoom, stretch = rng.uniform(-1, 1, 7)
    noise, warped = rng.random(2)
    return Change(
        flip_columns=bool(left_right),
        flip_rows=bool(up_down),
        gain=float(np.exp(contrast * np.log1p(config.contrast))),
        offset=float(brightness * config.brightness),
        gamma=float(np.exp(gamma * np.log1p(config.gamma))),
        detail=float(detail * config.detail),
        noise=float(noise * config.noise),
        warp=_warp(turn, zoom, stretch, config) if warped < config.warp_share else _UNMOVED,
    )


_UNMOVED = np.eye(2, 3, dtype=np.float32)


def _warp(turn: float, zoom: float, stretch: float, config: TrainConfig) -> NDArray[np.float32]:
    """The matrix of rotation, zoom, and stretch of x against y; each argument is in [-1, 1]."""
    angle = math.radians(turn * config.turn_deg)
    scale, aspect = math.exp(zoom * math.log1p(config.zoom)), math.exp(stretch * math.log1p(config.stretch))
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[cosine * aspect, -sine * aspect, 0], [sine / aspect, cosine / aspect, 0]], np.float32)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Augmentation of a batch on the device: float32 arrays `(N,)`, but `warp: (N, 2, 3)`."""

    gain: NDArray[np.float32]
    offset: NDArray[np.float32]
    gamma: NDArray[np.float32]
    detail: NDArray[np.float32]
    noise: NDArray[np.float32]
    warp: NDArray[np.float32]

    @classmethod
    def of(cls, changes: Sequence[Change]) -> "Changes":
        """The stacked changes of single images."""
        names = ("gain", "offset", "gamma", "detail", "noise", "warp")
        return cls(**{name: np.array([getattr(change, name) for change in changes], np.float32) for name in names})


def apply(images: Tensor, masks: Tensor, changes: Changes, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment `images: (N, 1, H, W) float in [0, 1]` and `masks: (N, C, H, W)`, 0 or 1.

    `generator`, on the device of the images, makes the noise. A change that no image of the batch has costs nothing.
    """
    if (changes.warp != _UNMOVED).any():
        images, masks = _move(images, masks, _sent(changes.warp, images))
    if changes.detail.any():
        padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
        side = _sent(np.array([0.25, 0.5, 0.25], np.float32), images)
        blurred = functional.conv2d(padded, torch.outer(side, side)[None, None])
        images = images + _column(changes.detail, images) * (images - blurred)
    if (changes.gamma != 1).any():
        images = images.clamp(1e-4, 1).pow(_column(changes.gamma, images))
    images = (images - 0.5) * _column(changes.gain, images) + (0.5 + _column(changes.offset, images))
    if changes.noise.any():
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        images = images + _column(changes.noise, images) * noise
    return images.clamp_(0, 1), masks  # clipped on purpose, as by a camera


def _column(values: NDArray[np.float32], images: Tensor) -> Tensor:
    return _sent(values, images).view(-1, 1, 1, 1)


def _sent(values: NDArray[np.float32], images: Tensor) -> Tensor:
    """`values` on the device of `images`, without waiting for the device."""
    return torch.from_numpy(values).to(images.device, non_blocking=True)


def _move(images: Tensor, masks: Tensor, warp: Tensor) -> tuple[Tensor, Tensor]:
    """Warp images and masks through one grid, with reflection at the border."""
    grid = functional.affine_grid(warp, list(images.shape), align_corners=False)

    def moved(pixels: Tensor) -> Tensor:
        return functional.grid_sample(
            pixels.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )

    return moved(images), (moved(masks) >= 0.5).to(masks.dtype)
