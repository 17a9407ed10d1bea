"""Thresholds: the search scores what `predict` applies, on the validation folds, clean images included."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from severstal_cli.config import PredictConfig, ScoreConfig, ThresholdsConfig, TrainConfig
from severstal_cli.errors import InputError, RunError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import held_out
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import SILENT
from severstal_cli.stages import prediction, scoring, threshold_search, training
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.dataset.splits import ensure_splits, read_splits
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.scoring import dice


def test_the_reported_dice_is_that_of_applying_the_rules(trained) -> None:
    data, folder = trained
    result = threshold_search.search(ThresholdsConfig(runs=(folder,), out=folder.parent / "again.json"))
    thresholds = run_folder.read_thresholds(result.path, classes=2)
    part = held_out.open_validation([folder], None, SILENT)
    found, default = [], []
    for image_id, levels in part.levels(views="none", exclusive=thresholds.exclusive, batch_size=8, progress=SILENT):
        true = [part.data_folder.masks.get((image_id, channel), rle.EMPTY) for channel in range(2)]
        for rules, scores in ((thresholds.rules, found), ([postprocess.ClassPostprocess()] * 2, default)):
            predicted = postprocess.levels_to_rle(levels, rules)
            scores.append([dice.dice(a, b) for a, b in zip(predicted, true, strict=True)])
    assert list(part.image_ids) == read_splits(data / "splits.csv").ids_of("0")
    assert any(
        (image_id, 0) not in part.data_folder.masks and (image_id, 1) not in part.data_folder.masks
        for image_id in part.image_ids
    )
    assert [choice.mean_dice for choice in result.choices] == pytest.approx(np.mean(found, axis=0).tolist(), abs=1e-9)
    assert [choice.mean_dice_default for choice in result.choices] == pytest.approx(
        np.mean(default, axis=0).tolist(), abs=1e-9
    )
    assert result.mean_dice >= result.mean_dice_default
    assert result.mean_dice >= result.mean_dice_never


def test_what_was_found_is_written_with_what_it_was_found_on(trained) -> None:
    data, folder = trained
    card = model_card.read_card(folder)
    written = json.loads((folder / run_folder.THRESHOLDS).read_text())
    assert written["folds"] == [{"fold": 0, "runs": [str(folder)], "images": card.validation_images}]
    assert written["runs"] == [str(folder)]
    assert "weights" not in written
    assert written["images"] == card.validation_images
    assert written["split_fingerprint"] == card.split_fingerprint
    masks = open_data_folder(data).masks
    fold = read_splits(data / "splits.csv").ids_of("0")
    present = [sum((image_id, channel) in masks for image_id in fold) for channel in range(2)]
    assert [entry["present"] for entry in written["by_class"]] == present
    assert (folder / "thresholds.png").read_bytes().startswith(b"\x89PNG")


def test_an_ensemble_is_searched_with_its_weights_and_scored_so(
    trained, members: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Dice of the search equals that of a submission by `predict` with the thresholds file only."""
    for stage in (held_out, prediction):  # float32: the same in all batches
        monkeypatch.setattr(stage, "open_device", lambda: open_device("32-true"))
    data, runs = trained[0], (members["b"], members["a"])
    config = ThresholdsConfig(runs=runs, weights=(1.0, 4.0), tta="hflip", out=tmp_path / "ensemble.json")
    result = threshold_search.search(config)
    written = json.loads(result.path.read_text())
    assert written["weights"] == [1.0, 4.0]
    assert written["runs"] == list(map(str, runs))
    assert [(fold["fold"], fold["runs"]) for fold in written["folds"]] == [(0, written["runs"])]
    fold = read_splits(data / "splits.csv").ids_of("0")
    (tmp_path / "fold.csv").write_text("ImageId\n" + "\n".join(fold) + "\n")
    data_folder = tuple(data / "train_images" / name for name in fold)
    submission = prediction.predict(
        PredictConfig(images=data_folder, thresholds=result.path, out=tmp_path / "s.csv", batch_size=3)
    )
    assert submission.runs == runs
    scored = scoring.score(
        ScoreConfig(submission=submission.path, truth=data / "train.csv", images=tmp_path / "fold.csv")
    )
    assert [found.dice for found in scored.by_class] == pytest.approx(
        [choice.mean_dice for choice in result.choices], abs=1e-9
    )
    even = threshold_search.search(dataclasses.replace(config, weights=(), out=tmp_path / "even.json"))
    assert even.choices != result.choices
    assert "weights" not in json.loads(even.path.read_text())


