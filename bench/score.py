"""Scoring a submission of 22,024 rows on RLE: seconds without imports, and against a scorer that decodes masks.

    python bench/score.py [--images 5506] [--sample 1801]

Writes a ground truth and a submission like those of the competition (original layout, one row per image and class, some
3,000 masks of about 150 runs), reads both, strictly, and scores them. The plain scorer reads with pandas, decodes each
mask with numpy and counts pixels; it is timed on the first `--sample` images and scaled up. The first call, which
loads the compiled functions, is timed separately: a command pays for it once. Intervals of the mean, of each class and
of a difference from another submission take 2,000 bootstrap samples each. Seconds are CPU seconds of one core, so that
other processes do not count.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE
from severstal_cli.steel.scoring.dice import dice_matrix
from severstal_cli.steel.scoring.scores import score_masks
from severstal_cli.steel.tables.mask_table import Layout, read_table, write_table

SIZE = (256, 1600)
CLASSES = 4
SHARES = (0.071, 0.020, 0.41, 0.064)  # of the images, by class, as in the competition's annotations


def blob(rng: np.random.Generator) -> RLE:
    """A mask of 50 to 250 columns, one run each."""
    columns = int(rng.integers(50, 251))
    first = int(rng.integers(0, SIZE[1] - columns))
    tops = rng.integers(5, 100, columns)
    heights = rng.integers(1, 140, columns)
    starts = (first + np.arange(columns)) * SIZE[0] + tops
    return np.stack([starts, heights], axis=1).astype(np.int32)


def moved(runs: RLE, rng: np.random.Generator) -> RLE:
    """A prediction for the mask: moved by two columns, another mask, or none."""
    kind = rng.random()
    if kind < 0.1:
        return rle.EMPTY
    if kind < 0.2 or int(runs[-1].sum()) + 2 * SIZE[0] > SIZE[0] * SIZE[1]:
        return blob(rng)
    return (runs + np.array([2 * SIZE[0], 0])).astype(np.int32)


def write_pair(folder: Path, images: int) -> list[str]:
    """Write truth.csv and submission.csv. Returns the image ids."""
    rng = np.random.default_rng(0)
    image_ids = [f"{number:09x}.jpg" for number in rng.choice(16**9, images, replace=False)]
    truth = {
        (image_id, channel): blob(rng)
        for image_id in image_ids
        for channel in range(CLASSES)
        if rng.random() < SHARES[channel]
    }
    predicted = {key: prediction for key, runs in truth.items() if len(prediction := moved(runs, rng))}
    for name, masks in (("truth", truth), ("submission", predicted)):
        rows = write_table(folder / f"{name}.csv", masks, image_ids, CLASSES, layout=Layout.ORIGINAL)
        size_mb = (folder / f"{name}.csv").stat().st_size / 1e6
        print(f"{name}: {rows} rows, {len(masks)} masks, {sum(map(len, masks.values()))} runs, {size_mb:.1f} MB")
    return image_ids


def score(folder: Path, image_ids: list[str]) -> float:
    pixels = SIZE[0] * SIZE[1]
    predicted = read_table(folder / "submission.csv", pixels=pixels)
    true = read_table(folder / "truth.csv", pixels=pixels)
    return float(dice_matrix(predicted.masks, true.masks, image_ids, CLASSES).mean())


def decode(text: object) -> NDArray[np.uint8]:
    mask = np.zeros(SIZE[0] * SIZE[1], np.uint8)
    if isinstance(text, str):
        numbers = np.array(text.split(), dtype=int)
        for start, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
            mask[start : start + length] = 1
    return mask


def plain_score(folder: Path, sample: int) -> float:
    """The scorer of a notebook, on the first `sample` images."""
    tables = [pd.read_csv(folder / name, index_col=0) for name in ("submission.csv", "truth.csv")]
    total = 0.0
    rows = sample * CLASSES
    for first, second in zip(*(table["EncodedPixels"].iloc[:rows] for table in tables), strict=True):
        mask, truth = decode(first), decode(second)
        filled = int(mask.sum()) + int(truth.sum())
        total += 2 * int((mask & truth).sum()) / filled if filled else 1.0
    return total / rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5506)
    parser.add_argument("--sample", type=int, default=1801, help="images for the plain scorer")
    args = parser.parse_args()
    sample = min(args.sample, args.images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image_ids = write_pair(folder, args.images)
        seconds = []
        for _ in range(5):
            begin = time.process_time()
            mean = score(folder, image_ids)
            seconds.append(time.process_time() - begin)
        print(f"read and score on RLE: {min(seconds):.2f} s (the first time {seconds[0]:.2f} s), mean {mean:.6f}")
        tables = [read_table(folder / f"{name}.csv", pixels=SIZE[0] * SIZE[1]) for name in ("submission", "truth")]
        for what in ("with intervals", "with intervals and the difference from another submission"):
            begin = time.process_time()
            found = score_masks(tables[0].masks, tables[1].masks, image_ids, CLASSES)
            found.summary(found if "another" in what else None)
            print(f"scored {what}, once read: {time.process_time() - begin:.2f} s")
        same = score(folder, image_ids[:sample])
        begin = time.process_time()
        plain = plain_score(folder, sample)
        plain_seconds = (time.process_time() - begin) * args.images / sample
        print(f"a plain scorer with masks: {plain_seconds:.1f} s, ratio {plain_seconds / min(seconds):.0f}x")
        assert abs(plain - same) < 1e-12, (plain, same)


if __name__ == "__main__":
    main()
