"""Gains against masks made by the post-processing itself: per fold, per bootstrap sample, and with a gate."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess, levels_to_rle
from severstal_cli.steel.thresholds.per_image_gains import GATES, ONE, THRESHOLDS, PerImageGains

COMPONENT_SIZES = np.array([1, 4, 7], np.int32)
MASK_SIZES = np.array([1, 5], np.int32)


def empty():
    return PerImageGains(component_sizes=COMPONENT_SIZES, mask_sizes=MASK_SIZES)


def filled(images, order=None):
    gains = empty()
    for number in order if order is not None else range(len(images)):
        gains.add(number, *images[number])
    return gains


def apply_postprocess(levels, rule):
    """The mask of one class as an array."""
    return rle.decode(levels_to_rle(levels[None], [rule])[0], levels.shape)


def dice(image, rule):
    levels, truth = image
    mask, true = apply_postprocess(levels, rule), np.zeros(levels.shape, np.bool_) if truth is None else truth
    total = int(mask.sum()) + int(true.sum())
    return 2 * int((mask & true).sum()) / total if total else 1.0


def rules():
    for t in (12, 57, 112, 128, 198, 245):
        for component in (1, 4, 7):
            for mask in (1, 5):
                for gate in (0, 50, 147, 212, 253):
                    yield ClassPostprocess(
                        pixel_threshold=t, min_component_px=component, min_mask_px=mask, min_image_score=gate
                    )


@st.composite
def images(draw):
    size = draw(st.tuples(st.integers(1, 6), st.integers(1, 7)))
    levels = draw(hnp.arrays(np.uint8, size, elements=st.sampled_from([0, 0, 11, 12, 60, 127, 128, 200, 255])))
    return levels, draw(st.one_of(st.none(), hnp.arrays(np.bool_, size)))


@settings(deadline=None, max_examples=25)
@given(st.lists(images(), min_size=1, max_size=5))
def test_every_cell_of_the_grid_gives_the_dice_of_its_masks(case):
    made = filled(case)
    means = made.mean_dice()
    assert means.shape == (29, 3, 2)
    for rule in rules():
        expected = [dice(image, rule) for image in case]
        np.testing.assert_allclose(made.dice(rule), expected, atol=1e-12)
        if rule.min_image_score == 0:
            t = int(np.searchsorted(THRESHOLDS, rule.pixel_threshold))
            s, m = COMPONENT_SIZES.tolist().index(rule.min_component_px), int(rule.min_mask_px == 5)
            assert means[t, s, m] == pytest.approx(np.mean(expected), abs=1e-12)
    never = [float(truth is None or not truth.any()) for _, truth in case]
    assert made.dice(ClassPostprocess(pixel_threshold=DISABLED)).tolist() == never
    assert made.present.tolist() == [not clean for clean in never]


@settings(deadline=None, max_examples=25)
@given(st.lists(images(), min_size=2, max_size=6), st.randoms())
def test_sums_are_those_of_each_fold_at_each_gate(case, random):
    made = filled(case)
    fold_of = np.array([random.randrange(3) for _ in case], np.int8)
    sums = made.sums(fold_of, 3)
    assert sums.shape == (3, 1 + len(GATES), *made.shape) == (3, 17, 29, 3, 2)
    clean = made.dice(ClassPostprocess(pixel_threshold=DISABLED))
    for rule in rules():
        t = int(np.searchsorted(THRESHOLDS, rule.pixel_threshold))
        s, m = COMPONENT_SIZES.tolist().index(rule.min_component_px), int(rule.min_mask_px == 5)
        gate = 1 + GATES.tolist().index(rule.min_image_score) if rule.min_image_score > rule.pixel_threshold else 0
        gains = made.dice(rule) - clean
        for fold in range(3):
            assert sums[fold, gate, t, s, m] / ONE == pytest.approx(gains[fold_of == fold].sum(), abs=1e-12)
        weights = np.array([[random.randrange(4) for _ in case]], float)
        drawn = made.weighted_sums(weights, gate)
        assert drawn.shape == (1, *made.shape)
        assert drawn[0, t, s, m] == pytest.approx(float(weights[0] @ gains), abs=1e-5)


def test_order_and_threads_do_not_change_a_bit():
    rng = np.random.default_rng(5)
    case = []
    for number in range(300):  # more than are laid out at a time
        levels = rng.integers(0, 256, (6, 9)).astype(np.uint8)
        case.append((levels, None if number % 3 else levels > 140))
    fold_of = (np.arange(300) % 5).astype(np.int8)
    expected = filled(case)
    shared = empty()

    def add(first):
        for number in range(first, 300, 4):
            shared.add(number, *case[number])

    threads = [threading.Thread(target=add, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in (shared, filled(case, order=range(299, -1, -1))):
        np.testing.assert_array_equal(other.sums(fold_of, 5), expected.sums(fold_of, 5))
        np.testing.assert_array_equal(other.present, expected.present)
    drawn = expected.weighted_sums(np.ones((2, 300)), 0)
    np.testing.assert_allclose(drawn[1], expected.sums(fold_of, 5).sum(axis=0)[0] / ONE, atol=1e-4)


def test_worked_example():
    made = PerImageGains(component_sizes=np.array([1], np.int32), mask_sizes=np.array([1, 50], np.int32))
    alarm, defect = np.zeros((10, 100), np.uint8), np.zeros((10, 100), np.uint8)
    alarm[0, :40] = defect[:9] = 200
    truth = np.zeros((10, 100), np.bool_)
    truth[3:] = True  # 600 of the 900 pixels kept, and 100 more: Dice 1200 / 1600
    made.add(0, alarm, None)
    made.add(1, defect, truth)
    gains = made.sums(np.zeros(2, np.int8), 1)[0, 0, 16, 0] / ONE
    assert gains.tolist() == pytest.approx([0.75 - 1, 0.75], abs=1e-12)
    assert made.mean_dice()[16, 0].tolist() == pytest.approx([0.75 / 2, 1.75 / 2], abs=1e-12)


def mean_dice_of(made, rules):
    return np.mean([made.dice(rule) for rule in rules], axis=0)


def test_a_plateau_ends_where_the_mean_dice_falls_or_after_one_unit_of_log_odds():
    levels, truth = np.full((50, 60), 61, np.uint8), np.zeros((50, 60), np.bool_)
    levels[:20], truth[:20] = 240, True
    levels[20] = 200  # less than 0.03 of Dice
    made = filled([(levels, truth)])

    def thresholds_around(level):
        return [rule.pixel_threshold for rule in made.plateau(ClassPostprocess(pixel_threshold=level, min_mask_px=5))]

    assert thresholds_around(128) == [128, 112, 96, 82, 69, 143, 159, 173, 186]
    assert thresholds_around(82) == [82, 69, 96, 112, 128, 143]
    assert thresholds_around(236) == [236, 231, 225, 217, 208, 240]
    assert thresholds_around(12) == [12, 15, 19, 24, 30]
    assert made.plateau(ClassPostprocess(min_mask_px=5))[1] == ClassPostprocess(pixel_threshold=112, min_mask_px=5)
    disabled = ClassPostprocess(pixel_threshold=DISABLED)
    assert made.plateau(disabled) == [disabled]


def test_one_level_that_crosses_the_threshold_hardly_changes_the_mean_over_a_plateau():
    clean = [(np.zeros((4, 5), np.uint8), None)] * 40
    below, above = (filled([(np.full((4, 5), level, np.uint8), None), *clean]) for level in (127, 128))
    rule = ClassPostprocess()
    assert below.dice(rule)[0] - above.dice(rule)[0] == 1
    difference = mean_dice_of(below, below.plateau(rule)) - mean_dice_of(above, below.plateau(rule))
    assert difference[0] == pytest.approx(1 / 9)


def test_the_gate_moves_with_the_threshold_of_a_plateau():
    made = filled([(np.full((4, 5), 0, np.uint8), None)])
    gates = (93, 93, 120, 120, 147, 172, 172, 194, 194)
    found = made.plateau(ClassPostprocess(pixel_threshold=57, min_image_score=147))
    assert sorted((rule.pixel_threshold, rule.min_image_score) for rule in found) == list(
        zip(THRESHOLDS[3:12].tolist(), gates, strict=True)
    )
    without = made.plateau(ClassPostprocess(pixel_threshold=57, min_image_score=50))  # it has no effect
    assert {rule.min_image_score for rule in without[1:]} == {0}


def test_post_processing_off_the_grid_is_refused():
    made = filled([(np.full((3, 3), 200, np.uint8), None)])
    for rule in (
        ClassPostprocess(pixel_threshold=127),
        ClassPostprocess(min_component_px=2),
        ClassPostprocess(min_mask_px=3),
        ClassPostprocess(min_image_score=200),
    ):
        with pytest.raises(ValueError, match="is none of"):
            made.dice(rule)


def test_the_grid_of_the_competition_is_as_documented():
    grid = PerImageGains.for_images(256 * 1600)
    assert grid.shape == (29, 22, 14)
    assert grid.component_sizes.tolist() == [
        1,
        10,
        15,
        23,
        34,
        52,
        79,
        121,
        184,
        278,
        420,
        638,
        967,
        1466,
        2223,
        3371,
        5111,
        7750,
        11750,
        17816,
        27014,
        40960,
    ]
    assert grid.mask_sizes.tolist() == [1, 53, 90, 153, 261, 445, 758, 1290, 2196, 3738, 6363, 10832, 18440, 31393]
    assert PerImageGains.for_images(8 * 24).shape == (29, 7, 10)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="no image was added"):
        empty().mean_dice()
    with pytest.raises(ValueError, match="begin with 1"):
        PerImageGains(component_sizes=COMPONENT_SIZES, mask_sizes=MASK_SIZES[1:])
    broken = empty()
    with pytest.raises(ValueError, match="levels must be"):
        broken.add(0, np.zeros((2, 2)), None)
    assert len(broken.present) == 0
