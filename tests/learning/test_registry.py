"""Every entry of the registry keeps the same contract; a new entry is covered without a change here."""

from pathlib import Path
from unittest.mock import MagicMock

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from severstal_cli.errors import InputError, MachineError
from severstal_cli.learning import registry
from severstal_cli.learning.registry import REGISTRY, build

ENCODER = "resnet18"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("arch", REGISTRY)
@pytest.mark.parametrize("classifier", [False, True])
def test_entry_returns_logits_of_every_class_at_full_size(arch: str, classifier: bool) -> None:
    network = build(arch, encoder=ENCODER, in_channels=1, classes=3, classifier=classifier).eval()
    logits = network(torch.randn(2, 1, 64, 96))
    assert logits.masks.shape == (2, 3, 64, 96)
    assert (logits.classes.shape == (2, 3)) if classifier else (logits.classes is None)


@pytest.mark.parametrize("arch", REGISTRY)
def test_entry_predicts_an_image_alone_as_in_a_batch(arch: str) -> None:
    network = build(arch, encoder=ENCODER, in_channels=1, classes=3).eval()
    images = torch.randn(3, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images).masks[1:2], network(images[1:2]).masks, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", REGISTRY)
def test_entry_learns_in_every_weight(arch: str) -> None:
    network = build(arch, encoder=ENCODER, in_channels=1, classes=2, classifier=True).train()
    logits = network(torch.randn(2, 1, 64, 64))
    (logits.masks.square().mean() + logits.classes.square().mean()).backward()
    still = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    # a bias in front of a batch norm has no effect; its gradient is rounding, or exactly 0
    assert [name for name in still if not name.endswith("bias")] == []


@pytest.mark.parametrize("arch", REGISTRY)
def test_entry_gives_the_same_weights_for_the_same_seed(arch: str) -> None:
    torch.manual_seed(5)
    first = build(arch, encoder=ENCODER, classes=2).state_dict()
    torch.manual_seed(5)
    again = build(arch, encoder=ENCODER, classes=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(("arch", "weights"), [("unet-small", 295_972), ("linknet-small", 247_012)])
def test_small_networks_have_the_weights_of_the_study(arch: str, weights: int) -> None:
    state = build(arch, in_channels=3, classes=4).state_dict()
    counted = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert sum(value.numel() for value in counted.values()) == weights
    assert sum(value.numel() for name, value in counted.items() if "running" in name) == 736


def test_unknown_names_are_told_with_a_remedy() -> None:
    with pytest.raises(InputError, match=r"unknown architecture: segnet\. Choose one of .*linknet"):
        build("segnet", classes=2)
    with pytest.raises(InputError, match="unknown encoder: resnet19"):
        build("unet", encoder="resnet19", classes=2)
    with pytest.raises(InputError, match="linknet cannot use encoder mit_b0"):
        build("linknet", encoder="mit_b0", classes=2)


def test_missing_imagenet_weights_are_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route\nto host")

    def no_session() -> None:
        raise ConnectionError("no\nnetwork")

    def build_offline() -> str:
        with pytest.raises(MachineError) as caught:
            build("unet", encoder=ENCODER, encoder_weights="imagenet", classes=2, encoders=tmp_path)
        return str(caught.value)

    line = "the ImageNet weights of resnet18 could not be fetched: {}. Pass --encoder-weights none, or put them at {}"
    place = tmp_path / "resnet18.safetensors"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.get_session", no_session)
    assert build_offline() == line.format("https://hub: no network", place)
    assert not huggingface_hub.constants.HF_HUB_OFFLINE, "a later build asks again"
    monkeypatch.setattr("huggingface_hub.get_session", MagicMock())
    monkeypatch.setattr("segmentation_models_pytorch.Unet", refuse)
    assert build_offline() == line.format("no route to host", place)


def test_an_encoder_file_is_found_by_the_encoders_name(tmp_path: Path) -> None:
    assert registry.encoder_file(tmp_path / "none", "resnet18") is None
    for name in ("resnet18.pth", "resnet34.pth", "tu-a.b.pth", "resnet18.safetensors"):
        (tmp_path / name).touch()
    names = {
        name: file.name
        for name in ("resnet18", "resnet34", "tu-a.b", "resnet50")
        if (file := registry.encoder_file(tmp_path, name))
    }
    assert names == {"resnet18": "resnet18.safetensors", "resnet34": "resnet34.pth", "tu-a.b": "tu-a.b.pth"}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_encoder_weights_of_a_file_are_taken_and_three_channels_summed(tmp_path, suffix: str) -> None:  # type: ignore[no-untyped-def]
    colour = build("unet", encoder=ENCODER, in_channels=3, classes=2).encoder.state_dict()
    path = tmp_path / f"encoder.{suffix}"
    torch.save(colour, path) if suffix == "pt" else save_file(colour, path)
    grey = build("linknet", encoder=ENCODER, encoder_weights=str(path), in_channels=1, classes=2).encoder.state_dict()
    torch.testing.assert_close(grey["conv1.weight"], colour["conv1.weight"].sum(dim=1, keepdim=True))
    assert torch.equal(grey["layer4.1.conv2.weight"], colour["layer4.1.conv2.weight"])


def test_wrong_file_of_encoder_weights_is_told(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="no such file"):
        build("unet", encoder=ENCODER, encoder_weights=str(tmp_path / "none.pt"), classes=2)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match=r"cannot read .*text\.pt as weights"):
        build("unet", encoder=ENCODER, encoder_weights=str(tmp_path / "text.pt"), classes=2)
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.pt")
    with pytest.raises(InputError, match="weights are missing"):
        build("unet", encoder=ENCODER, encoder_weights=str(tmp_path / "part.pt"), classes=2)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        registry.register("unet")(lambda *_: torch.nn.Identity())
