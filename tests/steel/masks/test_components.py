"""The tally of one map against OpenCV's components at every threshold, and against cases worked by hand."""

import threading

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from severstal_cli.steel.masks import components
from severstal_cli.steel.masks.components import Tally, drop_small, size_steps, tally

SIZES = np.array([1, 2, 3, 5, 9, 30], np.int32)


def large_components(mask, min_component_px):
    """The definition: 8-connected components by OpenCV, those below the size dropped."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= min_component_px
    keep[0] = False
    return keep[labels]


def assert_exact(levels, truth, sizes, thresholds=range(256)):
    found = tally(levels, truth, sizes)
    has_truth = truth is not None and truth.any()
    assert found.truth_area == (truth.sum() if has_truth else 0)
    assert (found.overlap is None) == (not has_truth)
    assert found.kept_area.shape == (256, len(sizes))
    for t in thresholds:
        masks = [large_components(levels >= t, size) for size in sizes]
        assert found.kept_area[t].tolist() == [mask.sum() for mask in masks], f"area at {t}"
        if found.overlap is not None:
            assert found.overlap[t].tolist() == [(mask & truth).sum() for mask in masks], f"overlap at {t}"


@st.composite
def maps(draw):
    """Small maps of few or many different levels, so that plateaus and ties are common; and a truth."""
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 12)))
    values = draw(st.lists(st.integers(0, 255), min_size=1, max_size=5)) + [0] * draw(st.integers(0, 3))
    level = draw(st.sampled_from([st.sampled_from(values), st.integers(0, 255)]))
    levels = draw(hnp.arrays(np.uint8, size, elements=level, fill=st.nothing()))
    truth = draw(st.one_of(st.none(), hnp.arrays(np.bool_, size)))
    return levels, truth


@settings(deadline=None, max_examples=50)
@given(maps())
def test_tally_is_what_opencv_finds_at_each_threshold(case):
    levels, truth = case
    edges = {0, 1, 255} | {int(v) for v in levels.flat} | {min(int(v) + 1, 255) for v in levels.flat}
    assert_exact(levels, truth, SIZES, sorted(edges))


def test_worked_example():
    levels = np.array([[9, 0, 5, 3]], np.uint8)
    truth = np.array([[False, False, True, False]])
    found = tally(levels, truth, np.array([1, 2], np.int32))
    expected_area = {0: [4, 4], 1: [3, 2], 3: [3, 2], 4: [2, 0], 5: [2, 0], 6: [1, 0], 9: [1, 0], 10: [0, 0]}
    expected_overlap = {0: [1, 1], 1: [1, 1], 3: [1, 1], 4: [1, 0], 5: [1, 0], 6: [0, 0], 9: [0, 0], 10: [0, 0]}
    assert {t: found.kept_area[t].tolist() for t in expected_area} == expected_area
    assert {t: found.overlap[t].tolist() for t in expected_overlap} == expected_overlap


def one_pixel(size, place, level):
    levels = np.zeros(size, np.uint8)
    levels[place] = level
    return levels


@pytest.mark.parametrize(
    "levels",
    [
        np.zeros((5, 7), np.uint8),
        np.full((5, 7), 255, np.uint8),
        np.full((5, 7), 1, np.uint8),
        np.full((4, 6), 77, np.uint8),
        one_pixel((5, 7), (0, 0), 255),
        one_pixel((5, 7), (4, 6), 1),
        one_pixel((6, 8), (5, 7), 200),
        np.array([[3]], np.uint8),
        np.arange(0, 240, 8, np.uint8)[None],
        np.arange(240, 0, -8).astype(np.uint8)[:, None],
        (np.indices((9, 11)).sum(0) % 2 * 90).astype(np.uint8),  # touching by corners only: one component
        (np.indices((9, 11)) % 2 == 0).all(0).astype(np.uint8) * 40,  # apart: 30 components
        np.array([[9, 0, 9, 0, 9], [0, 0, 0, 0, 0], [9, 0, 4, 0, 9], [0, 0, 0, 0, 0], [9, 0, 9, 0, 9]], np.uint8),
        np.array([[8, 1, 8], [1, 5, 1], [8, 1, 8]], np.uint8),  # the middle joins all four corners
    ],
)
@pytest.mark.parametrize("truth", ["none", "empty", "full", "last pixel", "stripes"])
def test_special_shapes(levels, truth):
    masks = {
        "none": None,
        "empty": np.zeros(levels.shape, np.bool_),
        "full": np.ones(levels.shape, np.bool_),
        "last pixel": one_pixel(levels.shape, (-1, -1), 1).astype(np.bool_),
        "stripes": np.indices(levels.shape)[1] % 2 == 0,
    }
    assert_exact(levels, masks[truth], SIZES)


def smooth_map(rng, size=(60, 90)):
    noise = cv2.GaussianBlur(rng.standard_normal(size), (0, 0), 2.5)
    levels = np.clip(128 + 110 * noise / noise.std() + rng.normal(0, 5, size), 0, 255).astype(np.uint8)
    return levels, noise > 0.02


def test_a_larger_map_with_all_sizes():
    levels, truth = smooth_map(np.random.default_rng(5))
    assert_exact(levels, truth, size_steps(levels.size, count=40, smallest=0.001, largest=1.0), range(0, 256, 5))


def test_any_memory_order_and_read_only_arrays():
    levels, truth = smooth_map(np.random.default_rng(6), (20, 31))
    expected = tally(levels, truth, SIZES)
    wide_levels, wide_truth = np.repeat(levels, 2, axis=1), np.repeat(truth, 2, axis=1)
    frozen = levels.copy()
    frozen.flags.writeable = False
    for other_levels, other_truth in [
        (np.asfortranarray(levels), np.asfortranarray(truth)),
        (wide_levels[:, ::2], wide_truth[:, ::2]),
        (frozen, truth),
    ]:
        found = tally(other_levels, other_truth, SIZES)
        np.testing.assert_array_equal(found.kept_area, expected.kept_area)
        np.testing.assert_array_equal(found.overlap, expected.overlap)


def test_images_of_millions_of_pixels_have_a_longer_order(monkeypatch):
    levels, truth = smooth_map(np.random.default_rng(8), (20, 31))
    expected = tally(levels, truth, SIZES)
    monkeypatch.setattr(components, "_SHORT_ORDER", 10)
    monkeypatch.setattr(components, "_scratch", components._Scratch())
    found = tally(levels, truth, SIZES)
    assert components._scratch.order.dtype == np.uint64
    np.testing.assert_array_equal(found.kept_area, expected.kept_area)
    np.testing.assert_array_equal(found.overlap, expected.overlap)


def test_buffers_serve_images_of_many_sizes_and_several_threads():
    rng = np.random.default_rng(7)
    cases = [smooth_map(rng, size) for size in [(50, 70), (3, 5), (71, 51), (1, 90), (40, 41)]]
    expected = [tally(*case, SIZES) for case in cases]
    found: list[list[Tally]] = [[], []]

    def work(mine):
        for _ in range(20):
            mine.extend(tally(*case, SIZES) for case in cases)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine in found:
        assert len(mine) == 100
        for i, one in enumerate(mine):
            np.testing.assert_array_equal(one.kept_area, expected[i % 5].kept_area)
            np.testing.assert_array_equal(one.overlap, expected[i % 5].overlap)


def test_size_steps():
    steps = size_steps(256 * 1600, count=64, smallest=1 / 50_000, largest=0.1)
    assert len(steps) == 64
    assert (steps[0], steps[1], steps[-1]) == (1, 8, 40960)
    assert (np.diff(steps) > 0).all()
    ratios = steps[20:] / steps[19:-1]
    assert ratios.max() < 1.16
    assert ratios.min() > 1.13
    assert size_steps(200 * 200, count=64, smallest=1 / 50_000, largest=0.1)[[0, 1, -1]].tolist() == [1, 2, 4000]
    assert size_steps(30, count=64, smallest=1 / 50_000, largest=0.1).tolist() == [1, 2, 3]
    assert size_steps(1, count=64, smallest=1 / 50_000, largest=0.1).tolist() == [1]


@pytest.mark.parametrize(
    ("levels", "truth", "sizes", "message"),
    [
        (np.zeros((2, 3)), None, SIZES, "levels must be"),
        (np.zeros((2, 3, 1), np.uint8), None, SIZES, "levels must be"),
        (np.zeros((0, 3), np.uint8), None, SIZES, "levels must be"),
        (np.broadcast_to(np.uint8(0), (1 << 16, 1 << 15)), None, SIZES, "must have less than"),
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.bool_), SIZES, "truth must be"),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8), SIZES, "truth must be"),
        (np.zeros((2, 3), np.uint8), None, SIZES[1:], "begin with 1"),
        (np.zeros((2, 3), np.uint8), None, SIZES[[0, 2, 1]], "ascending"),
        (np.zeros((2, 3), np.uint8), None, SIZES.astype(np.int64), "int32"),
        (np.zeros((2, 3), np.uint8), None, SIZES[:0], "sizes must be"),
    ],
)
def test_wrong_arguments_are_refused(levels, truth, sizes, message):
    with pytest.raises(ValueError, match=message):
        tally(levels, truth, sizes)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14)), st.integers(1, 12))
def test_drop_small_is_what_opencv_finds(mask, min_component_px):
    before = mask.copy()
    np.testing.assert_array_equal(drop_small(mask, min_component_px), large_components(mask, min_component_px))
    np.testing.assert_array_equal(mask, before)


def test_drop_small_by_hand():
    rows = ["##...#", "...#..", "..#...", "#....#"]
    mask = np.array([[c == "#" for c in row] for row in rows])
    two = np.array([[c == "#" for c in row] for row in ["##....", "...#..", "..#...", "......"]])
    np.testing.assert_array_equal(drop_small(mask, 1), mask)
    np.testing.assert_array_equal(drop_small(mask, 2), two)
    assert not drop_small(mask, 3).any()
    with pytest.raises(ValueError, match="mask must be"):
        drop_small(mask.astype(np.uint8), 2)
