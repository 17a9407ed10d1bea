"""All images of a competition: time to build the cache, memory during training, epoch time by number of images.

    severstal synth FULL --images 12568     # 256 x 1600, a quarter of an hour on two cores
    python bench/scale.py FULL [--crop 256x128] [--no-network]

Trains `linknet-small` for one epoch on an eighth, a quarter, a half and all of the images, one crop per image. Memory
excludes the pages of the memory map, which the system can reclaim. With --no-network the batches of an epoch are made
and dropped, which takes minutes and covers all that depends on the number of images.
"""

import argparse
import threading
import time
from pathlib import Path

from severstal_cli.config import TrainConfig
from severstal_cli.learning.device import open_device
from severstal_cli.learning.networks import registry
from severstal_cli.learning.training import loop, new_card
from severstal_cli.learning.training.batches import TrainingSet
from severstal_cli.progress import Bar, TerminalProgress
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.data_folder import open_data_folder


class Memory(threading.Thread):
    """Samples the memory of this process twice per second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mib = 0.0

    def run(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            held = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
            self.peak_mib = max(self.peak_mib, int(held.split()[1]) / 1024)
            time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--arch", default="linknet-small")
    parser.add_argument("--crop", default="256x128", help="height x width of the crops, multiples of 32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--no-network", action="store_true")
    options = parser.parse_args()

    height, width = (int(side) for side in options.crop.split("x"))
    memory = Memory()
    memory.start()
    began = time.perf_counter()
    data_folder = open_data_folder(options.data, TerminalProgress())
    count = len(data_folder.cache)
    pixels = sum(int(height) * int(width) for height, width in data_folder.cache.sizes)
    seconds = time.perf_counter() - began
    print(f"cache of {count} images, {pixels / 1e9:.2f} GB: {seconds:.0f} s (an instant if it was there)")
    print(f"peak memory so far {memory.peak_mib:.0f} MiB", flush=True)
    began = time.perf_counter()
    split = splits.ensure_splits(data_folder, TerminalProgress())
    print(f"split: {time.perf_counter() - began:.0f} s; peak memory so far {memory.peak_mib:.0f} MiB", flush=True)

    config = TrainConfig(
        data=options.data, arch=options.arch, batch_size=options.batch, crop_height_px=height, crop_widths_px=(width,)
    )
    fabric = open_device()
    for _ in TrainingSet(data_folder, data_folder.cache.image_ids[:100], config).batches(0):
        pass  # compile all kernels before timing
    rates = []
    for step in (8, 4, 2, 1):
        image_ids = data_folder.cache.image_ids[::step]
        described = new_card.describe(config, data_folder, split, list(image_ids), [], None, (), fabric)
        state = loop.start(registry.build(options.arch, classes=data_folder.classes), config, fabric)
        data = TrainingSet(data_folder, image_ids, config)
        began = time.perf_counter()
        if options.no_network:
            for _ in data.batches(0):
                pass
        else:
            loop.train_epoch(state, data, 0, config, described, fabric, lambda steps: steps / 1e9, Bar())
        seconds = time.perf_counter() - began
        rates.append(len(image_ids) / seconds)
        print(
            f"epoch of {len(image_ids)} images: {seconds:.0f} s, {rates[-1]:.1f} images/s; "
            f"peak memory so far {memory.peak_mib:.0f} MiB",
            flush=True,
        )
    print(f"images/s of all over those of an eighth: {rates[-1] / rates[0]:.2f}; target 1")
    print(f"peak memory beside the map: {memory.peak_mib:.0f} MiB; target 4,096")


if __name__ == "__main__":
    main()
