"""Every entry of the registry keeps the same contract; a new entry is covered without a change here."""

import pytest
import torch

from severstal_cli.errors import InputError
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


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        registry.register("unet")(lambda *_: torch.nn.Identity())
