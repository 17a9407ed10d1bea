"""The surface of scores against masks made by the rule itself, and the choice on cases worked by hand."""

import threading

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess, apply_rule
from severstal_cli.steel.thresholds.score_surface import ONE, ScoreSurface

COMPONENT_SIZES = np.array([1, 2, 4, 9], np.int32)
MASK_SIZES = np.array([1, 3, 5, 20], np.int32)


def surface(images=()):
    made = ScoreSurface(component_sizes=COMPONENT_SIZES, mask_sizes=MASK_SIZES)
    for levels, truth in images:
        made.add(levels, truth)
    return made


def dice(mask, truth):
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else 1.0


def mean_dice(images, rule):
    """The definition: apply the rule to each image, clean ones too."""
    empty = [np.zeros(levels.shape, np.bool_) if truth is None else truth for levels, truth in images]
    return np.mean([dice(apply_rule(levels, rule), truth) for (levels, _), truth in zip(images, empty, strict=True)])


def rule_of(t, s, m, gate=0):
    return ClassPostprocess(
        pixel_threshold=t,
        min_component_px=int(COMPONENT_SIZES[s]),
        min_mask_px=int(MASK_SIZES[m]),
        min_image_score=int(gate),
    )


def row(*levels):
    return np.array([levels], np.uint8)


def truth_row(text):
    return np.array([[c == "#" for c in text]])


@st.composite
def images(draw):
    size = draw(st.tuples(st.integers(1, 7), st.integers(1, 8)))
    level = st.sampled_from([0, 0, 1, 2, 60, 127, 128, 200, 255])
    levels = draw(hnp.arrays(np.uint8, size, elements=level, fill=st.nothing()))
    truth = draw(st.one_of(st.none(), hnp.arrays(np.bool_, size)))
    return levels, truth


@settings(deadline=None, max_examples=40)
@given(st.lists(images(), min_size=1, max_size=4))
def test_every_cell_is_what_the_rule_gives(case):
    made = surface(case)
    means = made.means()
    assert means.shape == (256, 4, 4)
    best = -1.0
    for t in (1, 2, 3, 60, 61, 127, 128, 129, 200, 201, 255):
        for s in range(4):
            for m in range(4):
                expected = mean_dice(case, rule_of(t, s, m))
                assert means[t, s, m] == pytest.approx(expected, abs=1e-12)
                best = max(best, expected)
    choice = made.best()
    clean = sum(truth is None or not truth.any() for _, truth in case)
    assert choice.mean_dice == pytest.approx(max(best, clean / len(case)), abs=1e-12)
    assert choice.mean_dice == pytest.approx(mean_dice(case, choice.rule), abs=1e-12)
    assert choice.mean_dice_default == pytest.approx(mean_dice(case, ClassPostprocess()), abs=1e-12)
    assert choice.mean_dice_never == clean / len(case)
    assert (choice.images, choice.present) == (len(case), len(case) - clean)
    assert (choice.rule.pixel_threshold == DISABLED) == (clean / len(case) > best + 1e-12)


def test_larger_maps_with_the_default_sizes():
    rng = np.random.default_rng(3)
    case = []
    for i in range(6):
        noise = cv2.GaussianBlur(rng.standard_normal((80, 120)), (0, 0), 3)
        levels = np.clip(100 + 90 * noise / noise.std() + rng.normal(0, 8, noise.shape), 0, 255).astype(np.uint8)
        case.append((levels, None if i % 2 else noise > 0.15))
    made = ScoreSurface.for_images(80 * 120)
    for levels, truth in case:
        made.add(levels, truth)
    means = made.means()
    for _ in range(150):
        t, s, m = int(rng.integers(1, 256)), *(int(rng.integers(n)) for n in means.shape[1:])
        rule = ClassPostprocess(
            pixel_threshold=t, min_component_px=int(made.component_sizes[s]), min_mask_px=int(made.mask_sizes[m])
        )
        assert means[t, s, m] == pytest.approx(mean_dice(case, rule), abs=1e-12)
        assert made.sum_of(rule) / (ONE * len(case)) == pytest.approx(means[t, s, m], abs=1e-12)
    assert made.best().mean_dice == pytest.approx(means[1:].max(), abs=1e-12)


def test_worked_example():
    false_alarm = np.zeros((10, 100), np.uint8)
    false_alarm[:1, :40] = 200
    levels = np.zeros((10, 100), np.uint8)
    levels[:9] = 200
    truth = np.zeros((10, 100), np.bool_)
    truth[3:] = True  # 600 of the 900 pixels kept, and 100 more: Dice 1200 / 1600
    made = ScoreSurface(component_sizes=np.array([1], np.int32), mask_sizes=np.array([1, 50], np.int32))
    made.add(false_alarm, None)
    made.add(levels, truth)
    assert made.means()[128, 0].tolist() == pytest.approx([(0 + 0.75) / 2, (1 + 0.75) / 2], abs=1e-12)
    assert made.best().rule == ClassPostprocess(pixel_threshold=101, min_mask_px=50)


def test_clean_images_count():
    """On the images with the class alone, a low threshold is best; the false alarm on a clean one costs a point."""
    present = (row(90, 90, 200, 200), truth_row("####"))
    clean = (row(0, 0, 0, 100), None)
    assert surface([present]).best().rule.pixel_threshold <= 90
    choice = surface([present, clean]).best()
    assert choice.rule == ClassPostprocess(pixel_threshold=46, min_component_px=4)  # the one pixel of 100 is dropped
    assert surface([present, clean]).means()[100, 0, 0] == pytest.approx((2 * 2 / 6 + 0) / 2)


