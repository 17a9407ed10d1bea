"""The optimiser, one step, and the batches that a training refuses."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.networks import registry
from severstal_cli.learning.training import loop
from severstal_cli.learning.training.batches import TrainingSet
from severstal_cli.learning.training.prefetch import on_device
from severstal_cli.progress import Bar
from severstal_cli.steel.dataset.data_folder import open_data_folder


def test_biases_and_norms_do_not_decay() -> None:
    network = registry.build("unet", encoder="resnet18", classes=2)
    state = loop.start(network, TrainConfig(weight_decay=0.03), open_device("32-true"))
    decayed, others = state.optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.03, 0.0)
    weights = list(network.parameters())
    assert [id(weight) for weight in decayed["params"]] == [id(weight) for weight in weights if weight.ndim > 1]
    assert [id(weight) for weight in others["params"]] == [id(weight) for weight in weights if weight.ndim <= 1]


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
) -> None:
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
) -> None:
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


def test_a_step_gathered_over_batches_is_that_of_one_batch(make_data) -> None:
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


def test_at_half_size_pixels_and_masks_are_halved_alike(make_data) -> None:
    data_folder = open_data_folder(make_data(images=12, size=(64, 64)))
    config = TrainConfig(half_size_share=0.5, brightness=0.0, contrast=0.0, batch_size=12)
    data = TrainingSet(data_folder, data_folder.cache.image_ids, config)
    card = dataclasses.make_dataclass("Card", [("mean", float, 0.0), ("std", float, 1.0)])()
    pixels, masks = loop._changed(next(on_device(data.batches(0), torch.device("cpu"))), card)
    assert (pixels.shape, masks.shape) == ((12, 1, 32, 32), (12, 2, 32, 32))
    bright, dark = (masks[:, [channel]].bool() for channel in range(2))
    assert bright.any()
    assert dark.any()
    assert (pixels[bright] > 0.5).float().mean() > 0.97
    assert (pixels[dark] < 0.35).float().mean() > 0.97
