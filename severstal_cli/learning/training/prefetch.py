"""Batches on the device: on a GPU the next batches are copied while the current one is computed."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from severstal_cli.learning.training.batches import Batch
from severstal_cli.parallel import map_in_order

Fed = tuple[Batch, Tensor, Tensor]
"""A batch, with its `images` and `masks` on the device as uint8."""

AHEAD = 2
"""Batches that are copied to the device in advance."""


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Fed]:
    """Each of `batches` with its arrays on `device`, in order.

    On a GPU a thread copies them through pinned memory in a CUDA stream of its own, so neither the main thread nor the
    network waits for the copies.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch, torch.from_numpy(batch.images), torch.from_numpy(batch.masks)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(batch: Batch) -> tuple[Fed, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            images, masks = (
                torch.from_numpy(array).pin_memory().to(device, non_blocking=True)
                for array in (batch.images, batch.masks)
            )
        return (batch, images, masks), stream.record_event()

    for fed, event in map_in_order(send, batches, threads=1, ahead=AHEAD, name="feed"):
        computing = torch.cuda.current_stream(device)
        computing.wait_event(event)
        for tensor in fed[1:]:
            tensor.record_stream(computing)  # keeps its memory until the computing stream has used it
        yield fed
