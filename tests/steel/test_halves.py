"""Held-out figures against their definition; a gate where the other half gains by it, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from severstal_cli.steel import halves
from severstal_cli.steel.postprocess import NEVER, ClassRule, apply_rule
from severstal_cli.steel.search import ScoreSurface
from severstal_cli.steel.splits import Split


def surface(images):
    made = ScoreSurface(component_sizes=np.array([1, 2, 4], np.int32), mask_sizes=np.array([1, 3], np.int32))
    for levels, truth in images:
        made.add(levels, truth)
    return made


def mean_dice(images, rule):
    scores = []
    for levels, truth in images:
        mask, true = apply_rule(levels, rule), np.zeros(levels.shape, np.bool_) if truth is None else truth
        total = int(mask.sum()) + int(true.sum())
        scores.append(2 * int((mask & true).sum()) / total if total else 1.0)
    return float(np.mean(scores))


def defect(peak):
    """Levels of 100 but for one pixel, and the truth: all of it."""
    levels = np.full((4, 5), 100, np.uint8)
    levels[0, 0] = peak
    return levels, np.ones((4, 5), np.bool_)


def alarm(level):
    """As large as a defect."""
    return np.full((4, 5), level, np.uint8), None


@st.composite
def images(draw):
    levels = draw(hnp.arrays(np.uint8, (2, 5), elements=st.sampled_from([0, 0, 60, 100, 130, 150, 200, 255])))
    return levels, draw(st.one_of(st.none(), hnp.arrays(np.bool_, (2, 5))))


@settings(deadline=None, max_examples=40)
@given(st.lists(images(), min_size=1, max_size=4), st.lists(images(), min_size=1, max_size=4))
def test_the_held_out_figure_is_that_of_each_half_with_the_rule_of_the_other(one, other):
    plain, gated = (
        (
            len(other) * mean_dice(other, surface(one).choose(gate=gate).rule)
            + len(one) * mean_dice(one, surface(other).choose(gate=gate).rule)
        )
        / len(one + other)
        for gate in (False, True)
    )
    choice = halves.choose(surface(one), surface(other))
    assert choice.mean_dice_held_out == pytest.approx(max(plain, gated), abs=1e-12)
    whole = surface(one + other).choose(gate=gated > plain + 1e-12)
    assert (choice.rule, choice.mean_dice, choice.images) == (whole.rule, whole.mean_dice, whole.images)


def test_a_gate_that_helps_the_other_half_is_used():
    half = [defect(230), alarm(150), alarm(160), defect(240)]
    choice = halves.choose(surface(half), surface(half[::-1]))
    assert choice.rule.pixel_threshold <= 100
    assert 160 < choice.rule.min_image_score <= 230
    assert choice.mean_dice == choice.mean_dice_held_out == 1.0
    assert surface(half * 2).choose().mean_dice < 0.6  # without a gate


def test_a_gate_that_helps_only_where_it_was_searched_is_not_used():
    one = [defect(180)] * 3 + [alarm(150)] * 2  # a gate between 150 and 180 is perfect here, and empties what is there
    other = [defect(140), alarm(0)]
    assert surface(one).choose(gate=True).rule.min_image_score == 172
    assert surface(one + other).choose(gate=True).rule.min_image_score == 172
    choice = halves.choose(surface(one), surface(other))
    assert choice.rule.min_image_score == 0
    assert choice.mean_dice == surface(one + other).choose().mean_dice


def test_the_first_surface_holds_all_images_in_the_end():
    first, second = surface([defect(230), alarm(150)]), surface([alarm(90)])
    halves.choose(first, second)
    np.testing.assert_array_equal(first.means(), surface([defect(230), alarm(150), alarm(90)]).means())


def test_without_a_second_half_nothing_is_held_out_and_no_gate_tried():
    case = [defect(230), alarm(150)]
    for pair in ((surface(case), surface([])), (surface([]), surface(case))):
        choice = halves.choose(*pair)
        assert choice.mean_dice_held_out is None
        assert choice.rule.min_image_score == 0
    with pytest.raises(ValueError, match="no image was added"):
        halves.choose(surface([]), surface([]))


def test_a_class_that_is_nowhere_is_held_out_too():
    choice = halves.choose(surface([alarm(255)]), surface([alarm(255)] * 2))
    assert choice.rule == ClassRule(pixel_threshold=NEVER)
    assert choice.mean_dice_held_out == 1.0


def test_near_duplicates_are_dealt_to_one_half_and_classes_to_both():
    names = [f"{number:03}.jpg" for number in range(80)]
    split = Split(
        path=Path("splits.csv"),
        parts=dict.fromkeys(names, "0"),
        groups={name: number // 2 for number, name in enumerate(names)},
        class_sets={name: frozenset({1} if number % 8 < 2 else ()) for number, name in enumerate(names)},
    )
    half = halves.deal(names, split)
    assert half.tolist() == np.repeat(half[::2], 2).tolist()
    assert np.bincount(half).tolist() == [40, 40]
    assert np.bincount(half[[bool(split.class_sets[name]) for name in names]]).tolist() == [10, 10]
    some = names[10:50]
    assert dict(zip(some, halves.deal(some, split), strict=True)) == dict(
        zip(some[::-1], halves.deal(some[::-1], split), strict=True)
    )
