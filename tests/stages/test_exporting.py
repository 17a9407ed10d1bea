"""`export`: the folder is a run, its network gives torch's levels, and a failure leaves nothing behind."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from severstal_cli.cli import app
from severstal_cli.config import ExportConfig, PredictConfig, ScoreConfig
from severstal_cli.errors import InputError, MachineError, OutputError, RunError, UsageError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import engines, export, held_out
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.printing import lines
from severstal_cli.stages import exporting, prediction, scoring
from severstal_cli.steel.scoring import dice
from severstal_cli.steel.tables import mask_table


@pytest.mark.parametrize(
    ("form", "files"),
    [("onnx", {"model.onnx"}), ("openvino", {"model.xml", "model.bin"})],
)
def test_the_exported_run_predicts_and_scores_as_the_run(
    trained: tuple[Path, Path],
    with_openvino: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    files: set[str],
) -> None:
    for module in (prediction, held_out):  # a CPU with bf16 would move the edges of small masks
        monkeypatch.setattr(module, "open_device", lambda: open_device("32-true"))
    data, source = trained
    result = exporting.export_run(ExportConfig(run=source, format=form, out=tmp_path / "made"))
    assert {path.name for path in result.folder.iterdir()} == files | {"model.json", "thresholds.json"}
    assert result.file.name in files
    assert result.largest_difference <= 1
    size = sum((result.folder / name).stat().st_size for name in files) / 2**20
    assert f" ({size:.1f} MiB)" in lines.export_line(result)
    for name in ("model.json", "thresholds.json"):
        assert json.loads((result.folder / name).read_text()) == json.loads((source / name).read_text())
    masks = {}
    for folder in (source, result.folder):
        out = tmp_path / f"{folder.name}.csv"
        engine = "torch" if folder == source else "auto"
        config = PredictConfig(images=(data / "train_images",), runs=(folder,), out=out, engine=engine)
        masks[folder] = mask_table.read_table(prediction.predict(config).path).masks
    for pair in masks[source].keys() | masks[result.folder].keys():
        assert dice.dice(masks[source][pair], masks[result.folder][pair]) > 0.98
    assert json.loads((tmp_path / "made.json").read_text())["engines"] == ["openvino"]
    by_openvino = scoring.score(ScoreConfig(runs=(result.folder,))).mean_dice
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find_spec(name))
    by_torch = scoring.score(ScoreConfig(runs=(source,))).mean_dice
    assert by_openvino == pytest.approx(by_torch, abs=0.01)


def test_the_default_folder_is_beside_the_run(trained: tuple[Path, Path], tmp_path: Path) -> None:
    source = shutil.copytree(trained[1], tmp_path / "models/mine")
    found = CliRunner().invoke(app, ["export", str(source), "--format", "onnx"])
    assert found.exit_code == 0, found.output
    out = tmp_path / "models/mine-onnx"
    assert f"wrote {out}/model.onnx (" in found.stdout
    assert f"next: severstal predict IMAGES --model {out}" in found.stdout
    again = CliRunner().invoke(app, ["export", str(source), "--format", "onnx"])
    assert again.exit_code == 1
    assert f"{out} exists already. Give another --out, or remove it" in again.output


def test_a_network_that_differs_is_not_kept(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = export.write

    def shifted(member: engines.Member, form: str, folder: Path) -> Path:
        return write(engines.Member(member.network, member.mean + 0.1, member.std), form, folder)

    monkeypatch.setattr(export, "write", shifted)
    with pytest.raises(RunError, match=r"as onnx gives other levels than torch: up to \d+ of 255 on .*\.png"):
        exporting.export_run(ExportConfig(run=trained[1], format="onnx", out=tmp_path / "out/made"))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_network_whose_folded_weights_are_not_finite_is_refused_by_the_name_of_its_run(
    trained: tuple[Path, Path], tmp_path: Path, with_openvino: None, form: str
) -> None:
    """The weights are finite, but a variance is negative. The message names no file, as none is kept."""
    card = model_card.read_card(trained[1])
    network = run_folder.load_network(trained[1], card)
    next(value for name, value in network.named_buffers() if name.endswith("running_var")).fill_(-1.0)
    run_folder.write_model(tmp_path / "negative", network, card)
    with pytest.raises(RunError) as caught:
        exporting.export_run(ExportConfig(run=tmp_path / "negative", format=form, out=tmp_path / "out/made"))
    assert str(caught.value).startswith(f"{tmp_path}/negative gives numbers that are not finite: for ")
    assert list((tmp_path / "out").iterdir()) == []


def test_wrong_requests_are_refused(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def error_of(kind: type[Exception], **changes: object) -> str:
        settings = {"run": trained[1], "format": "onnx", "out": tmp_path / "made"} | changes
        with pytest.raises(kind) as caught:
            exporting.export_run(ExportConfig(**settings))
        return str(caught.value)

    assert error_of(UsageError, format="tflite") == "unknown format: tflite. Choose one of onnx, openvino"
    assert "no such run" in error_of(RunError, run=tmp_path / "nothing")
    (tmp_path / "text.png").write_text("text")
    assert "text.png" in error_of(InputError, image=tmp_path / "text.png")
    (tmp_path / "file").write_text("")
    assert "cannot write" in error_of(OutputError, out=tmp_path / "file/made")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    assert error_of(MachineError) == ("onnxscript is not installed. Install it: pip install 'severstal[onnx]'")
    assert not (tmp_path / "made").exists()


def test_without_the_images_of_the_training_it_asks_for_one(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, source = trained
    moved = shutil.copytree(source, tmp_path / "moved")
    card = json.loads((moved / "model.json").read_text())
    (moved / "model.json").write_text(json.dumps(card | {"data": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match=r"no image to check the export with: .*gone.*Give one with --image"):
        exporting.export_run(ExportConfig(run=moved, format="onnx"))
    image = next((data / "train_images").iterdir())
    assert exporting.export_run(ExportConfig(run=moved, format="onnx", image=image)).image == image


def test_an_exported_run_has_no_weights_to_load(trained: tuple[Path, Path], tmp_path: Path) -> None:
    made = exporting.export_run(ExportConfig(run=trained[1], format="onnx", out=tmp_path / "made")).folder
    with pytest.raises(
        RunError, match=r"model.safetensors is missing: model.onnx. Use the run that it was exported from"
    ):
        run_folder.load_network(made, model_card.read_card(made))
