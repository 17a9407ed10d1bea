"""Test-time augmentation: named sets of views, each a pair (apply, undo) on the last two axes."""

from collections.abc import Callable

import torch
from torch import Tensor

from severstal_cli.errors import UsageError

View = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _same(images: Tensor) -> Tensor:
    return images


def _flipper(*axes: int) -> View:
    def flip(images: Tensor) -> Tensor:
        return images.flip(axes)

    return flip, flip


VIEWS: dict[str, tuple[View, ...]] = {
    "none": ((_same, _same),),
    "hflip": ((_same, _same), _flipper(-1)),
    "flips": ((_same, _same), _flipper(-1), _flipper(-2), _flipper(-2, -1)),
}


def views_of(name: str) -> tuple[View, ...]:
    """The views of a set. Raises UsageError for an unknown name."""
    if name not in VIEWS:
        raise UsageError("unknown test-time augmentation", name, f"Choose one of {', '.join(VIEWS)}")
    return VIEWS[name]


def mean_probs(network: Callable[[Tensor], Tensor], images: Tensor, views: tuple[View, ...]) -> Tensor:
    """`images: (N, 1, H, W)` -> mean over the views of `network(images)`, `(N, C, H, W)`.

    All views go through the network as one batch: a device that is not full with N images runs them at once.
    """
    probs = network(torch.cat([apply(images) for apply, _ in views]))
    return torch.stack([undo(part) for (_, undo), part in zip(views, probs.chunk(len(views)), strict=True)]).mean(dim=0)
