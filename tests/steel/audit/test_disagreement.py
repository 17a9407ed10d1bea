"""Near-duplicates with different masks: at the same place alone, each mask at most once."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from severstal_cli.steel.audit import disagreement
from severstal_cli.steel.audit.findings import Kind
from severstal_cli.steel.images.cache import ImageCache, open_cache
from severstal_cli.steel.masks import rle

SIZE = (64, 96)


def steel(seed: int) -> np.ndarray:
    rough = np.random.default_rng(seed).normal(110, 40, (SIZE[0] // 4, SIZE[1] // 4))
    return cv2.resize(rough, SIZE[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    """a, its copies b and c, shifted copy d, other steel e, f: a with a defect of its own, g: e with a part of a."""
    (tmp_path / "images").mkdir()
    first, noise = steel(0), np.random.default_rng(1).normal(0, 3, SIZE)
    images = {
        "a": first,
        "b": (first + noise).clip(0, 255),
        "c": (first * 0.9),
        "d": np.roll(first, 20, axis=1),
        "e": steel(5),
        "f": first.copy(),
    }
    images["f"][10:20, 10:20] = np.random.default_rng(2).integers(0, 255, (10, 10))
    images["g"] = images["e"].copy()
    images["g"][:32, :40] = first[:32, :40]
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), image.astype(np.uint8))
    return open_cache(tmp_path / "images")


def box(x: int, width: int = 10) -> rle.RLE:
    mask = np.zeros(SIZE, np.uint8)
    mask[10:20, x : x + width] = 1
    return rle.encode(mask)


def find(cache: ImageCache, masks: dict[tuple[str, int], rle.RLE], dice: dict[str, float], group: str = "abcdefg"):  # type: ignore[no-untyped-def]
    groups = {f"{name}.png": 0 if name in group else 1 + number for number, name in enumerate("abcdefg")}
    expected = {f"{name}.png": [value] for name, value in dice.items()}
    return disagreement.find(
        cache, groups, {(f"{name}.png", 0): runs for (name, _), runs in masks.items()}, expected, 1
    )


def test_the_less_expected_of_two_masks_is_the_finding(cache: ImageCache) -> None:
    masks = {("a", 0): box(10), ("b", 0): box(15)}
    [found] = find(cache, masks, {"a": 0.9, "b": 0.4})
    assert (found.kind, found.image_id, found.other_image_id) == (Kind.DISAGREEMENT, "b.png", "a.png")
    assert (found.class_id, found.box, found.pixels) == (1, (15, 10, 10, 10), 100)
    assert np.array_equal(found.mask, box(10))
    assert found.score == pytest.approx(0.25, abs=0.02)  # half of 1 - Dice, times a similarity near 1
    [found] = find(cache, masks, {"a": 0.4, "b": 0.9})
    assert (found.image_id, found.other_image_id) == ("a.png", "b.png")


def test_an_empty_mask_has_the_box_of_the_other(cache: ImageCache) -> None:
    [found] = find(cache, {("a", 0): box(10)}, {"a": 0.9, "b": 0.1})
    assert (found.image_id, found.box, found.pixels) == ("b.png", (10, 10, 10, 10), 100)
    [found] = find(cache, {("a", 0): box(10)}, {"a": 0.1, "b": 0.9})
    assert (found.image_id, found.box, len(found.mask)) == ("a.png", (10, 10, 10, 10), 0)


def test_a_mask_is_one_finding_with_the_most_different_other(cache: ImageCache) -> None:
    masks = {("a", 0): box(10), ("b", 0): box(12), ("c", 0): box(18)}
    found = find(cache, masks, {"a": 0.9, "b": 0.8, "c": 0.1})
    assert [(each.image_id, each.other_image_id) for each in found] == [("b.png", "a.png"), ("c.png", "a.png")]


def test_equal_masks_are_no_finding(cache: ImageCache) -> None:
    assert find(cache, {("a", 0): box(10), ("b", 0): box(10)}, {"a": 0.9, "b": 0.4}) == []


@pytest.mark.parametrize("other", ["d", "e"])
def test_another_place_or_other_steel_is_no_finding(cache: ImageCache, other: str) -> None:
    assert find(cache, {("a", 0): box(10), (other, 0): box(40)}, {"a": 0.9, other: 0.4}) == []


def test_a_defect_that_one_image_alone_has_is_no_finding(cache: ImageCache) -> None:
    assert find(cache, {("f", 0): box(10)}, {"a": 0.9, "f": 0.4}) == []
    assert find(cache, {("f", 0): box(60)}, {"a": 0.9, "f": 0.4}), "elsewhere both are equal"


def test_a_part_alone_that_both_images_show_is_no_finding(cache: ImageCache) -> None:
    assert find(cache, {("a", 0): box(10)}, {"a": 0.9, "g": 0.4}) == []


def test_images_of_other_groups_and_unjudged_ones_are_left_out(cache: ImageCache) -> None:
    masks = {("a", 0): box(10), ("b", 0): box(15)}
    assert find(cache, masks, {"a": 0.9, "b": 0.4}, group="cdefg") == []
    assert find(cache, masks, {"a": 0.9}) == []
