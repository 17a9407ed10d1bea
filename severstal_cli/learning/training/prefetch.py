"""Batches on the device: on a GPU the next batches are copied while the current one is computed."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from severstal_cli.learning.training.batches import Batch

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

    def arrived(sent: Future[tuple[Fed, torch.cuda.Event]]) -> Fed:
        fed, event = sent.result()
        computing = torch.cuda.current_stream(device)
        computing.wait_event(event)
        for tensor in fed[1:]:
            tensor.record_stream(computing)  # keeps its memory until the computing stream has used it
        return fed

    with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
        on_the_way: deque[Future[tuple[Fed, torch.cuda.Event]]] = deque()
        for batch in batches:
            on_the_way.append(pool.submit(send, batch))
            if len(on_the_way) > AHEAD:
                yield arrived(on_the_way.popleft())
        while on_the_way:
            yield arrived(on_the_way.popleft())
