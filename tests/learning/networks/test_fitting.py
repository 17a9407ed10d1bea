"""Weights of a file: what fits is taken, however it is wrapped; what does not is refused with names of both sides."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from severstal_cli.errors import InputError
from severstal_cli.learning.networks import fitting
from severstal_cli.learning.networks.registry import build

State = dict[str, Tensor]


def encoder_of(name: str, in_channels: int = 3, path: Path | None = None, progress: Any = None) -> nn.Module:
    options = {} if progress is None else {"progress": progress}
    weights = None if path is None else str(path)
    network = build("unet", encoder=name, encoder_weights=weights, in_channels=in_channels, classes=2, **options)
    return network.encoder


@pytest.fixture(scope="module")
def resnet18() -> State:
    torch.manual_seed(1)
    return encoder_of("resnet18").state_dict()


def prefixed(start: str) -> Callable[[State], Any]:
    return lambda state: {f"{start}{key}": value for key, value in state.items()}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best": 0.5},
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"step": torch.zeros(1)}}, "param_groups": []}},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "module.": prefixed("module."),
    "backbone.": prefixed("backbone."),
    "encoder.": prefixed("encoder."),
    "model.encoder.": prefixed("model.encoder."),
    "_orig_mod.": prefixed("_orig_mod."),
    "all of it": lambda state: {"state_dict": prefixed("module._orig_mod.model.encoder.")(state)},
    "a run of this program": prefixed("network.encoder."),
    "averaged beside": lambda state: {
        "model": {key: torch.zeros_like(value) for key, value in state.items()},
        "model_ema": state,
    },
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_what_the_weights_are_wrapped_in_does_not_matter(
    resnet18: State, tmp_path: Path, wrap: Callable[[State], Any]
) -> None:
    torch.save(wrap(resnet18), tmp_path / "file.pth")
    found = encoder_of("resnet18", path=tmp_path / "file.pth").state_dict()
    assert all(torch.equal(found[key], value) for key, value in resnet18.items())


def of_timm(name: str) -> State:
    """What timm's own file holds, its classifier included; small values, so that deep networks stay finite."""
    torch.manual_seed(2)
    return timm.create_model(name).state_dict()


@pytest.mark.parametrize(
    ("encoder", "names"),
    [
        # a name of the encoder's own state dict, and its name in timm's file
        ("tu-resnet18", ("model.layer4.1.conv2.weight", "layer4.1.conv2.weight")),
        ("tu-convnext_atto", ("model.stages_3.blocks.1.mlp.fc1.weight", "stages.3.blocks.1.mlp.fc1.weight")),
        ("tu-resnetv2_50", ("model.stem_conv.weight", "stem.conv.weight")),
        (
            "tu-densenet121",
            ("model.features_denseblock4.denselayer1.conv1.weight", "features.denseblock4.denselayer1.conv1.weight"),
        ),
        ("tu-efficientnet_b0", ("model.blocks.6.0.conv_pw.weight", "blocks.6.0.conv_pw.weight")),
        (
            "tu-ghostnet_100",
            ("model.blocks_5.0.ghost1.primary_conv.0.weight", "blocks.5.0.ghost1.primary_conv.0.weight"),
        ),
        ("tu-hrnet_w18_small", ("model.stage4.0.fuse_layers.0.1.0.weight", "stage4.0.fuse_layers.0.1.0.weight")),
        (
            "tu-swin_tiny_patch4_window7_224",
            ("model.layers_3.blocks.1.mlp.fc1.weight", "layers.3.blocks.1.mlp.fc1.weight"),
        ),
        ("resnet18", ("layer4.1.conv2.weight", "layer4.1.conv2.weight")),
    ],
)
def test_a_file_of_timm_fits(tmp_path: Path, heard: Any, encoder: str, names: tuple[str, str]) -> None:
    state = of_timm(encoder.removeprefix("tu-"))
    save_file(state, tmp_path / "file.safetensors")
    found = encoder_of(encoder, path=tmp_path / "file.safetensors", progress=heard).state_dict()
    assert torch.equal(found[names[0]], state[names[1]])
    [line] = heard.lines
    assert line.startswith(f"encoder weights: {tmp_path}/file.safetensors; ")
    unused = len(state) - len(found)
    assert f"{unused} of its {len(state)} weights are not used: " in line


