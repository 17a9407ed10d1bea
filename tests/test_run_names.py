"""Runs as they are named on the command line: short names, files inside a run, resumed runs, lists of runs."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from severstal_cli.cli import early
from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError
from severstal_cli.learning.runs import model_card
from severstal_cli.stages import (
    comparing,
    exporting,
    prediction,
    reporting,
    scoring,
    submitting,
    threshold_search,
    training,
)

Severstal = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def severstal(severstal: Severstal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Severstal:
    """In a folder of its own, on a narrow terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return severstal


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs that the stages were called with; none does its work."""
    seen: list[Any] = []

    def stage(config: object, progress: object) -> None:
        seen.append(config)
        raise InputError("seen enough")

    for module, name in (
        (threshold_search, "search"),
        (prediction, "predict"),
        (scoring, "score"),
        (exporting, "export_run"),
        (submitting, "submit"),
        (reporting, "report"),
        (comparing, "compare"),
        (training, "train"),
    ):
        monkeypatch.setattr(module, name, stage)
    monkeypatch.setattr(training, "train_folds", stage)
    monkeypatch.setattr(early, "check_training", lambda *_, **__: None)
    return seen


@pytest.fixture
def runs(tmp_path: Path) -> None:
    """Two runs in `models`, one in `other`; their cards are empty."""
    for name in ("models/linknet-resnet34-fold0", "models/best", "other/third"):
        (tmp_path / name).mkdir(parents=True)
        for file in ("model.json", "model.safetensors", "thresholds.json"):
            (tmp_path / name / file).write_text("{}")
    (tmp_path / "images").mkdir()


BEST = "models/best"


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("typed", ["best", "models/best", "models/best/model.safetensors", "models/best/model.json"])
@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("thresholds {}", "runs"),
        ("export {} --format onnx", "run"),
        ("predict images --model {}", "runs"),
        ("score {}", "submission"),
        ("score --model {}", "runs"),
        ("score linknet-resnet34-fold0 --against {}", "against"),
        ("submit {}", "runs"),
        ("report {}", "shown"),
        ("compare {} linknet-resnet34-fold0", "candidates"),
        ("train --init {}", "init"),
    ],
)
def test_every_command_takes_a_run_by_name_folder_or_file(
    severstal: Severstal, configs: list[Any], line: str, field: str, typed: str
) -> None:
    _, _, err = severstal(line.format(typed))
    assert err == "severstal: seen enough\n"
    value = getattr(configs[0], field)
    assert str(value[0] if isinstance(value, tuple) else value) == BEST


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("typed", ["best", "models/best", "models/best/thresholds.json", "models/best/model.json"])
@pytest.mark.parametrize("line", ["predict images", "score", "submit best"])
def test_a_run_stands_for_its_thresholds(severstal: Severstal, configs: list[Any], line: str, typed: str) -> None:
    severstal(f"{line} --thresholds {typed}")
    assert configs[0].thresholds == Path(BEST, "thresholds.json")


@pytest.mark.usefixtures("runs")
def test_names_are_those_of_the_models_folder_and_existing_paths_come_first(
    severstal: Severstal, configs: list[Any], tmp_path: Path
) -> None:
    severstal("predict images --models other --model third")
    assert configs.pop().runs == (Path("other/third"),)
    shutil.copytree(tmp_path / "models/best", tmp_path / "best")
    severstal("thresholds best")
    assert configs.pop().runs == (Path("best"),)
    shutil.copytree(tmp_path / "models/best", tmp_path / "models/unet")
    (tmp_path / "data/train_images").mkdir(parents=True)
    (tmp_path / "data/train.csv").touch()
    _, _, err = severstal("compare unet best")
    assert configs.pop().candidates[0] == "unet"
    assert "unet means the network; give models/unet for the run of this name" in err


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("thresholds linknet-resnet34-fold1", "Did you mean models/linknet-resnet34-fold0? "),
        ("score --model bist", "no such run: bist. Did you mean models/best? "),
        ("predict images --models other --model thirt", "no such run: thirt. Did you mean other/third? "),
        ("compare unet linknet-resnet34-fold9", "Did you mean models/linknet-resnet34-fold0? "),
        ("report models/bets", "models/bets: no such file or folder. Did you mean models/best? "),
        ("models bets", "no such run: bets. Did you mean models/best? "),
        (
            "train --resume bets",
            "nothing to resume: models/bets/training.ckpt does not exist. Did you mean models/best? ",
        ),
    ],
)
def test_a_missing_run_is_one_line_with_a_near_name(
    severstal: Severstal, configs: list[Any], line: str, said: str
) -> None:
    code, out, err = severstal(line)
    assert (code, out, err.count("\n"), configs) == (1, "", 1, [])
    assert said in err


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("train arch=unet", "arch=unet. Give --arch unet"),
        ("train --fold 1 epochs=30 arch=unet", "epochs=30. Give --epochs 30"),
        ("train model=unet", "model=unet. Give --arch unet"),
        ("train batch_size=4", "batch_size=4. Give --batch-size 4"),
        ("train time_limit=25m", "Give --time-limit 25m"),
        ("train resume=True", "resume=True. Give --resume"),
        ("train rseume=1", "rseume=1. Give --resume"),
        ("predict images model=best", "model=best. Give --model best"),
        ("compare unet linknet seeds=0,1", "seeds=0,1. Give --seeds 0,1"),
        ("split holdout=0.2", "holdout=0.2. Give --holdout 0.2"),
        ("models models=other", "models=other. Give --models other"),
    ],
)
def test_an_assignment_gets_a_hint(severstal: Severstal, configs: list[Any], line: str, hint: str) -> None:
    code, out, err = severstal(line)
    assert (code, out, configs) == (2, "", [])
    assert err.startswith("severstal: options are written with two dashes: ")
    assert err.endswith(f"{hint}\n")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("runs")
def test_values_of_options_and_paths_may_have_an_equals_sign(
    severstal: Severstal, configs: list[Any], tmp_path: Path
) -> None:
    severstal("train --name epochs=30")
    assert configs.pop().name == "epochs=30"
    (tmp_path / "model=best").mkdir()
    severstal("predict model=best --model best")
    assert configs.pop().images == (Path("model=best"),)
    severstal("predict --model best -- images")
    assert configs.pop().images == (Path("images"),)


def test_an_argument_of_train_that_is_no_option_is_refused(severstal: Severstal, configs: list[Any]) -> None:
    code, _, err = severstal("train unet")
    assert (code, configs) == (2, [])
    assert err == ("severstal: train takes options only: unet. Give --arch NETWORK to train, --resume RUN to resume\n")


@pytest.fixture
def begun(trained: tuple[Path, Path], tmp_path: Path) -> TrainConfig:
    """A finished run `models/mine`, of settings that are not the defaults."""
    data, _ = trained
    config = TrainConfig(
        data=data, arch="unet-small", fold=1, epochs=1, crop_widths_px=(64, 96), batch_size=4, seed=3, contrast=0.1,
        learning_rate=2e-3, models=tmp_path / "models", name="mine",
    )  # fmt: skip
    training.train(config)
    return config


@pytest.mark.parametrize(
    "line",
    [
        "--resume mine",
        "mine --resume",
        "--resume models/mine",
        "--resume --name mine",
        "--resume models/mine/model.json",
    ],
)
def test_a_run_is_resumed_with_its_own_settings(
    begun: TrainConfig, severstal: Severstal, configs: list[Any], line: str
) -> None:
    severstal(f"train {line}")
    assert configs.pop() == dataclasses.replace(begun, models=Path("models"), resume=True)


def test_options_of_a_resumed_training_come_before_those_of_the_run(
    begun: TrainConfig, severstal: Severstal, configs: list[Any]
) -> None:
    severstal("train --resume mine --epochs 7 --fold 0")
    assert configs.pop() == dataclasses.replace(begun, models=Path("models"), resume=True, epochs=7, fold=0)
    assert severstal("train --resume mine --name other")[2].startswith("severstal: two runs to resume: ")


def test_a_resumed_run_refuses_other_settings_and_learns_on(begun: TrainConfig, severstal: Severstal) -> None:
    code, _, err = severstal("train --resume mine --seed 5 --epochs 2")
    assert (code, err.splitlines()[-1]) == (
        1,
        "severstal: models/mine was trained with another seed: 3, here 5. Resume with the same, or train anew under "
        "another --name",
    )
    code, out, _ = severstal("train --resume mine --epochs 2")
    assert (code, out.split(" epochs in ")[0]) == (0, "models/mine: 2")


def test_all_folds_are_resumed_with_the_settings_of_the_first(
    begun: TrainConfig, severstal: Severstal, configs: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "models/mine").rename(tmp_path / "models/mine-fold1")
    severstal("train --resume --name mine --fold all")
    assert configs.pop() == dataclasses.replace(begun, models=Path("models"), resume=True, fold=None)


def test_a_damaged_checkpoint_is_one_line(begun: TrainConfig, severstal: Severstal, configs: list[Any]) -> None:
    Path("models/mine/training.ckpt").write_bytes(b"no checkpoint")
    code, _, err = severstal("train --resume mine")
    assert (code, err.count("\n"), configs) == (1, 1, [])
    assert err.startswith("severstal: models/mine/training.ckpt is damaged: ")


def test_models_lists_the_facts_of_the_runs_of_several_folders(
    trained: tuple[Path, Path], severstal: Severstal, tmp_path: Path
) -> None:
    run = tmp_path / "one/linknet-resnet34-fold0"
    shutil.copytree(trained[1], run)
    shutil.copytree(trained[1], tmp_path / "two/plain", ignore=shutil.ignore_patterns("thresholds.*"))
    (run / "score.json").write_text(json.dumps({"mean_dice": 0.91234}))
    os.utime(run / "model.json")  # a copy is as old as the run
    (tmp_path / "two/plain/score.json").write_text("damaged")
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) / 1e6
    dice = f"{model_card.read_card(run).validation_dice:.4f}"
    code, out, _ = severstal("models one two")
    assert (code, "trained runs in one" in out, "trained runs in two" in out) == (0, True, True)
    rows = [line.split() for line in out.splitlines()]
    assert ["linknet-resnet34-fold0", "0", dice, "0.9123", "yes", f"{size:.1f}", "now"] in rows
    [plain] = [row for row in rows if row[:1] == ["plain"]]
    assert plain[:4] == ["plain", "0", dice, "no"]
    assert "--arch" not in out


def test_models_shows_the_settings_of_a_run(begun: TrainConfig, severstal: Severstal) -> None:
    code, out, _ = severstal("models mine")
    rows = [re.split(r" {2,}", line.strip()) for line in out.splitlines()]
    different, same = (
        rows.index([f"settings {words}"]) for words in ("that differ from the defaults", "equal to the defaults")
    )
    assert code == 0
    assert rows.index(["network", "unet-small"]) < different < rows.index(["contrast", "0.1", "0.2"]) < same
    assert different < rows.index(["crop_widths_px", "64, 96", "512"]) < same < rows.index(["paste_share", "0.0"])


@pytest.mark.usefixtures("runs")
def test_a_name_that_several_folders_have_is_refused(severstal: Severstal, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "models/best", tmp_path / "other/best")
    code, _, err = severstal("models other best")
    assert (code, err) == (2, "severstal: several runs have this name: best. Give one of models/best, other/best\n")
