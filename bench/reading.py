"""CPU time of reading images: headers, decoding, and building and opening the cache of a folder.

    python bench/reading.py [--images 100] [--rounds 7]

Writes JPEG files of 256 x 1600 with a grain like steel to a temporary folder.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from severstal_cli.steel.images import cache, decoding
from severstal_cli.steel.images.decoding import cv2


def best(rounds: int, work: Callable[[], object]) -> float:
    """Return the CPU seconds of the fastest of `rounds`, which other processes hardly affect."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "train_images"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(options.images):
            grain = cv2.GaussianBlur(rng.normal(110, 40, (256, 1600)), (0, 0), 1.2) + rng.normal(0, 4, (256, 1600))
            image = cv2.cvtColor(grain.clip(0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
            cv2.imwrite(str(folder / f"{number:05}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        paths = sorted(folder.iterdir())

        def build() -> None:
            shutil.rmtree(Path(root) / ".severstal", ignore_errors=True)
            cache.open_cache(folder)

        print(json.dumps({
            "kB per image": round(sum(path.stat().st_size for path in paths) / len(paths) / 1000),
            "decode, ms": round(1000 * best(options.rounds, lambda: [decoding.read_grey(path) for path in paths])
                                / len(paths), 3),
            "size, ms": round(1000 * best(options.rounds, lambda: [decoding.image_size(path) for path in paths])
                              / len(paths), 3),
            "build the cache, ms": round(1000 * best(options.rounds, build) / len(paths), 3),
            "open it, ms in total": round(1000 * best(options.rounds, lambda: cache.open_cache(folder)), 2),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
