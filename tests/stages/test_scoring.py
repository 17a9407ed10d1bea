"""Scores worked by hand, of submissions and of runs."""

import dataclasses
import gzip
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from severstal_cli import files
from severstal_cli.config import CheckConfig, PredictConfig, ScoreConfig, ThresholdsConfig
from severstal_cli.errors import InputError, RunError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import held_out
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import TerminalProgress
from severstal_cli.stages import checking, prediction, scoring, threshold_search
from severstal_cli.steel.dataset.splits import HOLDOUT, read_splits
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.scoring.scores import Scores

TRUTH = "ImageId,ClassId,EncodedPixels\na.png,1,1 4\nb.png,2,11 10\nelsewhere.png,1,1 9\n"
SUBMISSION = (
    "ImageId_ClassId,EncodedPixels\n"
    "a.png_1,3 4\na.png_2,9 1\nb.png_1,\nb.png_2,11 5\nclean.png_1,\nclean.png_2,\nother.png_1,1 2\nother.png_2,\n"
)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Submission, ground truth, and the list of the images to score."""
    (tmp_path / "submission.csv").write_text(SUBMISSION)
    (tmp_path / "truth.csv").write_text(TRUTH)
    (tmp_path / "images.csv").write_text("ImageId\na.png\nb.png\nclean.png\n")
    return tmp_path / "submission.csv", tmp_path / "truth.csv", tmp_path / "images.csv"


def test_score_worked_by_hand(tables: tuple[Path, Path, Path]) -> None:
    submission, truth, images = tables
    found = scoring.score(ScoreConfig(submission=submission, truth=truth, images=images))
    # a: class 1 half right, class 2 a false alarm; b: class 1 empty, class 2 half found; clean: right twice
    a1, b2 = 2 * 2 / 8, 2 * 5 / 15
    assert found.mean_dice == pytest.approx((a1 + 0 + 1 + b2 + 1 + 1) / 6)
    assert found.mean_dice_present == pytest.approx((a1 + b2) / 2)
    assert found.all_empty == pytest.approx(4 / 6)
    assert found.images == 3
    one, two = found.by_class
    assert (one.class_id, one.dice, one.dice_present) == (1, pytest.approx((a1 + 2) / 3), pytest.approx(a1))
    assert (one.true_masks, one.predicted_masks, two.true_masks, two.predicted_masks) == (1, 1, 1, 2)
    assert two.all_empty == pytest.approx(2 / 3)


def test_the_interval_counts_near_duplicates_of_the_split_as_one(tmp_path: Path) -> None:
    names = [f"{number:02}.png" for number in range(40)]
    truth = "".join(f"{name},1,1 4\n" for name in names)
    found = "".join(f"{name},1,{1 if number % 4 < 2 else 3} 4\n" for number, name in enumerate(names))
    split = "".join(f"{name},0,{number // 2},1\n" for number, name in enumerate(names))
    for name, text in (("truth", truth), ("submission", found)):
        (tmp_path / f"{name}.csv").write_text("ImageId,ClassId,EncodedPixels\n" + text)
    config = ScoreConfig(submission=tmp_path / "submission.csv", truth=tmp_path / "truth.csv")
    alone = scoring.score(config)
    assert not alone.knows_duplicates
    assert alone.interval is not None
    (tmp_path / "splits.csv").write_text("ImageId,Part,Group,Classes\n" + split)
    grouped = scoring.score(config)
    assert grouped.knows_duplicates
    assert grouped.interval is not None
    width, wider = (high - low for low, high in (alone.interval, grouped.interval))
    assert wider == pytest.approx(2**0.5 * width, rel=0.1)  # both images of a pair are right or wrong
    assert grouped.mean_dice == alone.mean_dice == pytest.approx(0.75)
    (tmp_path / "splits.csv").write_text("ImageId,Part,Group,Classes\n00.png,0,1,1\n")
    assert scoring.score(config).interval == alone.interval


def test_three_images_have_no_interval(tables: tuple[Path, Path, Path]) -> None:
    submission, truth, images = tables
    found = scoring.score(ScoreConfig(submission=submission, truth=truth, images=images))
    assert found.interval is None
    assert [one.interval for one in found.by_class] == [None, None]


def test_without_a_list_the_images_of_the_submission_are_scored(tables: tuple[Path, Path, Path]) -> None:
    submission, truth, _ = tables
    found = scoring.score(ScoreConfig(submission=submission, truth=truth))
    assert found.images == 4
    assert found.all_empty == pytest.approx(6 / 8)


def test_images_of_a_folder_are_scored_without_decoding(tables: tuple[Path, Path, Path], tmp_path: Path) -> None:
    submission, truth, _ = tables
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "missing.png"):
        (folder / name).write_bytes(b"not read")
    found = scoring.score(ScoreConfig(submission=submission, truth=truth, images=folder))
    assert found.mean_dice == pytest.approx((0.5 + 0 + 1 + 1) / 4)  # an image without a row is empty


def test_predicting_nothing_scores_all_empty(tables: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, truth, images = tables
    (tmp_path / "nothing.csv").write_text("ImageId,ClassId,EncodedPixels\n")
    found = scoring.score(ScoreConfig(submission=tmp_path / "nothing.csv", truth=truth, images=images))
    assert found.mean_dice == found.all_empty == pytest.approx(4 / 6)
    assert found.mean_dice_present == 0


def test_ground_truth_of_other_images_is_refused(
    tables: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission, truth, _ = tables
    (tmp_path / "clean.csv").write_text("ImageId\nclean.png\n")
    config = ScoreConfig(submission=submission, truth=truth, images=tmp_path / "clean.csv")
    with pytest.raises(
        InputError, match=r"truth\.csv names none of the images that count: it names a\.png, expected clean\.png"
    ):
        scoring.score(config)
    # an image of the annotated folder is clean without a row
    (tmp_path / "train_images").mkdir()
    (tmp_path / "train_images" / "clean.png").touch()
    found = scoring.score(config, TerminalProgress())
    assert f"no row in {truth}, counted as clean: 1 of 1 image" in capsys.readouterr().err
    assert found.all_empty == 1.0


def test_ground_truth_with_other_suffixes_is_refused(tables: tuple[Path, Path, Path], tmp_path: Path) -> None:
    submission, truth, images = tables
    config = ScoreConfig(submission=submission, truth=truth, images=images)
    for ending in (".jpg", ".PNG", ""):
        truth.write_text(TRUTH.replace("b.png", f"b{ending}"))
        message = rf"truth\.csv, line 3: it names b{ending}: the image is b\.png\. 1 image differs only in the suffix"
        with pytest.raises(InputError, match=message):
            scoring.score(config)
    truth.write_text(TRUTH)
    submission.write_text(SUBMISSION.replace("clean.png", "clean.jpg"))
    with pytest.raises(InputError, match=r"submission\.csv, line 6: it names clean\.jpg: the image is clean\.png"):
        scoring.score(config)


def test_runs_past_the_end_are_refused_as_check_does(tables: tuple[Path, Path, Path], tmp_path: Path, heard) -> None:
    submission, truth, images = tables
    config = ScoreConfig(submission=submission, truth=truth, images=images)
    scoring.score(config, heard)
    unknown = "runs past the end of an image were not checked: the image files are unknown; give --images DIR"
    assert unknown in heard.lines
    for folder, given in ((tmp_path / "elsewhere", True), (tmp_path / "train_images", False)):
        folder.mkdir()
        for name in ("a.png", "b.png", "clean.png"):
            cv2.imwrite(str(folder / name), np.zeros((4, 5), np.uint8))
        config = dataclasses.replace(config, images=folder if given else images)
        heard.lines.clear()
        scoring.score(config, heard)
        assert not [line for line in heard.lines if "past the end" in line]
        for path, text in ((truth, TRUTH), (submission, SUBMISSION)):
            path.write_text(text.replace("11 10", "11 11").replace("11 5", "11 5 20 2"))
            with pytest.raises(
                InputError, match=r"line \d: b\.png, class 2: .* past the end, pixel 20\. Masks must be"
            ):
                scoring.score(config)
            checked = checking.check(CheckConfig(submission=path, images=folder))
            assert [fault.message for fault in checked.faults if "past the end" in fault.message]
            path.write_text(text)
    (tmp_path / "train_images" / "b.png").unlink()
    heard.lines.clear()
    scoring.score(dataclasses.replace(config, images=images), heard)
    assert "runs past the end of an image were not checked in 1 of 2 images with masks: the image" in " ".join(
        heard.lines
    )


def test_classes_that_no_row_of_the_truth_names_do_not_count(tables: tuple[Path, Path, Path], heard) -> None:
    submission, truth, images = tables
    truth.write_text("ImageId,ClassId,EncodedPixels\na.png,2,1 4\nb.png,7,11 10\n")
    submission.write_text("ImageId,ClassId,EncodedPixels\na.png,2,3 4\nb.png,7,11 5\nclean.png,4,\n")
    config = ScoreConfig(submission=submission, truth=truth, images=images)
    found = scoring.score(config, heard)
    assert [one.class_id for one in found.by_class] == [2, 7]
    two, seven = (0.5 + 1 + 1) / 3, (1 + 2 / 3 + 1) / 3
    assert [one.dice for one in found.by_class] == pytest.approx([two, seven])
    assert found.mean_dice == pytest.approx((two + seven) / 2)  # over all seven it was 0.94
    assert found.all_empty == pytest.approx(4 / 6)
    log = " ".join(heard.lines)
    assert "no row names classes 1 and 3 to 6, so the mean Dice is over 2 and 7 alone" in log
    assert f"not scored: class 4, which {truth} does not name; {submission} has only empty rows of it" in log
    # an empty row makes the class known
    truth.write_text(truth.read_text() + "a.png,4,\n")
    found = scoring.score(config)
    assert [one.class_id for one in found.by_class] == [2, 4, 7]
    assert found.mean_dice == pytest.approx((two + 1 + seven) / 3)
    submission.write_text(submission.read_text() + "a.png,5,9 1\n")
    with pytest.raises(InputError, match=r"line 5: it names class 5: .*truth\.csv has 2, 4 and 7\. Remove it, or add"):
        scoring.score(config)


def test_the_order_of_rows_changes_no_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [f"{number:02}.png_{class_id}," for number in range(30) for class_id in (1, 2)]
    true = [f"{row}1 {rng.integers(1, 99)}" if rng.random() < 0.6 else row for row in rows]
    predicted = [f"{row}1 {rng.integers(1, 99)}" if rng.random() < 0.6 else row for row in rows]
    found = []
    for _ in range(4):
        for name, table in (("truth", true), ("submission", predicted)):
            order = rng.permutation(len(table)) if found else range(len(table))
            (tmp_path / f"{name}.csv").write_text(
                "\n".join(["ImageId_ClassId,EncodedPixels", *(table[k] for k in order)])
            )
        names = ["ImageId", *(f"{number:02}.png" for number in rng.permutation(30))]
        (tmp_path / "list.csv").write_text("\n".join(names))
        config = ScoreConfig(submission=tmp_path / "submission.csv", truth=tmp_path / "truth.csv")
        found += [scoring.score(config), scoring.score(dataclasses.replace(config, images=tmp_path / "list.csv"))]
    assert found[0].interval is not None
    assert all(each == found[0] for each in found)


def test_a_compressed_submission_is_scored_and_checked_for_leakage(
    tables: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    submission, truth, images = tables
    packed = tmp_path / "submission.csv.gz"
    packed.write_bytes(gzip.compress(submission.read_bytes()))
    config = ScoreConfig(submission=submission, truth=truth, images=images)
    assert scoring.score(dataclasses.replace(config, submission=packed)) == scoring.score(config)
    (tmp_path / "splits.csv").write_text("ImageId,Part,Group,Classes\na.png,0,1,1\nx.png,1,2,\n")
    record = {"folder": "r", "data": "d", "split": read_splits(tmp_path / "splits.csv").fingerprint, "fold": 1}
    submission.with_suffix(".json").write_text(json.dumps({"runs": [record]}))
    with pytest.raises(InputError, match="r was trained on images that are scored"):
        scoring.score(dataclasses.replace(config, submission=packed))


def test_wrong_requests_are_refused(tables: tuple[Path, Path, Path], tmp_path: Path) -> None:
    submission, truth, images = tables
    with pytest.raises(InputError, match="Give a submission and --truth"):
        scoring.score(ScoreConfig(submission=submission))
    with pytest.raises(InputError, match="unclear what to score"):
        scoring.score(ScoreConfig(submission=submission, truth=truth, runs=(tmp_path,)))
    images.write_text("ImageId\nx.png\n")
    with pytest.raises(InputError, match=r"names none of the images that count: it names a\.png, expected x\.png"):
        scoring.score(ScoreConfig(submission=submission, truth=truth, images=images))


def test_a_run_is_scored_on_its_holdout_as_its_submission_would_be(trained, tmp_path: Path) -> None:
    data, folder = trained
    holdout = read_splits(data / "splits.csv").ids_of(HOLDOUT)
    of_run = scoring.score(ScoreConfig(runs=(folder,)))
    (tmp_path / "holdout.csv").write_text("ImageId\n" + "\n".join(holdout) + "\n")
    out = tmp_path / "submission.csv"
    data_folder = tuple(data / "train_images" / name for name in holdout)
    prediction.predict(PredictConfig(images=data_folder, runs=(folder,), out=out))
    of_file = scoring.score(ScoreConfig(submission=out, truth=data / "train.csv", images=tmp_path / "holdout.csv"))
    assert of_run == of_file
    assert of_run.images == len(holdout)
    assert scoring.score(ScoreConfig(models=folder.parent)) == of_run  # the best run is the default
    assert np.isfinite(of_run.mean_dice)


def test_an_ensemble_is_scored_as_its_submission_would_be(
    trained, members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with runs of several folds and one that trained on all folds: none trained on the holdout set."""
    for stage in (held_out, prediction):  # float32: the same in all batches
        monkeypatch.setattr(stage, "open_device", lambda: open_device("32-true"))
    data, runs = trained[0], tuple(members[name] for name in ("c", "a", "every"))
    weights = (1.0, 3.0, 2.0)
    searched = run_folder.read_thresholds(trained[1] / run_folder.THRESHOLDS, classes=2)
    thresholds = dataclasses.replace(searched, tta="hflip", runs=tuple(map(str, runs)), weights=weights)
    run_folder.write_thresholds(tmp_path / "e.json", thresholds, {})
    holdout = read_splits(data / "splits.csv").ids_of(HOLDOUT)
    (tmp_path / "holdout.csv").write_text("ImageId\n" + "\n".join(holdout) + "\n")
    data_folder = tuple(data / "train_images" / name for name in holdout)
    settings = {"images": data_folder, "thresholds": tmp_path / "e.json", "out": tmp_path / "s.csv"}
    out = prediction.predict(PredictConfig(**settings, runs=runs, weights=weights, tta="hflip")).path
    of_file = scoring.score(ScoreConfig(submission=out, truth=data / "train.csv", images=tmp_path / "holdout.csv"))
    assert scoring.score(ScoreConfig(thresholds=tmp_path / "e.json")) == of_file
    assert scoring.score(ScoreConfig(runs=runs[::-1], thresholds=tmp_path / "e.json")) == of_file
    assert scoring.score(ScoreConfig(submission=runs[0], runs=runs[1:], thresholds=tmp_path / "e.json")) == of_file
    assert not any((folder / run_folder.SCORE).exists() for folder in runs)
    with pytest.raises(InputError, match="unclear what to score"):
        scoring.score(ScoreConfig(submission=out, truth=data / "train.csv", thresholds=tmp_path / "e.json"))


