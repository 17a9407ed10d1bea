"""`thresholds.json`: read back as written, and the weights that runs were searched with, however they are named."""

import json
from pathlib import Path

import pytest

from severstal_cli.errors import RunError
from severstal_cli.learning.runs import run_folder
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess

RULES = (
    ClassPostprocess(pixel_threshold=140, min_component_px=60, min_mask_px=300, min_image_score=212),
    ClassPostprocess(pixel_threshold=DISABLED),
)


def made(*runs: str, weights: tuple[float, ...] = ()) -> Thresholds:
    return Thresholds(rules=RULES, exclusive=True, tta="hflip", runs=runs, weights=weights)


@pytest.mark.parametrize("thresholds", [made(), made("a"), made("a", "b"), made("a", "b", weights=(2.0, 0.5))])
def test_they_are_read_back_and_what_is_empty_is_left_out(thresholds: Thresholds, tmp_path: Path) -> None:
    run_folder.write_thresholds(tmp_path / "t.json", thresholds, {"images": 12})
    assert run_folder.read_thresholds(tmp_path / "t.json", classes=2) == thresholds
    content = json.loads((tmp_path / "t.json").read_text())
    rest = {name for name in ("runs", "weights") if getattr(thresholds, name)}
    assert set(content) == {"format", "exclusive", "tta", "rules", "images"} | rest


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2.0, 3.0), (0.0, 0.0), (-1.0, 2.0), (float("nan"), 1.0)])
def test_wrong_weights_are_damage(tmp_path: Path, weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"weights \[.*\] of 2 runs"):
        made("a", "b", weights=weights)
    run_folder.write_thresholds(tmp_path / "t.json", made("a", "b"), {"weights": weights})
    with pytest.raises(
        RunError, match=r"t\.json is damaged: weights(\[0\] is nan, not a finite number| \[.*\] of 2 runs)"
    ):
        run_folder.read_thresholds(tmp_path / "t.json", classes=2)


def test_runs_are_known_in_any_order_by_any_path_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    searched = made("models/a", "models/b", weights=(3.0, 1.0))
    (tmp_path / "models/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "models/b")
    for b in (Path("models/b"), tmp_path / "models/b", Path("models/../models/b/"), Path("link")):
        assert searched.weights_for([b, Path("models/a")]) == (1.0, 3.0)
    assert made("models/a", "models/b").weights_for([Path("models/b"), Path("models/a")]) == ()


def test_runs_that_were_moved_are_known_by_their_names_if_these_are_all_different() -> None:
    assert made("models/a", "models/b", weights=(3.0, 1.0)).weights_for([Path("/x/b"), Path("/y/a")]) == (1.0, 3.0)
    same = made("first/a", "second/a", weights=(3.0, 1.0))
    assert same.weights_for([Path("second/a"), Path("first/a")]) == (1.0, 3.0)
    assert same.weights_for([Path("third/a"), Path("first/a")]) is None


@pytest.mark.parametrize("runs", [["a"], ["a", "c"], ["a", "b", "c"], []])
def test_other_runs_have_no_weights(runs: list[str]) -> None:
    folders = [Path(name) for name in runs]
    assert made("a", "b", weights=(3.0, 1.0)).weights_for(folders) is None
    assert made("a", "b").weights_for(folders) is None
    assert folders == [] or made().weights_for(folders) is None