@pytest.mark.parametrize("encoder", ["densenet121", "mit_b0", "xception", "vgg11", "mobileone_s0", "efficientnet-b0"])
def test_every_encoder_of_the_library_takes_its_own_weights(tmp_path: Path, encoder: str) -> None:
    torch.manual_seed(3)
    state = encoder_of(encoder).state_dict()
    heads = {f"{head}.{kind}": torch.ones(2) for head in ("fc", "classifier", "head") for kind in ("weight", "bias")}
    torch.save(state | heads, tmp_path / "file.pth")
    torch.manual_seed(4)
    found = encoder_of(encoder, path=tmp_path / "file.pth").state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_old_names_of_densenet_fit(tmp_path: Path) -> None:
    state = encoder_of("densenet121").state_dict()
    old = {
        key.replace("norm1", "norm.1")
        .replace("norm2", "norm.2")
        .replace("conv1", "conv.1")
        .replace("conv2", "conv.2"): value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "file.pth")
    found = encoder_of("densenet121", path=tmp_path / "file.pth").state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_and_strides_fit(resnet18: State, tmp_path: Path, dtype: torch.dtype) -> None:
    state = {
        key: value.to(dtype).contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for key, value in resnet18.items()
    }
    torch.save(state, tmp_path / "file.pth")
    found = encoder_of("resnet18", in_channels=1, path=tmp_path / "file.pth").state_dict()
    assert found["layer1.0.conv1.weight"].dtype == torch.float32
    torch.testing.assert_close(found["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"].float())
    # summed in float32: in half precision it would be rounded once more
    assert torch.equal(found["conv1.weight"], state["conv1.weight"].float().sum(dim=1, keepdim=True))


def test_a_stem_of_squares_of_pixels_is_summed_by_colour(tmp_path: Path) -> None:
    """TResNet makes channels of 4 x 4 pixels, three for each: pixel 0 red, green, blue, pixel 1 red, ..."""
    state = of_timm("tresnet_m")
    torch.save(state, tmp_path / "file.pth")
    network = encoder_of("tu-tresnet_m", in_channels=1, path=tmp_path / "file.pth")
    kernel = state["body.conv1.conv.weight"]
    expected = torch.stack([kernel[:, 3 * pixel : 3 * pixel + 3].sum(dim=1) for pixel in range(16)], dim=1)
    torch.testing.assert_close(network.state_dict()["model.body_conv1.conv.weight"], expected)


def refused(name: str, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        encoder_of(name, path=path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "encoder", "foreign"),
    [
        ("resnet34", "resnet18", "layer1.2"),
        ("resnet34", "tu-resnet18", "layer1.2"),
        ("resnet101", "resnet50", "layer3.10"),
        ("seresnet50", "tu-resnet50", "layer1.0.se"),
        ("ecaresnet50d", "tu-resnet50d", "layer1.0.se"),
        ("convnext_small", "tu-convnext_tiny", "stages.2.blocks.10"),
    ],
)
def test_a_file_of_a_larger_encoder_is_refused(tmp_path: Path, file: str, encoder: str, foreign: str) -> None:
    save_file(of_timm(file), tmp_path / "file.safetensors")
    line = refused(encoder, tmp_path / "file.safetensors")
    assert line.startswith(f"{tmp_path}/file.safetensors is of another encoder than {encoder}: ")
    assert f"of its weights match none of the encoder's, {foreign}" in line
    assert line.endswith("Give the weights of the encoder that --encoder names")


