"""From images to levels: `levels = round(255 * mean of probs over runs and views)`, uint8.

Threshold search, validation, scoring and prediction all go through `predict_levels`, so what was searched is what is
applied.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from severstal_cli.errors import PRIMITIVE, is_memory, memory_is_full
from severstal_cli.learning.finite import NotFiniteError
from severstal_cli.learning.inference import tta
from severstal_cli.learning.inference.engines import Compiled, OpenVino, Probs
from severstal_cli.learning.networks.registry import STRIDE
from severstal_cli.learning.precision import Careful
from severstal_cli.parallel import run_ahead
from severstal_cli.steel.images import decoding
from severstal_cli.steel.masks.postprocess import make_exclusive

Grey = NDArray[np.uint8]

AHEAD = 2
"""Batches on a GPU's way, and as many whose levels wait to be used."""

LARGEST_BATCH_PX = 2**24
"""Of all views: 10 images of 256 x 1600 in 4 views. A layer of 64 channels at half size takes 1 GB in float32."""


def predict_levels(
    members: Sequence[Probs],
    data_folder: Iterable[Grey | None],
    fabric: Fabric,
    *,
    views: str = "none",
    batch_size: int = 8,
    weights: Sequence[float] = (),
    exclusive: bool = False,
) -> Iterator[NDArray[np.uint8]]:
    """Levels `(C, H, W)` of each image `(H, W)`, in order; None among them ends a batch and gives nothing.

    Neighbours of one size share a batch, smaller ones of large images; other sizes than multiples of 32 are grown
    by reflection and cut back. `weights`: what each member counts in the mean; all the same by default. `exclusive`:
    as `postprocess.make_exclusive` leaves them. One batch is in memory; of a GPU a few, which a thread of their own
    keeps busy while the levels of earlier ones are used.

    Raises NotFiniteError, also where half precision is not finite and float32 neither; where that is, it is used.
    """
    batches = _batches_of_levels(members, data_folder, fabric, views, batch_size, weights, exclusive)
    if fabric.device.type == "cuda" and not any(isinstance(_engine(member), Compiled) for member in members):
        batches = run_ahead(batches, ahead=AHEAD, name="device")
    for levels in batches:
        yield from levels


def _engine(member: Probs) -> Probs:
    return member.half if isinstance(member, Careful) else member


def _batches_of_levels(
    members: Sequence[Probs],
    data_folder: Iterable[Grey | None],
    fabric: Fabric,
    views: str,
    batch_size: int,
    weights: Sequence[float],
    exclusive: bool,
) -> Iterator[Sequence[NDArray[np.uint8]]]:
    """Those of `predict_levels`, a batch at a time."""
    chosen = tta.views_of(views)
    if all(isinstance(_engine(member), OpenVino) for member in members):
        # pictures go one by one: the maps of more would only wait, in memory that is new each time
        batch_size = max(1, batch_size // len(chosen))
    shares = [weight / sum(weights) for weight in weights] or [1 / len(members)] * len(members)
    on_the_way: deque[tuple[NDArray[np.uint8], _Levels]] = deque()
    done = 0

    def arrived() -> Sequence[NDArray[np.uint8]]:
        """The levels of the first batch on the way; by float32 of the members that are not finite otherwise."""
        nonlocal done
        batch, found = on_the_way.popleft()
        wrong = found.not_finite()
        exact = {place for place, _ in wrong if isinstance(members[place], Careful)}
        if exact:
            found = _levels(members, shares, batch, fabric, chosen, exact)
            wrong = found.not_finite()
        if wrong:
            place, image = wrong[0]
            raise NotFiniteError(done + image, place)
        done += len(batch)
        levels = list(found.levels.numpy())
        # on the host for every device: the GPU works on the next batch meanwhile
        return [make_exclusive(each) for each in levels] if exclusive else levels

    for batch in _same_size(data_folder, batch_size, LARGEST_BATCH_PX // len(chosen)):
        try:
            on_the_way.append((batch, _levels(members, shares, batch, fabric, chosen)))
        except (RuntimeError, MemoryError) as error:
            if not is_memory(error) and PRIMITIVE not in str(error):
                raise
            count, height, width = batch.shape
            remedy = "Give a smaller --batch-size" if count > 1 else ""
            raise memory_is_full(f"predicting {count} x {height} x {width} pixels", remedy) from error
        if fabric.device.type != "cuda" or len(on_the_way) >= AHEAD:
            yield arrived()
    while on_the_way:
        yield arrived()


class _Levels(NamedTuple):
    """`levels: (N, C, H, W)` on the CPU, whole once `copied`."""

    levels: Tensor
    sums: Tensor
    """`(M, N)`: of the probs of each member for each image. They are finite where the probs are."""
    copied: torch.cuda.Event | None

    def not_finite(self) -> list[tuple[int, int]]:
        """The members and images with probs that are not finite, those of the first image first."""
        if self.copied is not None:
            self.copied.synchronize()
        places = np.argwhere(~np.isfinite(self.sums.numpy()))
        return sorted(((int(member), int(image)) for member, image in places), key=lambda place: place[::-1])


@torch.inference_mode()
def _levels(
    members: Sequence[Probs],
    shares: Sequence[float],
    batch: NDArray[np.uint8],
    fabric: Fabric,
    views: tuple[tta.View, ...],
    exact: AbstractSet[int] = frozenset(),
) -> _Levels:
    """`batch: (N, H, W) uint8` -> its levels, which a GPU may still be working on. `exact`: members to use float32."""
    height, width = batch.shape[1:]
    grey = torch.from_numpy(decoding.pad_to_multiple(batch, STRIDE))
    is_gpu = fabric.device.type == "cuda"
    if is_gpu:
        grey = grey.pin_memory()
    pixels = grey.to(fabric.device, non_blocking=True).unsqueeze(1).float().div_(255)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    total: Tensor | None = None  # in few passes: on a CPU each takes a percent of what a network does
    sums = torch.zeros(len(members), len(batch), device=fabric.device)
    with fabric.autocast():
        for place, (member, share) in enumerate(zip(members, shares, strict=True)):
            if share > 0:
                network = member.in_float32 if place in exact and isinstance(member, Careful) else member
                part = tta.mean_probs(network, pixels, views).mul(255 * share)
                torch.sum(part, dim=(1, 2, 3), out=sums[place])
                total = part if total is None else total.add_(part)
    assert total is not None
    levels = total.round_().to(torch.uint8)[:, :, :height, :width]
    if not is_gpu:
        return _Levels(levels, sums, None)
    host = torch.empty(levels.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(levels, non_blocking=True)
    host_sums = torch.empty(sums.shape, pin_memory=True)
    host_sums.copy_(sums, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(fabric.device))
    return _Levels(host, host_sums, copied)


def _same_size(data_folder: Iterable[Grey | None], batch_size: int, pixels: int) -> Iterator[NDArray[np.uint8]]:
    """Neighbours of equal size stacked to `(N, H, W)`: at most `batch_size` of them, and `pixels` unless N is 1."""
    waiting: list[Grey] = []
    for image in data_folder:
        if waiting and (
            image is None
            or image.shape != waiting[0].shape
            or len(waiting) == batch_size
            or (len(waiting) + 1) * image.size > pixels
        ):
            yield np.stack(waiting)
            waiting = []
        if image is not None:
            waiting.append(image)
    if waiting:
        yield np.stack(waiting)
