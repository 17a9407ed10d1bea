"""The levels of the page: exact at every threshold that a slider offers."""

import base64
import zlib

import numpy as np
import pytest

from severstal_cli.report.levels import pack, steps_of
from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess
from severstal_cli.steel.thresholds.per_image_gains import THRESHOLDS


def unpacked(entry, height: int) -> np.ndarray:
    """(H, w) number of steps that each pixel of the stored columns reaches."""
    data = zlib.decompress(base64.b64decode(entry["data"]))
    return np.frombuffer(data, np.uint8).reshape(entry["w"], height).T


def test_every_threshold_gives_the_mask_of_the_levels() -> None:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (2, 9, 14)).astype(np.uint8)
    levels[0, :, :3] = levels[0, :, 12:] = 0
    steps = [steps_of(ClassPostprocess(pixel_threshold=100)), steps_of(ClassPostprocess(pixel_threshold=255))]
    packed = pack(levels, steps)
    assert [entry["channel"] for entry in packed] == [0, 1]
    assert (packed[0]["x"], packed[0]["w"]) == (3, 9)
    for entry, level, own in zip(packed, levels, steps, strict=True):
        reached = unpacked(entry, 9)
        assert entry["top"] == level.max()
        for index, threshold in enumerate(own):
            mask = np.zeros(level.shape, bool)
            mask[:, entry["x"] : entry["x"] + entry["w"]] = reached >= index + 1
            np.testing.assert_array_equal(mask, level >= threshold)


@pytest.mark.parametrize("top", [0, 11])
def test_a_class_that_reaches_no_step_is_left_out(top: int) -> None:
    assert THRESHOLDS[0] > 11
    assert pack(np.full((1, 4, 5), top, np.uint8), [steps_of(ClassPostprocess())]) == []


def test_the_tuned_threshold_is_a_step_but_disabled_is_not() -> None:
    assert 101 not in THRESHOLDS
    assert steps_of(ClassPostprocess(pixel_threshold=101)).tolist() == sorted([*map(int, THRESHOLDS), 101])
    assert steps_of(ClassPostprocess(pixel_threshold=DISABLED)).tolist() == list(map(int, THRESHOLDS))
