"""The batch that fits the memory: the largest one, found without a trace, and one line where none does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from severstal_cli.config import TrainConfig
from severstal_cli.errors import MachineError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.networks.registry import Logits
from severstal_cli.learning.training import auto_batch_size, loop
from severstal_cli.learning.training.batches import TrainingSet
from severstal_cli.steel.dataset.data_folder import open_data_folder


class _Limited(nn.Module):
    """Fits `limit` images in its first step, and `limit_later` once the optimiser has taken its memory."""

    tried: list[tuple[int, ...]]

    def __init__(self, limit: int, limit_later: int) -> None:
        super().__init__()
        self.limits, self.steps, self.tried = [limit, limit_later], 0, []
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Dropout(0.5))

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Limited":
        twin = _Limited(*self.limits)
        twin.load_state_dict(self.state_dict())
        twin.tried = self.tried
        return twin

    def forward(self, images: Tensor) -> Logits:
        self.tried.append(tuple(images.shape))
        if len(images) > self.limits[self.steps]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.steps = 1
        return Logits(self.layers(images), None)


def _find(folder: Path, network: nn.Module, **settings: Any) -> int:
    data_folder = open_data_folder(folder)
    config = TrainConfig(data=folder, batch_size=None, precision="32-true", **settings)
    ids = data_folder.cache.image_ids
    data = TrainingSet(data_folder, ids, config)
    auto_batch_size.find_batch(network, data, config, open_device(config.precision))
    return data.at_once


@pytest.mark.parametrize(
    ("step", "limits", "found", "tried"),
    [
        (None, (8, 8), 8, [8, 8]),
        (12, (5, 5), 4, [12, 6, 4, 4]),
        (12, (6, 3), 3, [12, 6, 6, 4, 4, 3, 3]),
        (7, (6, 6), 1, [7, 1, 1]),
    ],
)
def test_the_largest_divisor_of_a_step_that_fits_is_found(
    make_data, step: int | None, limits: tuple[int, int], found: int, tried: list[int]
) -> None:
    network = _Limited(*limits)
    assert _find(make_data(size=(64, 96)), network, step_images=step, crop_widths_px=(32, 64)) == found
    assert network.tried == [(images, 1, 64, 64) for images in tried]


def test_the_search_leaves_no_trace(make_data) -> None:
    network = _Limited(4, 4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    assert _find(make_data(), network) == 4
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(weight.grad is None for weight in network.parameters())


def test_where_not_one_image_fits_is_told(make_data) -> None:
    line = r"a batch of 1 does not fit the device's memory: crops of 64 x 96\. Choose another --encoder"
    with pytest.raises(MachineError, match=line):
        _find(make_data(), _Limited(0, 0))


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"batch_size": 6}, r"Pass --batch-size auto --step-images 6, or a smaller --batch-size"),
        ({"batch_size": None}, r"Pass --batch-size 4 --step-images 8"),
        ({"batch_size": 1}, r"Choose another --encoder"),
    ],
)
def test_a_full_memory_in_training_is_told(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], remedy: str
) -> None:
    from severstal_cli.stages import training

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr(loop.losses, "total_loss", full)
    images = settings["batch_size"] or 8
    line = rf"^a batch of {images} does not fit the device's memory: crops of 64 x 96\. {remedy}"
    with pytest.raises(MachineError, match=line):
        training.train(TrainConfig(data=make_data(), models=tmp_path, arch="unet-small", epochs=1, **settings))