def test_the_score_of_a_run_is_kept_with_it_until_it_is_outdated(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(trained[1], tmp_path / "run"))
    kept = folder / run_folder.SCORE
    kept.unlink(missing_ok=True)
    scoring.score(ScoreConfig(runs=(folder,), tta="hflip"))  # not its own TTA views
    scoring.score(ScoreConfig(runs=(folder,), thresholds=trained[1] / run_folder.THRESHOLDS))
    assert not kept.exists()
    found = scoring.score(ScoreConfig(runs=(folder,)))
    card = model_card.read_card(folder)
    of_what = {"data_fingerprint": card.data_fingerprint, "split_fingerprint": card.split_fingerprint}
    assert json.loads(kept.read_text()) == json.loads(json.dumps(found.to_dict())) | of_what
    threshold_search.search(ThresholdsConfig(runs=(folder,)))
    assert not kept.exists()
    monkeypatch.setattr(files, "is_writable", lambda _: False)
    assert scoring.score(ScoreConfig(runs=(folder,))) == found
    assert not kept.exists()


def test_thresholds_of_another_split_are_refused(trained, tmp_path: Path) -> None:
    content = json.loads((trained[1] / run_folder.THRESHOLDS).read_text())
    for name, fingerprint in (("data_fingerprint", "other data"), ("split_fingerprint", "another split")):
        (tmp_path / "t.json").write_text(json.dumps(content | {"split_fingerprint": "x", name: fingerprint}))
        config = ScoreConfig(runs=(trained[1],), thresholds=tmp_path / "t.json")
        if name == "data_fingerprint":
            scoring.score(config)
        else:
            with pytest.raises(InputError, match=r"t\.json was searched with another split: its images may be"):
                scoring.score(config)


