"""Intervals of a mean: against every possible draw, and what groups change."""

from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from severstal_cli.steel.scoring import intervals


def test_the_bootstrap_is_that_of_all_draws() -> None:
    scores = np.array([[1.0, 0.2], [0.5, 0.4], [0.0, 1.0], [0.7, 0.9]])
    groups = np.array([7, 7, 3, 5])
    members = [[0, 1], [2], [3]]
    means = []
    for drawn in product(range(3), repeat=3):
        rows = [row for group in drawn for row in members[group]]
        means.append([*scores[rows].mean(axis=0), scores[rows].mean()])
    samples = np.concatenate(list(intervals.draws(3, samples=20_000)))
    sums, sizes = intervals.of_groups(scores, groups)
    assert sizes.tolist() == [1, 1, 2]
    found = (samples @ sums) / (samples @ sizes)[:, None]
    assert samples.sum(axis=1).tolist() == [3] * 20_000
    np.testing.assert_allclose(found.mean(axis=0), np.mean(means, axis=0), atol=0.005)


def test_samples_of_few_groups_are_student_s() -> None:
    """Of normal scores and 8 groups: mean ± 2.365 s / sqrt(8), the table's value for 7 degrees of freedom."""
    rng, halves, ends = np.random.default_rng(0), [], []
    for _ in range(200):
        scores = np.clip(rng.normal(0.5, 0.05, (8, 1)), 0, 1)
        low, high = intervals.intervals(scores, np.arange(8))[-1]
        ends.append((low + high) / 2 - scores.mean())
        halves.append((high - low) / 2 / (scores.std(ddof=1) / np.sqrt(8)))
    assert np.mean(ends) == pytest.approx(0, abs=0.002)
    assert np.mean(halves) == pytest.approx(2.365, abs=0.1)


def test_groups_of_unlike_sizes_tell_as_few_of_one_size() -> None:
    """5 of 20 images and 50 of one weigh as 150² / (5 · 20² + 50) = 11 of one size: Student's 2.23."""
    rng, halves = np.random.default_rng(1), []
    groups = np.repeat(np.arange(55), np.r_[np.full(5, 20), np.ones(50, int)])
    for _ in range(200):
        scores = np.clip(rng.normal(0.5, 0.05, 55), 0, 1)[groups][:, None]
        low, high = intervals.intervals(scores, groups)[-1]
        sums, sizes = intervals.of_groups(scores, groups)
        added = sums[:, -1] - scores.mean() * sizes
        halves.append((high - low) / 2 / (np.sqrt((added**2).sum()) / sizes.sum()))
    assert np.mean(halves) == pytest.approx(2.228 * np.sqrt(11 / 10), abs=0.1)


def test_levels_of_a_skewed_mean_are_those_of_the_book() -> None:
    """Efron and Tibshirani, chapter 14, spatial test data: bias 0.146, acceleration 0.061, of 90 %: 0.110, 0.985."""
    low, high = intervals.levels_of(NormalDist().cdf(0.146), 0.061, level=0.9)
    assert low == pytest.approx(0.110, abs=0.001)
    assert high == pytest.approx(0.985, abs=0.001)
    assert intervals.levels_of(0.5, 0.0) == (pytest.approx(0.025), pytest.approx(0.975))


def test_where_faults_are_rare_neither_end_misses_too_often() -> None:
    """Of 60 images one in ten is found badly: of most such sets the mean is too high, and quantiles alone miss 8 %."""
    rng, misses = np.random.default_rng(0), np.zeros(2)
    for _ in range(600):
        scores = np.where(rng.random(60) < 0.1, rng.random(60), 1.0)
        low, high = intervals.intervals(scores[:, None], np.arange(60))[-1]
        misses += (low > 0.95, high < 0.95)
    assert misses.max() <= 0.04 * 600


def test_samples_that_hit_the_mean_are_on_neither_side() -> None:
    """One of 30 images is wrong, and a third of the samples have it once: the rounding of their sums has no effect."""
    found = []
    for wrong in (0.5253543224757259, 0.525390625):
        scores = np.ones((30, 1))
        scores[17] = wrong
        found.append(intervals.intervals(scores, np.arange(30))[-1])
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_an_interval_stays_where_scores_can_be() -> None:
    scores = np.array([1, 1, 1, 1, 1, 0.2])[:, None]
    low, high = intervals.intervals(scores, np.arange(6))[-1]
    assert 0 <= low < 0.7
    assert high == 1


def test_twice_the_same_images_tell_no_more_where_they_are_one_group() -> None:
    scores = np.random.default_rng(0).random((60, 3))
    single = intervals.intervals(scores, np.arange(60))
    both = np.concatenate([scores, scores])
    np.testing.assert_allclose(intervals.intervals(both, np.tile(np.arange(60), 2)), single)
    apart = intervals.intervals(both, np.arange(120))
    assert (apart[:, 1] - apart[:, 0] < 0.85 * (single[:, 1] - single[:, 0])).all()


def test_the_interval_of_a_mean_of_many_is_the_usual_one() -> None:
    scores = np.random.default_rng(1).random((900, 1))
    low, high = intervals.intervals(scores, np.arange(900))[-1]
    half = 1.9626 * scores.std(ddof=1) / 30
    assert (low, high) == (
        pytest.approx(scores.mean() - half, abs=0.002),
        pytest.approx(scores.mean() + half, abs=0.002),
    )


@pytest.mark.parametrize("images", [6, 30])
def test_equal_scores_have_an_interval_without_width(images: int) -> None:
    np.testing.assert_array_equal(intervals.intervals(np.ones((images, 2)), np.arange(images)), np.ones((3, 2)))


@pytest.mark.parametrize("groups", [1, 5])
def test_fewer_than_six_groups_have_no_interval(groups: int) -> None:
    assert intervals.intervals(np.random.default_rng(0).random((60, 2)), np.arange(60) % groups) is None


def test_wrong_shapes_are_refused() -> None:
    for scores, groups in (
        (np.ones((0, 2)), np.arange(0)),
        (np.ones((3, 2)), np.arange(2)),
        (np.ones(3), np.arange(3)),
    ):
        with pytest.raises(ValueError, match="shape"):
            intervals.intervals(scores, groups)
