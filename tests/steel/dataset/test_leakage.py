"""Records of trainings: which leakage they reveal, and which they cannot rule out."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from severstal_cli.errors import InputError
from severstal_cli.steel.dataset import leakage
from severstal_cli.steel.dataset.splits import Split

SPLIT = Split(
    path=Path("splits.csv"),
    parts={"a": "0", "b": "0", "c": "1", "d": "holdout", "e": "1"},
    groups={},
    class_sets={},
)


def with_records(folder: Path, *runs: object) -> Path:
    (folder / "s.json").write_text(json.dumps({"runs": runs}))
    return folder / "s.csv"


def record(fold: int | None, **more: object) -> dict[str, object]:
    return {"folder": "models/r", "data": "d", "split": SPLIT.fingerprint, "fold": fold} | more


def test_a_submission_is_not_scored_on_what_its_runs_were_trained_on(tmp_path: Path, heard) -> None:
    path = with_records(tmp_path, record(0))
    leakage.check_submission(path, ["a", "b", "d"], SPLIT)
    with pytest.raises(
        InputError,
        match=r"models/r was trained on images that are scored: 2 of 4, first c\. Give --images splits\.csv:holdout",
    ):
        leakage.check_submission(path, ["a", "c", "d", "e"], SPLIT)
    with pytest.raises(InputError, match="1 of 2, first a"):
        leakage.check_submission(with_records(tmp_path, record(0), record(1)), ["d", "a"], SPLIT)
    with pytest.raises(InputError, match="1 of 1, first c"):  # trained on every image but the holdout
        leakage.check_submission(with_records(tmp_path, record(None)), ["c"], SPLIT)
    started = record(0, seen=[{"data": "d", "split": SPLIT.fingerprint, "fold": 1}])
    with pytest.raises(InputError, match="1 of 1, first a"):
        leakage.check_submission(with_records(tmp_path, started), ["a"], SPLIT)
    with pytest.raises(InputError, match="1 of 3, first a"):  # the split knows one of them alone
        leakage.check_submission(with_records(tmp_path, record(1)), ["new", "a", "other"], SPLIT)
    leakage.check_submission(with_records(tmp_path, record(0)), ["new", "a", "b", "d"], SPLIT, heard)
    assert heard.lines == []
    others = [record(1, split="another"), record(0, folder="models/s", seen=[record(0, split="third")])]
    leakage.check_submission(with_records(tmp_path, *others), ["a"], SPLIT, heard)
    assert heard.lines == [
        f"models/{name} was trained with another split, so leakage cannot be ruled out" for name in "rs"
    ]


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        '{"runs": 3}',
        '{"runs": [3, {"fold": 0}]}',
        '{"runs": [{"seen": [1]}]}',
        '{"runs": [{"seen": 3}]}',
        "\x00{",
    ],
)
def test_a_submission_without_metadata_has_no_records(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    assert list(leakage.records_of(tmp_path / "s.csv")) == []


def test_a_submission_without_metadata_is_logged(tmp_path: Path, heard) -> None:
    leakage.check_submission(tmp_path / "s.csv", ["a"], SPLIT, heard)
    assert heard.lines == [
        f"{tmp_path}/s.csv has no metadata on its runs, so leakage cannot be ruled out: they may have seen these images"
    ]


@pytest.mark.parametrize(
    ("there", "fold", "fault"),
    [
        ({"data": "d", "split": "s", "fold": 0}, 0, None),
        ({"data": "d", "split": "s", "fold": 1}, 0, ("fold", 1, 0)),
        ({"data": "d", "split": "s", "fold": None}, 0, ("fold", None, 0)),
        ({"data": "d", "split": "s", "fold": 1}, None, None),
        ({"data": "d", "split": "other", "fold": 0}, 0, ("split", "other", "s")),
        ({"data": "d", "split": "other", "fold": 0}, None, ("split", "other", "s")),
        ({"data": "other", "split": "s", "fold": 1}, 0, ("fold", 1, 0)),
        ({"data": "other", "split": "other", "fold": 1}, 0, None),
    ],
)
def test_what_a_training_must_not_have_seen(
    there: dict[str, object], fold: int | None, fault: tuple[str, object, object] | None
) -> None:
    assert leakage.fault_of(there, data="d", split="s", fold=fold) == fault
    assert leakage.is_unknown(there, data="d", split="s") == (there["data"] == there["split"] == "other")


def steel(seed: int, height: int = 128, width: int = 480) -> np.ndarray:
    grain = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (height, width)), (0, 0), 2.5)
    return np.clip(120 + 12 * grain / grain.std(), 0, 255).astype(np.uint8)


def check_namesake(folder: Path, image: np.ndarray, namesake: np.ndarray) -> None:
    for part, pixels in (("new", image), ("train", namesake)):
        (folder / part).mkdir()
        cv2.imwrite(str(folder / part / "c.png"), pixels)
    split = Split(path=Path("splits.csv"), parts={"c.png": "1"}, groups={}, class_sets={})
    path = with_records(folder, record(0, split=split.fingerprint))
    files = {"c.png": folder / "new" / "c.png"}
    leakage.check_submission(path, ["c.png"], split, files_of=files, train_images=folder / "train")


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image + 3,
        lambda image: image[:, :300],
        lambda image: image[20:100, 130:410],
        lambda image: image[:, ::-1],
        lambda image: image[::-1, ::-1],
        lambda image: image[::-1, 200:],
        lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        lambda image: image[:40, :40],
        lambda image: np.full_like(image, 255),
        lambda image: np.full_like(image, 7),
    ],
)
def test_a_changed_copy_of_its_namesake_is_leakage(tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(InputError, match="1 of 1, first c"):
        check_namesake(tmp_path, change(steel(1)), steel(1))


@pytest.mark.parametrize("size", [(128, 480), (128, 300), (200, 200)])
def test_other_steel_of_any_size_is_no_leakage(tmp_path: Path, size: tuple[int, int]) -> None:
    check_namesake(tmp_path, steel(2, *size), steel(1))
