"""From photographs to levels: `levels = round(255 * mean of probs over runs and views)`, uint8.

Threshold search, validation, scoring and prediction all go through `predict_levels`, so what was searched is what is
applied.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from severstal_cli.learning import run, tta
from severstal_cli.learning.registry import STRIDE, Logits
from severstal_cli.steel import images

Grey = NDArray[np.uint8]

LARGEST_BATCH_PX = 2**24
"""Of all views: 10 photographs of 256 x 1600 in 4 views. A layer of 64 channels at half size takes 1 GB in float32."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A network and the normalisation it was trained with."""

    network: nn.Module
    mean: float
    std: float

    def probs(self, pixels: Tensor) -> Tensor:
        """`pixels: (N, 1, H, W) float in [0, 1]` -> probs `(N, C, H, W)` float32.

        Where the network has a classification head, its probability that the class is in the picture is a factor: a
        soft gate, and thresholds are searched behind it.
        """
        logits: Logits = self.network((pixels - self.mean) / self.std)
        probs = logits.masks.float().sigmoid()
        return probs if logits.classes is None else probs * logits.classes.float().sigmoid()[:, :, None, None]


def load_members(folders: Sequence[Path], cards: Sequence[run.ModelCard], fabric: Fabric) -> list[Member]:
    """The networks of runs, on the device, ready to predict. Raises RunError."""
    members = []
    for folder, card in zip(folders, cards, strict=True):
        network = run.load_network(folder, card).to(fabric.device).to(memory_format=torch.channels_last)
        members.append(Member(network=network, mean=card.mean, std=card.std))
    return members


def predict_levels(
    members: Sequence[Member],
    photographs: Iterable[Grey],
    fabric: Fabric,
    *,
    views: str = "none",
    batch_size: int = 8,
) -> Iterator[NDArray[np.uint8]]:
    """Levels `(C, H, W)` of each photograph `(H, W)`, in order.

    Neighbours of one size share a batch, smaller ones of large photographs; other sizes than multiples of 32 are grown
    by reflection and cut back. At most one batch is in memory.
    """
    chosen = tta.views_of(views)
    for batch in _same_size(photographs, batch_size, LARGEST_BATCH_PX // len(chosen)):
        height, width = batch.shape[1:]
        padded = images.pad_to_multiple(batch, STRIDE)
        levels = _levels(members, torch.from_numpy(padded), fabric, chosen)
        yield from levels[:, :, :height, :width]


@torch.inference_mode()
def _levels(members: Sequence[Member], batch: Tensor, fabric: Fabric, views: tuple[tta.View, ...]) -> NDArray[np.uint8]:
    """`batch: (N, H, W) uint8` -> `(N, C, H, W) uint8`."""
    pixels = batch.to(fabric.device, non_blocking=True).unsqueeze(1).float().div_(255)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with fabric.autocast():
        of_members = [tta.mean_probs(member.probs, pixels, views) for member in members]
    mean = torch.stack(of_members).mean(dim=0)
    return (mean * 255).round_().to(torch.uint8).cpu().numpy()


def _same_size(photographs: Iterable[Grey], batch_size: int, pixels: int) -> Iterator[NDArray[np.uint8]]:
    """Neighbours of equal size stacked to `(N, H, W)`: at most `batch_size` of them, and `pixels` unless N is 1."""
    waiting: list[Grey] = []
    for photograph in photographs:
        fits = len(waiting) < batch_size and (len(waiting) + 1) * photograph.size <= pixels
        if waiting and (not fits or waiting[0].shape != photograph.shape):
            yield np.stack(waiting)
            waiting = []
        waiting.append(photograph)
    if waiting:
        yield np.stack(waiting)
