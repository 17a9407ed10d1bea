"""What training minimises. Per image and class, as the competition scores: pooling over a batch hides small masks."""

import torch
from torch import Tensor
from torch.nn import functional

FALSE_ALARM_SHARE = 0.05
"""A false alarm of this share of the pixels costs half of what a missed mask does."""


def soft_dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean of 1 - soft Dice over the (image, class) pairs with a true mask, plus the mean cost of false alarms.

    `logits, masks: (N, C, H, W)`, masks 0 or 1. Where the true mask is empty, Dice has no gradient to speak of until
    the very last false pixel is gone, yet such pairs are most of the score. There `a / (a + s)` is the cost of a
    predicted area a: smooth, growing at once, 1/2 at s = `FALSE_ALARM_SHARE` of the pixels. The two means are added
    rather than pooled, as a class may be in one image of fifty.
    """
    probs = logits.sigmoid()
    area, true_area = probs.sum(dim=(2, 3)), masks.sum(dim=(2, 3))
    present = true_area > 0
    missed = 1 - 2 * (probs * masks).sum(dim=(2, 3)) / (area + true_area).clamp_min(1e-6)
    false_alarm = area / (area + FALSE_ALARM_SHARE * logits[0, 0].numel())
    return _mean_where(present, missed) + _mean_where(~present, false_alarm)


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    """The mean of the chosen values; 0 without any."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp_min(1)


def mask_loss(logits: Tensor, masks: Tensor, dice_weight: float) -> Tensor:
    """Binary cross-entropy plus `dice_weight` times the soft Dice loss, in float32. Shapes as above."""
    logits, masks = logits.float(), masks.float()
    return functional.binary_cross_entropy_with_logits(logits, masks) + dice_weight * soft_dice_loss(logits, masks)
