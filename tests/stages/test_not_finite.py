"""NaN and infinite numbers never reach a submission, post-processing or a score."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from severstal_cli.config import ExportConfig, PredictConfig, ReportConfig, ScoreConfig, ThresholdsConfig, TrainConfig
from severstal_cli.errors import RunError, SeverstalError
from severstal_cli.learning.inference import engines, export
from severstal_cli.learning.networks import names
from severstal_cli.learning.runs import listing, model_card, run_folder
from severstal_cli.stages import exporting, prediction, reporting, scoring, threshold_search, training

Trained = tuple[Path, Path]


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the run, to damage."""
    return Path(shutil.copytree(trained[1], tmp_path / "models" / "damaged"))


def commands(data: Path, folder: Path, out: Path) -> dict[str, Callable[[], Any]]:
    images = data / "train_images"
    return {
        "predict": lambda: prediction.predict(PredictConfig(images=(images,), runs=(folder,), out=out / "s.csv")),
        "thresholds": lambda: threshold_search.search(ThresholdsConfig(runs=(folder,))),
        "score": lambda: scoring.score(ScoreConfig(runs=(folder,))),
        "report": lambda: reporting.report(ReportConfig(shown=(folder,), out=out / "report")),
        "export": lambda: exporting.export_run(ExportConfig(run=folder, format="onnx", out=out / "exported")),
    }


COMMANDS = "predict", "thresholds", "score", "report", "export"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(
    trained: Trained, copied: Path, tmp_path: Path, command: str, value: float
) -> None:
    weights = load_file(copied / run_folder.WEIGHTS)
    weights["network.deepest.0.weight"][5, 3, 1, 1] = value
    save_file(weights, copied / run_folder.WEIGHTS)
    before = (copied / run_folder.THRESHOLDS).read_bytes()
    with pytest.raises(
        RunError, match=r"damaged/model\.safetensors .* not finite: network\.deepest\.0\.weight\. Train"
    ):
        commands(trained[0], copied, tmp_path)[command]()
    assert (copied / run_folder.THRESHOLDS).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308, -1.0, 0.0, 1e-30, 10**400])
def test_a_card_with_a_mean_or_deviation_that_pixels_cannot_have_is_refused(
    copied: Path, name: str, value: float
) -> None:
    card = json.loads((copied / model_card.CARD).read_text())
    (copied / model_card.CARD).write_text(json.dumps(card | {name: value}))
    if name == "mean" and 0 <= value < 1:
        model_card.read_card(copied)
        return
    with pytest.raises(
        RunError,
        match=rf"model\.json is damaged: {name} is .*, not (between .* and 1|a (finite )?number)\. Train again",
    ):
        model_card.read_card(copied)
    assert copied not in [folder for folder, _ in listing.find_runs(copied.parent).trained]


def overflow(folder: Path) -> None:
    """Finite weights that give infinite logits in float32, which a sigmoid would turn into 0 and 1."""
    weights = load_file(folder / run_folder.WEIGHTS)
    weights["network.out.weight"] *= 1e37
    weights["network.out.bias"].fill_(3e38)
    save_file(weights, folder / run_folder.WEIGHTS)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_image_with_probs_that_are_not_finite_is_named(
    trained: Trained, copied: Path, tmp_path: Path, command: str
) -> None:
    overflow(copied)
    before = (copied / run_folder.THRESHOLDS).read_bytes()
    line = r"^.*damaged gives numbers that are not finite: for \S*0\w+\.png\. Its weights are too large or damaged"
    with pytest.raises(RunError, match=line):
        commands(trained[0], copied, tmp_path)[command]()
    assert (copied / run_folder.THRESHOLDS).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]