def test_test_images_may_share_names_with_training_images(trained, tmp_path: Path, heard) -> None:
    """As in NEU-Seg, whose parts share names. A copy of a training image stays leakage, however it is saved."""
    data, folder = trained
    split = read_splits(data / "splits.csv")
    (names := split.ids_of("1")[:3]).sort()
    test_images = tmp_path / "test_images"
    test_images.mkdir()
    rng = np.random.default_rng(0)
    for name in names:
        cv2.imwrite(str(test_images / name), rng.integers(0, 256, (64, 96), np.uint8))
    out = prediction.predict(PredictConfig(images=(test_images,), runs=(folder,), out=tmp_path / "s.csv")).path
    shutil.copyfile(data / "train.csv", tmp_path / "test.csv")
    shutil.copyfile(data / "splits.csv", tmp_path / "splits.csv")
    (tmp_path / "train_images").symlink_to(data / "train_images")
    config = ScoreConfig(submission=out, truth=tmp_path / "test.csv", images=test_images)
    assert scoring.score(config, heard).images == 3
    assert "3 images share the name of a training image and show other steel" in heard.lines
    image = cv2.imread(str(data / "train_images" / names[1]), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(test_images / names[1]), np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8))
    with pytest.raises(InputError, match=rf"was trained on images that are scored: 1 of 3, first {names[1]}"):
        scoring.score(config)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no such run: .*typo"):
        scoring.score(ScoreConfig(submission=tmp_path / "typo"))


