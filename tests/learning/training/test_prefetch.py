"""Batches come to the device whole and in order."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from severstal_cli.learning.training import augmentation
from severstal_cli.learning.training.batches import Batch
from severstal_cli.learning.training.prefetch import AHEAD, on_device

DEVICES = (
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
)


def batch(number: int) -> Batch:
    rng = np.random.default_rng(number)
    return Batch(
        image_ids=(f"{number}.png",),
        images=rng.integers(0, 256, (1, 1, 512, 512), np.uint8),
        masks=rng.integers(0, 2, (1, 3, 512, 512), np.uint8),
        changes=augmentation.Changes.of([]),
        halved=False,
        loss_weight=1.0,
        ends_step=True,
    )


@pytest.mark.parametrize("device", DEVICES)
def test_batches_arrive_as_they_were_and_in_order(device: str) -> None:
    taken = []

    def batches() -> Iterator[Batch]:
        for number in range(12):
            taken.append(number)
            yield batch(number)

    for number, (sent, images, masks) in enumerate(on_device(batches(), torch.device(device))):
        assert len(taken) <= number + 1 + AHEAD, "no more than a few are on their way"
        assert sent.image_ids == (f"{number}.png",)
        # work that takes longer than a copy: memory that was given back too early would be overwritten
        total = torch.zeros(512, 512, device=device)
        for _ in range(20):
            total = total + images[0, 0] + masks[0].sum(0)
        expected = 20 * (sent.images[0, 0].astype(np.int64) + sent.masks[0].sum(0))
        assert (images.device.type, images.dtype) == (device, torch.uint8)
        assert np.array_equal(total.cpu().numpy(), expected)
    assert taken == list(range(12))


def test_the_error_of_a_batch_comes_through() -> None:
    def batches() -> Iterator[Batch]:
        yield batch(0)
        raise ValueError("the second one")

    fed = on_device(batches(), torch.device("cpu"))
    next(fed)
    with pytest.raises(ValueError, match="the second one"):
        next(fed)
