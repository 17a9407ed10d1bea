"""`Model`: what `predict` writes, in Python."""

import csv
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import severstal_cli
from severstal_cli import Model
from severstal_cli.config import PredictConfig
from severstal_cli.errors import InputError, RunError, UsageError
from severstal_cli.stages import prediction
from severstal_cli.steel.images.decoding import read_grey

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def low(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thresholds that give each class a mask on most images."""
    path = tmp_path_factory.mktemp("low") / "low.json"
    text = (trained[1] / "thresholds.json").read_text()
    path.write_text(re.sub(r'"pixel_threshold": \d+', '"pixel_threshold": 40', text))
    return path


def test_the_masks_are_those_of_the_command(trained: tuple[Path, Path], low: Path, tmp_path: Path) -> None:
    data, run = trained
    images = data / "train_images"
    out = tmp_path / "submission.csv"
    prediction.predict(PredictConfig(images=(images,), runs=(run,), thresholds=low, tta="flips", out=out))
    with out.open() as file:
        expected = {row["ImageId_ClassId"]: row["EncodedPixels"] for row in csv.DictReader(file)}
    with out.with_suffix(".scores.csv").open() as file:
        confidence = {(row["ImageId"], row["ClassId"]): row["Score"] for row in csv.DictReader(file)}

    model = Model.load(run, thresholds=low, tta="flips")
    found = list(model.predict_many(sorted(images.iterdir())))

    masks = {f"{each.path.name}_{k}": text for each in found for k, text in enumerate(each.rle(), start=1)}
    assert masks == expected
    assert any(masks.values())
    assert {
        (each.path.name, str(k)): f"{value:.4f}" for each in found for k, value in enumerate(each.confidence, start=1)
    } == confidence
    again = model.predict(str(found[1].path))
    assert again.rle() == found[1].rle()

    table = model.predict_table(sorted(images.iterdir()))
    assert list(table) == ["ImageId", "ClassId", "EncodedPixels", "Pixels", "Score"]
    keys = table["ImageId"] + "_" + table["ClassId"].astype(str)
    assert dict(zip(keys, table["EncodedPixels"], strict=True)) == expected
    assert table["Pixels"].tolist() == [int(mask.sum()) for each in found for mask in each.masks]
    assert {(row.ImageId, str(row.ClassId)): f"{row.Score:.4f}" for row in table.itertuples(index=False)} == confidence


def test_a_table_names_images_as_a_submission_does(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = trained
    decomposed = tmp_path / "o\u0308l.jpg"  # as macOS writes names
    shutil.copy(sorted((data / "train_images").iterdir())[0], decomposed)
    assert set(Model.load(run).predict_table([decomposed])["ImageId"]) == {"\u00f6l.jpg"}


def test_what_a_prediction_holds(trained: tuple[Path, Path], low: Path) -> None:
    data, run = trained
    path = sorted((data / "train_images").iterdir())[1]
    grey = read_grey(path)
    found = Model.load(run, thresholds=low).predict(grey)

    assert found.masks.shape == found.probabilities.shape == (2, *grey.shape)
    assert (found.masks.dtype, found.probabilities.dtype) == (np.bool_, np.float32)
    assert found.masks.any()
    assert (found.probabilities[found.masks] >= 40 / 255).all()
    assert found.probabilities.max() <= 1
    np.testing.assert_array_equal(found.image, grey)
    overlay = found.overlay()
    shown = cv2.imdecode(np.frombuffer(found._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(shown[:, :, ::-1], overlay)
    assert (overlay != grey[:, :, None]).any()
    assert repr(found).startswith("Prediction(64 x 96, class ")


def test_a_colour_array_is_weighed_as_a_colour_file(trained: tuple[Path, Path], tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), rgb[:, :, ::-1])
    model = Model.load(trained[1])
    np.testing.assert_allclose(model.predict(rgb).image, read_grey(tmp_path / "a.png").astype(int), atol=1)
    grey = np.ascontiguousarray(rgb[:, :, 0])
    np.testing.assert_array_equal(model.predict(np.dstack([grey] * 3)).image, grey)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4)), r"must be \(H, W\) or \(H, W, 3\) uint8: \(4, 4\) float64"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\) uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\) uint8"),
        (3, r"\(\) int"),
        ("nowhere.png", "nowhere.png: no such file"),
    ],
)
def test_what_is_no_image_is_refused(trained: tuple[Path, Path], image: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Model.load(trained[1]).predict(image)


def test_a_wrong_file_among_many_is_named(trained: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"no image")
    good = sorted((trained[0] / "train_images").iterdir())[0]
    found = Model.load(trained[1]).predict_many([good, tmp_path / "b.png"])
    assert next(found).path == good
    with pytest.raises(InputError, match=r"b\.png"):
        next(found)


def test_one_path_is_no_list_of_files(trained: tuple[Path, Path]) -> None:
    model, path = Model.load(trained[1]), trained[0] / "train_images"
    for one in (path, str(path)):
        with pytest.raises(InputError, match=r"takes a list of files: .*train_images\. Give a list, or use predict"):
            list(model.predict_many(one))
    with pytest.raises(UsageError, match="wrong batch size: 0"):
        list(model.predict_many([path], batch_size=0))
    with pytest.raises(InputError, match="train_images"):
        model.predict(path)


def test_an_abandoned_prediction_leaves_no_threads(trained: tuple[Path, Path]) -> None:
    files = sorted((trained[0] / "train_images").iterdir())
    model, before = Model.load(trained[1], engine="torch"), set(threading.enumerate())
    model.predict(files[0])
    found = model.predict_many(files)
    next(found)
    found.close()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]


def test_probabilities_that_are_not_finite_name_the_run(
    trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(trained[1], engine="torch")
    monkeypatch.setattr(model, "_members", [lambda pixels: torch.full((len(pixels), 2, *pixels.shape[2:]), torch.nan)])
    with pytest.raises(RunError, match=f"{trained[1]} gives numbers that are not finite: for this array"):
        model.predict(np.zeros((64, 96), np.uint8))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to load"):
        Model.load()
    with pytest.raises(RunError, match="nowhere"):
        Model.load(tmp_path / "nowhere")


def test_the_page_in_docs(trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of docs/python.md runs as it stands, one after the other."""
    data, run = trained
    for name in ("unet", "linknet"):
        shutil.copytree(run, tmp_path / "models" / name)
    (tmp_path / "test_images").mkdir()
    some = sorted((data / "train_images").iterdir())[:3]
    for path, name in zip(some, ("0002cc93b.jpg", "b.png", "c.png"), strict=True):
        cv2.imwrite(str(tmp_path / "test_images" / name), read_grey(path))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)


def test_the_package_imports_torch_for_a_model_alone() -> None:
    code = (
        "import sys, severstal_cli; print('torch' in sys.modules); severstal_cli.Model; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'Modell'"):
        _ = severstal_cli.Modell
