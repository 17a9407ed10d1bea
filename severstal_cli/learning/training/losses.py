"""Loss functions, per image and class like the competition's score: pooling over a batch would hide small masks.

Their arguments are `logits, masks: (N, C, H, W)`, masks 0 or 1; they return a scalar.
"""

import torch
from torch import Tensor
from torch.nn import functional

from severstal_cli.config import TrainConfig


def total_loss(
    masks_logits: Tensor, classes_logits: Tensor | None, masks: Tensor, config: TrainConfig, share_done: float = 1.0
) -> Tensor:
    """The sum of the losses with their weights in `config`, in float32.

    `classes_logits: (N, C)` from the classification head, or None. `share_done`: share of the whole training.
    """
    logits, masks = masks_logits.float(), masks.float()
    loss = config.bce_weight * cross_entropy(logits, masks, config.class_weights)
    if config.dice_weight:
        loss = loss + config.dice_weight * soft_dice_loss(logits, masks)
    if config.lovasz_weight and share_done >= 1 - config.lovasz_share:
        loss = loss + config.lovasz_weight * lovasz_loss(logits, masks)
    if classes_logits is not None:
        present = masks.amax(dim=(2, 3))
        loss = loss + config.head_weight * functional.binary_cross_entropy_with_logits(classes_logits.float(), present)
    return loss


def cross_entropy(logits: Tensor, masks: Tensor, class_weights: tuple[float, ...] = ()) -> Tensor:
    """Binary cross-entropy over pixels. `class_weights`: one per class, normalised to a mean of 1; empty: equal."""
    cost = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    by_class = cost.mean(dim=(0, 2, 3))
    if class_weights:
        weights = by_class.new_tensor(class_weights)
        by_class = by_class * weights / weights.mean()
    return by_class.mean()


def soft_dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean of 1 - soft Dice over the (image, class) pairs with a ground-truth mask; 0 if there are none.

    If the ground truth is empty, Dice has hardly any gradient until the last false pixel is gone: cross-entropy and the
    classification head suppress such false alarms.
    """
    probs = logits.sigmoid()
    true_area = masks.sum(dim=(2, 3))
    present = true_area > 0
    missed = 1 - 2 * (probs * masks).sum(dim=(2, 3)) / (probs.sum(dim=(2, 3)) + true_area).clamp_min(1e-6)
    return torch.where(present, missed, 0.0).sum() / present.sum().clamp_min(1)


def lovasz_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Lovasz hinge: a convex extension of 1 - Jaccard index (Berman et al., 2018), mean over (image, class) pairs.

    For an empty ground truth it is the margin of the worst false pixel.
    """
    pairs, true = logits.flatten(2).flatten(0, 1), masks.flatten(2).flatten(0, 1)
    errors, order = (1 - pairs * (2 * true - 1)).sort(dim=1, descending=True)
    hit = true.gather(1, order)
    total = hit.sum(dim=1, keepdim=True)
    jaccard = 1 - (total - hit.cumsum(dim=1)) / (total + (1 - hit).cumsum(dim=1))
    steps = jaccard.diff(dim=1, prepend=jaccard.new_zeros(len(jaccard), 1))
    return (errors.relu() * steps).sum(dim=1).mean()
