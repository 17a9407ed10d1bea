"""The rule of a class: its four steps against their definition, and its numbers."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.postprocess import (
    DISABLED,
    ClassPostprocess,
    levels_to_rle,
    make_exclusive,
)

EXAMPLE = np.array([[200, 190, 0, 150, 90]], np.uint8)


def apply_postprocess(levels, rule):
    """The mask of one class as an array."""
    return rle.decode(levels_to_rle(levels[None], [rule])[0], levels.shape)


def step_by_step(levels, rule):
    """The definition, in its order, by OpenCV."""
    mask = levels >= rule.pixel_threshold
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= rule.min_component_px
    keep[0] = False
    mask = keep[labels]
    if mask.sum() < rule.min_mask_px or levels.max() < rule.min_image_score:
        mask = np.zeros_like(mask)
    return mask


@settings(deadline=None, max_examples=100)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=10), elements=st.integers(0, 12)),
    st.builds(
        ClassPostprocess,
        pixel_threshold=st.one_of(st.integers(1, 13), st.just(DISABLED)),
        min_component_px=st.integers(1, 8),
        min_mask_px=st.integers(1, 30),
        min_image_score=st.integers(0, 13),
    ),
)
def test_apply_rule_is_its_definition(levels, rule):
    mask = apply_postprocess(levels, rule)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, step_by_step(levels, rule))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({}, "##.#."),
        ({"pixel_threshold": 150}, "##.#."),
        ({"pixel_threshold": 151}, "##..."),
        ({"pixel_threshold": 200}, "#...."),
        ({"pixel_threshold": 201}, "....."),
        ({"pixel_threshold": DISABLED}, "....."),
        ({"min_component_px": 2}, "##..."),
        ({"min_component_px": 3}, "....."),
        ({"min_mask_px": 3}, "##.#."),
        ({"min_mask_px": 4}, "....."),
        ({"min_component_px": 2, "min_mask_px": 2}, "##..."),
        ({"min_component_px": 2, "min_mask_px": 3}, "....."),  # counted after the components
        ({"min_image_score": 200}, "##.#."),
        ({"min_image_score": 201}, "....."),
        ({"min_component_px": 2, "min_mask_px": 2, "min_image_score": 195}, "##..."),
    ],
)
def test_steps_by_hand(numbers, expected):
    mask = apply_postprocess(EXAMPLE, ClassPostprocess(**numbers))
    assert "".join("#" if pixel else "." for pixel in mask[0]) == expected


def test_a_threshold_of_255_is_not_disabled():
    assert apply_postprocess(np.full((2, 2), 255, np.uint8), ClassPostprocess(pixel_threshold=255)).all()
    assert not apply_postprocess(np.full((2, 2), 255, np.uint8), ClassPostprocess(pixel_threshold=DISABLED)).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pixel_threshold", 0),
        ("pixel_threshold", 257),
        ("pixel_threshold", 0.5),
        ("pixel_threshold", True),
        ("min_component_px", 0),
        ("min_mask_px", -1),
        ("min_mask_px", 2**31),
        ("min_image_score", 256),
        ("min_image_score", -1),
        ("min_image_score", "9"),
    ],
)
def test_numbers_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        ClassPostprocess(**{name: value})


def test_rule_through_json():
    rule = ClassPostprocess(pixel_threshold=np.int64(90), min_component_px=7, min_mask_px=300, min_image_score=200)
    text = json.dumps(rule.to_dict())
    assert json.loads(text) == {
        "pixel_threshold": 90,
        "min_component_px": 7,
        "min_mask_px": 300,
        "min_image_score": 200,
    }
    assert ClassPostprocess.from_dict(json.loads(text)) == rule
    for wrong in [{"pixel_threshold": 90}, {**rule.to_dict(), "size": 1}]:
        with pytest.raises(ValueError, match="a rule has the numbers"):
            ClassPostprocess.from_dict(wrong)
    with pytest.raises(ValueError, match="pixel_threshold must be"):
        ClassPostprocess.from_dict({**rule.to_dict(), "pixel_threshold": 300})


def test_exclusive_by_hand():
    levels = np.array([[[5, 0, 9, 7]], [[4, 0, 9, 8]], [[5, 1, 9, 8]]], np.uint8)
    before = levels.copy()
    expected = [[[5, 0, 9, 0]], [[0, 0, 0, 8]], [[0, 1, 0, 0]]]  # ties: the lower channel stays
    assert make_exclusive(levels).tolist() == expected
    np.testing.assert_array_equal(levels, before)


@settings(deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 4)))
def test_exclusive_is_its_definition(levels):
    winner = levels.argmax(axis=0)  # the first of the highest
    expected = np.where(winner == np.arange(len(levels))[:, None, None], levels, 0)
    np.testing.assert_array_equal(make_exclusive(levels), expected)


def test_exclusive_beyond_one_chunk_and_in_any_memory_order():
    levels = np.random.default_rng(0).integers(0, 256, (4, 77, 101), np.uint8)
    expected = np.where(levels.argmax(axis=0) == np.arange(4)[:, None, None], levels, 0)
    np.testing.assert_array_equal(make_exclusive(levels), expected)
    np.testing.assert_array_equal(make_exclusive(np.asfortranarray(levels)), expected)
    with pytest.raises(ValueError, match="levels must be"):
        make_exclusive(levels[0])


def test_masks_to_runs():
    levels = np.random.default_rng(1).integers(0, 256, (3, 8, 9), np.uint8)
    rules = [
        ClassPostprocess(pixel_threshold=200),
        ClassPostprocess(pixel_threshold=DISABLED),
        ClassPostprocess(pixel_threshold=120, min_component_px=3),
    ]
    for used in (levels, make_exclusive(levels)):
        found = levels_to_rle(used, rules)
        assert len(found[1]) == 0
        for runs, channel, rule in zip(found, used, rules, strict=True):
            np.testing.assert_array_equal(rle.decode(runs, (8, 9)), apply_postprocess(channel, rule))
    alone = levels_to_rle(make_exclusive(levels), rules)
    assert rle.overlap(alone[0], alone[2]) == 0
    with pytest.raises(ValueError, match="3 classes and 2 rules"):
        levels_to_rle(levels, rules[:2])