def test_a_submission_of_training_images_is_refused(trained, tmp_path: Path) -> None:
    data, folder = trained
    split = read_splits(data / "splits.csv")
    some = (*split.ids_of("0")[:2], *split.ids_of("1")[:3])
    data_folder = tuple(data / "train_images" / name for name in some)
    out = prediction.predict(PredictConfig(images=data_folder, runs=(folder,), out=tmp_path / "s.csv")).path
    with pytest.raises(InputError, match=rf"{folder} was trained on images that are scored: 3 of 5, first {some[2]}"):
        scoring.score(ScoreConfig(submission=out, truth=data / "train.csv"))
    (tmp_path / "fold.csv").write_text("ImageId\n" + "\n".join(some[:2]) + "\n")
    assert (
        scoring.score(ScoreConfig(submission=out, truth=data / "train.csv", images=tmp_path / "fold.csv")).images == 2
    )


@pytest.fixture
def leaky(tmp_path: Path) -> tuple[Path, Path]:
    """A submission for all images of a split, by a run that left out fold 1 and the holdout, and the truth."""
    folder = tmp_path / "my data"
    folder.mkdir()
    rows = [f"{name}.png,1,1 4\n" for name in "abcd"]
    for name in ("train.csv", "s.csv"):
        (folder / name).write_text("ImageId,ClassId,EncodedPixels\n" + "".join(rows))
    parts = {"a": "0", "b": "1", "c": "holdout", "d": "holdout"}
    table = "".join(f"{name}.png,{part},{number},1\n" for number, (name, part) in enumerate(parts.items()))
    (folder / "splits.csv").write_text(f"ImageId,Part,Group,Classes\n{table}")
    record = {"folder": "models/r", "data": "d", "split": read_splits(folder / "splits.csv").fingerprint, "fold": 1}
    (folder / "s.json").write_text(json.dumps({"runs": [record]}))
    return folder / "s.csv", folder / "train.csv"


