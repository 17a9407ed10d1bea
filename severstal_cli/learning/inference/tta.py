"""Test-time augmentation: named views of an image, each a pair (apply, undo) on the last two axes.

`--tta` takes comma-separated names. The unchanged image is always one of the views: `hflip,vflip` makes three.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from severstal_cli.errors import UsageError

STEP_PX = 32
"""Sides of a scaled view are multiples of this, as networks need them."""


class View(NamedTuple):
    """`apply` maps images `(N, 1, H, W)` to the network's input; `undo(probs, (H, W))` maps probs back."""

    apply: Callable[[Tensor], Tensor]
    undo: Callable[[Tensor, tuple[int, int]], Tensor]


def _flipped(*axes: int) -> View:
    return View(lambda images: images.flip(axes), lambda probs, _: probs.flip(axes))


def _scaled(factor: float) -> View:
    def apply(images: Tensor) -> Tensor:
        size = [max(1, round(side * factor / STEP_PX)) * STEP_PX for side in images.shape[-2:]]
        return interpolate(images, size=size, mode="bilinear", antialias=factor < 1)

    return View(apply, lambda probs, size: interpolate(probs, size=size, mode="bilinear"))


ITSELF = View(lambda images: images, lambda probs, _: probs)

VIEWS = {
    "hflip": _flipped(-1),
    "vflip": _flipped(-2),
    "both": _flipped(-2, -1),
    "smaller": _scaled(0.75),
    "larger": _scaled(1.25),
}

SETS = {"none": (), "flips": ("hflip", "vflip", "both"), "scales": ("smaller", "larger")}
"""Short names for several views."""


def views_of(names: str) -> tuple[View, ...]:
    """The views of comma-separated names, without duplicates, the unchanged image first. Raises UsageError."""
    wanted: dict[str, None] = {}
    for name in names.split(","):
        if name not in VIEWS and name not in SETS:
            raise UsageError(
                "unknown test-time augmentation", name or "no name", f"Choose of {', '.join([*SETS, *VIEWS])}"
            )
        wanted |= dict.fromkeys(SETS.get(name, (name,)))
    return (ITSELF, *(VIEWS[name] for name in wanted))


def mean_probs(network: Callable[[Tensor], Tensor], images: Tensor, views: tuple[View, ...]) -> Tensor:
    """`images: (N, 1, H, W)` -> mean over the views of `network(images)`, `(N, C, H, W)`.

    Views of one size go through the network as one batch, which is faster if N images do not fill the device.
    """
    size = (images.shape[-2], images.shape[-1])
    by_size: dict[torch.Size, list[tuple[View, Tensor]]] = {}
    for view in views:
        viewed = view.apply(images)
        by_size.setdefault(viewed.shape, []).append((view, viewed))
    undone = []
    for group in by_size.values():
        probs = network(torch.cat([viewed for _, viewed in group]) if len(group) > 1 else group[0][1])
        undone += [view.undo(chunk, size) for (view, _), chunk in zip(group, probs.chunk(len(group)), strict=True)]
    return undone[0] if len(undone) == 1 else torch.stack(undone).mean(dim=0)
