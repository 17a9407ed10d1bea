"""Intervals of a mean: against every possible draw, and what groups change."""

from itertools import product

import numpy as np
import pytest

from severstal_cli.steel import intervals


def test_the_bootstrap_is_that_of_all_draws() -> None:
    scores = np.array([[1.0, 0.2], [0.5, 0.4], [0.0, 1.0], [0.7, 0.9]])
    groups = np.array([7, 7, 3, 5])
    members = [[0, 1], [2], [3]]
    means = []
    for drawn in product(range(3), repeat=3):
        rows = [row for group in drawn for row in members[group]]
        means.append([*scores[rows].mean(axis=0), scores[rows].mean()])
    samples = np.concatenate(list(intervals.draws(3, samples=20_000)))
    sums = np.array([[*scores[rows].sum(axis=0), scores[rows].mean(axis=1).sum()] for rows in members])
    found = (samples @ sums) / (samples @ [2, 1, 1])[:, None]
    assert samples.sum(axis=1).tolist() == [3] * 20_000
    np.testing.assert_allclose(found.mean(axis=0), np.mean(means, axis=0), atol=0.005)
    low_high = intervals.intervals(scores, groups)
    np.testing.assert_allclose(low_high, np.quantile(means, [0.025, 0.975], axis=0, method="inverted_cdf").T)


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
    half = 1.96 * scores.std() / 30
    assert (low, high) == (
        pytest.approx(scores.mean() - half, abs=0.002),
        pytest.approx(scores.mean() + half, abs=0.002),
    )


@pytest.mark.parametrize("images", [1, 5])
def test_what_never_differs_has_no_width(images: int) -> None:
    np.testing.assert_array_equal(intervals.intervals(np.ones((images, 2)), np.arange(images)), np.ones((3, 2)))


def test_wrong_shapes_are_refused() -> None:
    for scores, groups in (
        (np.ones((0, 2)), np.arange(0)),
        (np.ones((3, 2)), np.arange(2)),
        (np.ones(3), np.arange(3)),
    ):
        with pytest.raises(ValueError, match="shape"):
            intervals.intervals(scores, groups)
