"""Batches on their way to the device: on a GPU the next one arrives while the last one is computed with."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from severstal_cli.learning.training.batches import Batch
from severstal_cli.parallel import map_in_order

Fed = tuple[Batch, Tensor, Tensor]
"""A batch, and its `images` and `masks` on the device, uint8 as they travel."""

AHEAD = 2
"""Batches on the device before they are asked for."""


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Fed]:
    """Each of `batches` with its arrays on `device`, in order.

    On a GPU a thread copies them to pinned memory and sends them by a stream of their own, so neither the thread that
    starts the network's work nor that work waits for them.
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
            tensor.record_stream(computing)  # its memory is free again when that has gone past it
        yield fed
