"""Test-time augmentation: what is applied is undone, and the mean is a mean."""

import pytest
import torch

from severstal_cli.errors import InputError
from severstal_cli.learning.inference import tta


@pytest.mark.parametrize(
    "name", [name for name in (*tta.SETS, *tta.VIEWS) if name not in ("scales", "smaller", "larger")]
)
def test_flips_are_undone(name: str) -> None:
    images = torch.randn(2, 1, 6, 8)
    for view in tta.views_of(name):
        assert torch.equal(view.undo(view.apply(images), (6, 8)), images)


def test_scaled_views_are_of_sizes_that_networks_take_and_come_back_in_place() -> None:
    ramp = torch.linspace(0, 1, 256).expand(1, 1, 128, 256)
    shapes = {tuple(view.apply(ramp).shape[-2:]) for view in tta.views_of("scales")}
    assert shapes == {(128, 256), (96, 192), (160, 320)}
    for view in tta.views_of("scales"):
        undone = view.undo(view.apply(ramp), (128, 256))
        torch.testing.assert_close(undone, ramp, atol=0.01, rtol=0)


def test_views_differ_and_names_are_joined() -> None:
    images = torch.randn(1, 1, 64, 96)
    seen = [view.apply(images) for view in tta.views_of("flips,scales,hflip")]
    assert len(seen) == 6
    assert not any(a.shape == b.shape and torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert len(tta.views_of("hflip,vflip")) == 3
    assert len(tta.views_of("none,none")) == 1


def test_mean_is_taken_over_the_views_after_undoing_them() -> None:
    # a "network" that adds the column number: over an image and its mirror that is the mean column everywhere
    columns = torch.arange(8.0).expand(1, 1, 6, 8)
    images = torch.rand(3, 1, 6, 8)
    mean = tta.mean_probs(lambda batch: batch + columns, images, tta.views_of("hflip"))
    torch.testing.assert_close(mean, images + 3.5)


def test_each_view_counts_once_whatever_its_size() -> None:
    # a "network" that tells how wide what it sees is
    def width(batch: torch.Tensor) -> torch.Tensor:
        return torch.full_like(batch, batch.shape[-1])

    mean = tta.mean_probs(width, torch.rand(2, 1, 64, 128), tta.views_of("hflip,scales"))
    torch.testing.assert_close(mean, torch.full((2, 1, 64, 128), (128 + 128 + 96 + 160) / 4))


def test_views_of_a_size_reach_the_network_as_one_batch() -> None:
    sizes = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(batch.shape))
        return batch

    tta.mean_probs(network, torch.rand(3, 1, 64, 128), tta.views_of("flips,larger"))
    assert sizes == [(12, 1, 64, 128), (3, 1, 64, 160)]


@pytest.mark.parametrize("name", ["rot90", "", "hflip,", "hflip vflip"])
def test_unknown_views_are_told(name: str) -> None:
    with pytest.raises(InputError, match=r"unknown test-time augmentation: .*\. Choose of none, flips, scales, hflip"):
        tta.views_of(name)