def test_a_submission_that_leaks_is_refused_with_the_images_that_would_do(leaky: tuple[Path, Path]) -> None:
    submission, truth = leaky
    config = ScoreConfig(submission=submission, truth=truth)
    with pytest.raises(InputError, match=r"was trained on images that are scored: 1 of 4, first a\.png") as refused:
        scoring.score(config)
    option, value = re.findall(r"Give (--images) '(.*)' for the holdout \(2 images\)", str(refused.value))[0]
    assert (option, value) == ("--images", f"{truth.parent}/splits.csv:holdout")
    assert scoring.score(dataclasses.replace(config, images=Path(value))).images == 2
    assert scoring.score(dataclasses.replace(config, images=truth.parent / "splits.csv:1")).images == 1


def test_images_that_would_do_are_those_that_all_runs_left_out_and_that_are_predicted(leaky: tuple[Path, Path]) -> None:
    submission, truth = leaky
    rows = submission.read_text().splitlines(keepends=True)
    submission.write_text("".join(row for row in rows if not row.startswith("d")))  # the holdout is not complete
    with pytest.raises(InputError, match=r"splits\.csv:1' for fold 1, which it was validated on \(1 image\)"):
        scoring.score(ScoreConfig(submission=submission, truth=truth))
    content = json.loads(submission.with_suffix(".json").read_text())
    content["runs"].append(content["runs"][0] | {"fold": 0})
    submission.with_suffix(".json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="Give with --images only images that it left out"):
        scoring.score(ScoreConfig(submission=submission, truth=truth))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("splits.csv:2", "splits.csv: it names no image of subset 2"),
        ("train.csv:holdout", "train.csv has no subset holdout: the header is"),
        ("gone.csv:holdout", "gone.csv:holdout: no such file"),
        ("splits.csv:", "splits.csv:: no such file"),
    ],
)
def test_a_subset_that_does_not_exist_is_one_line(leaky: tuple[Path, Path], images: str, said: str) -> None:
    submission, truth = leaky
    with pytest.raises(InputError, match=re.escape(said)):
        scoring.score(ScoreConfig(submission=submission, truth=truth, images=truth.parent / images))


