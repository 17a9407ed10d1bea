"""The confidence of a row: against its definition, and through its file."""

from pathlib import Path

import numpy as np
import pytest

from severstal_cli.errors import InputError
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.postprocess import ClassPostprocess, levels_to_rle
from severstal_cli.steel.tables import confidence


def test_the_example_by_hand() -> None:
    levels = np.array([[[255, 204, 0, 51]]], np.uint8)
    assert confidence.expected_dice(levels, [np.array([[0, 2]], np.int32)]) == [pytest.approx(0.9)]
    assert confidence.expected_dice(levels, [rle.EMPTY]) == [0.0]
    assert confidence.expected_dice(levels // 5, [rle.EMPTY]) == [pytest.approx(0.8)]
    assert confidence.expected_dice(np.zeros_like(levels), [rle.EMPTY]) == [1.0]


def test_it_is_the_soft_dice_of_the_mask_as_it_was_cut() -> None:
    # large enough for any sum in 8 or 16 bits to overflow; not contiguous, as levels are that were cut back
    levels = np.random.default_rng(0).integers(0, 256, (3, 50, 90), np.uint8)[:, :37, :83]
    rules = [
        ClassPostprocess(pixel_threshold=200),
        ClassPostprocess(pixel_threshold=150, min_component_px=9),
        ClassPostprocess(),
    ]
    masks = levels_to_rle(levels, rules)
    for score, channel, runs in zip(confidence.expected_dice(levels, masks), levels, masks, strict=True):
        probs, mask = channel / 255, rle.decode(runs, (37, 83))
        assert score == pytest.approx(2 * (probs * mask).sum() / (mask.sum() + probs.sum()))


def test_scores_through_their_file(tmp_path: Path) -> None:
    path = confidence.scores_path(tmp_path / "a.b.csv")
    assert path.name == "a.b.scores.csv"
    confidence.write_scores(path, {"b.png": [0.98765, 1.0], "a,1.png": [0.0, 0.5]})
    assert path.read_text().splitlines()[:3] == ["ImageId,ClassId,Score", "b.png,1,0.9877", "b.png,2,1.0000"]
    expected = {("b.png", 0): 0.9877, ("b.png", 1): 1.0, ("a,1.png", 0): 0.0, ("a,1.png", 1): 0.5}
    assert confidence.read_scores(path) == expected


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("ImageId,ClassId\n", r"line 1: the header is 'ImageId,ClassId', not ImageId,ClassId,Score"),
        ("ImageId,ClassId,Score\na.png,1,1\na.png,1\n", "line 3: 2 fields where the header has 3. Predict again"),
        ("ImageId,ClassId,Score\na.png,0,1\n", "line 2: ClassId 0 is below 1"),
        ("ImageId,ClassId,Score\na.png,1,much\n", "line 2: Score 'much' is not a number from 0 to 1"),
        ("ImageId,ClassId,Score\na.png,1,1.01\n", "line 2: Score '1.01' is not"),
        ("ImageId,ClassId,Score\na.png,1,nan\n", "line 2: Score 'nan' is not"),
        ('ImageId,ClassId,Score\n"a.png,1,1\n', "line 2: not a row of a CSV file"),
    ],
)
def test_wrong_scores_are_reported_with_their_line(tmp_path: Path, rows: str, said: str) -> None:
    path = tmp_path / "s.scores.csv"
    path.write_text(rows)
    with pytest.raises(InputError, match=said):
        confidence.read_scores(path)
