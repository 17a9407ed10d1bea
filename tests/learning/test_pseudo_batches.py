"""Pseudo labels in the batches: their share of each step, their pixels and masks, and what stays as without them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from severstal_cli.config import TrainConfig
from severstal_cli.learning.training.batches import Batch, TrainingSet
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.dataset.pseudo_labels import open_pseudo


def _open(
    folder: Path, pseudo: dict[str, Path], *, channels: tuple[int, ...] = (0, 1), **settings: object
) -> TrainingSet:
    data_folder = open_data_folder(folder)
    image_ids = data_folder.cache.image_ids
    config = TrainConfig(data=folder, arch="unet-small", **pseudo, **settings)
    masks = {key: runs for key, runs in data_folder.masks.items() if key[1] in channels}
    labels = open_pseudo(config, data_folder, image_ids)
    return TrainingSet(dataclasses.replace(data_folder, masks=masks), image_ids, config, labels)


def _steps(data: TrainingSet, epoch: int, share_done: float = 0.0) -> list[list[Batch]]:
    steps: list[list[Batch]] = [[]]
    for batch in data.batches(epoch, share_done):
        steps[-1].append(batch)
        if batch.ends_step:
            steps.append([])
    return steps[:-1]


@pytest.mark.parametrize(
    ("settings", "of_step"),
    [
        ({"batch_size": 4}, 1),
        ({"batch_size": 4, "step_images": 8, "pseudo_share": 0.6}, 5),
        ({"batch_size": 3, "step_images": 8, "crop_widths_px": (32, 64)}, 2),
        ({"batch_size": 4, "pseudo_share": 0.01}, 1),
        ({"batch_size": 4, "pseudo_share": 0.99}, 3),
    ],
)
def test_each_step_has_its_share_and_each_annotated_image_comes_once(
    make_data, make_pseudo, settings: dict[str, object], of_step: int
) -> None:
    data = _open(make_data(images=13), make_pseudo(images=9, sure=6), **settings)
    orders = []
    for epoch in range(2):
        steps = _steps(data, epoch)
        assert len(steps) == len(data)
        named = [[name for batch in step for name in batch.image_ids] for step in steps]
        assert [sum(name.startswith("p") for name in names) for names in named] == [of_step] * len(steps)
        assert len({len(names) for names in named[:-1]}) <= 1
        assert sum(map(len, named)) == data.epoch_images
        assert [sum(batch.loss_weight for batch in step) for step in steps] == pytest.approx([1.0] * len(steps))
        assert all(len({batch.images.shape[2:] for batch in step}) == 1 for step in steps)
        flat = [name for names in named for name in names]
        assert sorted(name for name in flat if name[0] != "p") == sorted(data.image_ids)
        drawn = [name for name in flat if name[0] == "p"]
        counts = [drawn.count(f"p{number:09x}.png") for number in range(9)]
        assert counts[6:] == [0, 0, 0]  # not sure enough
        assert max(counts[:6]) - min(counts[:6]) <= 1  # all of them before any comes again
        orders.append(drawn)
    assert of_step == 0 or orders[0] != orders[1]


def test_batches_of_a_step_are_mixed(make_data, make_pseudo) -> None:
    data = _open(make_data(images=48), make_pseudo(), batch_size=4, step_images=8, pseudo_share=0.5)
    batches = [batch for step in _steps(data, 0) for batch in step]
    pure = sum(len({name[0] for name in batch.image_ids}) == 1 for batch in batches)
    assert pure < len(batches) / 3


@pytest.mark.parametrize("share_done", [0.0, 1.0], ids=["pieces", "whole images"])
def test_batches_depend_on_seed_epoch_and_position_alone(make_data, make_pseudo, share_done: float) -> None:
    folder, pseudo = make_data(images=12, size=(64, 160)), make_pseudo(size=(64, 160))
    settings = {"batch_size": 4, "crop_widths_px": (64,), "whole_image_share": 0.5, "paste_share": 0.5}

    def epoch(number: int, seed: int = 0, before: int = 0) -> list[tuple[object, ...]]:
        data = _open(folder, pseudo, seed=seed, **settings)
        for other in range(before):
            list(data.batches(other))
        return [(b.image_ids, b.images.tobytes(), b.masks.tobytes()) for b in data.batches(number, share_done)]

    first = epoch(3)
    assert first == epoch(3, before=2)
    assert first != epoch(4)
    assert first != epoch(3, seed=1)


def test_masks_lie_on_the_pixels_of_their_own_photograph(make_data, make_pseudo) -> None:
    data = _open(make_data(images=12), make_pseudo(images=12, sure=12), batch_size=4, crop_widths_px=(64,))
    seen = 0
    for epoch in range(4):
        for batch in data.batches(epoch):
            for name, image, (bright, dark) in zip(batch.image_ids, batch.images[:, 0], batch.masks > 0, strict=True):
                if name[0] == "p":
                    assert 100 < image[~bright & ~dark].mean() < 120
                    assert not bright.any() or (image[bright] > 130).mean() > 0.97
                    assert not dark.any() or (image[dark] < 90).mean() > 0.97
                    seen += bright.any() + dark.any()
    assert seen > 5


def test_pasted_defects_are_annotated_ones(make_data, make_pseudo) -> None:
    data = _open(make_data(images=24), make_pseudo(), channels=(0,), batch_size=4, paste_share=1.0)
    batches = list(data.batches(0))
    of_class = [np.zeros(2, int), np.zeros(2, int)]
    for batch in batches:
        for name, masks in zip(batch.image_ids, batch.masks, strict=True):
            of_class[name[0] == "p"] += masks.any(axis=(1, 2))
    assert of_class[0][1] == 0  # class 2 is known from pseudo labels alone
    assert of_class[0][0] > 0
    assert of_class[1][1] > 0
