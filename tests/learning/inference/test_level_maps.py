"""Levels: the mean of probabilities, quantised once; sizes, batches and order do not matter."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from severstal_cli.errors import MachineError
from severstal_cli.learning.inference import level_maps
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.inference.level_maps import predict_levels
from severstal_cli.learning.networks import registry
from severstal_cli.learning.networks.registry import Logits
from severstal_cli.steel.masks.postprocess import make_exclusive


class _Light(nn.Module):
    """Probability of class 1 is the normalised grey value, of class 2 the rest. Keeps what sizes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> Logits:
        self.seen.append(tuple(images.shape))
        masks = torch.logit(images.clamp(1e-6, 1 - 1e-6))
        return Logits(torch.cat([masks, -masks], dim=1), None)


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu", devices=1, precision="32-true")  # also where there is a GPU


def _images(sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def test_levels_are_rounded_probabilities_of_the_pixels_themselves(fabric) -> None:
    # with mean 0 and standard deviation 1 the light network gives each grey value back
    images = _images([(64, 64), (50, 70), (33, 64)])
    member = Member(network=_Light(), mean=0.0, std=1.0)
    for views in ("none", "flips"):
        found = list(predict_levels([member], images, fabric, views=views))
        for image, levels in zip(images, found, strict=True):
            assert levels.shape == (2, *image.shape)
            assert levels.dtype == np.uint8
            np.testing.assert_array_equal(levels[0], image)
            np.testing.assert_array_equal(levels[1], 255 - image)


def test_a_member_of_weight_0_is_not_asked(fabric) -> None:
    members = [Member(network=_Light(), mean=mean, std=1.0) for mean in (0.0, 0.5, 0.2)]
    images = _images([(64, 64)] * 3)
    found = list(predict_levels(members, images, fabric, weights=(2.0, 0.0, 6.0)))
    two = list(predict_levels(members[::2], images, fabric, weights=(2.0, 6.0)))
    np.testing.assert_array_equal(found, two)
    assert [len(member.network.seen) for member in members] == [2, 0, 2]


def test_neighbours_of_one_size_share_a_batch_of_multiples_of_32(fabric) -> None:
    network = _Light()
    sizes = [(40, 64)] * 3 + [(64, 64)] + [(40, 64)]
    list(predict_levels([Member(network=network, mean=0.0, std=1.0)], _images(sizes), fabric, batch_size=2))
    assert network.seen == [(2, 1, 64, 64), (1, 1, 64, 64), (1, 1, 64, 64), (1, 1, 64, 64)]


def test_large_images_go_in_smaller_batches(fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(level_maps, "LARGEST_BATCH_PX", 4 * 64 * 64)
    network = _Light()
    sizes = [(64, 64)] * 5 + [(96, 96)] * 2
    member = Member(network=network, mean=0.0, std=1.0)
    assert len(list(predict_levels([member], _images(sizes), fabric, views="hflip", batch_size=8))) == 7
    assert [seen[0] for seen in network.seen] == [4, 4, 2, 2, 2]  # two views each


def test_runs_are_averaged_as_probabilities_each_with_its_own_normalisation(fabric) -> None:
    images = _images([(32, 32)])
    members = [Member(network=_Light(), mean=0.0, std=1.0), Member(network=_Light(), mean=-0.25, std=1.5)]
    [levels] = predict_levels(members, images, fabric)
    grey = images[0] / 255
    expected = np.round(255 * (grey + (grey + 0.25) / 1.5) / 2)
    assert np.abs(levels[0] - expected).max() <= 1  # a half may round either way


def test_images_are_read_a_batch_at_a_time(fabric) -> None:
    read = 0

    def counting():
        nonlocal read
        for image in _images([(32, 32)] * 12):
            read += 1
            yield image

    levels = predict_levels([Member(network=_Light(), mean=0.0, std=1.0)], counting(), fabric, batch_size=3)
    next(levels)
    assert read == 4


def test_batch_size_hardly_matters_for_a_real_network(fabric) -> None:
    torch.manual_seed(0)
    member = Member(network=registry.build("linknet-small", classes=2).eval(), mean=0.4, std=0.2)
    images = _images([(48, 64)] * 5)
    one = np.stack(list(predict_levels([member], images, fabric, batch_size=1)))
    all_at_once = np.stack(list(predict_levels([member], images, fabric, batch_size=5)))
    assert np.abs(one.astype(int) - all_at_once).max() <= 1
    assert one.std() > 0


def test_a_classification_head_is_a_factor(fabric) -> None:
    class Gated(_Light):
        def forward(self, images: torch.Tensor) -> Logits:
            return Logits(super().forward(images).masks, torch.logit(torch.tensor([[0.25, 1.0]]), eps=1e-6))

    image = _images([(64, 64)])[0]
    levels = next(predict_levels([Member(network=Gated(), mean=0.0, std=1.0)], [image], fabric))
    np.testing.assert_allclose(levels[0], image / 4, atol=0.51)  # rounded, and halves either way
    np.testing.assert_array_equal(levels[1], 255 - image)


def test_runs_count_as_their_weights_say(fabric) -> None:
    images = _images([(32, 32)])
    members = [Member(network=_Light(), mean=0.0, std=1.0), Member(network=_Light(), mean=-0.25, std=1.5)]
    [levels] = predict_levels(members, images, fabric, weights=[3, 1])
    grey = images[0] / 255
    assert np.abs(levels[0] - 255 * (0.75 * grey + 0.25 * (grey + 0.25) / 1.5)).max() <= 0.51


def test_exclusive_levels_have_one_class_per_pixel(fabric) -> None:
    images = _images([(64, 64), (64, 64), (50, 70)])
    member = Member(network=_Light(), mean=0.0, std=1.0)
    whole, single = (list(predict_levels([member], images, fabric, exclusive=flag)) for flag in (False, True))
    for one, other in zip(whole, single, strict=True):
        assert not np.array_equal(one, other)
        np.testing.assert_array_equal(make_exclusive(one), other)


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (3, r"^the memory is full: predicting 3 x 64 x 96 pixels\. Give a smaller --batch-size$"),
        (1, r"^the memory is full: predicting 1 x 64 x 96 pixels\. Free some, or raise its limit \(ulimit"),
    ],
)
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried")])
def test_a_full_memory_is_named_and_a_batch_of_one_is_not_to_be_smaller(
    fabric, count: int, line: str, error: Exception
) -> None:
    def full(pixels: torch.Tensor) -> torch.Tensor:
        raise error

    with pytest.raises(MachineError, match=line):
        next(predict_levels([full], _images([(64, 96)] * count), fabric))
