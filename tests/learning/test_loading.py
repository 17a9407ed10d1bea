"""A run's folder may come from others: to load it runs none of their code, asks no network, reads nothing elsewhere."""

import dataclasses
import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from typer.testing import CliRunner

from severstal_cli.cli import app
from severstal_cli.errors import RunError
from severstal_cli.learning.inference import engines, export
from severstal_cli.learning.networks import registry
from severstal_cli.learning.runs import listing, model_card, run_folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a network, or the hub of weights, fails the test."""

    def asked(*arguments: object, **_: object) -> None:
        pytest.fail(f"a network was asked: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", asked)
    monkeypatch.setattr(socket, "getaddrinfo", asked)
    monkeypatch.setattr("huggingface_hub.get_session", asked)
    for place in ("timm.models._hub", "segmentation_models_pytorch.encoders", "huggingface_hub"):
        monkeypatch.setattr(f"{place}.hf_hub_download", asked)


def make(folder: Path, encoder: str, card: model_card.ModelCard) -> Path:
    network = registry.build("unet", encoder=encoder, classes=2)
    run_folder.write_model(folder, network, dataclasses.replace(card, arch="unet", encoder=encoder, classifier=False))
    return folder


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18", "tu-mobilenetv3_small_100.lamb_in1k"])
def test_to_load_a_run_asks_no_network(
    trained: tuple[Path, Path], tmp_path: Path, no_network: None, encoder: str
) -> None:
    folder = make(tmp_path / "run", encoder, model_card.read_card(trained[1]))
    network = run_folder.load_network(folder, model_card.read_card(folder))
    assert network(torch.zeros(1, 1, 64, 64)).masks.shape == (1, 2, 64, 64)


@pytest.mark.parametrize("encoder", ["tu-hf-hub:someone/theirs", "tu-local-dir:{folder}", "tu-../other", "resnet19"])
def test_a_card_names_an_architecture_and_no_place(
    trained: tuple[Path, Path], tmp_path: Path, no_network: None, encoder: str
) -> None:
    folder = make(tmp_path / "run", "tu-resnet18", model_card.read_card(trained[1]))
    card = json.loads((folder / model_card.CARD).read_text())
    encoder = encoder.format(folder=tmp_path)
    (folder / model_card.CARD).write_text(json.dumps(card | {"encoder": encoder}))
    with pytest.raises(RunError, match=r"model\.json names no encoder of this program"):
        model_card.read_card(folder)
    found = CliRunner().invoke(app, ["predict", str(trained[0] / "train_images"), "--model", str(folder)])
    assert found.exit_code == 1
    assert f"{folder}/model.json names no encoder of this program" in found.output
    assert listing.find_runs(tmp_path).trained == ()


def test_a_network_that_torch_would_unpickle_is_not_read(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torch.export.load` unpickles what a file of its format holds beside the weights."""
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("it was read"))
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (model_card.CARD, run_folder.THRESHOLDS):
        shutil.copyfile(trained[1] / name, folder / name)
    (folder / "model.pt2").write_bytes(b"hostile")
    found = CliRunner().invoke(app, ["predict", str(trained[0] / "train_images"), "--model", str(folder)])
    assert found.exit_code == 1
    assert (
        f"severstal: {folder} has its network as model.pt2 alone: this format can run code while it is read. "
        "Export the original run again, with --format onnx or openvino\n"
    ) in found.output
    assert set(export.FORMATS) == {"onnx", "openvino"}
    shutil.copyfile(
        trained[1] / run_folder.WEIGHTS, folder / run_folder.WEIGHTS
    )  # beside the weights it is passed over
    fabric = Fabric(accelerator="cpu", devices=1)
    assert len(engines.load_members([folder], [model_card.read_card(folder)], fabric, engine="torch")) == 1


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("place", ["../secret.bin", "{outside}", "link.bin"])
def test_the_data_of_a_network_lie_in_its_folder(
    trained: tuple[Path, Path], tmp_path: Path, with_openvino: None, engine: str, place: str
) -> None:
    """ONNX can keep weights in a file beside it; one elsewhere would be read into what is predicted."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip(engine)
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copyfile(trained[1] / model_card.CARD, folder / model_card.CARD)
    np.zeros(2, np.float32).tofile(tmp_path / "secret.bin")
    np.zeros(2, np.float32).tofile(folder / "own.bin")
    (folder / "link.bin").symlink_to("../secret.bin")

    def write(location: str) -> None:
        weight = onnx.TensorProto(name="weight", data_type=1, dims=[1, 2, 1, 1], data_location=1)
        weight.external_data.add(key="location", value=location)
        values = [
            onnx.helper.make_tensor_value_info(name, 1, ["n", depth, "h", "w"])
            for name, depth in (("pixels", 1), ("probs", 2))
        ]
        node = onnx.helper.make_node("Add", ["pixels", "weight"], ["probs"])
        graph = onnx.helper.make_graph([node], "graph", values[:1], values[1:], [weight])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
        (folder / engines.ONNX).write_bytes(model.SerializeToString())

    card, fabric = model_card.read_card(folder), Fabric(accelerator="cpu", devices=1, precision="32-true")
    write("own.bin")
    [probs] = engines.load_members([folder], [card], fabric, engine=engine)
    assert not probs(torch.zeros(1, 1, 32, 32)).any()
    write(place.format(outside=tmp_path / "secret.bin"))
    with pytest.raises(RunError, match=f"{engine} cannot open .*model.onnx"):
        engines.load_members([folder], [card], fabric, engine=engine)
