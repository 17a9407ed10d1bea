"""Time and memory of `severstal audit` beyond inference, on synthetic steel of 256 x 1600 with 4 classes.

    python bench/audit_scale.py --work WORK --images 12568

A small set is drawn by `severstal synth`, and its masks, shifted by 24 px and blurred, stand for the levels of runs: so
every drawn component is a finding. Its images are audited again and again, as --images images with names of their own.
Printed, in CPU time, which other load hardly changes: ms an image of finding, seconds of ranking and writing, and ms a
pair of compared near-duplicates (each image with --others images, as if they were); and the memory of the process.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from severstal_cli.steel.audit import disagreement, finding_table, findings
from severstal_cli.steel.dataset import data_folder
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle

SIZE, DRAWN = (256, 1600), 48


def memory_mb():
    """The most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def levels_of(folder, name):
    """(C, H, W) uint8: the masks of an image, shifted and blurred."""
    found = []
    for channel in range(folder.classes):
        mask = rle.decode(folder.masks.get((name, channel), rle.EMPTY), SIZE)
        shifted = np.roll(mask, 24, axis=1).astype(np.float32)
        found.append((cv2.GaussianBlur(shifted, (0, 0), 3) * 250).astype(np.uint8))
    return np.stack(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=int, default=12568)
    parser.add_argument("--others", type=int, default=3)
    options = parser.parse_args()
    data = options.work / "data"
    if not data.exists():
        words = ["synth", str(data), "--images", str(DRAWN)]
        subprocess.run([sys.executable, "-m", "severstal_cli", *words], check=True)
    folder = data_folder.open_data_folder(data)
    names = list(folder.cache.image_ids)
    levels = {name: levels_of(folder, name) for name in names}
    findings.find(names[0], levels[names[0]], [rle.EMPTY] * folder.classes, exclusive=True)  # compiles
    before = memory_mb()
    found, dice, spent = [], {}, 0.0
    for number in range(options.images):
        name = names[number % len(names)]
        drawn = [folder.masks.get((name, channel), rle.EMPTY) for channel in range(folder.classes)]
        began = time.process_time()
        some, expected = findings.find(f"{number}-{name}", levels[name], drawn, exclusive=True)
        spent += time.process_time() - began
        found += some
        dice[f"{number}-{name}"] = expected
    print(
        f"find: {1000 * spent / options.images:.2f} ms an image; {len(found):,} findings in {options.images:,} images"
    )
    began = time.process_time()
    finding_table.write(options.work / "audit.csv", finding_table.ranked(found))
    size = (options.work / "audit.csv").stat().st_size
    print(f"rank and write: {time.process_time() - began:.1f} s, {size / 1e6:.1f} MB")
    pairs = 0
    began = time.process_time()
    for name in names:  # pairs of different images, so that textures are computed
        for other in names[: options.others]:
            together = {name: 0, other: 0}
            disagreement.find(folder.cache, together, folder.masks, {each: [1.0] * 4 for each in together}, 4)
            pairs += len(together) - 1
    print(f"near-duplicates: {1000 * (time.process_time() - began) / max(pairs, 1):.1f} ms a pair with different masks")
    print(f"memory: {before:.0f} MB before, {memory_mb():.0f} MB after")


if __name__ == "__main__":
    main()
