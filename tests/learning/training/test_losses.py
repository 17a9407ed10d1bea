"""Losses against values worked out by hand."""

import math

import pytest
import torch

from severstal_cli.config import TrainConfig
from severstal_cli.learning.training import losses


def _logit(prob: float) -> float:
    return math.log(prob / (1 - prob))


def test_soft_dice_is_taken_per_image_and_class_and_not_pooled() -> None:
    # image 0: a large mask, all right; image 1: one pixel, missed. Pooled over the batch it would be near 0
    masks = torch.zeros(2, 1, 10, 10)
    masks[0, 0, :5] = 1
    masks[1, 0, 0, 0] = 1
    logits = torch.full((2, 1, 10, 10), -30.0)
    logits[0, 0, :5] = 30.0
    assert losses.soft_dice_loss(logits, masks).item() == pytest.approx((0 + 1) / 2, abs=1e-6)


def test_soft_dice_by_hand() -> None:
    # probabilities 0.8 on 2 of 4 true pixels, 0.2 on the other 2, 0 elsewhere: 2·2 / (2 + 4) = 2/3
    masks = torch.zeros(1, 1, 4, 4)
    masks[0, 0, 0] = 1
    logits = torch.full((1, 1, 4, 4), -40.0)
    logits[0, 0, 0] = torch.tensor([_logit(0.8), _logit(0.8), _logit(0.2), _logit(0.2)])
    assert losses.soft_dice_loss(logits, masks).item() == pytest.approx(1 / 3, abs=1e-6)


def test_pairs_without_a_mask_do_not_enter_the_soft_dice() -> None:
    masks, logits = torch.zeros(2, 2, 20, 20), torch.full((2, 2, 20, 20), -40.0)
    logits[0, 0, :1] = 40.0  # a false alarm
    masks[1, 1, :5] = 1  # half of it found: 1 - 2·50 / (50 + 100)
    logits[1, 1, :5, :10] = 40.0
    assert losses.soft_dice_loss(logits, masks).item() == pytest.approx(1 - 2 / 3, abs=1e-5)
    assert losses.soft_dice_loss(logits[:1], masks[:1]).item() == 0


def test_the_parts_are_weighted_and_added_and_bytes_are_taken() -> None:
    masks = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    masks[0, 0, 0, 0] = 1
    logits = torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)
    cross_entropy, dice, lovasz = math.log(2), 1 - 2 * 0.5 / (2 + 1), 1.0
    config = TrainConfig(bce_weight=3, dice_weight=0.5, lovasz_weight=0.25)
    total = losses.total_loss(logits, None, masks, config)
    assert total.item() == pytest.approx(3 * cross_entropy + 0.5 * dice + 0.25 * lovasz, abs=1e-6)
    assert total.dtype == torch.float32
    head, config = torch.tensor([[_logit(0.8)]]), TrainConfig(head_weight=2)

    def of_head(masks: torch.Tensor) -> float:
        whole = losses.total_loss(logits, head, masks, config)
        return (whole - losses.total_loss(logits, None, masks, config)).item()

    assert of_head(masks) == pytest.approx(-2 * math.log(0.8), abs=1e-6)
    assert of_head(masks * 0) == pytest.approx(-2 * math.log(0.2), abs=1e-6)


def test_cross_entropy_weighs_classes() -> None:
    masks = torch.zeros(1, 2, 1, 1)
    logits = torch.tensor([_logit(0.1), _logit(0.5)]).view(1, 2, 1, 1)
    first, second = -math.log(0.9), -math.log(0.5)
    assert losses.cross_entropy(logits, masks).item() == pytest.approx((first + second) / 2, abs=1e-6)
    weighed = losses.cross_entropy(logits, masks, class_weights=(3.0, 1.0)).item()
    assert weighed == pytest.approx((1.5 * first + 0.5 * second) / 2, abs=1e-6)


def test_lovasz_extends_the_jaccard_index() -> None:
    """Where each pixel is wrong by a margin of 1 or right beyond it, it is 1 - Jaccard, by hand 1 - 2/5."""
    masks = torch.tensor([1, 1, 1, 0, 0, 0], dtype=torch.float32).view(1, 1, 2, 3)
    right, wrong = 1.0, 0.0  # the error is 1 - sign·logit: 0 and 1
    signs = 2 * masks - 1
    logits = signs * torch.tensor([right, right, wrong, wrong, wrong, right]).view(1, 1, 2, 3)
    assert losses.lovasz_loss(logits, masks).item() == pytest.approx(1 - 2 / 5, abs=1e-6)
    assert losses.lovasz_loss(signs * 5, masks).item() == 0


def test_lovasz_is_a_mean_of_pairs_and_punishes_the_worst_false_pixel() -> None:
    masks = torch.zeros(1, 2, 1, 4)
    logits = torch.full((1, 2, 1, 4), -3.0)
    logits[0, 1, 0, 2] = 0.5
    assert losses.lovasz_loss(logits, masks).item() == pytest.approx((0 + 1.5) / 2)
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 5, 5), (torch.rand(2, 3, 5, 5) > 0.6).float()
    alone = [
        losses.lovasz_loss(logits[i : i + 1, c : c + 1], masks[i : i + 1, c : c + 1])
        for i in range(2)
        for c in range(3)
    ]
    assert losses.lovasz_loss(logits, masks).item() == pytest.approx(torch.stack(alone).mean().item(), abs=1e-6)


def test_lovasz_may_count_at_the_end_alone() -> None:
    config = TrainConfig(lovasz_weight=1.0, lovasz_share=0.25, dice_weight=0.0)
    logits, masks = torch.randn(2, 2, 4, 4), torch.randint(0, 2, (2, 2, 4, 4))
    early, late = (losses.total_loss(logits, None, masks, config, share) for share in (0.74, 0.75))
    assert torch.allclose(late - early, losses.lovasz_loss(logits, masks.float()), atol=1e-6)
