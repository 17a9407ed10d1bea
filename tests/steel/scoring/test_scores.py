"""Differences of scores: worked by hand, by seeds against the truth of a simulation, and without any mask."""

import numpy as np
import pytest

from severstal_cli.steel.masks import rle
from severstal_cli.steel.scoring import scores


def of(dice, groups=None, names=None):
    count = len(dice)
    there = np.asarray(dice) < 1
    return scores.Scores(
        image_ids=tuple(names or map(str, range(count))),
        dice=np.asarray(dice, float),
        there=there,
        found=there,
        groups=np.arange(count) if groups is None else np.asarray(groups),
        knows_duplicates=groups is not None,
    )


def test_a_difference_worked_by_hand():
    one = of([[1, 0.5], [0.5, 1], [0, 1], [1, 1]] * 2)
    other = of([[0, 0.5], [0, 1], [0, 1], [1, 0.5]] * 2)
    first, second, every = scores.differences([one], [other])
    assert [found.difference for found in (first, second, every)] == pytest.approx([1.5 / 4, 0.5 / 4, 2 / 8])
    assert [found.groups for found in (first, second, every)] == [4, 2, 6]
    # the images differ by 1/2, 1/4, 0 and 1/4, twice each: six of them, 0.25 ± 2.571 * 0.177 / sqrt(6) where normal
    assert every.interval == pytest.approx((0.1, 0.4), abs=0.05)
    assert every.is_real
    assert every.probability > 0.98
    back = scores.differences([other], [one])[-1]
    assert (back.difference, back.interval) == (
        -every.difference,
        pytest.approx([-end for end in every.interval[::-1]]),
    )
    assert back.probability == pytest.approx(every.probability, abs=1e-9)
    # two and four images are too few to decide, however large the difference
    for found in (first, second):
        assert (found.interval, found.probability, found.is_real) == (None, None, False)
    assert (
        second.few == "their scores differ on 2 images, near-duplicates counted once: too few to decide which is better"
    )
    assert not every.few


def test_what_is_the_same_differs_by_nothing():
    one = of(np.linspace(0, 1, 20).reshape(10, 2))
    found = scores.differences([one], [one])
    assert [(each.difference, each.groups, each.interval, each.is_real, each.few) for each in found] == [
        (0.0, 0, None, False, "their scores differ on no image")
    ] * 3


@pytest.mark.parametrize(("images", "differ"), [(5, 5), (6, 6), (7, 7), (10, 10), (300, 6), (300, 12), (300, 300)])
def test_chance_is_seldom_called_a_difference(images, differ):
    """Differences by normal noise on some images, none on the others: 5 % may be called real, fewer where few differ.

    The middle 95 % of the bootstrap's samples alone call real 14 % of 5 and of 6, and 10 % of 10.
    """
    rng, real = np.random.default_rng((images, differ)), 0
    for _ in range(400):
        apart = np.zeros((images, 1))
        apart[:differ, 0] = rng.normal(0, 0.01, differ)
        real += scores.differences([of(0.5 + apart)], [of(np.full((images, 1), 0.5))])[-1].is_real
    assert real / 400 <= 0.075
    if images == differ > 5:
        assert real / 400 >= 0.025


def test_paired_images_tell_more_than_two_intervals_and_groups_less():
    rng = np.random.default_rng(0)
    hard = rng.random((200, 2))
    one, other = of(hard), of(np.clip(hard - 0.02, 0, 1))
    assert scores.differences([one], [other])[-1].is_real
    low, high = one.summary().interval
    assert low < other.summary().mean_dice < high
    apart = rng.normal(0.02, 0.1, (200, 1))
    alone = scores.differences([of(hard + apart)], [of(hard)])[-1].interval
    pairs = scores.differences([of(np.repeat(hard + apart, 2, axis=0))], [of(np.repeat(hard, 2, axis=0))])[-1].interval
    groups = np.repeat(np.arange(200), 2)
    grouped = scores.differences(
        [of(np.repeat(hard + apart, 2, axis=0), groups)], [of(np.repeat(hard, 2, axis=0), groups)]
    )[-1].interval
    assert grouped == pytest.approx(alone)
    assert pairs[1] - pairs[0] < 0.85 * (alone[1] - alone[0])


@pytest.mark.parametrize("seeds", [3, 5])
def test_trainings_by_other_seeds_are_no_difference(seeds):
    """Seeds that change more than the images do: one training each would be called real nearly always."""
    rng = np.random.default_rng(seeds)
    rates = {1: 0, seeds: 0}
    for _ in range(300):
        sides = [[of(rng.normal(0.8 + rng.normal(0, 0.02), 0.05, (60, 1))) for _ in range(seeds)] for _ in range(2)]
        for count in rates:
            rates[count] += scores.differences(sides[0][:count], sides[1][:count])[-1].is_real / 300
    assert rates[seeds] == pytest.approx(0.05, abs=0.035)
    assert rates[1] > 0.3


def test_a_score_against_another_has_the_differences():
    one, other = of([[1, 0.5], [0.5, 1], [0, 1]] * 6), of([[0, 0.5], [0.5, 1], [0, 1]] * 6)
    content = one.summary(other).to_dict()
    assert content["difference"] == pytest.approx(1 / 6)
    assert content["difference_interval"][0] <= content["difference"] <= content["difference_interval"][1]
    assert [found["difference"] for found in content["by_class"]] == pytest.approx([1 / 3, 0])
    assert content["by_class"][1]["difference_interval"] is content["by_class"][1]["probability"] is None
    assert 0.5 <= content["by_class"][0]["probability"] <= 1
    assert content["against"]["mean_dice"] == pytest.approx(other.dice.mean())
    alone = one.summary().to_dict()
    assert not {"against", "differences", "difference", "probability"} & alone.keys()
    assert alone["mean_dice"] == content["mean_dice"]


def test_other_images_or_classes_are_refused():
    one = of([[1.0], [0.5]])
    for other in (of([[1.0], [0.5]], names="ab"), of([[1.0, 1.0], [0.5, 1.0]])):
        with pytest.raises(ValueError, match="different images"):
            scores.differences([one], [other])


def test_no_mask_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = {
        (f"{number}.jpg", channel): np.array([[10 * number, 20], [500, 9]], np.int32)
        for number in range(20)
        for channel in range(3)
        if (number + channel) % 3
    }
    moved = {key: runs + np.array([7, 0], np.int32) for key, runs in masks.items()}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a mask was built")

    monkeypatch.setattr(rle, "decode", refuse)
    monkeypatch.setattr(rle, "encode", refuse)
    names = [f"{number}.jpg" for number in range(20)]
    one, other = (scores.score_masks(predicted, masks, names, 3) for predicted in (moved, masks))
    found = one.summary(other)
    assert found.against is not None
    assert found.against.mean_dice == 1.0
    assert found.differences[-1].is_real
    assert found.differences[-1].difference < 0