def test_in_an_ensemble_the_run_at_fault_and_the_image_are_named(
    trained: Trained, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, good = trained
    paths = sorted((data / "train_images").iterdir())
    asked = 0
    forward = engines.Member.forward

    def broken(self: engines.Member, pixels: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        probs = forward(self, pixels)
        if self.network.bad:
            number, asked = 20 - asked, asked + len(pixels)
            if 0 <= number < len(pixels):
                probs[number, 0, 3, 5] = math.nan
        return probs

    load = run_folder.load_network

    def marked(folder: Path, card: model_card.ModelCard) -> torch.nn.Module:
        network = load(folder, card)
        network.bad = folder == copied
        return network

    monkeypatch.setattr(engines.Member, "forward", broken)
    monkeypatch.setattr(run_folder, "load_network", marked)
    monkeypatch.setattr(engines, "with_folded_norms", lambda member: member)
    monkeypatch.setattr(engines, "half_type", lambda _: None)
    config = PredictConfig(
        images=tuple(paths),
        runs=(good, copied),
        out=tmp_path / "s.csv",
        engine="torch",
        thresholds=good / run_folder.THRESHOLDS,
    )
    with pytest.raises(RunError, match=rf"damaged gives numbers that are not finite: for .*{paths[20].name}"):
        prediction.predict(config)
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(("form", "engine"), [("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino")])
def test_every_engine_sees_infinite_logits(
    trained: Trained, copied: Path, with_openvino: None, tmp_path: Path, form: str, engine: str
) -> None:
    overflow(copied)
    exported = tmp_path / "exported"
    exported.mkdir()
    card = model_card.read_card(copied)
    export.write(engines.member_of(copied, card), form, exported)
    model_card.write_card(exported, card)
    shutil.copyfile(copied / run_folder.THRESHOLDS, exported / run_folder.THRESHOLDS)
    config = PredictConfig(
        images=(trained[0] / "train_images",), runs=(exported,), out=tmp_path / "s.csv", engine=engine
    )
    with pytest.raises(RunError, match=r"exported gives numbers that are not finite: for .*\.png"):
        prediction.predict(config)
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(("form", "engine"), [("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino")])
def test_exported_weights_that_are_not_finite_are_refused(
    trained: Trained, with_openvino: None, tmp_path: Path, form: str, engine: str
) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnx")
    card = model_card.read_card(trained[1])
    member = engines.member_of(trained[1], card)
    with torch.no_grad():
        member.network.get_parameter("network.out.weight")[1, 2] = math.nan
    model_card.write_card(tmp_path, card)
    file = export.write(member, form, tmp_path)
    fabric = engines.Fabric(accelerator="cpu", devices=1, precision="32-true")
    with pytest.raises(RunError, match=rf"{file.name} has numbers that are not finite"):
        engines.load_members([tmp_path], [card], fabric, engine=engine)


def test_a_validation_that_is_not_finite_ends_the_training(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = engines.Member.forward
    monkeypatch.setattr(engines.Member, "forward", lambda self, pixels: forward(self, pixels) * math.nan)
    config = TrainConfig(data=make_data(images=18), models=tmp_path, arch="unet-small", epochs=1)
    with pytest.raises(SeverstalError, match=r"network gives numbers that are not finite: for 0\w+\.png in validation"):
        training.train(config)
    assert not (names.folder_for(config) / run_folder.WEIGHTS).exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("unable to mmap 98 bytes from file <x>: Cannot allocate memory (12)"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_memory_is_not_reported_as_damage(
    trained: Trained, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("safetensors.torch.load_file", full)
    monkeypatch.setattr(torch, "load", full)
    for work, file in (
        (lambda: run_folder.load_network(copied, model_card.read_card(copied)), run_folder.WEIGHTS),
        (lambda: run_folder.read_checkpoint(copied), run_folder.CHECKPOINT),
    ):
        with pytest.raises((SeverstalError, MemoryError)) as caught:
            work()
        assert "damaged" not in str(caught.value).replace("models/damaged", "")
        if isinstance(caught.value, SeverstalError):
            assert str(caught.value).startswith(f"the memory is full: reading {copied / file}. Free some")
