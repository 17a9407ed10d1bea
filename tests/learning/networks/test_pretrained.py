"""Weights of encoders: found by name, fetched or refused with the reason, summed to one channel."""

from pathlib import Path
from unittest.mock import MagicMock

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from severstal_cli.errors import InputError, MachineError
from severstal_cli.learning.networks import pretrained
from severstal_cli.learning.networks.registry import build

ENCODER = "resnet18"


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
    assert pretrained.find_file(tmp_path / "none", "resnet18") is None
    for name in ("resnet18.pth", "resnet34.pth", "tu-a.b.pth", "resnet18.safetensors"):
        (tmp_path / name).touch()
    names = {
        name: file.name
        for name in ("resnet18", "resnet34", "tu-a.b", "resnet50")
        if (file := pretrained.find_file(tmp_path, name))
    }
    assert names == {"resnet18": "resnet18.safetensors", "resnet34": "resnet34.pth", "tu-a.b": "tu-a.b.pth"}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_encoder_weights_of_a_file_are_taken_and_three_channels_summed(tmp_path, suffix: str) -> None:
    colour = build("unet", encoder=ENCODER, in_channels=3, classes=2).encoder.state_dict()
    path = tmp_path / f"encoder.{suffix}"
    torch.save(colour, path) if suffix == "pt" else save_file(colour, path)
    grey = build("linknet", encoder=ENCODER, encoder_weights=str(path), in_channels=1, classes=2).encoder.state_dict()
    torch.testing.assert_close(grey["conv1.weight"], colour["conv1.weight"].sum(dim=1, keepdim=True))
    assert torch.equal(grey["layer4.1.conv2.weight"], colour["layer4.1.conv2.weight"])


def test_wrong_file_of_encoder_weights_is_told(tmp_path) -> None:
    with pytest.raises(InputError, match="no such file"):
        build("unet", encoder=ENCODER, encoder_weights=str(tmp_path / "none.pt"), classes=2)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match=r"cannot read .*text\.pt as weights"):
        build("unet", encoder=ENCODER, encoder_weights=str(tmp_path / "text.pt"), classes=2)
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.pt")
    with pytest.raises(InputError, match="weights are missing"):
        build("unet", encoder=ENCODER, encoder_weights=str(tmp_path / "part.pt"), classes=2)
