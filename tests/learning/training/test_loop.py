"""Learning rates of the layers, and the network compiled."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError, MachineError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.networks import registry
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import loop
from severstal_cli.learning.training.batches import TrainingSet
from severstal_cli.learning.training.prefetch import on_device
from severstal_cli.progress import Bar
from severstal_cli.stages import training
from severstal_cli.steel.dataset.data_folder import open_data_folder


def _factors(network: torch.nn.Module, rate: float) -> dict[str, float]:
    """The learning rate of each weight, as a share of the highest."""
    state = loop.start(network, TrainConfig(first_layer_rate=rate), open_device("32-true"))
    names = {id(weight): name for name, weight in network.named_parameters()}
    return {names[id(weight)]: group["factor"] for group in state.optimizer.param_groups for weight in group["params"]}


def test_by_default_there_are_two_groups_of_weights_and_one_rate() -> None:
    network = registry.build("unet", encoder="resnet18", classes=2)
    state = loop.start(network, TrainConfig(weight_decay=0.03), open_device("32-true"))
    decayed, others = state.optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.03, 0.0)
    assert (decayed["factor"], others["factor"]) == (1.0, 1.0)
    weights = list(network.parameters())
    assert [id(weight) for weight in decayed["params"]] == [id(weight) for weight in weights if weight.ndim > 1]
    assert [id(weight) for weight in others["params"]] == [id(weight) for weight in weights if weight.ndim <= 1]


def test_rates_rise_geometrically_from_the_first_layer_of_the_encoder_to_the_decoder() -> None:
    network = registry.build("unet", encoder="resnet18", classes=2, classifier=True)
    factors = _factors(network, 0.01)
    assert set(factors) == {name for name, _ in network.named_parameters()}
    encoder = [factor for name, factor in factors.items() if ".encoder." in name]
    assert factors["network.encoder.conv1.weight"] == min(encoder) == pytest.approx(0.01)
    assert factors["network.encoder.layer4.1.bn2.weight"] == max(encoder) == pytest.approx(0.01 ** (1 / 8))
    assert sorted(set(encoder)) == pytest.approx([0.01 ** (1 - k / 8) for k in range(8)])
    assert [factors[name] for name, _ in network.named_parameters() if ".encoder." in name] == sorted(encoder)
    assert {factor for name, factor in factors.items() if ".encoder." not in name} == {1.0}
    small = registry.build("unet-small", classes=2)
    assert set(_factors(small, 0.01).values()) == {1.0}


def test_a_step_moves_the_first_layer_less_than_the_decoder(make_data) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    network = registry.build("unet", encoder="resnet18", classes=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folder = make_data(images=4, size=(32, 32))
    settings = {"first_layer_rate": 0.01, "learning_rate": 0.1, "weight_decay": 0.0, "warmup_share": 0.5}
    config = TrainConfig(data=folder, batch_size=4, **settings)
    data_folder, fabric = open_data_folder(folder), open_device("32-true")
    ids = data_folder.cache.image_ids
    data = TrainingSet(data_folder, ids, config)
    state = loop.start(network, config, fabric)
    card = SimpleNamespace(mean=0.4, std=0.2)
    loop.train_epoch(state, data, 0, config, card, fabric, lambda step: 0.5, Bar())  # type: ignore[arg-type]
    moved = {
        name: (value - before[name]).abs().max().item()
        for name, value in network.state_dict().items()
        if name.endswith("weight")
    }
    # the first step of Adam is as long as the learning rate
    assert moved["network.encoder.conv1.weight"] == pytest.approx(0.001, rel=0.01)
    assert moved["network.encoder.layer4.1.conv2.weight"] == pytest.approx(0.1 * 0.01 ** (1 / 8), rel=0.01)
    assert moved["network.segmentation_head.0.weight"] == pytest.approx(0.1, rel=0.01)
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0.1), "the rate that the history tells"


def _weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


def test_a_compiled_training_gives_a_plain_run_and_resumes(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    # traced in earnest, but run by torch itself: a C++ compiler would take minutes
    compiled, real = [], torch.compile

    def compile_quickly(what: Any, **_: object) -> Any:
        compiled.append(what)
        return real(what, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", compile_quickly)
    settings = {"data": make_data(images=12), "arch": "unet-small", "batch_size": 4, "precision": "32-true",
                "learning_rate": 0.05, "average_decay": 0.0}  # fmt: skip
    plain = training.train(TrainConfig(**settings, models=tmp_path / "plain", epochs=1)).folder
    assert compiled == []
    settings["models"] = tmp_path / "compiled"
    folder = training.train(TrainConfig(**settings, epochs=1, compile=True)).folder
    assert isinstance(compiled[-1], torch.nn.Module)
    weights, others = (_weights(run_folder.load_network(at, model_card.read_card(at))) for at in (folder, plain))
    torch.manual_seed(0)
    untrained = _weights(registry.build("unet-small", classes=2, classifier=True))
    # where the gradient is next to nothing, rounding alone gives Adam its direction
    assert ((weights - others).abs() < 0.005).float().mean() > 0.97
    assert ((weights - untrained).abs() < 0.005).float().mean() < 0.3
    assert training.train(TrainConfig(**settings, epochs=2, resume=True, compile=True)).epochs == 2
    assert model_card.read_card(folder).config["compile"]
    times = len(compiled)
    assert training.train(TrainConfig(**settings, epochs=3, resume=True)).epochs == 3
    assert len(compiled) == times
    assert not model_card.read_card(folder).config["compile"]


def test_a_machine_that_cannot_compile_is_told_before_the_first_step(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    def compile_nothing(function: object) -> object:
        def call(*_: object) -> None:
            raise RuntimeError("InvalidCxxCompiler: No working\nC++ compiler\n\nSet TORCHDYNAMO_VERBOSE=1")

        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)
    line = r"^torch\.compile does not work on this machine: InvalidCxxCompiler: No working C\+\+ compiler\. "
    with pytest.raises(MachineError, match=line + "Leave out --compile$"):
        training.train(TrainConfig(data=make_data(), models=tmp_path, arch="unet-small", compile=True))
    assert not list(tmp_path.glob("unet-small*"))


@pytest.mark.parametrize(
    ("encoder", "images", "size", "settings"),
    [
        ("resnet18", 17, (32, 32), {}),  # the last batch of an epoch has one image
        ("resnet18", 24, (32, 32), {"batch_size": 1}),
        ("resnet18", 17, (64, 64), {"half_size_share": 0.5}),
        ("tu-skresnet18", 24, (64, 64), {"batch_size": 1}),  # it normalises means over the whole image
    ],
)
def test_one_value_per_channel_is_refused_before_the_training(
    make_data, encoder: str, images: int, size: tuple[int, int], settings: dict[str, Any]
) -> None:  # type: ignore[no-untyped-def]
    data = _training_set(make_data(images=images, size=size), **settings)
    config = TrainConfig(encoder=encoder, **settings)
    network = registry.build("unet", encoder=encoder, classes=2, classifier=True)
    line = r"^unet with encoder \S+ does not take .* pixels: batch norm cannot train on one value per channel"
    with pytest.raises(InputError, match=line):
        loop.check_smallest_batch(network, data, config)


@pytest.mark.parametrize(
    ("encoder", "images", "size", "settings"),
    [
        ("resnet18", 24, (32, 32), {}),
        ("resnet18", 17, (64, 64), {}),
        ("tu-skresnet18", 24, (32, 32), {}),
    ],
)
def test_small_crops_train_where_no_batch_has_one_value_per_channel(
    make_data, encoder: str, images: int, size: tuple[int, int], settings: dict[str, Any]
) -> None:  # type: ignore[no-untyped-def]
    data = _training_set(make_data(images=images, size=size), **settings)
    network = registry.build("unet", encoder=encoder, classes=2, classifier=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loop.check_smallest_batch(network, data, TrainConfig(encoder=encoder))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def _training_set(folder: Path, **settings: Any) -> TrainingSet:
    data_folder = open_data_folder(folder)
    return TrainingSet(data_folder, data_folder.cache.image_ids, TrainConfig(data=folder, **settings))


def test_synchronised_batch_norm_keeps_the_activations_that_it_holds() -> None:
    network = registry.build("unet", encoder="tu-efficientnet_b0", classes=2).eval()
    images = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before = network(images).masks
        after = loop.synchronised(network).eval()
        assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in after.modules())
        assert torch.allclose(after(images).masks, before, atol=1e-6)  # evaluation works on a CPU, too


class _Plain(torch.nn.Module):
    """Without batch norm and dropout, so that images do not see each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, images: torch.Tensor) -> registry.Logits:
        return registry.Logits(self.layer(images), None)


