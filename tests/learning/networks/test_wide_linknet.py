"""LinkNet with a decoder of a least width."""

from pathlib import Path

import pytest
import torch
from torch import nn

from severstal_cli.learning.inference import fuse_norms
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.networks import registry

LITE = "tu-tf_efficientnet_lite0"


def _inner(arch: str, encoder: str) -> list[int]:
    """The channels within each step of the decoder, the deepest first: those that its transposed convolution takes."""
    parts = registry.build(arch, encoder=encoder, classes=2).modules()
    return [part.in_channels for part in parts if isinstance(part, nn.ConvTranspose2d)]


@pytest.mark.parametrize(
    ("encoder", "narrow", "wide"),
    [(LITE, [80, 28, 10, 6, 4], [80, 32, 32, 32, 32]), ("resnet18", [128, 64, 32, 16, 16], [128, 64, 32, 32, 32])],
)
def test_each_step_of_the_decoder_has_a_least_width(encoder: str, narrow: list[int], wide: list[int]) -> None:
    assert _inner("linknet", encoder) == narrow
    assert _inner("linknet-wide", encoder) == wide


def test_the_encoder_keeps_the_weights_of_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = registry.build("unet", encoder=LITE, classes=2).get_submodule("network.encoder").state_dict()
    torch.save(given, tmp_path / "encoder.pt")
    network = registry.build("linknet-wide", encoder=LITE, encoder_weights=str(tmp_path / "encoder.pt"), classes=2)
    taken = network.get_submodule("network.encoder").state_dict()
    assert all(torch.equal(taken[name], value) for name, value in given.items())


def test_norms_are_folded_and_its_output_stays() -> None:
    torch.manual_seed(0)
    network = registry.build("linknet-wide", encoder="resnet18", classes=2, classifier=True).train()
    for _ in range(3):
        network(torch.rand(4, 1, 64, 64) * 5 - 2)
    member = Member(network, 0.4, 0.2).eval()
    folded = fuse_norms.with_folded_norms(member)
    left = [part for part in folded.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(left) == 5, "those behind the transposed convolutions"
    pixels = torch.rand(2, 1, 96, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(pixels), member(pixels), atol=1e-5, rtol=0)
