"""The whole way as a person goes it: images and annotations in, a checked and scored submission out.

The set is unlike the competition's in all that may differ: odd size, three classes, PNG and BMP mixed.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables import mask_table

SIZE, CLASSES = (50, 70), 3

Run = Callable[..., str]


@pytest.fixture
def severstal(severstal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`severstal("split", "--data", "data")` runs a command that must succeed, in an empty folder; its stdout."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        code, out, err = severstal(*arguments)
        assert not code, f"{arguments}\n{out}\n{err}"
        return str(out)

    return run


def draw_third_class(folder: Path) -> None:
    """Striped discs of class 3 on every second clean image, which is every sixth of all."""
    annotations = folder / "train.csv"
    for number, path in enumerate(sorted((folder / "train_images").iterdir())[::6]):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        mask = np.zeros(SIZE, np.uint8)
        cv2.circle(mask, (20 + 3 * number, 25), 15, 1, -1)
        image[(mask > 0) & (np.indices(SIZE).sum(axis=0) % 4 < 2)] = 255
        cv2.imwrite(str(path), image)
        annotations.write_text(f"{annotations.read_text()}{path.name},3,{rle.to_text(rle.encode(mask))}\n")


def as_bmp(folder: Path, every: int) -> list[str]:
    """Make every so many PNG of a data folder a BMP, in its train.csv too; the names of all images."""
    annotations = (folder / "train.csv").read_text()
    for path in sorted((folder / "train_images").iterdir())[::every]:
        cv2.imwrite(str(path.with_suffix(".bmp")), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        path.unlink()
        annotations = annotations.replace(path.name, f"{path.stem}.bmp")
    (folder / "train.csv").write_text(annotations)
    return sorted(path.name for path in (folder / "train_images").iterdir())


def rows_of(path: str) -> list[list[str]]:
    with Path(path).open(newline="") as file:
        return list(csv.reader(file))


def test_from_images_to_a_scored_submission(severstal: Run, make_data: Callable[..., Path]) -> None:
    data = make_data(images=60, size=SIZE, classes=2)
    draw_third_class(data)
    image_ids = as_bmp(data, every=4)
    assert sum(image_id.endswith(".bmp") for image_id in image_ids) == 15
    truth = mask_table.read_table(data / "train.csv")
    assert truth.classes == CLASSES

    out = severstal("split", "--data", "data", "--folds", "3", "--holdout", "0.2")
    parts = [row[1] for row in rows_of("data/splits.csv")[1:]]
    assert sorted(set(parts)) == ["0", "1", "2", "holdout"]
    assert len(parts) == 60
    assert "class 3" in out

    out = severstal(
        *("train", "--data", "data", "--arch", "unet-small", "--epochs", "12", "--batch-size", "4"),
        *("--learning-rate", "0.01", "--name", "first"),
    )
    assert "models/first: 12 epochs" in out
    assert "next: severstal thresholds models/first" in out
    out = severstal("thresholds", "models/first", "--tta", "hflip")
    assert "wrote models/first/thresholds.json" in out
    assert len(json.loads(Path("models/first/thresholds.json").read_text())["rules"]) == CLASSES

    # the original layout, every (image, class) a row, in the order of the names
    severstal("predict", "data/train_images", "--tta", "hflip", "--out", "all.csv", "--masks", "pictures")
    rows = rows_of("all.csv")
    assert rows[0] == ["ImageId_ClassId", "EncodedPixels"]
    assert [row[0] for row in rows[1:]] == [f"{name}_{class_id}" for name in image_ids for class_id in (1, 2, 3)]
    story = json.loads(Path("all.json").read_text())
    assert (story["images"], story["rows"], story["tta"]) == (60, 180, "hflip")
    assert sorted(path.stem for path in Path("pictures").iterdir()) == sorted(Path(name).stem for name in image_ids)
    assert cv2.imread("pictures/000000001.png").shape == (*SIZE, 3)
    assert "all.csv: valid; original layout, 180 rows, 60 images" in severstal(
        "check", "all.csv", "--images", "data/train_images"
    )

    # the layout of today's sample file: its images, its order, its columns
    asked = [image_ids[number] for number in (41, 3, 20, 8)]
    sample = "".join(f"{image_id},1 {SIZE[0] * SIZE[1]},0\n" for image_id in asked)
    Path("sample_submission.csv").write_text("ImageId,EncodedPixels,ClassId\n" + sample)
    severstal("predict", "data/train_images", "--tta", "hflip", "--sample", "sample_submission.csv")
    rows = rows_of("submissions/submission.csv")
    assert rows[0] == ["ImageId", "EncodedPixels", "ClassId"]
    assert [(row[0], row[2]) for row in rows[1:]] == [(name, class_id) for name in asked for class_id in "123"]
    out = severstal("check", "submissions/submission.csv", "--sample", "sample_submission.csv", "--size", "50x70")
    assert "submissions/submission.csv: valid; current layout" in out

    # both say the same of the same images
    all_masks, some_masks = (
        mask_table.read_table(Path("all.csv")),
        mask_table.read_table(Path("submissions/submission.csv")),
    )
    texts = {key: rle.to_text(runs) for key, runs in all_masks.masks.items() if key[0] in asked}
    assert {key: rle.to_text(runs) for key, runs in some_masks.masks.items()} == texts

    # the score is JSON alone, and better than predicting nothing; of images that nothing was trained on
    kept_aside = {row[0] for row in rows_of("data/splits.csv")[1:] if row[1] == "holdout"}
    Path("holdout.csv").write_text("".join(f"{row}\n" for row in ("ImageId", *sorted(kept_aside))))
    score = json.loads(severstal("score", "all.csv", "--truth", "data/train.csv", "--images", "holdout.csv", "--json"))
    assert {"mean_dice", "mean_dice_present", "all_empty", "images", "by_class"} <= set(score)
    wanted = {"class_id", "dice", "dice_present", "true_masks", "predicted_masks"}
    assert all(wanted <= set(found) for found in score["by_class"])
    assert [found["class_id"] for found in score["by_class"]] == [1, 2, 3]
    assert [found["true_masks"] for found in score["by_class"]] == [
        sum(channel == at and name in kept_aside for name, at in truth.masks) for channel in range(CLASSES)
    ]
    assert score["images"] == len(kept_aside)
    there = sum(name in kept_aside for name, _ in truth.masks)
    assert score["all_empty"] == pytest.approx(1 - there / (3 * len(kept_aside)))
    assert score["mean_dice"] == pytest.approx(np.mean([found["dice"] for found in score["by_class"]]))
    assert score["mean_dice"] > 0.95 > score["all_empty"]
    held_out = json.loads(severstal("score", "--model", "models/first", "--tta", "hflip", "--json"))
    assert held_out["images"] == parts.count("holdout") == len(kept_aside)
    assert held_out["mean_dice"] == pytest.approx(score["mean_dice"], abs=1e-6)

    # masks as files and back: the same table
    severstal("decode", "all.csv", "--out", "masks", "--size", "50x70")
    assert len(list(Path("masks").iterdir())) == len(all_masks.masks)
    severstal("encode", "masks", "--out", "again.csv", "--images", "data/train_images", "--layout", "original")
    assert Path("again.csv").read_bytes() == Path("all.csv").read_bytes()

    out = severstal("models")
    assert "first" in out
    assert "unet-small" in out
