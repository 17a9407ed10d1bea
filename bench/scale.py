"""A whole competition's images: time to build the cache, memory during training, time of an epoch by its images.

    severstal synth FULL --images 12568     # 256 x 1600, an hour or two on one core
    python bench/scale.py FULL

Trains `linknet-small` for one epoch on an eighth, a quarter, a half and all of the images, in pieces of 256 x 128, one
epoch each. Memory is what the process holds beside the pages of the memory map, which the system can take back.
"""

import argparse
import threading
import time
from pathlib import Path

from severstal_cli.config import TrainConfig
from severstal_cli.learning import card, loop, registry
from severstal_cli.learning.dataset import TrainingSet
from severstal_cli.learning.device import open_device
from severstal_cli.progress import Bar, TerminalProgress
from severstal_cli.steel import splits
from severstal_cli.steel.photographs import open_photographs


class Memory(threading.Thread):
    """Looks at the memory of this process twice a second."""

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
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()

    memory = Memory()
    memory.start()
    began = time.perf_counter()
    photographs = open_photographs(options.data, TerminalProgress())
    count = len(photographs.cache)
    pixels = sum(int(height) * int(width) for height, width in photographs.cache.sizes)
    seconds = time.perf_counter() - began
    print(f"cache of {count} images, {pixels / 1e9:.2f} GB: {seconds:.0f} s (an instant if it was there)")
    print(f"peak memory so far {memory.peak_mib:.0f} MiB", flush=True)
    began = time.perf_counter()
    split = splits.ensure_splits(options.data, TerminalProgress())
    print(f"split: {time.perf_counter() - began:.0f} s; peak memory so far {memory.peak_mib:.0f} MiB", flush=True)

    config = TrainConfig(
        data=options.data, arch=options.arch, batch_size=options.batch, crop_widths_px=(options.width,)
    )
    fabric = open_device()
    rates = []
    for part in (8, 4, 2, 1):
        image_ids = photographs.cache.image_ids[::part]
        described = card.describe(config, photographs, split, list(image_ids), [], None, fabric)
        state = loop.start(registry.build(options.arch, classes=photographs.classes), config, fabric)
        data = TrainingSet(photographs, image_ids, config)
        result = loop.train_epoch(state, data, 0, config, described, fabric, lambda steps: steps / 1e9, Bar())
        rates.append(result.images / result.seconds)
        print(
            f"epoch of {result.images} images: {result.seconds:.0f} s, {rates[-1]:.1f} images/s; "
            f"peak memory so far {memory.peak_mib:.0f} MiB",
            flush=True,
        )
    print(f"images/s of all over those of an eighth: {rates[-1] / rates[0]:.2f}; reach 1")
    print(f"peak memory beside the map: {memory.peak_mib:.0f} MiB; reach 4,096")


if __name__ == "__main__":
    main()
