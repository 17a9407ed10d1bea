"""From photographs to levels: `levels = round(255 * mean of probs over runs and views)`, uint8.

Threshold search, validation, scoring and prediction all go through `predict_levels`, so what was searched is what is
applied.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from severstal_cli.learning import tta
from severstal_cli.learning.engines import Probs
from severstal_cli.learning.registry import STRIDE
from severstal_cli.steel import images

Grey = NDArray[np.uint8]

LARGEST_BATCH_PX = 2**24
"""Of all views: 10 photographs of 256 x 1600 in 4 views. A layer of 64 channels at half size takes 1 GB in float32."""


def predict_levels(
    members: Sequence[Probs],
    photographs: Iterable[Grey | None],
    fabric: Fabric,
    *,
    views: str = "none",
    batch_size: int = 8,
    weights: Sequence[float] = (),
) -> Iterator[NDArray[np.uint8]]:
    """Levels `(C, H, W)` of each photograph `(H, W)`, in order; None among them ends a batch and gives nothing.

    Neighbours of one size share a batch, smaller ones of large photographs; other sizes than multiples of 32 are grown
    by reflection and cut back. `weights`: what each member counts in the mean; all the same by default. One batch is in
    memory, on a GPU two: the next one is on its way while the levels of the last one are used.
    """
    chosen = tta.views_of(views)
    shares = [weight / sum(weights) for weight in weights] or [1 / len(members)] * len(members)
    on_the_way: deque[_Levels] = deque()
    for batch in _same_size(photographs, batch_size, LARGEST_BATCH_PX // len(chosen)):
        on_the_way.append(_levels(members, shares, batch, fabric, chosen))
        if fabric.device.type != "cuda" or len(on_the_way) > 1:
            yield from on_the_way.popleft().arrived()
    for levels in on_the_way:
        yield from levels.arrived()


class _Levels(NamedTuple):
    """`levels: (N, C, H, W)` on the CPU, whole once `copied`."""

    levels: Tensor
    copied: torch.cuda.Event | None

    def arrived(self) -> NDArray[np.uint8]:
        if self.copied is not None:
            self.copied.synchronize()
        return self.levels.numpy()


@torch.inference_mode()
def _levels(
    members: Sequence[Probs],
    shares: Sequence[float],
    batch: NDArray[np.uint8],
    fabric: Fabric,
    views: tuple[tta.View, ...],
) -> _Levels:
    """`batch: (N, H, W) uint8` -> its levels, which a GPU may still be working on."""
    height, width = batch.shape[1:]
    grey = torch.from_numpy(images.pad_to_multiple(batch, STRIDE))
    is_gpu = fabric.device.type == "cuda"
    if is_gpu:
        grey = grey.pin_memory()
    pixels = grey.to(fabric.device, non_blocking=True).unsqueeze(1).float().div_(255)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    total: Tensor | None = None  # in few passes: on a CPU each takes a percent of what a network does
    with fabric.autocast():
        for member, share in zip(members, shares, strict=True):
            if share > 0:
                part = tta.mean_probs(member, pixels, views).mul(255 * share)
                total = part if total is None else total.add_(part)
    assert total is not None
    levels = total.round_().to(torch.uint8)[:, :, :height, :width]
    if not is_gpu:
        return _Levels(levels, None)
    host = torch.empty(levels.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(levels, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return _Levels(host, copied)


def _same_size(photographs: Iterable[Grey | None], batch_size: int, pixels: int) -> Iterator[NDArray[np.uint8]]:
    """Neighbours of equal size stacked to `(N, H, W)`: at most `batch_size` of them, and `pixels` unless N is 1."""
    waiting: list[Grey] = []
    for photograph in photographs:
        if waiting and (
            photograph is None
            or photograph.shape != waiting[0].shape
            or len(waiting) == batch_size
            or (len(waiting) + 1) * photograph.size > pixels
        ):
            yield np.stack(waiting)
            waiting = []
        if photograph is not None:
            waiting.append(photograph)
    if waiting:
        yield np.stack(waiting)
