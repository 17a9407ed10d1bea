"""SAME padding by constants: the same output, and a graph that computes no padding."""

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn

from severstal_cli.learning.inference import runtimes
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.inference.same_padding import with_fixed_padding
from severstal_cli.learning.networks import registry


class _Steps(nn.Module):
    """What `Member` takes: its logits are of the size of the images."""

    def __init__(self, *steps: nn.Module) -> None:
        super().__init__()
        self.steps = nn.Sequential(*steps)

    def forward(self, images: Tensor) -> registry.Logits:
        return registry.Logits(nn.functional.interpolate(self.steps(images), size=images.shape[2:]), None)


def _every_kind() -> Member:
    torch.manual_seed(0)
    return Member(
        _Steps(
            Conv2dSame(1, 4, 5, stride=2, dilation=(1, 2)),
            MaxPool2dSame(3, 2),
            StdConv2dSame(4, 4, 3, stride=2, padding="same"),
            ScaledStdConv2dSame(4, 4, (3, 5), stride=2, padding="same"),
            AvgPool2dSame(3, 2),
            StdConv2dSame(4, 2, 3, padding="same"),  # of stride 1: fixed by itself
        ),
        0.4,
        0.2,
    ).eval()


def _depending(network: nn.Module) -> list[str]:
    return [
        name
        for name, part in network.named_modules()
        if type(part).__name__.endswith("Same") and getattr(part, "same_pad", True)
    ]


def test_the_output_stays_at_every_multiple_of_the_stride() -> None:
    member = _every_kind()
    before = _depending(member)
    fixed = with_fixed_padding(member)
    assert (len(before), _depending(fixed)) == (5, [])
    assert _depending(member) == before, "it is a copy"
    for size in ((32, 32), (64, 96), (160, 224)):
        pixels = torch.rand(2, 1, *size)
        with torch.inference_mode():
            torch.testing.assert_close(fixed(pixels), member(pixels), atol=1e-6, rtol=0)


def test_a_step_whose_input_is_not_divisible_is_left_alone() -> None:
    member = Member(_Steps(*(Conv2dSame(1, 1, 3, stride=2) for _ in range(6))), 0.4, 0.2).eval()
    assert with_fixed_padding(member) is member


def test_a_network_without_it_is_not_copied() -> None:
    member = Member(registry.build("unet-small", classes=2), 0.4, 0.2).eval()
    assert with_fixed_padding(member) is member


@pytest.mark.parametrize("arch", ["linknet-wide", "unet"])
def test_encoders_of_tensorflow_are_exported_without_computing_a_padding(
    arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it, the expressions of sizes grew until the export did not end."""
    seen: list[nn.Module] = []
    monkeypatch.setattr(torch.export, "export", lambda module, *_, **__: seen.append(module))
    runtimes.exported(Member(registry.build(arch, encoder="tu-tf_efficientnet_lite0", classes=2), 0.4, 0.2).eval())
    assert _depending(seen[0]) == []


def test_a_graph_has_no_padding_to_compute() -> None:
    targets = {getattr(node.target, "__name__", "") for node in runtimes.exported(_every_kind()).graph.nodes}
    assert not targets & {"ceil", "sym_max", "CeilToInt"}
