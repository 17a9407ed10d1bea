"""From images to levels, i.e. probabilities quantised to uint8: `round(255 * mean of probs over runs and TTA views)`.

Threshold search, validation, scoring and prediction all use `predict_levels`, so thresholds apply to the same levels
that they were tuned on.
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
from severstal_cli.learning.inference.runtimes import OpenVino, Probs
from severstal_cli.learning.networks.registry import STRIDE
from severstal_cli.learning.precision import CheckedHalf
from severstal_cli.parallel import run_ahead
from severstal_cli.steel.images import decoding
from severstal_cli.steel.masks.postprocess import make_exclusive

Grey = NDArray[np.uint8]

AHEAD = 2
"""Batches in flight on a GPU, and as many again whose levels wait to be used."""

LARGEST_BATCH_PX = 2**24
"""Pixels of a batch over all TTA views: 10 images of 256 x 1600 in 4 views. A layer of 64 channels at half size then
takes 1 GB in float32."""


def predict_levels(
    members: Sequence[Probs],
    images: Iterable[Grey | None],
    fabric: Fabric,
    *,
    views: str = "none",
    batch_size: int = 8,
    weights: Sequence[float] = (),
    exclusive: bool = False,
) -> Iterator[NDArray[np.uint8]]:
    """Levels `(C, H, W)` of each image `(H, W)`, in order. A None among the images ends a batch and has no levels.

    Consecutive images of one size share a batch, with fewer images if they are large. Sides that are no multiple of 32
    are padded by reflection, and the levels cropped again. `weights`: ensemble weights, equal by default. `exclusive`:
    apply `postprocess.make_exclusive`. One batch is in memory on a CPU; on a GPU a few, which a thread keeps in flight.

    Raises NotFiniteError: probs are not finite in float32. If only half precision is not finite, float32 is used.
    """
    batches = _batches_of_levels(members, images, fabric, views, batch_size, weights, exclusive)
    if fabric.device.type == "cuda":
        batches = run_ahead(batches, ahead=AHEAD, name="device")
    for levels in batches:
        yield from levels


def _engine(member: Probs) -> Probs:
    return member.half if isinstance(member, CheckedHalf) else member


def _batches_of_levels(
    members: Sequence[Probs],
    images: Iterable[Grey | None],
    fabric: Fabric,
    views: str,
    batch_size: int,
    weights: Sequence[float],
    exclusive: bool,
) -> Iterator[Sequence[NDArray[np.uint8]]]:
    """The levels of `predict_levels`, batch by batch."""
    chosen = tta.views_of(views)
    if all(isinstance(_engine(member), OpenVino) for member in members):
        # OpenVINO takes images one by one: larger batches would only hold more levels in memory
        batch_size = max(1, batch_size // len(chosen))
    shares = [weight / sum(weights) for weight in weights] or [1 / len(members)] * len(members)
    in_flight: deque[tuple[NDArray[np.uint8], _Levels]] = deque()
    done = 0

    def arrived() -> Sequence[NDArray[np.uint8]]:
        """The levels of the first batch in flight; members that are not finite in half precision use float32."""
        nonlocal done
        batch, levels = in_flight.popleft()
        wrong = levels.not_finite()
        exact = {member for member, _ in wrong if isinstance(members[member], CheckedHalf)}
        if exact:
            levels = _levels(members, shares, batch, fabric, chosen, exact)
            wrong = levels.not_finite()
        if wrong:
            member, image = wrong[0]
            raise NotFiniteError(done + image, member)
        done += len(batch)
        arrived = list(levels.levels.numpy())
        # on the host for every device: meanwhile a GPU works on the next batch
        return [make_exclusive(each) for each in arrived] if exclusive else arrived

    for batch in _same_size(images, batch_size, LARGEST_BATCH_PX // len(chosen)):
        try:
            in_flight.append((batch, _levels(members, shares, batch, fabric, chosen)))
        except (RuntimeError, MemoryError) as error:
            if not is_memory(error) and PRIMITIVE not in str(error):
                raise
            count, height, width = batch.shape
            remedy = "Give a smaller --batch-size" if count > 1 else ""
            raise memory_is_full(f"predicting {count} x {height} x {width} pixels", remedy) from error
        if fabric.device.type != "cuda" or len(in_flight) >= AHEAD:
            yield arrived()
    while in_flight:
        yield arrived()


class _Levels(NamedTuple):
    """`levels: (N, C, H, W)` on the CPU, complete after the event `copied`."""

    levels: Tensor
    sums: Tensor
    """`(M, N)`: sums of the probs of each member for each image; finite only if all the probs are."""
    copied: torch.cuda.Event | None

    def not_finite(self) -> list[tuple[int, int]]:
        """(member, image) pairs whose probs are not finite, in order of the images."""
        if self.copied is not None:
            self.copied.synchronize()
        pairs = np.argwhere(~np.isfinite(self.sums.numpy()))
        return sorted(((int(member), int(image)) for member, image in pairs), key=lambda pair: pair[::-1])


@torch.inference_mode()
def _levels(
    members: Sequence[Probs],
    shares: Sequence[float],
    batch: NDArray[np.uint8],
    fabric: Fabric,
    views: tuple[tta.View, ...],
    exact: AbstractSet[int] = frozenset(),
) -> _Levels:
    """The levels of `batch: (N, H, W) uint8`; a GPU may still compute them. `exact`: members that use float32."""
    height, width = batch.shape[1:]
    grey = torch.from_numpy(decoding.pad_to_multiple(batch, STRIDE))
    is_gpu = fabric.device.type == "cuda"
    if is_gpu:
        grey = grey.pin_memory()
    pixels = grey.to(fabric.device, non_blocking=True).unsqueeze(1).float().div_(255)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    total: Tensor | None = None  # few passes over memory: on a CPU each costs 1 % of the network
    sums = torch.zeros(len(members), len(batch), device=fabric.device)
    with fabric.autocast():
        for number, (member, share) in enumerate(zip(members, shares, strict=True)):
            if share > 0:
                network = member.in_float32 if number in exact and isinstance(member, CheckedHalf) else member
                weighted = tta.mean_probs(network, pixels, views).mul(255 * share)
                torch.sum(weighted, dim=(1, 2, 3), out=sums[number])
                total = weighted if total is None else total.add_(weighted)
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


def _same_size(images: Iterable[Grey | None], batch_size: int, pixels: int) -> Iterator[NDArray[np.uint8]]:
    """Consecutive images of one size as `(N, H, W)`, up to `batch_size` images and, for N > 1, `pixels` pixels."""
    waiting: list[Grey] = []
    for image in images:
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
