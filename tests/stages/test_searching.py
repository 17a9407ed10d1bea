"""Thresholds: what was searched is what is applied, on the fold that the run left out, clean images included."""

import json
from pathlib import Path

import numpy as np
import pytest

from severstal_cli.config import ThresholdsConfig, TrainConfig
from severstal_cli.errors import InputError, RunError
from severstal_cli.learning import evaluation, run
from severstal_cli.progress import SILENT
from severstal_cli.stages import searching, training
from severstal_cli.steel import dice, postprocess, rle
from severstal_cli.steel.photographs import open_photographs
from severstal_cli.steel.splits import read_splits


def test_the_reported_dice_is_that_of_applying_the_rules(trained) -> None:  # type: ignore[no-untyped-def]
    data, folder = trained
    result = searching.search(ThresholdsConfig(runs=(folder,), out=folder.parent / "again.json"))
    thresholds = run.read_thresholds(result.path, classes=2)
    part = evaluation.open_validation([folder], None, SILENT)
    found, default = [], []
    for image_id, levels in part.levels(views="none", batch_size=8, progress=SILENT):
        true = [part.photographs.masks.get((image_id, channel), rle.EMPTY) for channel in range(2)]
        for rules, scores in ((thresholds.rules, found), ([postprocess.ClassRule()] * 2, default)):
            predicted = postprocess.masks_to_runs(levels, rules, exclusive=thresholds.exclusive)
            scores.append([dice.dice(a, b) for a, b in zip(predicted, true, strict=True)])
    assert list(part.image_ids) == read_splits(data / "splits.csv").ids_of("0")
    assert any(
        (image_id, 0) not in part.photographs.masks and (image_id, 1) not in part.photographs.masks
        for image_id in part.image_ids
    )
    assert [choice.mean_dice for choice in result.choices] == pytest.approx(np.mean(found, axis=0).tolist(), abs=1e-9)
    assert [choice.mean_dice_default for choice in result.choices] == pytest.approx(
        np.mean(default, axis=0).tolist(), abs=1e-9
    )
    assert result.mean_dice >= result.mean_dice_default
    assert result.mean_dice >= result.mean_dice_never


def test_what_was_found_is_written_with_what_it_was_found_on(trained) -> None:  # type: ignore[no-untyped-def]
    data, folder = trained
    card = run.read_card(folder)
    written = json.loads((folder / run.THRESHOLDS).read_text())
    assert written["fold"] == 0
    assert written["images"] == card.validation_images
    assert written["split_fingerprint"] == card.split_fingerprint
    masks = open_photographs(data).masks
    fold = read_splits(data / "splits.csv").ids_of("0")
    present = [sum((image_id, channel) in masks for image_id in fold) for channel in range(2)]
    assert [entry["present"] for entry in written["by_class"]] == present
    assert (folder / "thresholds.png").read_bytes().startswith(b"\x89PNG")


def test_runs_without_a_common_fold_are_refused(trained, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data, folder = trained
    settings = {"data": data, "models": tmp_path, "arch": "linknet-small", "epochs": 1}
    everything = training.train(TrainConfig(fold=None, **settings)).folder
    other_fold = training.train(TrainConfig(fold=1, **settings)).folder
    same_fold = training.train(TrainConfig(fold=0, **settings)).folder
    with pytest.raises(InputError, match="was trained on every image"):
        searching.search(ThresholdsConfig(runs=(everything,)))
    with pytest.raises(InputError, match="left out different folds"):
        searching.search(ThresholdsConfig(runs=(folder, other_fold), out=tmp_path / "t.json"))
    with pytest.raises(InputError, match=r"several runs: .*--out"):
        searching.search(ThresholdsConfig(runs=(folder, same_fold)))
    pair = searching.search(ThresholdsConfig(runs=(folder, same_fold), out=tmp_path / "pair.json"))
    assert json.loads(pair.path.read_text())["runs"] == [str(folder), str(same_fold)]


def test_a_split_or_data_that_changed_since_is_refused(make_data, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = make_data()
    folder = training.train(TrainConfig(data=data, models=tmp_path, arch="unet-small", epochs=1)).folder
    split = (data / "splits.csv").read_text()
    (data / "splits.csv").write_text(split.replace(",holdout,", ",0,"))
    with pytest.raises(RunError, match="was trained with another split"):
        searching.search(ThresholdsConfig(runs=(folder,)))
    (data / "splits.csv").write_text(split)
    rows = (data / "train.csv").read_text().splitlines()
    (data / "train.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(RunError, match="was trained with another data"):
        searching.search(ThresholdsConfig(runs=(folder,)))
    assert not (folder / run.THRESHOLDS).exists()