def test_a_submission_against_another_one(tables: tuple[Path, Path, Path], tmp_path: Path) -> None:
    submission, truth, images = tables
    other = tmp_path / "other.csv"
    other.write_text("ImageId,ClassId,EncodedPixels\na.png,1,1 4\nb.png,1,1 2\n")
    found = scoring.score(ScoreConfig(submission=submission, truth=truth, images=images, against=other))
    assert found.against is not None
    # the other one is right for a, misses b's, and its class 1 of b is an alarm
    assert found.mean_dice == pytest.approx((0.5 + 0 + 1 + 2 / 3 + 1 + 1) / 6)
    assert found.against.mean_dice == pytest.approx((1 + 1 + 0 + 0 + 1 + 1) / 6)
    differences = [0.5 / 3, -1 / 3 / 3, 0.5 / 6 - 1 / 18]
    assert [each.difference for each in found.differences] == pytest.approx(differences)
    back = scoring.score(ScoreConfig(submission=other, truth=truth, images=images, against=submission))
    assert back.differences[-1].difference == pytest.approx(-found.differences[-1].difference)
    other.write_text("ImageId,ClassId,EncodedPixels\nx.png,1,1 4\n")
    with pytest.raises(InputError, match=r"other\.csv names none of the images that count"):
        scoring.score(ScoreConfig(submission=submission, truth=truth, images=images, against=other))


def test_a_run_against_another_one(trained, members, tmp_path: Path) -> None:
    other = Path(shutil.copytree(members["b"], tmp_path / "b"))
    shutil.copy(trained[1] / run_folder.THRESHOLDS, other)
    found = scoring.score(ScoreConfig(runs=(trained[1],), against=other))
    alone = [scoring.score(ScoreConfig(runs=(folder,))) for folder in (trained[1], other)]
    assert found.against == alone[1]
    assert found.differences[-1].difference == pytest.approx(alone[0].mean_dice - alone[1].mean_dice)
    assert found.differences[-1].groups <= found.images


def test_a_run_against_another_one_is_scored_with_the_same_views(trained) -> None:
    found = scoring.score(ScoreConfig(runs=(trained[1],), against=trained[1], tta="hflip"))
    assert found.against is not None
    assert found.mean_dice == found.against.mean_dice
    assert [each.groups for each in found.differences] == [0, 0, 0]
    assert found.mean_dice != scoring.score(ScoreConfig(runs=(trained[1],))).mean_dice


