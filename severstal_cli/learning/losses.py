"""What training minimises. Per image and class, as the competition scores: pooling over a batch hides small masks."""

from torch import Tensor
from torch.nn import functional


def soft_dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean of 1 - soft Dice over the (image, class) pairs whose true mask is not empty; 0 if there is none.

    `logits, masks: (N, C, H, W)`, masks 0 or 1. Pairs with an empty mask are left to the cross-entropy: there Dice has
    no gradient to speak of until the very last false pixel is gone.
    """
    probs = logits.sigmoid()
    true_area = masks.sum(dim=(2, 3))
    overlap = (probs * masks).sum(dim=(2, 3))
    dice = 2 * overlap / (probs.sum(dim=(2, 3)) + true_area).clamp_min(1.0)
    present = true_area > 0
    return ((1 - dice) * present).sum() / present.sum().clamp_min(1)


def mask_loss(logits: Tensor, masks: Tensor, dice_weight: float) -> Tensor:
    """Binary cross-entropy plus `dice_weight` times the soft Dice loss, in float32. Shapes as above."""
    logits, masks = logits.float(), masks.float()
    return functional.binary_cross_entropy_with_logits(logits, masks) + dice_weight * soft_dice_loss(logits, masks)
