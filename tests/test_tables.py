"""Tables on a terminal of 80 columns: words stay whole, and no cell is lost."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Fake

import pandas as pd
import pytest

from severstal_cli import printing
from severstal_cli.printing.table import print_table
from severstal_cli.steel.scoring.comparison import CompareResult, Row
from severstal_cli.steel.scoring.scores import ClassScore, Difference, ScoreResult

NAME = "unet-efficientnet-b3-of-a-long-name-fold0"
INTERVAL = "0.8000 to 0.9000"


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def check_words(lines: list[str], *words: str) -> None:
    """Each word stands as a whole between spaces."""
    found = {word for line in lines for word in line.split()}
    assert [word for word in words if word not in found] == []


def scored() -> ScoreResult:
    classes = tuple(
        ClassScore(class_id=number, dice=0.9, dice_present=0.5, all_empty=0.8, true_masks=12345, predicted_masks=1000,
                   interval=(0.8, 0.9))
        for number in range(1, 8)
    )  # fmt: skip
    return ScoreResult(
        mean_dice=0.9,
        mean_dice_present=0.5,
        all_empty=0.8,
        images=2000,
        by_class=classes,
        interval=(0.8, 0.9),
        knows_duplicates=True,
    )


def test_a_split_of_seven_classes(capsys: pytest.CaptureFixture[str]) -> None:
    classes = {number: 10 ** (number - 1) * number for number in range(1, 7)} | {7: 7}
    row = {"images": 10234, "clean": 5000} | classes | {"groups": 300, "near-duplicates": 1234}
    counts = pd.DataFrame([row] * 3, index=["0", "holdout", "all"])
    printing.print_split(Fake(path=Path("data/splits.csv"), counts=counts, class_names=()))
    lines = printed(capsys)
    check_words(lines, "subset", "images", "clean", "class", "near-duplicates", "10234", "4000", "600000", "holdout")
    assert sum(line.split()[:1] == ["holdout"] for line in lines) == 2, "in each block"


def test_a_comparison_of_seven_classes(capsys: pytest.CaptureFixture[str]) -> None:
    difference = Difference(difference=0.1, groups=99, interval=(0.05, 0.15), level=0.95, probability=1.0)
    first = Row(name=NAME, score=scored(), trainings=(0.9,), parameters=24436369, training_s=1506.0, images_per_s=123.4)
    rows = [first, replace(first, name="b", differences=(difference,) * 8)]
    printing.print_comparison(CompareResult(rows=tuple(rows), folder=Path("x"), has_plot=False))
    lines = printed(capsys)
    check_words(lines, "weights", "training", "images/s", "unet-efficientnet-b3-of-a-long-name-", "fold0", "123.4")
    assert any(INTERVAL in line for line in lines)
    assert sum("0.9000" in line and line.split()[:1] == ["b"] for line in lines) == 3


def test_thresholds_and_scores_of_seven_classes(capsys: pytest.CaptureFixture[str]) -> None:
    rule = Fake(pixel_threshold=131, min_component_px=120000, min_mask_px=300000, min_image_score=200)
    choice = Fake(rule=rule, mean_dice_default=0.8, mean_dice=0.9, mean_dice_never=0.7)
    printing.print_thresholds(
        Fake(
            class_names=(),
            choices=[choice] * 7,
            counted=range(7),
            images=2000,
            mean_dice_default=0.8,
            mean_dice=0.9,
            mean_dice_never=0.7,
            mean_dice_held_out=0.85,
            interval_held_out=(0.8, 0.9),
        )
    )
    printing.print_score(NAME, scored())
    lines = printed(capsys)
    check_words(lines, "threshold", "component", "searched", "nothing", "120000", "300000", "predicted", "86415")


def test_words_of_all_columns_stay_whole(capsys: pytest.CaptureFixture[str]) -> None:
    header = ("", *(f"column{number}" for number in range(20)))
    print_table("title", header, [(NAME * 2, *(f"value{number}" for number in range(20)))], "the caption")
    lines = printed(capsys)
    check_words(lines, *header[1:], *(f"value{number}" for number in range(20)), "title", "caption")
    assert sum("title" in line for line in lines) == sum("caption" in line for line in lines) == 1


def test_a_word_without_a_place_to_break_is_folded_and_nothing_lost(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", ("run", "cell"), [("x" * 100, "y" * 200)])
    text = "".join(printed(capsys))
    assert (text.count("x"), text.count("y")) == (100, 200)
