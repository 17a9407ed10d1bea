"""Losses against values worked out by hand."""

import math

import pytest
import torch

from severstal_cli.learning import losses


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


def test_false_alarms_cost_by_their_area_apart_from_what_is_missed() -> None:
    # 20 x 20 pixels, so a false alarm of 20 costs 1/2; three pairs without a mask: 20, 60 and no pixels
    masks, logits = torch.zeros(2, 2, 20, 20), torch.full((2, 2, 20, 20), -40.0)
    logits[0, 0, :1] = 40.0
    logits[0, 1, :3] = 40.0
    masks[1, 1, :5] = 1  # one pair with a mask, half of it found: 1 - 2·50 / (50 + 100)
    logits[1, 1, :5, :10] = 40.0
    expected = (1 / 2 + 3 / 4 + 0) / 3 + (1 - 2 / 3)
    assert losses.soft_dice_loss(logits, masks).item() == pytest.approx(expected, abs=1e-5)
    assert losses.soft_dice_loss(torch.full((1, 2, 8, 8), -40.0), torch.zeros(1, 2, 8, 8)).item() == pytest.approx(0)


def test_a_false_alarm_is_pushed_down() -> None:
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    losses.soft_dice_loss(logits, torch.zeros(1, 1, 8, 8)).backward()
    assert (logits.grad > 0).all()


def test_mask_loss_adds_weighted_parts_and_takes_bytes() -> None:
    masks = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    masks[0, 0, 0, 0] = 1
    logits = torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)
    cross_entropy, dice = math.log(2), 1 - 2 * 0.5 / (2 + 1)
    assert losses.mask_loss(logits, masks, 0.5).item() == pytest.approx(cross_entropy + 0.5 * dice, abs=1e-6)
    assert losses.mask_loss(logits, masks, 0.0).dtype == torch.float32
