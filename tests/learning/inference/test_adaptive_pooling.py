"""Adaptive pooling by matrices: the same output, and a graph for every size."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from severstal_cli.learning.inference import export, runtimes
from severstal_cli.learning.inference.adaptive_pooling import with_matrix_pooling
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.networks import registry


class _Pyramid(nn.Module):
    """Pools an eighth of the resolution to some squares, and spreads these over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.eighth = nn.AvgPool2d(8)
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(size) for size in (1, 2, (3, 3), 6))

    def forward(self, images: Tensor) -> registry.Logits:
        size = images.shape[2:]
        found = [nn.functional.interpolate(pool(self.eighth(images)), size=size) for pool in self.pools]
        return registry.Logits(torch.cat(found, dim=1), None)


SIZES = (32, 32), (32, 96), (64, 96), (160, 224), (96, 1600)


@pytest.mark.parametrize("size", SIZES)
def test_the_output_stays(size: tuple[int, int]) -> None:
    network = _Pyramid()
    pixels = torch.rand(2, 1, *size)
    torch.testing.assert_close(with_matrix_pooling(network)(pixels).masks, network(pixels).masks)
    assert isinstance(network.pools[1], nn.AdaptiveAvgPool2d), "it is a copy"


def test_a_network_without_it_is_not_copied() -> None:
    member = Member(registry.build("unet", encoder="resnet18", classes=2, classifier=True), 0.4, 0.2)
    assert with_matrix_pooling(member) is member


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_it_is_exported_for_every_size(form: str, tmp_path: Path) -> None:
    """A graph with torch's own pooling was refused by ONNX."""
    pytest.importorskip("onnxruntime" if form == "onnx" else "openvino")
    member = Member(_Pyramid(), 0.4, 0.2).eval()
    file = export.write(member, form, tmp_path)
    probs = (
        runtimes.OnnxRuntime(file)
        if form == "onnx"
        else runtimes.OpenVino(runtimes.load_openvino().Core().read_model(file), 4, None)
    )
    for size in SIZES:
        pixels = torch.rand(2, 1, *size)
        with torch.inference_mode():
            torch.testing.assert_close(probs(pixels), member(pixels), atol=1e-5, rtol=0)
