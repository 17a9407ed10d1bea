"""Depthwise convolutions in float32 while a CPU trains in bfloat16, and nothing else."""

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from severstal_cli.config import TrainConfig
from severstal_cli.learning.networks import registry
from severstal_cli.learning.training import loop
from severstal_cli.learning.training.depthwise import train_in_float32


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1))
    train_in_float32(network)
    return network


def _kinds(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, torch.dtype]]:
    """The groups of each convolution of a pass under autocast, and the type that it computes in."""
    seen, own = [], functional.conv2d

    def noted(given: Tensor, weight: Tensor, *others: object) -> Tensor:
        found = own(given, weight, *others)  # type: ignore[arg-type]
        seen.append((int(others[-1]), found.dtype))  # type: ignore[call-overload]
        return found

    monkeypatch.setattr(functional, "conv2d", noted)
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(2, 1, 64, 64))
        assert torch.is_autocast_enabled("cpu")
    return seen


@pytest.mark.parametrize("copied", [False, True])
def test_the_depthwise_convolution_alone_is_trained_in_float32(copied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network = copy.deepcopy(_network()) if copied else _network()
    half = torch.bfloat16
    assert _kinds(network, monkeypatch) == [(1, half), (8, torch.float32), (1, half)]


def test_prediction_stays_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {kind for _, kind in _kinds(_network().eval(), monkeypatch)} == {torch.bfloat16}


def test_its_output_is_that_of_float32_rounded_and_autocast_goes_on() -> None:
    network, given = _network(), torch.rand(2, 8, 16, 16).bfloat16()
    middle = network[1]
    with torch.autocast("cpu", torch.bfloat16):
        found = middle(given)
        assert torch.is_autocast_enabled("cpu")
        with pytest.raises(RuntimeError):
            middle(torch.rand(2, 3, 16, 16))
        assert torch.is_autocast_enabled("cpu")
    expected = functional.conv2d(given.float(), middle.weight, middle.bias, groups=8)
    assert torch.equal(found, expected.bfloat16())
    assert middle(given.float()).dtype == torch.float32, "without autocast nothing changes"


def test_a_training_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    network = registry.build("unet", encoder="mobilenet_v2", classes=2)
    state = loop.start(network, TrainConfig(encoder="mobilenet_v2"), fabric)
    wrong = [one for one in _kinds(state.network.train(), monkeypatch) if (one[0] > 1) != (one[1] == torch.float32)]
    assert wrong == []
