"""Dice by tables worked by hand: per image and class, clean images counted, nothing pooled."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from severstal_cli.steel.masks import rle
from severstal_cli.steel.scoring.dice import dice, dice_matrix
from severstal_cli.steel.tables.mask_table import Layout, MaskTable, read_table

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "severstal"


def table(texts: Mapping[tuple[str, int], str]) -> MaskTable:
    """A table of (image_id, class_id) -> text."""
    return MaskTable(
        layout=Layout.ORIGINAL,
        columns=("ImageId_ClassId", "EncodedPixels"),
        image_ids=tuple(dict.fromkeys(image_id for image_id, _ in texts)),
        masks={(image_id, class_id - 1): rle.from_text(text) for (image_id, class_id), text in texts.items() if text},
        classes=max((class_id for _, class_id in texts), default=0),
        lines={(image_id, class_id - 1): line for line, (image_id, class_id) in enumerate(texts, 2)},
    )


@pytest.mark.parametrize(
    ("predicted", "true", "score"),
    [
        ("", "", 1.0),
        ("1 5", "", 0.0),  # a false alarm costs all, were it one pixel of a large image
        ("", "1 5", 0.0),
        ("1 5", "1 5", 1.0),
        ("1 5", "6 5", 0.0),
        ("1 4", "2 6", 2 * 3 / 10),
        ("1 2 5 2", "2 4", 2 * 2 / 8),
        ("1 1", "1 3", 2 * 1 / 4),
    ],
)
def test_worked_by_hand(predicted: str, true: str, score: float) -> None:
    assert dice(rle.from_text(predicted), rle.from_text(true)) == score
    assert dice(rle.from_text(true), rle.from_text(predicted)) == score


def test_matrix_worked_by_hand() -> None:
    true = table({("a", 1): "1 4", ("a", 2): "", ("b", 1): "", ("b", 2): "11 10", ("x", 1): "1 9"})
    predicted = table(
        {("a", 1): "3 4", ("a", 2): "9 1", ("b", 1): "", ("b", 2): "11 5", ("y", 2): "1 9", ("b", 3): "1 1"}
    )
    scores = dice_matrix(predicted.masks, true.masks, ["b", "clean", "a"], 2)
    np.testing.assert_array_equal(scores, [[1.0, 2 * 5 / 15], [1.0, 1.0], [2 * 2 / 8, 0.0]])
    assert scores.dtype == np.float64


def test_masks_are_not_pooled() -> None:
    # one large mask found, one small one missed: pooled over the images this would be 0.99, not the half
    true = table({("a", 1): "1 1000", ("b", 1): "1 10"})
    predicted = table({("a", 1): "1 1000"})
    assert dice_matrix(predicted.masks, true.masks, ["a", "b"], 1).mean() == 0.5


def test_predicting_nothing_scores_the_share_of_empty_masks() -> None:
    true = table({("a", 1): "1 4", ("b", 2): "7 3", ("c", 1): ""})
    assert dice_matrix(table({}).masks, true.masks, ["a", "b", "c", "d"], 4).mean() == 14 / 16


def test_an_image_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        dice_matrix(table({}).masks, table({}).masks, ["a", "a"], 1)


@settings(deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9))))
def test_dice_is_that_of_the_masks(pair: np.ndarray) -> None:
    first, second = pair
    total = int(first.sum()) + int(second.sum())
    expected = 2 * int((first & second).sum()) / total if total else 1.0
    assert dice(rle.encode(first), rle.encode(second)) == expected


def test_real_submissions_score_against_each_other() -> None:
    if not REAL.exists():
        pytest.skip("the real submissions are not here")
    first, second = (
        read_table(REAL / "submissions" / f"stage1-{name}.csv", pixels=256 * 1600) for name in ("sorted", "unsorted")
    )
    assert set(first.image_ids) == set(second.image_ids)
    image_ids = first.image_ids
    scores = dice_matrix(first.masks, second.masks, image_ids, 4)
    np.testing.assert_array_equal(scores, dice_matrix(second.masks, first.masks, image_ids, 4))
    np.testing.assert_array_equal(dice_matrix(first.masks, first.masks, image_ids, 4), np.ones((1801, 4)))
    for row in range(0, len(image_ids), 150):
        for channel in range(4):
            masks = [
                rle.decode(table.masks.get((image_ids[row], channel), rle.EMPTY), (256, 1600))
                for table in (first, second)
            ]
            total = int(masks[0].sum()) + int(masks[1].sum())
            assert scores[row, channel] == (2 * int((masks[0] & masks[1]).sum()) / total if total else 1.0)
