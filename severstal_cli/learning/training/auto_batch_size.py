"""How many images the device's memory takes at once, and what is said when it was asked for more."""

import copy
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from torch import nn

from severstal_cli.config import TrainConfig
from severstal_cli.errors import PRIMITIVE, MachineError, is_memory
from severstal_cli.learning.device import gather
from severstal_cli.learning.training import loop, losses
from severstal_cli.learning.training.batches import TrainingSet

HELD_BACK = 1 / 16
"""Share of the device's memory that the search leaves free, for augmentation and gaps between pieces of other sizes."""

_SMALLER = "Take another --encoder, or by --config smaller pieces (crop_widths_px) or another precision"


def find_batch(network: nn.Module, data: TrainingSet, config: TrainConfig, fabric: Fabric) -> None:
    """Lower `data.at_once` to the largest divisor of its step that fits the device's memory.

    Each is tried with the loss and the optimiser of the training on a copy of `network`, so nothing of it, nor any
    random state, changes.

    Raises MachineError: not even one image fits.
    """
    for images in _divisors(data.step_images):
        data.at_once = images
        fits = _fits(network, data, config, fabric)
        gc.collect()
        torch.cuda.empty_cache()
        if fits:
            data.at_once = min(gather(images, fabric))
            return
    raise _too_large(data, config)


def _divisors(number: int) -> list[int]:
    """From large to small."""
    return [part for part in range(number, 0, -1) if number % part == 0]


def _fits(network: nn.Module, data: TrainingSet, config: TrainConfig, fabric: Fabric) -> bool:
    """Whether a step with its largest batch, and the batch after it, can be trained on the device."""
    on_gpu = fabric.device.type == "cuda"
    total = torch.cuda.mem_get_info(fabric.device)[1] if on_gpu else 0
    images, height, width = data.largest_batch
    try:
        with torch.random.fork_rng(devices=[fabric.device] if on_gpu else []):
            held_back = torch.empty(int(total * HELD_BACK), dtype=torch.uint8, device=fabric.device)
            # the average, and what devices exchange of the gradients
            copies = [copy.deepcopy(network).to(fabric.device) for _ in range(1 + (fabric.world_size > 1))]
            tried = copy.deepcopy(network).to(fabric.device).to(memory_format=torch.channels_last).train()
            optimizer = loop.optimizer_of(tried, config)
            pixels = torch.zeros(images, 1, height, width, device=fabric.device)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            masks = torch.zeros(images, data.classes, height, width, dtype=torch.uint8, device=fabric.device)
            for _ in range(2):  # the second finds the optimiser's memory, and gradients to add to, in place
                # not by Fabric: its scale of the loss stays as it is, and no device waits for one that is full
                with fabric.autocast():
                    logits = tried(pixels)
                loss = losses.total_loss(logits.masks, logits.classes, masks, config)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            del held_back, copies
    except (RuntimeError, MemoryError) as error:
        if not is_memory(error):
            raise
        return False
    return True


@contextmanager
def told(data: TrainingSet, config: TrainConfig) -> Iterator[None]:
    """Tell in one line that a batch was too large. Raises MachineError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_memory(error) and PRIMITIVE not in str(error):
            raise
        raise _too_large(data, config) from error


def _too_large(data: TrainingSet, config: TrainConfig) -> MachineError:
    images, height, width = data.largest_batch
    remedy = f"Pass --batch-size auto --step-images {data.step_images}, or a smaller --batch-size"
    if data.at_once == 1:
        remedy = _SMALLER
    elif config.batch_size is None:
        remedy = f"Pass --batch-size {data.at_once // 2} --step-images {data.step_images}"
    what = f"the batch of {images} does not fit the device's memory"
    return MachineError(what, f"pieces of {height} x {width}", remedy)
