"""Batch norms behind global pooling take a single image; otherwise they are torch's own."""

import pytest
import torch
from torch import nn

from severstal_cli.learning.networks import registry
from severstal_cli.learning.networks.pooled_norm import PooledNorm, accept_single_images


@pytest.mark.parametrize("arch", ["deeplabv3plus", "upernet"])
def test_the_norm_behind_global_pooling_alone_is_replaced(arch: str) -> None:
    network = registry.build(arch, encoder="resnet18", classes=2)
    replaced = [part for part in network.modules() if isinstance(part, PooledNorm)]
    assert len(replaced) == 1
    assert not [name for name, value in network.state_dict().items() if value.is_meta]


def test_a_batch_is_normalised_as_by_torch() -> None:
    branch = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=1e-3, momentum=0.3))
    own = branch[2]
    nn.init.uniform_(own.weight)
    decoder = nn.Sequential(branch)
    images = torch.rand(5, 3, 8, 8)
    expected, statistics = branch(images), own.running_var.clone()
    own.reset_running_stats()
    accept_single_images(decoder)
    assert type(branch[2]) is PooledNorm
    torch.testing.assert_close(branch(images), expected)
    torch.testing.assert_close(branch[2].running_var, statistics)


def test_a_single_image_is_normalised_by_running_statistics() -> None:
    torch.manual_seed(0)
    norm = PooledNorm(4)
    for _ in range(3):
        norm(torch.rand(8, 4, 1, 1))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    one = torch.rand(1, 4, 1, 1, requires_grad=True)
    found = norm.train()(one)
    torch.testing.assert_close(found, norm.eval()(one))
    found.sum().backward()
    assert norm.weight.grad is not None
    assert norm.weight.grad.any()
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_several_values_per_channel_of_one_image_are_a_batch() -> None:
    norm, plain = PooledNorm(4), nn.BatchNorm2d(4)
    one = torch.rand(1, 4, 2, 2)
    torch.testing.assert_close(norm(one), plain(one))
