"""A size is doubted where the masks hang together at another height, and at no other time."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.jagged import likelier_height

SIZE = (64, 400)
RNG = np.random.default_rng(0)


def runs(masks: list[NDArray[np.bool_]]) -> list[rle.RLE]:
    return [rle.encode(mask) for mask in masks if mask.any()]


def blobs(size: tuple[int, int], count: int, seed: int = 0) -> list[NDArray[np.bool_]]:
    """Ellipses, as annotations are."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        mask = np.zeros(size, np.uint8)
        for _ in range(rng.integers(1, 4)):
            centre = int(rng.integers(size[1])), int(rng.integers(size[0]))
            axes = int(rng.integers(8, size[1] // 4)), int(rng.integers(4, size[0] // 2))
            cv2.ellipse(mask, centre, axes, float(rng.integers(180)), 0, 360, 1, -1)
        masks.append(mask.astype(bool))
    return masks


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize("given", [(400, 64), (80, 400), (100, 256), (37, 999)])
def test_a_wrong_height_is_doubted_and_the_right_one_named(given: tuple[int, int], count: int) -> None:
    masks = runs(blobs(SIZE, count))
    assert likelier_height(masks, SIZE) is None
    assert likelier_height(masks, given) == 64


def test_twice_the_height_is_doubted_when_all_masks_agree() -> None:
    assert likelier_height(runs(blobs(SIZE, 30)), (128, 200)) == 64


def test_a_single_box_in_a_small_image() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:12, 8:20] = True
    assert likelier_height(runs([mask]), (20, 30)) is None
    assert likelier_height(runs([mask]), (30, 20)) == 20


def test_a_patch_that_touches_itself_at_any_height() -> None:
    mask = np.zeros((256, 1600), np.uint8)
    cv2.ellipse(mask, (800, 128), (300, 110), 0.0, 0, 360, 1, -1)
    assert likelier_height(runs([mask.astype(bool)]), (256, 1600)) is None
    assert likelier_height(runs([mask.astype(bool)]), (1600, 256)) == 256


SIZES = [(64, 400), (400, 64), (50, 50), (20, 30), (256, 1600), (8, 12)]


@pytest.mark.parametrize("count", [1, 5, 25])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
def test_a_right_size_is_not_doubted(size: tuple[int, int], count: int) -> None:
    height, width = size
    for density in (0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 1):  # noise
        assert likelier_height(runs([RNG.random(size) < density for _ in range(count)]), size) is None
    tiny = []
    for _ in range(count):  # 1 to 9 pixels
        mask = np.zeros(size, bool)
        y, x = RNG.integers(0, height - 2), RNG.integers(0, width - 2)
        mask[y : y + RNG.integers(1, 4), x : x + RNG.integers(1, 4)] = True
        tiny.append(mask)
    assert likelier_height(runs(tiny), size) is None
    columns = np.zeros(size, bool)  # scratches along the image
    columns[:, RNG.integers(width)] = columns[: height // 2, RNG.integers(width)] = True
    assert likelier_height(runs([columns] * count), size) is None


@pytest.mark.parametrize("slope", [0.0, 0.4, 1.0, 2.0, 6.0, -1.0])
@pytest.mark.parametrize("thickness", [1, 2, 4])
def test_scratches_of_one_direction_are_not_doubted(slope: float, thickness: int) -> None:
    size, masks = (256, 1600), []
    for number in range(30):
        mask = np.zeros(size, np.uint8)
        start = 40 * number, 20 if slope >= 0 else 235
        length = 200 / math.hypot(1, slope)
        cv2.line(mask, start, (int(start[0] + length), int(start[1] + slope * length)), 1, thickness)
        masks.append(mask.astype(bool))
    assert likelier_height(runs(masks), size) is None
    assert likelier_height(runs(masks), (1600, 256)) == 256


def test_no_masks_say_nothing() -> None:
    assert likelier_height([], (20, 30)) is None