def test_never_only_when_strictly_better():
    wrong = (row(255, 0, 0), truth_row("..#"))  # never right: Dice 0 whatever is kept
    alarm = (row(255, 255, 255), None)  # no rule of the grid drops it and keeps anything better
    choice = surface([wrong, (np.full((5, 5), 255, np.uint8), None)]).best()
    assert choice.rule == ClassPostprocess(pixel_threshold=DISABLED)
    assert (choice.mean_dice, choice.mean_dice_default, choice.mean_dice_never) == (0.5, 0.0, 0.5)
    # here a filter of 5 px is as good as never: no "never"
    choice = surface([wrong, alarm]).best()
    assert choice.rule.pixel_threshold != DISABLED
    assert choice.mean_dice == choice.mean_dice_never == 0.5


def test_choice_on_a_flat_top():
    # nothing to find and nothing found: all cells are equal, the default is taken
    assert surface([(row(0, 0), None)]).best().rule == ClassPostprocess()
    # found perfectly at each threshold
    assert surface([(row(255, 0, 0), truth_row("#.."))]).best().rule == ClassPostprocess()
    # 41..200 are equal: the middle
    perfect = surface([(row(200, 200, 40, 0), truth_row("##.."))])
    assert perfect.best().rule == ClassPostprocess(pixel_threshold=121)
    # 1..10 and 101..130 are equal: the middle of the longer stretch
    two = surface([(row(0, 0, 0, 10), None), (row(130, 100, 0, 0), truth_row("#..."))])
    assert two.means()[[1, 10, 11, 100, 101, 130], 0, 0] == pytest.approx([1 / 3, 1 / 3, 5 / 6, 5 / 6, 1, 1])
    assert two.best().rule == ClassPostprocess(pixel_threshold=116)


def test_equal_but_for_rounding_is_equal():
    sharp = row(255, 200, 200, 200, 200), truth_row("#....")  # 1 above level 200, a third from there on down
    blunt = row(200, 200, 200, 200, 200), truth_row("#....")  # 0 above level 200, a third from there on down
    made = surface([sharp, blunt, blunt])
    assert made.means()[200, 0, 0] != made.means()[201, 0, 0]  # three thirds, each rounded down; one whole
    assert made.best().rule == ClassPostprocess()  # the middle of 1..255, not of 201..255


def test_a_filter_only_where_it_gains_and_then_in_the_middle():
    levels = np.zeros((9, 12), np.uint8)
    levels[:4, :5] = 200  # the defect, 20 px
    truth = levels > 0
    levels[6, 6] = 200  # a false alarm, 1 px
    made = ScoreSurface(
        component_sizes=np.array([1, 2, 3, 5, 8, 13, 21], np.int32), mask_sizes=np.array([1, 4, 30], np.int32)
    )
    made.add(levels, truth)
    # 2, 3, 5, 8, 13 drop the alarm and keep the defect
    assert made.best().rule == ClassPostprocess(pixel_threshold=101, min_component_px=5)
    assert made.best().mean_dice == 1.0


def test_a_filter_of_components_before_one_of_whole_masks():
    small = (row(200, 0, 0, 0, 0), None)
    large = (row(200, 200, 200, 200, 200), truth_row("#####"))
    # sizes 2, 4 of components do the same as sizes 3, 5 of masks
    assert surface([small, large]).best().rule == ClassPostprocess(pixel_threshold=101, min_component_px=4)


def test_only_a_filter_of_whole_masks_can_do_this():
    apart = np.zeros((3, 11), np.uint8)
    apart[1, ::2] = 200  # six components of 1 px: true
    alarm = np.zeros((3, 11), np.uint8)
    alarm[1, :2] = 200  # one of 2 px: false
    choice = surface([(apart, apart > 0), (alarm, None)]).best()
    assert choice.rule == ClassPostprocess(pixel_threshold=101, min_mask_px=5)
    assert choice.mean_dice == 1.0


def case_of_many(count):
    rng = np.random.default_rng(11)
    made = []
    for i in range(count):
        levels = cv2.GaussianBlur(rng.integers(0, 256, (30, 40)).astype(np.uint8), (0, 0), 1.5)
        made.append((levels, None if i % 3 == 0 else levels > 130))
    return made


def test_order_and_threads_do_not_change_a_bit():
    case = case_of_many(60)
    expected = surface(case).means()
    np.testing.assert_array_equal(surface(case[::-1]).means(), expected)

    shared = surface()
    threads = [
        threading.Thread(target=lambda part: [shared.add(*image) for image in part], args=(case[i::4],))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(shared.means(), expected)

    for t in (40, 130, DISABLED):
        rule = rule_of(t, 2, 0)
        assert shared.sum_of(rule) == surface(case).sum_of(rule)
    assert shared.best() == surface(case).best()


def test_wrong_use():
    with pytest.raises(ValueError, match="no image was added"):
        surface().best()
    with pytest.raises(ValueError, match="no image was added"):
        surface().means()
    for rule in (ClassPostprocess(min_mask_px=4), ClassPostprocess(min_component_px=3)):
        with pytest.raises(ValueError, match="is none of"):
            surface([(row(9), None)]).sum_of(rule)
    with pytest.raises(ValueError, match="has a gate"):
        surface([(row(9), None)]).sum_of(rule_of(9, 0, 0, gate=147))
    with pytest.raises(ValueError, match="begin with 1"):
        ScoreSurface(component_sizes=COMPONENT_SIZES, mask_sizes=MASK_SIZES[1:])
    broken = surface()
    with pytest.raises(ValueError, match="levels must be"):
        broken.add(np.zeros((2, 2)), None)
    assert broken.images == 0
