"""Every engine gives torch's levels; which one runs a run; what is folded and what is left alone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from severstal_cli.errors import MachineError, RunError, UsageError
from severstal_cli.learning import device
from severstal_cli.learning.inference import engines, export, fuse_norms
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.inference.level_maps import predict_levels
from severstal_cli.learning.networks import registry
from severstal_cli.learning.precision import CheckedHalf
from severstal_cli.learning.runs import model_card

PICTURES = [
    np.random.default_rng(n).integers(0, 256, size, np.uint8) for n, size in enumerate([(64, 96)] * 3 + [(50, 70)])
]


def on_cpu(precision: str) -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision=precision)


def levels(probs: engines.Probs, fabric: Fabric, batch_size: int = 8) -> list[np.ndarray]:
    return list(predict_levels([probs], PICTURES, fabric, batch_size=batch_size))


@pytest.fixture(scope="module")
def exported(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The trained run in every format, by its name; "weights" is the run itself."""
    _, source = trained
    member = engines.member_of(source, model_card.read_card(source))
    folders = {"weights": source}
    for form in export.FORMATS:
        folders[form] = tmp_path_factory.mktemp(form)
        export.write(member, form, folders[form])
        shutil.copyfile(source / model_card.CARD, folders[form] / model_card.CARD)
    return folders


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which engines are installed."""

    def only(*names: str) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name in names else None)

    return only


@pytest.mark.parametrize(
    ("form", "engine"),
    [
        ("weights", "torch"),
        ("weights", "openvino"),
        ("onnx", "onnxruntime"),
        ("onnx", "openvino"),
        ("openvino", "openvino"),
    ],
)
def test_every_engine_gives_the_levels_of_torch(
    exported: dict[str, Path], with_openvino: None, form: str, engine: str
) -> None:
    fabric = on_cpu("32-true")
    card = model_card.read_card(exported["weights"])
    expected = levels(engines.member_of(exported["weights"], card), fabric)
    assert max(one.max() for one in expected) - min(one.min() for one in expected) > 20
    [probs] = engines.load_members([exported[form]], [card], fabric, engine=engine)
    for found, wanted in zip(levels(probs, fabric), expected, strict=True):
        assert abs(found.astype(int) - wanted.astype(int)).max() <= 1
    if engine == "openvino":
        np.testing.assert_array_equal(np.stack(levels(probs, fabric, 1)[:3]), np.stack(levels(probs, fabric, 3)[:3]))


@pytest.mark.parametrize(
    ("form", "there", "on_cpu", "on_gpu"),
    [
        ("weights", "torch openvino onnxruntime", "openvino", "torch"),
        ("weights", "torch", "torch", "torch"),
        ("onnx", "torch openvino onnxruntime", "openvino", "onnxruntime"),
        ("onnx", "torch onnxruntime", "onnxruntime", "onnxruntime"),
        ("onnx", "torch openvino", "openvino", "openvino"),
        ("openvino", "torch openvino", "openvino", "openvino"),
    ],
)
def test_the_engine_is_chosen_by_file_and_device(
    exported: dict[str, Path], installed: Callable[..., None], form: str, there: str, on_cpu: str, on_gpu: str
) -> None:
    installed(*there.split())
    assert engines.engine_for(exported[form], "auto", "cpu") == on_cpu
    assert engines.engine_for(exported[form], "auto", "cuda") == on_gpu


def test_an_engine_that_cannot_be_used_is_told(exported: dict[str, Path], installed: Callable[..., None]) -> None:
    with pytest.raises(
        UsageError, match=r"unknown engine: tensorrt\. Choose one of auto, torch, openvino, onnxruntime"
    ):
        engines.engine_for(exported["weights"], "tensorrt", "cpu")
    with pytest.raises(
        UsageError, match=r"onnxruntime cannot run .*model.safetensors. severstal export .* --format onnx"
    ):
        engines.engine_for(exported["weights"], "onnxruntime", "cpu")
    with pytest.raises(UsageError, match=r"torch cannot run .*model.xml. Use openvino"):
        engines.engine_for(exported["openvino"], "torch", "cpu")
    installed("torch")
    with pytest.raises(
        MachineError, match=r"openvino is not installed. Install it: pip install 'severstal\[openvino\]'"
    ):
        engines.engine_for(exported["weights"], "openvino", "cpu")
    with pytest.raises(MachineError, match=r"onnxruntime is not installed.*severstal\[onnx\]"):
        engines.engine_for(exported["onnx"], "auto", "cpu")


@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize("damage", [b"", b"no network at all", None])
def test_a_damaged_file_is_told(
    exported: dict[str, Path], with_openvino: None, tmp_path: Path, form: str, damage: bytes | None
) -> None:
    folder = shutil.copytree(exported[form], tmp_path / "damaged")
    file = folder / export.FORMATS[form][0]
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage is None else damage)
    with pytest.raises(RunError, match=rf"cannot open .*{file.name}.*Export the run again"):
        engines.load_members([folder], [model_card.read_card(folder)], on_cpu("32-true"))


def test_norms_become_part_of_the_convolutions_before_them() -> None:
    network = registry.build("unet", encoder="resnet18", classes=2, classifier=True)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    member = Member(network, 0.4, 0.2).eval()
    folded = fuse_norms.with_folded_norms(member)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in member.modules()) == 30
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    pixels = torch.rand(2, 1, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(folded(pixels), member(pixels), atol=1e-5, rtol=0)


class _Twice(nn.Module):
    """Something else takes the convolution's output, too, or a convolution is used before two norms."""

    def __init__(self, *, shares: bool) -> None:
        super().__init__()
        self.convolution, self.shares = nn.Conv2d(1, 1, 3, padding=1), shares
        self.first, self.second = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
        for norm in (self.first, self.second):
            nn.init.constant_(norm.running_mean, 0.7)

    def forward(self, pixels: torch.Tensor) -> registry.Logits:
        one = self.convolution(pixels)
        if self.shares:
            return registry.Logits(self.first(one) + one, None)
        return registry.Logits(self.first(one) + self.second(self.convolution(pixels)), None)