def test_names_of_both_sides_are_told_where_they_do_not_fit(resnet18: State, tmp_path: Path) -> None:
    torch.save({"a.w": torch.ones(1), "b.w": torch.ones(1)}, tmp_path / "none.pth")
    assert refused("resnet18", tmp_path / "none.pth") == (
        f"{tmp_path}/none.pth does not fit resnet18: it has a.w, b.w, the encoder conv1.weight, bn1.weight, bn1.bias "
        "and 117 more. Give the weights of the encoder that --encoder names"
    )
    some = {key: value for key, value in resnet18.items() if not key.startswith("layer4.1")} | {"more.w": torch.ones(1)}
    torch.save(some, tmp_path / "some.pth")
    line = refused("resnet18", tmp_path / "some.pth")
    assert "10 of 120 weights are missing, layer4.1.bn1.bias, " in line
    assert "; the file has more.w. " in line
    torch.save({"epoch": 3, "names": ["a"]}, tmp_path / "empty.pth")
    assert "holds no weights" in refused("resnet18", tmp_path / "empty.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308])
def test_weights_that_are_not_finite_are_refused(resnet18: State, tmp_path: Path, value: float) -> None:
    state = dict(resnet18)
    state["layer2.0.bn1.bias"] = torch.full((128,), value, dtype=torch.float64)
    torch.save(state, tmp_path / "file.pth")
    assert refused("resnet18", tmp_path / "file.pth") == (
        f"{tmp_path}/file.pth has weights that are not finite: layer2.0.bn1.bias. Give another file"
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda value: value[:, :32], r"layer1.0.conv1.weight is (64, 32, 3, 3), not (64, 64, 3, 3)"),
        (lambda value: value.to(torch.int8), "layer1.0.conv1.weight is of type torch.int8"),
        (lambda value: value.to("meta"), "layer1.0.conv1.weight is no plain tensor"),
        (
            lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
            "layer1.0.conv1.weight is no plain tensor",
        ),
    ],
    ids=["shape", "integers", "meta", "quantized"],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:TypedStorage")  # the file is what is tested
def test_a_weight_of_another_kind_is_told(
    resnet18: State, tmp_path: Path, change: Callable[[Tensor], Tensor], found: str
) -> None:
    name = "layer1.0.conv1.weight"
    torch.save(resnet18 | {name: change(resnet18[name])}, tmp_path / "file.pth")
    assert found in refused("resnet18", tmp_path / "file.pth")


class _Runs:
    """What a hostile file has instead of weights: to unpickle it is to make the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


def test_a_file_that_would_run_code_is_refused_unread(tmp_path: Path) -> None:
    for old in (False, True):
        torch.save({"conv1.weight": _Runs(tmp_path / "ran")}, tmp_path / "file.pth", _use_new_zipfile_serialization=old)
        assert "it holds more than tensors, which could run code and is not loaded" in refused(
            "resnet18", tmp_path / "file.pth"
        )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("model", ["tf_efficientnet_lite0", "efficientnet_b0", "convnext_atto"])
def test_the_features_of_a_file_of_timm_are_those_of_timm(tmp_path: Path, model: str) -> None:
    """One grey channel gives what timm's own network gives for three equal ones."""
    torch.manual_seed(5)
    whole = timm.create_model(model)
    for part in whole.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    save_file(whole.state_dict(), tmp_path / "file.safetensors")
    encoder = encoder_of(f"tu-{model}", in_channels=1, path=tmp_path / "file.safetensors")
    images = torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        found = encoder.eval()(images)[-1]
        wanted = whole.eval().forward_intermediates(images.expand(-1, 3, -1, -1), intermediates_only=True)[-1]
    assert (found - wanted).norm() < 1e-4 * wanted.norm()


@pytest.mark.parametrize("function", ["system", "getcwd"])
def test_a_file_that_names_a_blocked_module_is_told_to_hold_code(tmp_path: Path, function: str) -> None:
    class Calls:
        def __reduce__(self) -> tuple[Any, ...]:
            return getattr(os, function), (f"mkdir {tmp_path}/ran",) * (function == "system")

    torch.save({"conv1.weight": Calls()}, tmp_path / "file.pth")
    assert "it holds more than tensors, which could run code and is not loaded" in refused(
        "resnet18", tmp_path / "file.pth"
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["file.pth", "file.safetensors"])
def test_a_file_that_is_cut_or_none_of_weights_is_told(resnet18: State, tmp_path: Path, name: str) -> None:
    save_file(resnet18, tmp_path / name) if name.endswith("safetensors") else torch.save(resnet18, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], b"hello", b""):
        (tmp_path / name).write_bytes(content)
        assert "it is damaged, or no file of torch or safetensors" in refused("resnet18", tmp_path / name)


def test_tables_that_hold_themselves_are_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[str, Any] = {}
    table |= {str(number): table for number in range(30)}
    torch.save(table, tmp_path / "file.pth")
    searched, flat = [], fitting._flat

    def counted(*arguments: Any) -> Any:
        searched.append(arguments)
        return flat(*arguments)

    monkeypatch.setattr(fitting, "_flat", counted)
    assert "holds no weights" in refused("resnet18", tmp_path / "file.pth")
    assert len(searched) <= 31
