"""`export --int8`: the folder is a run with thresholds of its own, and it loses no more Dice than it may."""

import dataclasses
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from severstal_cli.cli import app
from severstal_cli.config import (
    CompareConfig,
    ExportConfig,
    PredictConfig,
    ReportConfig,
    ScoreConfig,
    ThresholdsConfig,
)
from severstal_cli.errors import InputError, MachineError, RunError, UsageError
from severstal_cli.learning.inference import int8, int8_run
from severstal_cli.learning.inference.rule_search import Searched
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.model import Model
from severstal_cli.stages import comparing, exporting, prediction, reporting, scoring, threshold_search
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.masks.postprocess import ClassPostprocess
from severstal_cli.steel.tables import mask_table
from severstal_cli.steel.thresholds.per_image_gains import PerImageGains
from severstal_cli.steel.thresholds.rule_selection import Choice, Chosen

FIND_SPEC = importlib.util.find_spec
"""As it is before `without_openvino` hides the library."""


class Made(NamedTuple):
    """A run in int8, by the command."""

    source: Path
    folder: Path
    stdout: str
    calibration: list[str]
    """The images that it was calibrated on."""


@pytest.fixture(scope="module")
def made(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Made:
    models = tmp_path_factory.mktemp("models")
    calibration: list[str] = []
    source = shutil.copytree(trained[1], models / "mine")
    pixels_of = int8.pixels_of

    def watched(data_folder: Any, image_ids: Sequence[str]) -> list[int8.Pixels]:
        calibration.extend(image_ids)
        return pixels_of(data_folder, image_ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", FIND_SPEC)
        patch.setattr(int8, "pixels_of", watched)
        line = ["export", str(source), "--format", "openvino", "--int8", "--max-drop", "0.5"]
        found = CliRunner().invoke(app, line)
    assert found.exit_code == 0, found.output
    return Made(source, models / "mine-openvino-int8", found.stdout, calibration)


def test_the_folder_is_a_run_whose_card_says_what_it_is(made: Made, trained: tuple[Path, Path]) -> None:
    assert {path.name for path in made.folder.iterdir()} == {"model.xml", "model.bin", "model.json", "thresholds.json"}
    source, card = model_card.read_card(made.source), model_card.read_card(made.folder)
    assert source.int8 is None
    assert card.int8 is not None
    same = dataclasses.replace(card, int8=None, validation_dice=source.validation_dice)
    assert same == source
    searched = json.loads((made.folder / "thresholds.json").read_text())
    before = json.loads((made.source / "thresholds.json").read_text())
    assert searched["runs"] == [str(made.folder)]
    assert [each["runs"] for each in searched["folds"]] == [[str(made.folder)]]
    for dice in (card.int8.dice_before, card.int8.dice_after):
        assert dice == pytest.approx(before["mean_dice"], abs=0.03)
    assert card.validation_dice == searched["mean_dice_default"]
    assert (card.int8.max_drop, card.int8.tta, card.int8.layers, card.int8.kept) == (0.5, before["tta"], 14, ())
    assert card.int8.versions.keys() == {"nncf", "openvino"}
    split = splits.read_splits(trained[0] / "splits.csv")
    left_out = {image_id for image_id, part in split.parts.items() if part in ("holdout", str(card.fold))}
    assert card.int8.calibration_images == len(made.calibration) == len(set(made.calibration)) > 20
    assert not left_out & set(made.calibration)


def test_stdout_is_one_line(made: Made) -> None:
    """NNCF would print its bars there."""
    [line] = made.stdout.splitlines()
    pattern = (
        rf"wrote {re.escape(str(made.folder))}/model\.xml \([\d.]+ MiB\), 14 layers in int8, calibrated on "
        rf"{len(made.calibration)} images, mean Dice 0\.\d{{4}} before and 0\.\d{{4}} after; next: "
        rf"severstal predict IMAGES --model {re.escape(str(made.folder))}"
    )
    assert re.fullmatch(pattern, line)


def test_every_command_takes_the_folder(
    made: Made, trained: tuple[Path, Path], tmp_path: Path, with_openvino: None
) -> None:
    images = trained[0] / "train_images"
    config = PredictConfig(images=(images,), runs=(made.folder,), out=tmp_path / "int8.csv")
    masks = mask_table.read_table(prediction.predict(config).path).masks
    assert json.loads((tmp_path / "int8.json").read_text())["engines"] == ["openvino"]
    assert scoring.score(ScoreConfig(runs=(made.folder,))).mean_dice > 0.7
    pair = PredictConfig(images=(images,), runs=(made.source, made.folder), out=tmp_path / "pair.csv")
    prediction.predict(pair)
    assert mask_table.read_table(pair.out).masks.keys() != set()
    found = Model.load(made.folder).predict(sorted(images.iterdir())[1])
    assert [len(text) > 0 for text in found.rle()] == [
        (sorted(images.iterdir())[1].name, channel) in masks for channel in range(2)
    ]
    reporting.report(ReportConfig(shown=(made.folder,), part="validation", out=tmp_path / "report"))
    compare = CompareConfig(candidates=(str(made.source), str(made.folder)), out=tmp_path / "compared")
    assert [row.parameters is None for row in comparing.compare(compare).rows[:2]] == [False, True]
    searched = json.loads((made.folder / "thresholds.json").read_text())["mean_dice"]
    config = ThresholdsConfig(runs=(made.folder,), out=tmp_path / "thresholds.json")
    assert threshold_search.search(config).mean_dice == pytest.approx(searched, abs=1e-9)
    shown = CliRunner().invoke(app, ["models", str(made.folder)])
    assert "14 layers in int8, calibrated on" in " ".join(shown.output.split())


def outlier(source: Path, folder: Path) -> Path:
    """The same function, but one channel before the last convolution is 3,000 times as large as the others."""
    card = model_card.read_card(source)
    network = run_folder.load_network(source, card)
    inner: Any = network.network
    with torch.no_grad():
        inner.up[3][1].weight[0] *= 3000
        inner.up[3][1].bias[0] *= 3000
        inner.out.weight[:, 0] /= 3000
    run_folder.write_model(folder, network, card)
    return folder


def test_the_layer_that_int8_costs_most_stays_in_floating_point(
    trained: tuple[Path, Path], tmp_path: Path, with_openvino: None, heard: Any
) -> None:
    run = outlier(trained[1], tmp_path / "run")
    result = exporting.export_run(ExportConfig(run=run, format="openvino", int8=True, max_drop=0.02), heard)
    assert result.int8 is not None
    assert len(result.int8.kept) == 1
    assert result.int8.layers == 13
    assert result.int8.dice_before - result.int8.dice_after <= 0.02
    [line] = [line for line in heard.lines if "loses" in line]
    assert re.search(r"run: int8 loses 0\.\d{4} of mean Dice, more than 0\.02: looking for the layers", line)


def test_a_run_that_loses_too_much_is_not_written(
    trained: tuple[Path, Path], tmp_path: Path, with_openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here no layer can be kept in floating point."""
    run = outlier(trained[1], tmp_path / "run")
    monkeypatch.setattr(int8, "quantise_within", lambda model, images, *_: int8.quantise(model, images))
    with pytest.raises(RunError) as caught:
        exporting.export_run(ExportConfig(run=run, format="openvino", int8=True, max_drop=0.02))
    assert re.fullmatch(
        rf"{re.escape(str(run))} loses too much mean Dice by int8: 0\.\d{{4}} before and 0\.\d{{4}} after, "
        r"--max-drop is 0\.02\. Give a higher --max-drop, or leave out --int8",
        str(caught.value),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_without_a_layer_in_int8_is_not_written(
    trained: tuple[Path, Path], tmp_path: Path, with_openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "quantise", lambda model, *_: model)
    config = ExportConfig(run=trained[1], format="openvino", int8=True, out=tmp_path / "made", max_drop=1.0)
    with pytest.raises(RunError, match=r"and no layer is left in int8\. Give a higher --max-drop"):
        exporting.export_run(config)
    assert list(tmp_path.iterdir()) == []


def test_one_level_that_crosses_a_threshold_is_no_loss() -> None:
    """On one of 80 clean images of a single class the peak level is 127 before, and 128 after."""

    def gains_with(level: int) -> PerImageGains:
        gains = PerImageGains(component_sizes=np.array([1], np.int32), mask_sizes=np.array([1], np.int32))
        for image in range(80):
            gains.add(image, np.full((4, 5), level if image == 0 else 0, np.uint8), None)
        return gains

    before, after = gains_with(127), gains_with(128)
    choice = Choice(
        rule=ClassPostprocess(), mean_dice=1.0, mean_dice_default=1.0, mean_dice_never=1.0, images=80, present=0
    )
    searched = Searched(
        chosen=Chosen(choices=(choice,), mean_dice_held_out=None, interval_held_out=None),
        gains=[before],
        groups=np.arange(80),
        counted=(0,),
    )
    drop = int8_run.dice_of([before], searched).mean() - int8_run.dice_of([after], searched).mean()
    assert drop == pytest.approx(1 / 9 / 80)  # at the threshold alone 1 / 80: more than --max-drop


def test_an_interrupt_leaves_nothing(
    trained: tuple[Path, Path], tmp_path: Path, with_openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(int8_run._Validation, "dice_at_half", interrupted)  # the network is written by then
    config = ExportConfig(run=trained[1], format="openvino", int8=True, out=tmp_path / "made", max_drop=1.0)
    with pytest.raises(KeyboardInterrupt):
        exporting.export_run(config)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_validation_is_reported_as_it_is(
    trained: tuple[Path, Path], tmp_path: Path, with_openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NNCF takes an error at its first validation for an answer."""
    run = outlier(trained[1], tmp_path / "run")

    def fails(*_: object) -> None:
        raise RunError("the disk is gone")

    monkeypatch.setattr(int8_run._Validation, "score_of", fails)
    with pytest.raises(RunError, match="the disk is gone"):
        exporting.export_run(ExportConfig(run=run, format="openvino", int8=True, max_drop=0.02))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


Changed = Callable[[dict[str, Any]], None]


def test_wrong_requests_are_refused_before_any_work(
    made: Made,
    trained: tuple[Path, Path],
    members: dict[str, Path],
    tmp_path: Path,
    with_openvino: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(int8_run, "quantise_run", lambda *_, **__: pytest.fail("it begins"))

    def error_of(kind: type[Exception], **changes: Any) -> str:
        settings = {"run": trained[1], "format": "openvino", "int8": True, "out": tmp_path / "made"} | changes
        with pytest.raises(kind) as caught:
            exporting.export_run(ExportConfig(**settings))
        assert not (tmp_path / "made").exists()
        return str(caught.value)

    assert error_of(UsageError, format="onnx") == (
        "int8 is no gain with --format onnx: ONNX Runtime is slow in int8. Give --format openvino"
    )
    assert error_of(UsageError, int8=False, max_drop=0.1) == "--max-drop is for int8. Give --int8, or leave it out"
    assert error_of(UsageError, int8=False, batch_size=3) == "--batch-size is for int8. Give --int8, or leave it out"
    image = next((trained[0] / "train_images").iterdir())
    assert "checked on the validation fold: --image. Leave it out" in error_of(UsageError, image=image)
    both = error_of(UsageError, int8=False, data=trained[0], image=image)
    assert both == f"--data does nothing with --image: {trained[0]}. Leave one of them out"
    for value in (-0.1, 1.1, float("nan")):
        assert "drop of mean Dice" in error_of(UsageError, max_drop=value)
    every = error_of(InputError, run=members["every"])
    assert every.endswith(
        "was trained on every image: no validation fold is left to check int8 on. Quantise a run with a fold"
    )
    assert "model.safetensors is missing" in error_of(RunError, run=made.folder)
    assert "exists already" in error_of(InputError, out=made.folder)
    assert "no such data folder" in error_of(InputError, data=tmp_path / "gone")
    changed = shutil.copytree(trained[0], tmp_path / "changed")
    lines = (changed / "train.csv").read_text().splitlines()
    (changed / "train.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert "was trained with another data than that of" in error_of(RunError, data=changed)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nncf" else FIND_SPEC(name))
    assert error_of(MachineError) == "nncf is not installed. Install it: pip install 'severstal[openvino]'"
