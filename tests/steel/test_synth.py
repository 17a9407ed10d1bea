"""Synthetic steel, one image: like the real set in what is counted, visible, and decided by its number alone."""

from collections import Counter

import cv2
import numpy as np
import pytest

from severstal_cli.steel.masks import rle
from severstal_cli.steel.synth import polygons, render, series
from severstal_cli.steel.synth.defects import draw_defects
from severstal_cli.steel.synth.series import TEST, TRAIN, SetPlan
from severstal_cli.steel.synth.surface import draw_roll, draw_surface

SMALL = (64, 200)


def test_names_are_like_the_competitions_and_never_twice():
    plan = SetPlan(seed=0, size=SMALL)
    names = [series.image_name(plan, part, k) for k in range(4_000) for part in (TRAIN, TEST)]
    assert len(set(names)) == len(names)
    assert all(len(name) == 13 and int(name[:9], 16) >= 0 and name[9:] == ".jpg" for name in names)


def test_class_shares_are_those_of_the_competition():
    rng = np.random.default_rng(0)
    drawn = Counter(
        polygons.draw_class_set(rng, defect_share=1 - polygons.CLEAN_SHARE, rare_boost=0) for _ in range(12568)
    )
    assert abs(drawn[()] - 5902) < 200
    assert sum(drawn.values()) == sum(count for _, count in polygons.CLASS_SETS) == 12568
    for class_id, real in polygons.CLASS_IMAGES.items():
        images = sum(count for classes, count in drawn.items() if class_id in classes)
        assert abs(images - real) < 4 * np.sqrt(real) + 0.02 * real
        assert sum(count for classes, count in polygons.CLASS_SETS if class_id in classes) == real
    assert abs(sum(count for classes, count in drawn.items() if len(classes) > 1) - 427) < 90


def test_rare_boost_makes_the_classes_about_equally_frequent():
    rng = np.random.default_rng(0)
    drawn = [polygons.draw_class_set(rng, defect_share=1, rare_boost=1) for _ in range(4000)]
    shares = [np.mean([class_id in classes for classes in drawn]) for class_id in (1, 2, 3, 4)]
    assert min(shares) > 0.5 * max(shares)
    assert () not in drawn


@pytest.mark.parametrize("size", [(256, 1600), (128, 400)])
def test_areas_are_within_the_range_of_the_real_ones(size):
    shrink = size[0] * size[1] / (256 * 1600)
    for class_id, (least, median, largest) in {
        1: (230, 3525, 31303),
        2: (316, 2944, 14023),
        3: (115, 11497, 368240),
        4: (1486, 24858, 192780),
    }.items():
        rng = np.random.default_rng(class_id)
        areas = [np.count_nonzero(polygons.draw_labels(rng, (class_id,), size) == class_id) for _ in range(100)]
        assert min(areas) >= min(max(least * shrink, 6), least)
        assert max(areas) <= largest * shrink
        assert 0.65 < np.median(areas) / (median * shrink) < 1.5


def test_every_class_that_was_asked_for_is_there_and_none_overlaps():
    for number in range(150):
        classes = polygons.CLASS_SETS[4:][number % 7][0]
        labels = polygons.draw_labels(np.random.default_rng(number), classes, (128, 400))
        assert {int(v) for v in np.unique(labels)} == {0, *classes}
        masks = list(series.to_runs(labels).values())
        assert sum(rle.area(mask) for mask in masks) == np.count_nonzero(labels)


def test_a_class_keeps_its_ground_and_its_area_beside_others():
    size, classes = (128, 400), (1, 2, 3, 4)
    for number in range(60):
        labels = polygons.draw_labels(np.random.default_rng(number), classes, size)
        # the second class is placed first, so it is as it would be alone
        assert ((labels == 2) == (polygons.draw_labels(np.random.default_rng(number), (2,), size) == 2)).all()
        for class_id in classes:
            least, largest = polygons.area_limits(class_id, size)
            assert least <= np.count_nonzero(labels == class_id) <= largest


def test_where_little_ground_is_left_a_class_takes_that_or_nothing():
    placed = 0
    for number in range(40):
        labels = np.full((128, 400), 2, np.uint8)
        labels[20:50, 100:150] = 0
        polygons._place_class(np.random.default_rng(number), labels, 4)
        area = np.count_nonzero(labels == 4)
        assert np.count_nonzero(labels == 2) == 128 * 400 - 30 * 50
        assert area == 0 or area >= polygons.area_limits(4, (128, 400))[0]
        placed += area > 0
    assert placed > 20


def test_labels_become_runs_of_the_right_channel():
    labels = np.array([[0, 3], [1, 3]], np.uint8)
    assert {channel: rle.to_text(runs) for channel, runs in series.to_runs(labels).items()} == {0: "2 1", 2: "3 2"}


@pytest.mark.parametrize("size", [(512, 64), (1024, 32), (32, 32)])
def test_images_may_be_much_taller_than_wide(size):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        assert draw_surface(rng, draw_roll(rng), size, np.zeros(size[1], bool)).shape == size


