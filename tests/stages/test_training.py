"""Training: the same bits after a kill, validation on the kept weights, and clear refusals."""

import csv
import dataclasses
import itertools
import json
import math
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from severstal_cli.config import TrainConfig, read_settings
from severstal_cli.errors import InputError, MachineError, RunError, SeverstalError, UsageError
from severstal_cli.files import locked
from severstal_cli.learning.networks import registry
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import checkpoint_selection, loop, losses, schedule, validation
from severstal_cli.stages import training
from severstal_cli.steel.dataset import data_folder
from severstal_cli.steel.dataset.splits import HOLDOUT, read_splits
from severstal_cli.steel.images import decoding

KILLED_AT_STEP = """
import os, signal, sys
from pathlib import Path, PosixPath
from severstal_cli.config import TrainConfig
from severstal_cli.learning.training import loop
from severstal_cli.stages import training

update = loop.State.update_ema

def update_or_die(state, decay):
    if state.steps == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    update(state, decay)

loop.State.update_ema = update_or_die
training.train(TrainConfig(data=Path(sys.argv[1]), models=Path(sys.argv[2]), **eval(sys.argv[4])))
"""


INGREDIENTS = {
    "paste_share": 0.5, "lovasz_weight": 0.5, "class_weights": (1.0, 2.0), "head_weight": 0.5, "best_epochs": 2,
    "crop_widths_px": (32, 64), "batch_size": 3, "step_images": 6, "half_size_share": 0.3, "whole_image_share": 0.3,
    "encoder": "mobilenet_v2", "encoder_weights": "none",
}  # fmt: skip


def _config(data: Path, models: Path, **changes: object) -> TrainConfig:
    settings = {"arch": "unet-small", "epochs": 3, "batch_size": 4} | changes
    return TrainConfig(data=data, models=models, **settings)


def _bits(folder: Path) -> dict[str, bytes]:
    state = run_folder.read_checkpoint(folder)["state"]
    tensors = state["network"] | {f"average {name}": value for name, value in state["average"].items()}
    for kept in state["best"]:
        tensors |= {f"epoch {kept['epoch']} {name}": value for name, value in kept["weights"].items()}
    return {name: value.numpy().tobytes() for name, value in tensors.items()} | {
        run_folder.WEIGHTS: (folder / run_folder.WEIGHTS).read_bytes()
    }


@pytest.mark.parametrize(
    ("arch", "precision", "more"),
    [("unet-small", "32-true", {}), ("linknet-small", "auto", {}), ("linknet", "auto", INGREDIENTS)],
    ids=["float32", "auto", "all ingredients and pseudo labels"],
)
def test_a_training_killed_in_mid_epoch_and_resumed_gives_the_same_bits(
    make_data, make_pseudo, tmp_path: Path, arch: str, precision: str, more: dict[str, Any]
) -> None:
    data = make_data(images=30)
    settings = {"arch": arch, "epochs": 3, "batch_size": 4, "precision": precision, **more}
    if more:
        settings |= make_pseudo()
    whole = training.train(_config(data, tmp_path / "whole", **settings)).folder
    # 20 training images are 5 steps per epoch: step 11 is in the third epoch
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_STEP, data, tmp_path / "killed", "11", repr(settings)],
        check=False,
        capture_output=True,
        timeout=900,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    folder = tmp_path / "killed" / whole.name
    assert len(run_folder.read_checkpoint(folder)["history"]) == 2
    training.train(_config(data, tmp_path / "killed", **settings, resume=True))
    assert _bits(folder) == _bits(whole)
    assert len(run_folder.read_checkpoint(folder)["state"]["best"]) == (2 if more else 0)
    times = {"images_per_s", "validation_s", "elapsed_s"}
    histories = [
        [
            {name: value for name, value in row.items() if name not in times}
            for row in run_folder.read_checkpoint(at)["history"]
        ]
        for at in (folder, whole)
    ]
    assert histories[0] == histories[1]


def test_at_half_size_one_epoch_in_four_is_validated_and_the_last_always(make_data, tmp_path: Path) -> None:
    data = make_data()
    result = training.train(_config(data, tmp_path, epochs=7, half_size_share=0.8))
    rows = run_folder.read_checkpoint(result.folder)["history"]
    assert [row["epoch"] for row in rows if row["dice"] is not None] == [4, 7]
    whole = training.train(_config(data, tmp_path, epochs=2, half_size_share=1.0, name="coarse"))
    assert [row["epoch"] for row in run_folder.read_checkpoint(whole.folder)["history"] if row["dice"] is not None] == [
        2
    ]
    assert whole.validation_dice is not None