def test_pooled_folds_are_searched_as_one_set(members: dict[str, Path], tmp_path: Path) -> None:
    result = threshold_search.search(
        ThresholdsConfig(runs=(members["c"], members["a"]), weights=(1.0, 2.0), out=tmp_path / "pooled.json")
    )
    alone = [
        threshold_search.search(ThresholdsConfig(runs=(members[name],), out=tmp_path / f"{name}.json"))
        for name in ("a", "c")
    ]
    assert result.images == sum(one.images for one in alone)
    for at_half, *of_runs in zip(
        *([choice.mean_dice_default for choice in found.choices] for found in (result, *alone)), strict=True
    ):
        total = sum(dice * one.images for dice, one in zip(of_runs, alone, strict=True))
        assert at_half == pytest.approx(total / result.images, abs=1e-9)
    written = json.loads(result.path.read_text())
    assert written["folds"] == [
        {"fold": fold, "runs": [str(members[name])], "images": one.images}
        for fold, name, one in zip((0, 1), ("a", "c"), alone, strict=True)
    ]
    assert written["runs"] == [str(members["c"]), str(members["a"])]


def test_runs_that_cannot_be_searched_together_are_refused(members: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was trained on every image"):
        threshold_search.search(ThresholdsConfig(runs=(members["a"], members["every"]), out=tmp_path / "t.json"))
    with pytest.raises(InputError, match=r"several runs: .*--out"):
        threshold_search.search(ThresholdsConfig(runs=(members["a"], members["b"])))
    with pytest.raises(InputError, match="wrong weights: 1, 2, 3"):
        threshold_search.search(
            ThresholdsConfig(runs=(members["a"], members["b"]), weights=(1.0, 2.0, 3.0), out=tmp_path / "t.json")
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("alarm", "with_gate"), [(150, True), (20, False)])
def test_a_gate_is_used_if_it_helps_on_other_images(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alarm: int, with_gate: bool
) -> None:
    """The levels are 100 on defects, with one peak, and `alarm` elsewhere, without a peak."""
    data, folder = trained
    drawn: dict[str, np.ndarray] = {}

    def levels(part: held_out.Subset, **_: object) -> Iterator[tuple[str, np.ndarray]]:
        masks = part.data_folder.masks
        for number, image_id in enumerate(part.image_ids):
            drawn[image_id] = np.zeros((2, 64, 96), np.uint8)
            there = next((channel for channel in range(2) if (image_id, channel) in masks), None)
            if there is None:
                drawn[image_id][number % 2] = alarm
            else:
                mask = rle.decode(masks[image_id, there], (64, 96))
                drawn[image_id][there, mask] = 100
                drawn[image_id][(there, *np.argwhere(mask)[0])] = 200 + number
                drawn[image_id][1 - there, ~mask] = alarm
            yield image_id, drawn[image_id]

    monkeypatch.setattr(held_out.Subset, "levels", levels)
    result = threshold_search.search(ThresholdsConfig(runs=(folder,), out=tmp_path / "t.json"))
    thresholds = run_folder.read_thresholds(result.path, classes=2)
    gates = [rule.min_image_score for rule in thresholds.rules]
    assert all(alarm < gate <= 200 for gate in gates) if with_gate else gates == [0, 0]
    assert result.mean_dice == pytest.approx(1.0, abs=1e-9)
    masks = open_data_folder(data).masks
    for image_id, level in drawn.items():
        for channel, runs in enumerate(postprocess.levels_to_rle(postprocess.make_exclusive(level), thresholds.rules)):
            np.testing.assert_array_equal(runs, masks.get((image_id, channel), rle.EMPTY))
    written = json.loads(result.path.read_text())
    dice = [entry["mean_dice_held_out"] for entry in written["by_class"]]
    assert written["mean_dice_held_out"] == pytest.approx(np.mean(dice)) == result.mean_dice_held_out
    # with so few images, a gate does not gain in every fold
    least = 0.8 if with_gate else 1.0 - 1e-9
    assert least < result.mean_dice_held_out <= 1.0


def test_one_image_leaves_nothing_out(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = trained
    whole = held_out.open_validation([folder], None, SILENT)
    share = dataclasses.replace(whole.shares[0], image_ids=whole.image_ids[:1])
    monkeypatch.setattr(held_out, "open_validation", lambda *_: dataclasses.replace(whole, shares=(share,)))
    result = threshold_search.search(ThresholdsConfig(runs=(folder,), out=tmp_path / "t.json"))
    assert (result.images, result.mean_dice_held_out) == (1, None)
    assert json.loads(result.path.read_text())["mean_dice_held_out"] is None


def test_a_split_or_data_that_changed_since_is_refused(make_data, tmp_path: Path) -> None:
    data = make_data()
    folder = training.train(TrainConfig(data=data, models=tmp_path, arch="unet-small", epochs=1)).folder
    split = (data / "splits.csv").read_text()
    (data / "splits.csv").write_text(split.replace(",holdout,", ",0,"))
    with pytest.raises(RunError, match="was trained with another split"):
        threshold_search.search(ThresholdsConfig(runs=(folder,)))
    (data / "splits.csv").write_text(split)
    rows = (data / "train.csv").read_text().splitlines()
    (data / "train.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(RunError, match="was trained with another data"):
        threshold_search.search(ThresholdsConfig(runs=(folder,)))
    assert not (folder / run_folder.THRESHOLDS).exists()


def test_classes_that_no_annotation_names_lift_no_mean(make_data, tmp_path: Path, heard) -> None:
    """Class ids 2 and 7: the network has seven channels; training, thresholds and score average over two."""
    data = make_data(images=30)
    path = data / "train.csv"
    rows = [row.split(",") for row in path.read_text().splitlines()[1:]]
    renamed = [f"{name},{7 if class_id == '2' else 2},{runs}" for name, class_id, runs in rows]
    path.write_text("\n".join(["ImageId,ClassId,EncodedPixels", *renamed]) + "\n")
    config = TrainConfig(data=data, arch="unet-small", epochs=1, models=tmp_path / "models", average_decay=0.5)
    result = training.train(config, heard)
    split = read_splits(data / "splits.csv")

    def nothing(part: str) -> float:
        names = split.ids_of(part)
        return float(1 - sum(len(split.class_sets[name]) for name in names) / (2 * len(names)))

    assert result.nothing_dice == pytest.approx(nothing("0"))
    assert any(
        "no row names classes 1 and 3 to 6, so the mean Dice is over 2 and 7 alone" in line for line in heard.lines
    )
    found = threshold_search.search(ThresholdsConfig(runs=(result.folder,)))
    assert len(found.choices) == 7
    assert {found.choices[channel].rule.pixel_threshold for channel in (0, 2, 3, 4, 5)} == {postprocess.DISABLED}
    assert found.mean_dice_never == pytest.approx(nothing("0"))
    of_two = [found.choices[1].mean_dice_held_out, found.choices[6].mean_dice_held_out]
    assert found.mean_dice_held_out == pytest.approx(np.mean(of_two))
    assert found.interval_held_out is not None
    scored = scoring.score(ScoreConfig(runs=(result.folder,)))
    assert [one.class_id for one in scored.by_class] == [2, 7]
    assert scored.all_empty == pytest.approx(nothing("holdout"))


@pytest.mark.parametrize("alarms", [False, True])
def test_a_class_without_a_mask_on_the_fold_is_said_to_be_so(make_data, heard, tmp_path: Path, alarms: bool) -> None:
    """It is never predicted, and the log gives the reason. `alarms`: the network predicts it everywhere."""
    data = make_data(images=30)
    rows = (data / "train.csv").read_text().splitlines()
    rare = [row for row in rows if row.split(",")[1] == "2"]
    (data / "train.csv").write_text("\n".join(row for row in rows if row not in rare[1:]) + "\n")
    part = ensure_splits(open_data_folder(data)).parts[rare[0].split(",")[0]]
    fold = next(fold for fold in range(5) if str(fold) != part)
    folder = training.train(TrainConfig(data=data, arch="unet-small", epochs=1, models=tmp_path, fold=fold)).folder
    card = model_card.read_card(folder)
    network = run_folder.load_network(folder, card)
    network.network.out.bias.data[1] += 50 if alarms else -50
    network.head.bias.data += 50
    run_folder.write_model(folder, network, card)
    result = threshold_search.search(ThresholdsConfig(runs=(folder,)), heard)
    assert [choice.present > 0 for choice in result.choices] == [True, False]
    assert (result.choices[1].rule.pixel_threshold == postprocess.DISABLED) == alarms
    assert [line for line in heard.lines if "no mask" in line] == [
        f"class 2 has no mask on the {result.images} images of fold {fold}, where nothing is right everywhere, so it "
        f"is {'disabled (never)' if alarms else 'not tuned'}; search on a fold that has it, or on several: thresholds "
        "RUN RUN --out FILE"
    ]
