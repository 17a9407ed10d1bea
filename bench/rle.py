"""RLE against pycocotools at the competition's size: microseconds per mask, and the speed-up over pycocotools.

    python bench/rle.py [--repeats 7] [--annotations train.csv]

pycocotools takes and returns column-major masks; ours also takes row-major ones, as networks give them, and decodes to
row-major. Text is timed separately: pycocotools has another text format, so the usual code of the competition's
notebooks is the baseline. A ratio above 1 means that ours is faster.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables.mask_table import read_table

SIZE = (256, 1600)
Mask = NDArray[np.uint8]


def blobs(rng: np.random.Generator, count: int, radius_px: int, corners: int) -> Mask:
    """Coarse polygons, like annotations."""
    mask = np.zeros(SIZE, np.uint8)
    for _ in range(count):
        centre = rng.random(2) * (SIZE[1], SIZE[0])
        angles = np.sort(rng.random(corners)) * 2 * np.pi
        reach = radius_px * (0.5 + rng.random(corners))
        points = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None]
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    return mask


def families(rng: np.random.Generator, annotations: Path | None) -> dict[str, list[Mask]]:
    """Row-major masks by kind."""
    sets = {
        "empty": [np.zeros(SIZE, np.uint8)] * 20,
        "full": [np.ones(SIZE, np.uint8)] * 20,
        "small blobs": [blobs(rng, 6, 12, 8) for _ in range(40)],
        "one polygon": [blobs(rng, 1, 90, 12) for _ in range(40)],
        "many polygons": [blobs(rng, 12, 90, 12) for _ in range(40)],
        "ragged (a network's)": [
            (cv2.GaussianBlur(rng.standard_normal(SIZE), (0, 0), 4) > 0.1).astype(np.uint8) for _ in range(20)
        ],
    }
    if annotations:
        table = read_table(annotations, pixels=SIZE[0] * SIZE[1])
        sets["annotations"] = [rle.decode(runs, SIZE).view(np.uint8) for runs in list(table.masks.values())[:400]]
    return sets


def microseconds(function: Callable[[Any], object], items: Sequence[Any], repeats: int) -> float:
    """Microseconds per item, in the fastest of several rounds over all items."""
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        for item in items:
            function(item)
        best = min(best, time.perf_counter() - begin)
    return best / len(items) * 1e6


def plain_from_text(text: str) -> NDArray[np.int32]:
    """As in notebooks: split, two slices."""
    numbers = np.array(text.split(), dtype=np.int32)
    return np.stack([numbers[::2] - 1, numbers[1::2]], axis=1)


def plain_to_text(runs: NDArray[np.int32]) -> str:
    """As in notebooks: one list of numbers, joined."""
    return " ".join(str(number) for number in (runs + np.array([1, 0])).ravel())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--annotations", type=Path, help="a train.csv of the competition, to time its masks, too")
    args = parser.parse_args()
    print(f"{'masks':<22}{'what':<22}{'ours':>9}{'theirs':>9}   ratio")
    for name, rows in families(np.random.default_rng(0), args.annotations).items():
        columns = [np.asfortranarray(mask) for mask in rows]
        runs, theirs = [rle.encode(mask) for mask in rows], [coco.encode(mask) for mask in columns]
        texts = [rle.to_text(mask) for mask in runs]
        for ours, mask, their in zip(runs, columns, theirs, strict=True):
            assert np.array_equal(rle.decode(ours, SIZE), mask)
            assert np.array_equal(rle.encode(mask), ours)
            assert rle.area(ours) == coco.area(their)
        pairs = list(zip(runs, runs[1:] + runs[:1], strict=True))
        their_pairs = [list(pair) for pair in zip(theirs, theirs[1:] + theirs[:1], strict=True)]
        jobs: list[
            tuple[str, tuple[Callable[[Any], object], Sequence[Any]], tuple[Callable[[Any], object], Sequence[Any]]]
        ]
        jobs = [
            ("encode columns", (rle.encode, columns), (coco.encode, columns)),
            ("encode rows", (rle.encode, rows), (lambda mask: coco.encode(np.asfortranarray(mask)), rows)),
            ("decode", (lambda ours: rle.decode(ours, SIZE), runs), (coco.decode, theirs)),
            ("area", (rle.area, runs), (coco.area, theirs)),
            (
                "overlap",
                (lambda pair: rle.overlap(*pair), pairs),
                (lambda pair: coco.area(coco.merge(pair, intersect=True)), their_pairs),
            ),
            ("parse text (plain)", (rle.from_text, texts), (plain_from_text, texts)),
            ("write text (plain)", (rle.to_text, runs), (plain_to_text, runs)),
        ]
        for what, (our_function, our_items), (their_function, their_items) in jobs:
            ours_us = microseconds(our_function, our_items, args.repeats)
            theirs_us = microseconds(their_function, their_items, args.repeats)
            print(f"{name:<22}{what:<22}{ours_us:>6.1f} us{theirs_us:>6.0f} us{theirs_us / ours_us:>7.1f}x")


if __name__ == "__main__":
    main()