def test_the_average_of_the_best_epochs_is_kept_if_it_is_better(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    dice_of = 0.5, 0.9, 0.7, 0.8, 0.95, 0.92, 0.91, 0.97, 0.1, 0.2, 0.15
    scores = iter([(value, value) for value in dice_of])
    kept = []
    real = checkpoint_selection.offer

    def offer(state: loop.State, *rest: Any) -> Any:
        kept.append({name: value.clone() for name, value in state.ema.state_dict().items()})
        return real(state, *rest)

    monkeypatch.setattr(validation.Validation, "score", lambda *_: next(scores))
    monkeypatch.setattr(checkpoint_selection, "offer", offer)
    result = training.train(_config(data, tmp_path, epochs=4, best_epochs=2))
    weights = run_folder.load_network(result.folder, model_card.read_card(result.folder)).state_dict()
    assert (result.best_epoch, result.averaged, result.validation_dice) == (2, (2, 4), 0.95)
    assert model_card.read_card(result.folder).averaged == (2, 4)
    for name, value in weights.items():
        if value.is_floating_point():  # epochs 2 and 4 were the best of the four
            assert torch.allclose(value, (kept[1][name] + kept[3][name]) / 2, atol=1e-6), name
    # resumed: no epoch is better than that average, but the average of the new ones is; then all epochs are done
    for _ in range(2):
        result = training.train(_config(data, tmp_path, epochs=6, best_epochs=2, resume=True))
        assert (result.averaged, result.validation_dice) == ((5, 6), 0.97)
    result = training.train(_config(data, tmp_path, epochs=2, best_epochs=2, name="worse"))
    assert (result.best_epoch, result.averaged, result.validation_dice) == (2, (), 0.2)
    assert torch.equal(
        run_folder.load_network(result.folder, model_card.read_card(result.folder)).state_dict()["network.out.weight"],
        kept[-1]["network.out.weight"],
    )


def test_the_last_of_equal_epochs_is_kept(make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([(0.5, 0.5), (0.7, 0.7), (0.7, 0.7), (0.6, 0.6)])
    monkeypatch.setattr(validation.Validation, "score", lambda *_: next(scores))
    result = training.train(_config(make_data(), tmp_path, epochs=4))
    assert (result.best_epoch, result.validation_dice) == (3, 0.7)


def test_labels_that_saw_a_later_fold_are_refused_before_the_first(make_data, make_pseudo, tmp_path: Path) -> None:
    data, pseudo = make_data(images=30), make_pseudo(images=9, sure=6)
    plain = model_card.read_card(training.train(_config(data, tmp_path, epochs=1, fold=0)).folder)
    record = {"folder": "teacher", "data": plain.data_fingerprint, "split": plain.split_fingerprint, "fold": 0}
    pseudo["pseudo"].with_suffix(".json").write_text(json.dumps({"runs": [record]}))
    with pytest.raises(InputError, match="was made by teacher: its fold is 0, expected 1"):
        training.train_folds(_config(data, tmp_path / "folds", epochs=1, **pseudo))
    assert not (tmp_path / "folds").exists()


def test_all_folds_in_turn(make_data, tmp_path: Path) -> None:
    data = make_data(images=30)
    config = _config(data, tmp_path, epochs=1)
    results = training.train_folds(config)
    split = read_splits(data / "splits.csv")
    assert [model_card.read_card(result.folder).fold for result in results] == list(range(len(results)))
    assert len(results) == len(set(split.parts.values()) - {HOLDOUT}) > 2
    with pytest.raises(InputError, match="a run of this name exists"):
        training.train_folds(config)
    # one fold is missing and the others are resumed
    shutil.rmtree(results[1].folder)
    written = {
        result.folder: (result.folder / run_folder.WEIGHTS).read_bytes() for result in results if result.folder.exists()
    }
    again = training.train_folds(dataclasses.replace(config, resume=True))
    assert [result.epochs for result in again] == [1] * len(results)
    assert all((folder / run_folder.WEIGHTS).read_bytes() == content for folder, content in written.items())
    named = training.train_folds(dataclasses.replace(config, name="mine"))
    assert [result.folder.name for result in named] == [f"mine-fold{fold}" for fold in range(len(named))]


@pytest.mark.parametrize("limit_s", [None, 1e4])
def test_a_training_of_one_step_learns(make_data, tmp_path: Path, limit_s: float | None) -> None:
    folder = training.train(_config(make_data(), tmp_path, epochs=1, batch_size=64, time_limit_s=limit_s)).folder
    saved = run_folder.read_checkpoint(folder)
    assert saved["state"]["steps"] == 1
    assert saved["history"][0]["learning_rate"] > 0.3 * TrainConfig().learning_rate


def test_a_first_training_reads_table_and_images_once(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = data_folder.open_cache

    def counted(folder: Path, *more: Any) -> Any:
        opened.append(folder)
        return real(folder, *more)

    data = make_data()
    monkeypatch.setattr(data_folder, "open_cache", counted)
    training.train(_config(data, tmp_path, epochs=1))
    assert opened == [data / "train_images"]


def test_seed_decides(make_data, tmp_path: Path) -> None:
    data = make_data()
    folders = [
        training.train(_config(data, tmp_path / str(number), epochs=1, seed=seed)).folder
        for number, seed in enumerate((1, 1, 2))
    ]
    one, same, other = map(_bits, folders)
    assert one == same
    assert one != other


def test_history_and_curves_are_written_and_a_network_learns(trained) -> None:
    _, folder = trained
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_fold_all_but_the_holdout_is_trained_on(make_data, tmp_path: Path) -> None:
    data = make_data()
    result = training.train(_config(data, tmp_path, epochs=2, fold=None))
    split = read_splits(data / "splits.csv")
    card = model_card.read_card(result.folder)
    assert (card.train_images, card.validation_images) == (len(split.parts) - len(split.ids_of(HOLDOUT)), 0)
    assert (card.fold, card.validation_dice, card.epoch) == (None, None, 2)


def test_time_limit_ends_the_training_with_its_schedule(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that advances by 20 ms per call, so a busy machine changes nothing."""
    data, looks = make_data(), itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: 0.02 * next(looks))
    result = training.train(_config(data, tmp_path, epochs=10_000, time_limit_s=2.0))
    rows = run_folder.read_checkpoint(result.folder)["history"]
    assert 3 <= len(rows) < 10_000
    assert rows[-1]["learning_rate"] < 0.2 * max(row["learning_rate"] for row in rows)
    assert result.seconds < 2.0 + 2 * max(row["validation_s"] for row in rows) + 1.0


def test_a_loss_that_is_not_finite_stops_with_the_batch_named(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(images=30)
    real, calls = losses.total_loss, 0

    def nan_at_seventh(*arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(*arguments) * (float("nan") if calls == 7 else 1)

    monkeypatch.setattr(losses, "total_loss", nan_at_seventh)
    with pytest.raises(
        SeverstalError, match=r"the loss is nan in epoch 2, batch 2: \w+\.png, .*last whole epoch is kept"
    ):
        training.train(_config(data, tmp_path))
    folder = tmp_path / "unet-small-fold0"
    assert len(run_folder.read_checkpoint(folder)["history"]) == 1
    assert all(
        torch.isfinite(value).all()
        for value in run_folder.load_network(folder, model_card.read_card(folder)).state_dict().values()
    )


def test_a_run_is_not_overwritten_nor_resumed_as_another(make_data, trained, tmp_path: Path) -> None:
    data, folder = trained
    saved = run_folder.read_checkpoint(folder)
    same = _config(data, folder.parent, epochs=3, batch_size=8, average_decay=0.5)
    with pytest.raises(InputError, match=r"a run of this name exists: .*--resume, another --name"):
        training.train(same)
    with pytest.raises(RunError, match="was trained with another seed: 0, here 7"):
        training.train(dataclasses.replace(same, resume=True, seed=7))
    other = make_data("other", images=20)
    with pytest.raises(RunError, match="was trained with another data"):
        training.train(dataclasses.replace(same, resume=True, data=other))
    with pytest.raises(RunError, match="nothing to resume"):
        training.train(_config(data, tmp_path, resume=True))
    assert run_folder.read_checkpoint(folder)["history"] == saved["history"]


def test_pseudo_labels_are_confident_images_outside_validation_and_holdout(
    make_data, make_pseudo, heard, tmp_path: Path
) -> None:
    data = make_data(images=30)
    pseudo = make_pseudo(images=9, sure=6)
    plain = training.train(_config(data, tmp_path / "plain", epochs=1)).folder
    # three confident images are images of the data under another name
    split = read_splits(data / "splits.csv")
    held_out, validated = split.ids_of(HOLDOUT)[0], split.ids_of("0")[0]
    trained_on = next(name for name, part in split.parts.items() if part not in (HOLDOUT, "0"))
    for number, name in enumerate((held_out, validated, trained_on)):
        shutil.copy(data / "train_images" / name, pseudo["pseudo_images"] / f"p{number:09x}.png")
    lit = decoding.read_grey(data / "train_images" / validated) // 2 + 60  # the same steel in another light
    decoding.cv2.imwrite(str(pseudo["pseudo_images"] / "p000000001.png"), lit)
    (pseudo["pseudo_images"] / "without_a_row.png").write_bytes((data / "train_images" / held_out).read_bytes())
    folder = training.train(_config(data, tmp_path / "models", epochs=1, **pseudo), heard).folder
    selected = (
        "pseudo-labels: 4 of 9 images selected, with a confidence of at least 0.9; 2 excluded as near-duplicates of "
    )
    assert [line for line in heard.lines if line.startswith(selected)]
    assert [line for line in heard.lines if line.startswith(f"{pseudo['pseudo'].with_suffix('.json')} is missing")]
    card, without = model_card.read_card(folder), model_card.read_card(plain)
    counts = "train_images", "validation_images", "mean", "std", "data_fingerprint"
    assert [getattr(card, name) for name in counts] == [getattr(without, name) for name in counts]
    assert _bits(folder) != _bits(plain)
    assert re.fullmatch("[0-9a-f]{16}", str(card.pseudo_fingerprint))
    assert without.pseudo_fingerprint is None
    again = TrainConfig(**read_settings(folder / model_card.CARD))
    assert (again.pseudo, again.pseudo_images) == (pseudo["pseudo"], pseudo["pseudo_images"])
    heard.lines.clear()
    training.train(_config(data, tmp_path / "models", epochs=1, name="lower", **pseudo, pseudo_min_score=0.3), heard)
    assert "pseudo-labels: 7 of 9 images selected, with a confidence of at least 0.3; 2 excluded" in "\n".join(
        heard.lines
    )


def test_a_training_is_resumed_with_the_same_pseudo_labels_only(make_data, make_pseudo, tmp_path: Path) -> None:
    data, pseudo = make_data(images=30), make_pseudo(images=9, sure=6)
    settings = {"models": tmp_path / "models", "resume": True}
    folder = training.train(_config(data, tmp_path / "models", epochs=1, **pseudo)).folder
    pixels, masks = make_pseudo("pixels", images=9, sure=6), make_pseudo("masks", images=9, sure=6)
    shutil.copy(pixels["pseudo_images"] / "p000000001.png", pixels["pseudo_images"] / "p000000002.png")
    text = masks["pseudo"].read_text()
    masks["pseudo"].write_text(re.sub(r"(p000000001\.png_2),.+", r"\1,1 3", text))
    for other in (pixels, masks, make_pseudo("more", images=9, sure=7), {}):
        with pytest.raises(RunError, match=r"another choice of pseudo labels: \w{16}, here (\w{16}|None)"):
            training.train(_config(data, epochs=2, **settings, **other))
    moved = make_pseudo("moved", images=9, sure=6)
    assert training.train(_config(data, epochs=2, **settings, **moved)).epochs == 2
    assert model_card.read_card(folder).config["pseudo"] == str(moved["pseudo"])


def test_time_that_ends_late_in_an_epoch_ends_it_with_pseudo_labels_too(
    make_data, make_pseudo, heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 20 images in 7 steps, with one pseudo-label per step: 24 images after 6 steps
    monkeypatch.setattr(schedule.Clock, "share_done", lambda _, steps: float(steps >= 6))
    result = training.train(_config(make_data(images=30), tmp_path, epochs=2, **make_pseudo()), heard)
    assert (result.epochs, run_folder.read_checkpoint(result.folder)["state"]["steps"]) == (1, 6)
    assert not [line for line in heard.lines if "time limit" in line]


def test_a_run_of_an_earlier_version_is_resumed_and_the_card_describes_the_last_machine(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    monkeypatch.setattr("severstal_cli.learning.training.new_card._cpu_name", lambda: "the first")
    config = _config(data, tmp_path, epochs=1, precision="32-true")
    folder = training.train(config).folder
    environment = model_card.read_card(folder).environment
    assert environment["cpu"] == "the first"
    assert (environment["device"], environment["devices"]) == ("cuda" if torch.cuda.is_available() else "cpu", 1)
    assert environment["precision"] == "32-true"
    assert environment["threads"] == torch.get_num_threads()
    assert not {platform.node(), str(Path.home()), str(tmp_path)} & {str(value) for value in environment.values()}
    assert {"lightning-fabric", "numpy", "timm", "opencv"} < set(model_card.read_card(folder).versions)
    saved = run_folder.read_checkpoint(folder)
    del saved["card"]["environment"], saved["card"]["config"]["paste_share"]
    # an earlier version had more settings, and noted the learning rate of each layer in the groups of weights
    saved["card"]["config"] |= {"first_layer_rate": 0.5, "noise": 0.0, "compile": True}
    for group in saved["state"]["optimizer"]["param_groups"]:
        group["factor"] = 1.0
    run_folder.write_checkpoint(folder, saved)
    monkeypatch.setattr("severstal_cli.learning.training.new_card._cpu_name", lambda: "the second")
    again = dataclasses.replace(config, epochs=2, resume=True)
    with pytest.raises(RunError, match=r"another first_layer_rate: 0\.5, here 1\.0\. This version has no such setting"):
        training.train(again)
    saved["card"]["config"]["first_layer_rate"] = 1.0
    run_folder.write_checkpoint(folder, saved)
    with pytest.raises(RunError, match=r"another paste_share: 0\.0, here 0\.5"):
        training.train(dataclasses.replace(again, paste_share=0.5))
    assert training.train(again).epochs == 2
    assert model_card.read_card(folder).environment["cpu"] == "the second"


def test_auto_does_not_accumulate_on_a_cpu(make_data, heard, tmp_path: Path) -> None:
    data = make_data(images=30)
    by_hand = training.train(_config(data, tmp_path / "8", epochs=1, batch_size=8)).folder
    auto = training.train(_config(data, tmp_path / "auto", epochs=1, batch_size=None), heard).folder
    assert _bits(auto) == _bits(by_hand)
    assert model_card.read_card(auto).config["batch_size"] == model_card.read_card(auto).config["step_images"] == 8
    repeated = training.train(TrainConfig(**read_settings(auto / model_card.CARD), models=tmp_path / "again")).folder
    assert _bits(repeated) == _bits(auto)
    (line,) = [line for line in heard.lines if "training on 20 images" in line]
    assert "; effective batch size 8; " in line


def test_an_automatic_batch_size_is_recorded_and_may_change_on_resume(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(images=30)

    class Finding(training.TrainingSet):
        """As if a GPU's memory held two images."""

        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            self.at_once = 2

    auto = _config(data, tmp_path, epochs=1, batch_size=None, step_images=6)
    with monkeypatch.context() as patch:
        patch.setattr(training, "TrainingSet", Finding)
        folder = training.train(auto).folder
    recorded = model_card.read_card(folder).config
    assert (recorded["batch_size"], recorded["step_images"]) == (2, 6)
    again = dataclasses.replace(auto, epochs=2, resume=True)
    for wrong in ({"step_images": 12}, {"step_images": None}, {"step_images": None, "batch_size": 3}):
        with pytest.raises(RunError, match=r"another effective batch size: 6, here (12|8|3)"):
            training.train(dataclasses.replace(again, **wrong))
    training.train(again)  # the memory holds more now
    assert model_card.read_card(folder).config["batch_size"] == 6
    training.train(dataclasses.replace(again, epochs=3, batch_size=3))
    assert model_card.read_card(folder).config["batch_size"] == 3
    saved = run_folder.read_checkpoint(folder)
    saved["card"]["config"] |= {"batch_size": None}  # as in earlier versions
    run_folder.write_checkpoint(folder, saved)
    training.train(dataclasses.replace(again, epochs=4))


def test_the_last_epoch_of_a_resumed_training_is_validated_and_kept(make_data, tmp_path: Path) -> None:
    """At half size one epoch in four is validated: a kill after the second leaves only a checkpoint."""
    data = make_data(images=30)
    settings = {"half_size_share": 0.5, "epochs": 20}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_STEP, data, tmp_path, "11", repr({"arch": "unet-small", "batch_size": 4,
                                                                          **settings})],
        check=False, capture_output=True, timeout=900,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    folder = tmp_path / "unet-small-fold0"
    assert not (folder / run_folder.WEIGHTS).exists()
    result = training.train(_config(data, tmp_path, **settings | {"epochs": 2}, resume=True))
    card = model_card.read_card(folder)
    assert (result.epochs, card.epoch) == (2, 2)
    row = run_folder.read_checkpoint(folder)["history"][-1]
    assert 0.005 < row["validation_s"] < row["elapsed_s"] == result.seconds
    assert card.validation_dice == result.validation_dice is not None
    average = run_folder.read_checkpoint(folder)["state"]["average"]
    weights = run_folder.load_network(folder, card).state_dict()
    assert all(torch.equal(weights[name], value) for name, value in average.items())


@pytest.mark.parametrize("best_epochs", [1, 2])
def test_weights_that_a_kill_left_unwritten_are_made_from_the_checkpoint(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best_epochs: int
) -> None:
    data = make_data(images=30)
    settings = {"best_epochs": best_epochs, "learning_rate": 0.01, "epochs": 4}
    whole = training.train(_config(data, tmp_path / "whole", **settings))
    epoch = max(whole.averaged, default=whole.best_epoch)
    real = run_folder.write_model

    def killed(folder: Path, network: torch.nn.Module, card: model_card.ModelCard) -> None:
        if (card.averaged, card.epoch) == (whole.averaged, whole.best_epoch):
            raise KeyboardInterrupt
        real(folder, network, card)

    config = _config(data, tmp_path / "killed", **settings)
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_model", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(config)
    folder = tmp_path / "killed" / whole.folder.name
    assert not (folder / run_folder.WEIGHTS).exists() or _bits(folder) != _bits(whole.folder)
    (folder / run_folder.THRESHOLDS).write_text("of the weights before")
    training.train(dataclasses.replace(config, epochs=epoch, resume=True))
    assert (folder / run_folder.WEIGHTS).read_bytes() == (whole.folder / run_folder.WEIGHTS).read_bytes()
    assert model_card.read_card(folder).validation_dice == whole.validation_dice
    assert not (folder / run_folder.THRESHOLDS).exists()
    (folder / run_folder.THRESHOLDS).write_text("of these weights")
    training.train(dataclasses.replace(config, epochs=epoch, resume=True))
    assert (folder / run_folder.THRESHOLDS).exists()


@pytest.mark.parametrize("best_epochs", [1, 2])
def test_a_checkpoint_alone_has_the_weights_of_the_best_epoch(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best_epochs: int
) -> None:
    """A notebook gets the checkpoint only, and none of its epochs is better than the best before."""
    data = make_data(images=30)
    scores = iter([0.5, 0.9, 0.7, *([0.95] if best_epochs > 1 else []), 0.6, 0.8, 0.3, 0.2])
    monkeypatch.setattr(validation.Validation, "score", lambda *_: (dice := next(scores), dice))
    config = _config(data, tmp_path / "before", epochs=3, best_epochs=best_epochs)
    before = training.train(config).folder
    expected = (before / run_folder.WEIGHTS).read_bytes()
    there = tmp_path / "there" / before.name
    for epochs in (4, 5):  # again in a session after the next
        there.mkdir(parents=True)
        shutil.copy(before / run_folder.CHECKPOINT, there)
        result = training.train(dataclasses.replace(config, models=there.parent, epochs=epochs, resume=True))
        assert (result.epochs, result.best_epoch) == (epochs, 2)
        assert result.averaged == ((2, 3) if best_epochs > 1 else ())
        assert (there / run_folder.WEIGHTS).read_bytes() == expected
        before = there.rename(tmp_path / f"session {epochs}")
        there = tmp_path / "there" / there.name


@pytest.mark.parametrize("how", ["damaged", "of another training"])
def test_wrong_weights_are_written_again_from_the_checkpoint(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Another training may have the same best epoch."""
    scores = iter([0.9, 0.5, 0.4])
    monkeypatch.setattr(validation.Validation, "score", lambda *_: (dice := next(scores), dice))
    config = _config(make_data(images=30), tmp_path, epochs=2)
    path = training.train(config).folder / run_folder.WEIGHTS
    expected = path.read_bytes()
    if how == "damaged":
        path.write_bytes(expected[:-100])
    else:
        card = model_card.read_card(path.parent)
        network = run_folder.load_network(path.parent, card)
        with torch.no_grad():
            next(network.parameters()).zero_()
        run_folder.write_model(path.parent, network, card)
        assert path.read_bytes() != expected
    training.train(dataclasses.replace(config, epochs=3, resume=True))
    assert path.read_bytes() == expected


@pytest.mark.parametrize("best_epochs", [1, 2])
@pytest.mark.parametrize("has_others", [False, True], ids=["no weights", "weights of another training"])
def test_a_checkpoint_of_an_earlier_version_without_its_weights_keeps_another_epoch(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard, best_epochs: int, has_others: bool
) -> None:
    scores = iter([0.9, 0.5, *([0.95] if best_epochs > 1 else []), 0.4, 0.3])
    monkeypatch.setattr(validation.Validation, "score", lambda *_: (dice := next(scores), dice))
    config = _config(make_data(images=30), tmp_path, epochs=2, best_epochs=best_epochs)
    folder = training.train(config).folder
    saved = run_folder.read_checkpoint(folder)
    del saved["state"]["kept"]
    run_folder.write_checkpoint(folder, saved)
    if has_others:
        model_card.write_card(folder, dataclasses.replace(model_card.read_card(folder), validation_dice=0.99))
    else:
        (folder / run_folder.WEIGHTS).unlink()
    result = training.train(dataclasses.replace(config, epochs=3, resume=True), heard)
    assert f"{folder}: the weights of its best epoch, 1, are lost; the best of the others is kept" in heard.lines
    assert (result.best_epoch, result.validation_dice) == ((1, 0.9) if best_epochs > 1 else (3, 0.4))
    run_folder.load_network(folder, model_card.read_card(folder))


def test_two_trainings_of_one_run_do_not_mix(make_data, tmp_path: Path) -> None:
    config = _config(make_data(), tmp_path, epochs=1)
    folder = tmp_path / "unet-small-fold0"
    with locked(folder, "the other one"), pytest.raises(MachineError, match=r"another process is training .*fold0"):
        training.train(config)
    assert training.train(config).epochs == 1


def test_a_first_epoch_leaves_time_for_its_validation(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real = [], schedule.Clock

    def noted(**settings: Any) -> schedule.Clock:
        made.append(settings)
        return real(**settings)

    data = make_data(images=30)
    monkeypatch.setattr(training.schedule, "Clock", noted)
    training.train(_config(data, tmp_path, epochs=2, crop_widths_px=(32,)))
    # 6 images of 64 x 96, a third of the work; 4 crops of 64 x 32 per step
    assert made[0]["validation_s"] is None
    assert made[0]["validation_steps"] == pytest.approx(6 * 3 / (3 * 4))
    assert made[1]["validation_s"] > 0


class _OfOneSize(torch.nn.Conv2d):
    def __init__(self, classes: int) -> None:
        super().__init__(1, classes, 1)

    def forward(self, pixels: torch.Tensor) -> registry.Logits:
        assert pixels.shape[2:] == (32, 32), "one size alone"
        return registry.Logits(super().forward(pixels), None)


class _OfNarrowCrops(torch.nn.Conv2d):
    def __init__(self, classes: int) -> None:
        super().__init__(1, classes, 1)

    def forward(self, pixels: torch.Tensor) -> registry.Logits:
        assert pixels.shape[2:] != (64, 64), "no squares"
        return registry.Logits(super().forward(pixels), None)


def test_a_network_that_fits_the_smallest_crops_alone_is_refused_before_the_training(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "build", lambda *_, classes, **__: _OfNarrowCrops(classes))
    with pytest.raises(InputError, match="unet with encoder resnet34 does not take 64 x 64 pixels: no squares"):
        training.train(_config(make_data(), tmp_path, arch="unet", crop_height_px=64, crop_widths_px=(64, 32)))


def test_networks_that_do_not_fit_the_images_are_refused_before_the_training(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = {"arch": "unet", "encoder": "tu-swin_tiny_patch4_window7_224", "encoder_weights": "none"}
    data = make_data()
    crops = {"crop_height_px": 32, "crop_widths_px": (32,)}
    monkeypatch.setattr(registry, "build", lambda *_, classes, **__: _OfOneSize(classes))
    with pytest.raises(InputError, match="unet with encoder resnet34 does not take 64 x 96 pixels: one size alone"):
        training.train(_config(data, tmp_path, arch="unet", **crops))
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"unet with encoder tu-swin.* does not take 64 x 96 pixels: .*224"):
        training.train(_config(data, tmp_path, **fixed))
    with pytest.raises(UsageError, match=r"unet-small has no encoder to load weights into: some\.pth"):
        training.train(_config(data, tmp_path, encoder_weights="some.pth"))
    assert not list(tmp_path.glob("unet*"))


def test_a_small_set_is_noted_with_how_few_steps_it_trains(make_data, heard, tmp_path: Path) -> None:
    config = TrainConfig(
        data=make_data(images=12), arch="unet-small", epochs=1, fold=None, models=tmp_path / "models", batch_size=4
    )
    training.train(config, heard)
    images = model_card.read_card(tmp_path / "models/unet-small-nofold").train_images
    steps = math.ceil(images / 4)
    epochs = math.ceil(1500 / steps)
    assert (
        f"note: {images} training images make {steps} steps per epoch, {steps} in total, which may be too few to learn "
        f"from; --epochs {epochs} makes {epochs * steps:,}"
    ) in heard.lines
    enough = dataclasses.replace(config, epochs=epochs)
    assert schedule.small_set_note(enough, images, steps) is None
    assert schedule.small_set_note(config, 200, 25) is None
    assert schedule.small_set_note(config, 199, 25) is not None


def test_wrong_settings_are_refused_before_the_training(make_data, tmp_path: Path) -> None:
    data = make_data()
    with pytest.raises(InputError, match="unknown architecture: segnet"):
        training.train(_config(data, tmp_path, arch="segnet"))
    with pytest.raises(InputError, match="no such fold: 9"):
        training.train(_config(data, tmp_path, fold=9))
    with pytest.raises(InputError, match=r"wrong learning rate: -1\. It must be above 0"):
        _config(data, tmp_path, learning_rate=-1)
    assert not list(tmp_path.glob("*-fold*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paste_share": 1.5}, "wrong paste share: 1.5. It must be between 0 and 1"),
        ({"contrast": float("nan")}, "wrong contrast: nan. It must be at least 0"),
        ({"bce_weight": float("inf")}, "wrong bce weight: inf. It must be at least 0"),
        ({"learning_rate": float("inf")}, "wrong learning rate: inf. "),
        ({"bce_weight": 0, "dice_weight": 0}, "wrong weights of the loss: "),
        ({"batch_size": 0}, "wrong batch size: 0. It must be at least 1"),
        ({"lovasz_weight": -1}, "wrong lovasz weight: -1. It must be at least 0"),
        ({"class_weights": (1.0, 0.0)}, "wrong class weights: "),
        ({"class_weights": (1.0, 2.0, 3.0)}, "wrong number of class weights: 3. "),
        ({"pseudo_share": 1.0}, "wrong pseudo share: 1.0. It must be above 0 and below 1"),
        ({"lovasz_share": 7.0}, "wrong lovasz share: 7.0. It must be between 0 and 1"),
        ({"bce_weight": 0, "dice_weight": 0, "lovasz_weight": 1, "lovasz_share": 0.1}, "wrong weights of the loss: "),
        ({"precision": "fp7"}, "wrong precision: fp7. It must be one of auto, 32-true"),
        ({"seed": -1}, "wrong seed: -1. "),
        ({"pseudo_min_score": -0.1}, "wrong pseudo min score: -0.1. It must be between 0 and 1"),
        ({"pseudo": Path("s.csv"), "pseudo_images": Path("i"), "batch_size": 1}, "wrong effective batch size: 1. "),
    ],
)
def test_settings_that_make_no_sense(make_data, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        training.train(_config(make_data(), tmp_path, **settings))
    assert not list(tmp_path.glob("*-fold0"))
