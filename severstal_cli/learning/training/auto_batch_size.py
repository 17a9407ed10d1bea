"""The largest batch that fits the device's memory, and the error for a batch that does not."""

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
from severstal_cli.learning.networks import registry
from severstal_cli.learning.training import loop, losses
from severstal_cli.learning.training.batches import TrainingSet

HELD_BACK = 1 / 16
"""Share of the device's memory that the search leaves free, for augmentation and for fragmentation by other sizes."""


def find_batch(network: nn.Module, data: TrainingSet, config: TrainConfig, fabric: Fabric) -> None:
    """Lower `data.at_once` to the largest divisor of the effective batch size that fits the device's memory.

    Each divisor is tried with the loss and the optimiser of the training on a copy of `network`, so neither the network
    nor any random state changes.

    Raises:
        MachineError: not even one image fits.
        InputError: the network cannot train on one image, and two do not fit.
    """
    for images in (count for count in range(data.step_images, 0, -1) if data.step_images % count == 0):
        data.at_once = images
        fits = _fits(network, data, config, fabric)
        if fabric.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
        if fits:
            data.at_once = min(gather(images, fabric))
            return
    raise _too_large(data, config)


def _fits(network: nn.Module, data: TrainingSet, config: TrainConfig, fabric: Fabric) -> bool:
    """Whether the device can train on the largest batch twice in a row."""
    on_gpu = fabric.device.type == "cuda"
    total = torch.cuda.mem_get_info(fabric.device)[1] if on_gpu else 0
    images, height, width = data.largest_batch
    try:
        with torch.random.fork_rng(devices=[fabric.device] if on_gpu else []):
            held_back = torch.empty(int(total * HELD_BACK), dtype=torch.uint8, device=fabric.device)
            # the EMA weights, and the gradient buckets that devices exchange
            copies = [copy.deepcopy(network).to(fabric.device) for _ in range(1 + (fabric.world_size > 1))]
            tried = copy.deepcopy(network).to(fabric.device).to(memory_format=torch.channels_last).train()
            optimizer = loop.optimizer_of(tried, config)
            pixels = torch.zeros(images, 1, height, width, device=fabric.device)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            masks = torch.zeros(images, data.classes, height, width, dtype=torch.uint8, device=fabric.device)
            for _ in range(2):  # the optimiser allocates its state in the first step, gradients stay for the second
                # without Fabric: its loss scale stays unchanged, and no device waits for one that runs out of memory
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
    except ValueError as error:
        raise registry.refused(error, f"{config.arch} does not learn from {height} x {width} pixels") from error
    return True


@contextmanager
def out_of_memory_errors(data: TrainingSet, config: TrainConfig) -> Iterator[None]:
    """Turn an out-of-memory error of the training into one line. Raises MachineError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_memory(error) and PRIMITIVE not in str(error):
            raise
        raise _too_large(data, config) from error


def _too_large(data: TrainingSet, config: TrainConfig) -> MachineError:
    images, height, width = data.largest_batch
    if data.at_once == 1:
        remedy = "Choose another --encoder, or by --config smaller crops (crop_widths_px) or another precision"
    elif config.batch_size is None:
        remedy = f"Pass --batch-size {data.at_once // 2} --step-images {data.step_images}"
    else:
        remedy = f"Pass --batch-size auto --step-images {data.step_images}, or a smaller --batch-size"
    return MachineError(f"a batch of {images} does not fit the device's memory", f"crops of {height} x {width}", remedy)