def test_a_step_gathered_over_batches_is_that_of_one_batch(make_data) -> None:  # type: ignore[no-untyped-def]
    data_folder = open_data_folder(make_data(images=11))

    def weights(**settings: int) -> torch.Tensor:
        config = TrainConfig(dice_weight=0.0, warmup_share=0.0, **settings)
        data = TrainingSet(data_folder, data_folder.cache.image_ids, config)
        card = dataclasses.make_dataclass("Card", [("mean", float, 0.5), ("std", float, 0.2)])()
        torch.manual_seed(0)
        fabric = open_device("32-true")
        state = loop.start(_Plain(), config, fabric)
        result = loop.train_epoch(state, data, 0, config, card, fabric, lambda steps: steps / 9, Bar())
        assert (result.images, state.steps, result.ended) == (11, 2, False)
        return torch.cat([value.flatten() for value in state.network.state_dict().values()])

    # steps of 6 and 5 images
    assert torch.allclose(weights(batch_size=6), weights(batch_size=4, step_images=6), atol=1e-6)


def test_at_half_size_pixels_and_masks_are_halved_alike(make_data) -> None:  # type: ignore[no-untyped-def]
    data_folder = open_data_folder(make_data(images=12, size=(64, 64)))
    config = TrainConfig(half_size_share=0.5, brightness=0.0, contrast=0.0, batch_size=12)
    data = TrainingSet(data_folder, data_folder.cache.image_ids, config)
    card = dataclasses.make_dataclass("Card", [("mean", float, 0.0), ("std", float, 1.0)])()
    pixels, masks = loop._changed(next(on_device(data.batches(0), torch.device("cpu"))), card, 0)
    assert (pixels.shape, masks.shape) == ((12, 1, 32, 32), (12, 2, 32, 32))
    bright, dark = (masks[:, [channel]].bool() for channel in range(2))
    assert bright.any()
    assert dark.any()
    assert (pixels[bright] > 0.5).float().mean() > 0.97
    assert (pixels[dark] < 0.35).float().mean() > 0.97