@pytest.mark.parametrize("shares", [True, False])
def test_norms_that_stand_behind_more_are_left_alone(shares: bool) -> None:
    member = Member(_Twice(shares=shares), 0.0, 1.0).eval()
    folded = fuse_norms.with_folded_norms(member)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in folded.modules()) == 2
    pixels = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(folded(pixels), member(pixels))


def test_weights_are_cast_once_to_what_the_device_multiplies(exported: dict[str, Path]) -> None:
    card = model_card.read_card(exported["weights"])
    fabric = on_cpu("bf16-mixed")
    [probs] = engines.load_members([exported["weights"]], [card], fabric, engine="torch")
    assert isinstance(probs, CheckedHalf)
    assert isinstance(probs.half, nn.Module)
    kinds = {
        weight.dtype for part in probs.half.modules() if isinstance(part, nn.Conv2d) for weight in part.parameters()
    }
    assert kinds == {torch.bfloat16}
    plain = fuse_norms.with_folded_norms(engines.member_of(exported["weights"], card))
    plain = plain.to(memory_format=torch.channels_last)
    for found, wanted in zip(levels(probs, fabric), levels(plain, fabric), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_gpu_without_bfloat16_multiplies_float16(exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert device.fastest_precision("cuda") == "16-mixed"
    card, exact, half = model_card.read_card(exported["weights"]), on_cpu("32-true"), on_cpu("32-true")
    monkeypatch.setattr(half, "autocast", lambda: torch.autocast("cpu", torch.float16))  # Fabric has it on GPUs alone
    [probs] = engines.load_members([exported["weights"]], [card], half, engine="torch")
    assert isinstance(probs, CheckedHalf)
    assert isinstance(probs.half, nn.Module)
    kinds = {
        weight.dtype for part in probs.half.modules() if isinstance(part, nn.Conv2d) for weight in part.parameters()
    }
    assert kinds == {torch.float16}
    [wanted] = engines.load_members([exported["weights"]], [card], exact, engine="torch")
    differences = [abs(a.astype(int) - b) for a, b in zip(levels(probs, half), levels(wanted, exact), strict=True)]
    assert sum(each.sum() for each in differences) > 0
    assert max(each.max() for each in differences) <= 1