def test_most_defects_can_be_seen():
    """What a defect changes, against the roughness of the steel around: mostly clearly more."""
    size = (128, 400)
    contrast: dict[int, list[float]] = {1: [], 2: [], 3: [], 4: []}
    for number in range(120):
        class_id = number % 4 + 1
        mask = polygons.draw_labels(np.random.default_rng(number), (class_id,), size) == class_id
        roll = draw_roll(np.random.default_rng([2, number]))
        bare = draw_surface(np.random.default_rng([1, number]), roll, size, mask.any(axis=0))
        image = render(np.random.default_rng([1, number]), {class_id - 1: rle.encode(mask)}, size, roll=roll)
        changed = np.abs(image - np.clip(bare, 0, 255))
        ring = (cv2.dilate(mask.astype(np.uint8), np.ones((15, 15))) > 0) & ~mask
        assert changed[ring].mean() < 4  # rounding, and the faint rim of a patch
        contrast[class_id].append(float(np.mean(changed[mask] > bare[ring].std())))
    # the share of a polygon in which the defect shows: a hair line fills little of it, a patch most
    for (class_id, shares), (most, usual) in zip(
        contrast.items(), [(0.2, 0.35), (0.25, 0.4), (0.2, 0.4), (0.5, 0.65)], strict=True
    ):
        assert np.mean(np.array(shares) > most) > 0.75, (class_id, shares)
        assert np.median(shares) > usual


def test_about_one_image_in_eight_shows_its_class_faintly():
    mask = np.zeros(SMALL, bool)
    mask[10:50, 40:90] = True
    change = []
    for number in range(120):
        surface = np.full(SMALL, 100, np.float32)
        draw_defects(np.random.default_rng(number), surface, mask, 3)
        change.append(float(np.abs(surface[mask] - 100).mean()))
    faint = np.mean(np.array(change) < 0.6 * np.median(change))
    assert 0.05 < faint < 0.25, faint


def test_nothing_is_drawn_outside_of_a_mask():
    """A defect stays in its polygon: what surrounds it (one pixel off) is the bare steel of the same rng."""
    size = (128, 400)
    for number in range(25):
        channel = number % 5
        mask = np.zeros(size, bool)
        mask[30:90, 100:160] = mask[:40, 300:312] = True
        surface = np.full(size, 100, np.float32)
        draw_defects(np.random.default_rng(number), surface, mask, channel)
        reach = 3 if channel == 3 else 1  # a torn patch has a rim
        around = cv2.dilate(mask.astype(np.uint8), np.ones((reach, reach))) > 0
        assert (surface[~around] == 100).all()
        inside = np.abs(surface[mask] - 100) > 3
        assert inside.mean() > 0.1


def test_the_strip_does_not_end_in_a_defect():
    mask = np.zeros(SMALL, bool)
    mask[20:40, 60:120] = True
    black_ends = 0
    for number in range(80):
        image = render(np.random.default_rng(number), {3: rle.encode(mask)}, SMALL)
        black = (image < 8).mean(axis=0) > 0.95
        assert not black[60:120].any()
        assert (image[45:, 60:120].mean(axis=0) > 15).all()
        black_ends += bool(black[0] or black[-1])
    assert 3 <= black_ends <= 25


def test_near_duplicates_are_similar_and_some_have_other_masks():
    plan = SetPlan(seed=0, size=(64, 200), defect_share=1.0)
    copies = [k for k in range(1, 400) if series.origin_of(plan, TRAIN, k) != k]
    assert 8 <= len(copies) <= 40
    other_masks = 0
    for number in copies[:10]:
        origin, labels = series.origin_of(plan, TRAIN, number), series.draw_annotation(plan, TRAIN, number)
        first, first_labels = series.draw_image(plan, TRAIN, origin)
        second, second_labels = series.draw_image(plan, TRAIN, number)
        assert (labels == second_labels).all()
        assert not (first == second).all()
        stranger = series.draw_image(plan, TRAIN, origin + 100)[0]
        aligned = [np.roll(second, (y, x), (0, 1))[2:-2, 2:-2] for y in (-1, 0, 1) for x in (-1, 0, 1)]
        near = min(np.abs(first[2:-2, 2:-2].astype(int) - moved).mean() for moved in aligned)
        assert near < 5 < np.abs(first.astype(int) - stranger).mean()
        assert set(np.unique(labels)) == set(np.unique(first_labels))
        other_masks += np.count_nonzero(labels) != np.count_nonzero(first_labels)
    assert other_masks


def test_masks_of_a_copy_are_moved_and_at_times_wider_or_narrower_but_never_lost():
    labels = np.zeros(SMALL, np.uint8)
    labels[20:40, 50:90], labels[30:50, 120:150] = 3, 4
    areas = Counter(
        np.sign(np.count_nonzero(series._redraw(np.random.default_rng(k), labels, 1.0)) - 1400) for k in range(100)
    )
    assert areas[0] > 40
    assert min(areas[-1], areas[1]) > 8
    tiny = np.zeros(SMALL, np.uint8)
    tiny[5:9, 5:7] = 1  # eroded, it would be gone
    assert all(series._redraw(np.random.default_rng(k), tiny, 1.0).sum() >= 6 for k in range(30))


def test_test_images_repeat_no_training_image_and_show_other_rolls():
    plan = SetPlan(seed=0, size=SMALL)
    rolls = {part: {series.roll_of(plan, part, k) for k in range(300)} for part in (TRAIN, TEST)}
    assert len(rolls[TRAIN]) == len(rolls[TEST]) == series.ROLLS
    assert not rolls[TRAIN] & rolls[TEST]
