"""Every entry of the registry keeps the same contract; a new entry is covered without a change here."""

from pathlib import Path
from typing import Any

import pytest
import torch

from severstal_cli.errors import InputError, MachineError
from severstal_cli.learning.networks import pretrained, registry
from severstal_cli.learning.networks.registry import REGISTRY, build

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
def test_entry_learns_from_a_batch_of_one_image(arch: str) -> None:
    """The last batch of an epoch may have one, and a norm behind global pooling has one value of it per channel."""
    network = build(arch, encoder=ENCODER, classes=2, classifier=True).train()
    masks = network(torch.randn(1, 1, 64, 64)).masks
    masks.square().mean().backward()
    assert masks.isfinite().all()
    assert any(weight.grad is not None and weight.grad.any() for weight in network.parameters())


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


class _Refusing(torch.nn.Module):
    """Fails in the chosen pass: in the forward pass, in the backward pass, or in neither."""

    def __init__(self, error: Exception | None, where: str) -> None:
        super().__init__()
        self.norm, self.error, self.where = torch.nn.BatchNorm2d(1), error, where

    def forward(self, images: torch.Tensor) -> registry.Logits:
        if self.where == "forward" and self.error:
            raise self.error
        masks = self.norm(torch.nn.functional.dropout(images + 1, 0.5))
        if self.where == "backward" and self.error:
            masks.register_hook(self._fail)
        return registry.Logits(masks[:, :, :32] if self.where == "size" else masks, None)

    def _fail(self, _: torch.Tensor) -> None:
        assert self.error is not None
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        IndexError("list index out of range"),
        TypeError("no\nfloat"),
        KeyError("x"),
        AttributeError("gone"),
        NotImplementedError(),
        RuntimeError("sizes"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(("where", "does_not"), [("forward", "take"), ("backward", "learn from")])
def test_a_network_that_fails_is_refused_in_one_line(error: Exception, where: str, does_not: str) -> None:
    with pytest.raises(InputError) as caught:
        registry.try_out(_Refusing(error, where), "unet", "tu-odd", (1, 64, 96), learns=True)
    found = " ".join(str(error).split()) or "NotImplementedError"
    assert str(caught.value) == (
        f"unet with encoder tu-odd does not {does_not} 64 x 96 pixels: {found}. Choose another --encoder"
    )


def test_a_full_memory_is_no_fault_of_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    full = RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory")
    for error in (full, MemoryError()):
        with pytest.raises(MachineError, match="does not take 64 x 96 pixels: the memory is too small"):
            registry.try_out(_Refusing(error, "forward"), "unet", "resnet18", (1, 64, 96))

        def fail(*_: object, raised: Exception = error, **__: object) -> None:
            raise raised

        monkeypatch.setattr("segmentation_models_pytorch.Unet", fail)
        with pytest.raises(MachineError, match="unet cannot use encoder resnet18: the memory is too small"):
            build("unet", encoder="resnet18", classes=2)


def test_to_try_a_network_out_changes_nothing() -> None:
    network = _Refusing(None, "")
    before, state = {name: value.clone() for name, value in network.state_dict().items()}, torch.random.get_rng_state()
    registry.try_out(network, "unet", "resnet18", (1, 64, 96), learns=True)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(value.grad is None for value in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(InputError, match="does not take 64 x 96 pixels: its masks are 32 x 96"):
        registry.try_out(_Refusing(None, "size"), "unet", "resnet18", (1, 64, 96))


@pytest.mark.parametrize("encoder", ["tu-nest_tiny", "tu-vit_tiny_patch16_224", "tu-efficientvit_m0"])
def test_an_encoder_that_cannot_be_built_is_refused_in_one_line(encoder: str) -> None:
    with pytest.raises(InputError, match=f"unet cannot use encoder {encoder}: .*Choose another --encoder"):
        build("unet", encoder=encoder, classes=2)


def test_an_encoder_that_a_training_cannot_lay_out_is_refused_in_one_line() -> None:
    """It has weights of five dimensions; seen in the first step."""
    network = build("unet", encoder="tu-lambda_resnet26t", classes=2)
    with pytest.raises(InputError, match=r"tu-lambda_resnet26t does not take 64 x 64 pixels: .*channels_last.*Choose"):
        registry.try_out(network, "unet", "tu-lambda_resnet26t", (1, 64, 64))


@pytest.mark.filterwarnings("ignore:.timm-. encoders are deprecated")
@pytest.mark.parametrize(
    ("encoder", "exact"),
    [
        ("timm-tf_efficientnet_lite0", "tu-tf_efficientnet_lite0"),
        ("timm-efficientnet-b0", "tu-tf_efficientnet_b0"),
        ("timm-skresnet18", ""),
        ("tu-tf_efficientnet_lite0", ""),
        ("efficientnet-b0", ""),
    ],
)
def test_weights_of_a_network_that_computes_otherwise_are_noted(
    encoder: str, exact: str, tmp_path: Path, heard: Any
) -> None:
    given = build("unet", encoder=encoder, classes=2, progress=heard).encoder
    assert heard.lines == [], "random weights are of none"
    torch.save(given.state_dict(), tmp_path / "file.pth")
    build("unet", encoder=encoder, encoder_weights=str(tmp_path / "file.pth"), classes=2, progress=heard)
    notes = [line for line in heard.lines if "differs from the network" in line]
    assert len(notes) == bool(exact)
    if exact:
        assert notes[0].startswith(f"{encoder} differs from the network that its weights were trained in")
        assert notes[0].endswith(f"; {exact} is that network")


@pytest.mark.filterwarnings("ignore:.timm-. encoders are deprecated")
def test_encoders_that_compute_otherwise_are_known_by_their_parts() -> None:
    """What timm passes for weights of TensorFlow, and the library leaves out: padding, and batch norm's epsilon."""
    import timm
    from segmentation_models_pytorch.encoders import get_encoder

    for encoder in ("timm-efficientnet-b0", "timm-tf_efficientnet_lite0", "timm-tf_efficientnet_lite4"):
        exact = pretrained._exact(encoder).removeprefix("tu-")
        with torch.device("meta"):
            ours, theirs = get_encoder(encoder, weights=None), timm.create_model(exact)
        eps = [
            {part.eps for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)}
            for network in (ours, theirs)
        ]
        assert eps == [{1e-5}, {1e-3}]
        assert ours.conv_stem.weight.shape == theirs.conv_stem.weight.shape
        assert [type(network.conv_stem).__name__ for network in (ours, theirs)] == ["Conv2d", "Conv2dSame"]