def test_several_submissions_are_scored_on_the_images_of_those_with_every_row(
    tables: tuple[Path, Path, Path], tmp_path: Path, heard
) -> None:
    submission, truth, images = tables
    (tmp_path / "defects.csv").write_text("ImageId,ClassId,EncodedPixels\na.png,1,1 4\nelsewhere.png,1,1 9\n")
    for paths in ((submission, tmp_path / "defects.csv"), (tmp_path / "defects.csv", submission)):
        scored = scoring.score_submissions(paths, truth, None, heard)
        for found in scored.scores:  # missed images count in any order of submissions
            assert found.image_ids == ("a.png", "b.png", "clean.png", "other.png")
    by_path = dict(zip(paths, scored.scores, strict=True))
    assert by_path[tmp_path / "defects.csv"].dice.tolist() == [[1, 1], [1, 0], [1, 1], [1, 1]]
    defects = tmp_path / "defects.csv"
    assert f"scoring the 4 images of {submission}; choose others by --images DIR or LIST.csv" in heard.lines
    assert f"no row in {defects}, counted as empty: 3 of 4 images, first b.png" in heard.lines
    assert f"not scored: 1 image in {defects}, but not in {submission}" in heard.lines
    scoring.score_submissions([submission], truth, images, heard)
    assert f"not scored: 1 image in {submission}, but not in --images" in heard.lines
    with pytest.raises(InputError, match=r"unclear which images to score: .*defects\.csv has rows for defects only"):
        scoring.score_submissions([defects, truth], truth, None)
    alone = scoring.score(ScoreConfig(submission=defects, truth=truth))
    assert alone.images == 2  # on its own images, as it logs


def test_leakage_is_found_if_the_split_lacks_some_images(
    tables: tuple[Path, Path, Path], tmp_path: Path, heard
) -> None:
    submission, truth, images = tables
    (tmp_path / "splits.csv").write_text("ImageId,Part,Group,Classes\na.png,0,1,1\nx.png,1,2,\n")
    fingerprint = read_splits(tmp_path / "splits.csv").fingerprint
    record = {"folder": "models/r", "data": "d", "split": fingerprint, "fold": 1}
    submission.with_suffix(".json").write_text(json.dumps({"runs": [record]}))
    config = ScoreConfig(submission=submission, truth=truth, images=images)
    with pytest.raises(InputError, match=r"models/r was trained on images that are scored: 1 of 3, first a\.png"):
        scoring.score(config)
    submission.with_suffix(".json").write_text(json.dumps({"runs": [record | {"split": "another"}]}))
    assert not scoring.score(config, heard).knows_duplicates
    assert "models/r was trained with another split, so leakage cannot be ruled out" in heard.lines


@pytest.mark.parametrize(("images", "rate"), [(3, None), (8, None), (9, 1.0), (20, 6.0)])
def test_the_speed_excludes_the_first_batch(
    trained, monkeypatch: pytest.MonkeyPatch, images: int, rate: float | None
) -> None:
    """The first batch takes 9 s, each other one 1 s."""
    clock = [0.0]
    some = held_out.open_holdout([trained[1]], None, TerminalProgress()).image_ids

    def levels(part: held_out.Subset, *, batch_size: int, **_: object) -> Iterator[Any]:
        for number in range(images):
            if number % batch_size == 0:
                clock[0] += 1 if number else 9
            yield some[0], np.zeros((2, 64, 96), np.uint8)

    monkeypatch.setattr(scoring.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(held_out.Subset, "levels", levels)
    monkeypatch.setattr(held_out, "batches_ahead", lambda: 0)
    monkeypatch.setattr(held_out.Subset, "image_ids", some[:1] * images)
    monkeypatch.setattr(scoring.scores, "score_masks", lambda *_: Scores(
        image_ids=(), dice=np.ones((1, 2)), there=np.ones((1, 2), bool), found=np.ones((1, 2), bool),
        groups=np.zeros(1, int), knows_duplicates=True,
    ))  # fmt: skip
    assert scoring.score_runs(ScoreConfig(runs=(trained[1],), tta="hflip")).images_per_s == rate
