"""Test-time augmentation: what is applied is undone, and the mean is a mean."""

import pytest
import torch

from severstal_cli.errors import InputError
from severstal_cli.learning import tta


@pytest.mark.parametrize("name", tta.VIEWS)
def test_views_are_undone(name: str) -> None:
    images = torch.randn(2, 1, 6, 8)
    for apply, undo in tta.views_of(name):
        assert torch.equal(undo(apply(images)), images)


def test_views_differ() -> None:
    images = torch.randn(1, 1, 6, 8)
    seen = [apply(images) for apply, _ in tta.views_of("flips")]
    assert len(seen) == 4
    assert not any(torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_mean_is_taken_over_the_views_after_undoing_them() -> None:
    # a "network" that adds the column number: over an image and its mirror that is the mean column everywhere
    columns = torch.arange(8.0).expand(1, 1, 6, 8)
    images = torch.rand(3, 1, 6, 8)
    mean = tta.mean_probs(lambda batch: batch + columns, images, tta.views_of("hflip"))
    torch.testing.assert_close(mean, images + 3.5)


def test_views_reach_the_network_as_one_batch() -> None:
    sizes = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return batch

    tta.mean_probs(network, torch.rand(3, 1, 6, 8), tta.views_of("flips"))
    assert sizes == [12]


def test_unknown_set_is_told() -> None:
    with pytest.raises(InputError, match=r"unknown test-time augmentation: rot90\. Choose one of none, hflip, flips"):
        tta.views_of("rot90")
