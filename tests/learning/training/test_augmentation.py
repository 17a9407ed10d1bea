"""What is changed in training images: by hand where it can be, within its range everywhere."""

import dataclasses
import math

import numpy as np
import torch

from severstal_cli.config import TrainConfig
from severstal_cli.learning.training import augmentation

STILL = augmentation.draw(np.random.default_rng(0), TrainConfig(brightness=0, contrast=0))
ALL = TrainConfig(gamma=0.5, detail=0.8, noise=0.1, warp_share=0.5, turn_deg=20, zoom=0.3, stretch=0.2)


def _apply(image: torch.Tensor, mask: torch.Tensor, **change: object) -> tuple[torch.Tensor, torch.Tensor]:
    """One change of a `(H, W)` image and mask."""
    changes = augmentation.Changes.of([dataclasses.replace(STILL, **change)])  # type: ignore[arg-type]
    images, masks = augmentation.apply(image[None, None], mask[None, None], changes, torch.Generator().manual_seed(0))
    return images[0, 0], masks[0, 0]


def _picture() -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.full((64, 96), 0.5)
    mask = torch.zeros(64, 96, dtype=torch.uint8)
    mask[20:30, 60:80] = 1
    image[mask.bool()] = 0.8
    return image, mask


def test_nothing_drawn_changes_nothing() -> None:
    image, mask = _picture()
    same, still = _apply(image, mask)
    assert torch.equal(still, mask)
    torch.testing.assert_close(same, image)


def test_light_by_hand() -> None:
    image, mask = torch.tensor([[0.25, 0.5], [0.75, 1.0]]), torch.ones(2, 2)
    lit, still = _apply(image, mask, gain=0.5, offset=0.125)
    torch.testing.assert_close(lit, torch.tensor([[0.5, 0.625], [0.75, 0.875]]))
    bent, _ = _apply(image, mask, gamma=2.0)
    torch.testing.assert_close(bent, image**2)
    clipped, _ = _apply(image, mask, offset=0.5)
    assert clipped.max() == 1
    assert torch.equal(still, mask)


def test_detail_is_taken_away_and_added() -> None:
    image = torch.zeros(5, 5)
    image[2, 2] = 0.5
    blurred, _ = _apply(image, image, detail=-1.0)
    torch.testing.assert_close(blurred[1:4, 1:4], 0.5 * torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16)
    sharpened, _ = _apply(image, image, detail=1.0)
    torch.testing.assert_close(sharpened[2, 2], torch.tensor(0.5 + 0.5 * 0.75))


def test_noise_has_its_spread() -> None:
    noisy, _ = _apply(torch.full((200, 200), 0.5), torch.zeros(200, 200), noise=0.05)
    assert abs(float(noisy.std()) - 0.05) < 0.001
    assert abs(float(noisy.mean()) - 0.5) < 0.001


def test_image_and_mask_move_together() -> None:
    image, mask = _picture()
    config = TrainConfig(warp_share=1, turn_deg=20, zoom=0.3, stretch=0.2)
    moved_far = 0
    for seed in range(20):
        warp = augmentation.draw(np.random.default_rng(seed), config).warp
        moved, followed = _apply(image, mask, warp=warp)
        bright = moved > 0.65  # halfway
        assert (bright != followed.bool()).sum() <= 4
        moved_far += bool((followed != mask).sum() > 100)
        assert followed.dtype == mask.dtype
    assert moved_far > 15


def test_a_turn_is_a_turn_and_a_zoom_a_zoom() -> None:
    image, mask = torch.rand(32, 32), torch.zeros(32, 32)
    quarter = np.array([[math.cos(math.pi / 2), -1, 0], [1, math.cos(math.pi / 2), 0]], np.float32)
    turned, _ = _apply(image, mask, warp=quarter)
    torch.testing.assert_close(turned, torch.rot90(image, 1), atol=1e-4, rtol=0)
    mask[8:24, 8:24] = 1
    _, halved = _apply(image, mask, warp=np.array([[2, 0, 0], [0, 2, 0]], np.float32))
    assert halved[12:20, 12:20].all()
    assert halved[9:23, 9:23].sum() == 64


def test_draws_stay_in_their_ranges_and_reach_them() -> None:
    changes = [augmentation.draw(np.random.default_rng(seed), ALL) for seed in range(500)]
    gamma, detail, noise = (np.array([getattr(change, name) for change in changes])
                            for name in ("gamma", "detail", "noise"))  # fmt: skip
    assert 1 / 1.5 <= gamma.min() < 0.7 < 1.4 < gamma.max() <= 1.5
    assert -0.8 <= detail.min() < -0.7 < 0.7 < detail.max() <= 0.8
    assert 0 <= noise.min() < 0.01 < 0.09 < noise.max() <= 0.1
    warps = np.array([change.warp for change in changes])
    moved = (warps != np.eye(2, 3)).any(axis=(1, 2))
    assert 0.4 < moved.mean() < 0.6
    scale = np.sqrt(np.abs(np.linalg.det(warps[:, :, :2])))
    assert 1 / 1.3 - 1e-6 <= scale.min() < 0.8 < 1.25 < scale.max() <= 1.3 + 1e-6


def test_the_same_key_draws_the_same() -> None:
    one, other = (augmentation.draw(np.random.default_rng((1, 2, 3)), ALL) for _ in range(2))
    assert dataclasses.asdict(one).keys() == dataclasses.asdict(other).keys()
    assert np.array_equal(one.warp, other.warp)
    assert (one.gain, one.noise, one.detail) == (other.gain, other.noise, other.detail)
