"""Batches: each image once, masks where their pixels are, the same for the same (seed, epoch, position)."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from severstal_cli.config import TrainConfig
from severstal_cli.learning.training.batches import Batch, TrainingSet
from severstal_cli.steel.dataset.data_folder import DataFolder, open_data_folder


def _open(folder: Path, rank: int = 0, world: int = 1, **settings: object) -> tuple[DataFolder, TrainingSet]:
    data_folder = open_data_folder(folder)
    config = TrainConfig(data=folder, arch="unet-small", **settings)
    image_ids = data_folder.cache.image_ids
    return data_folder, TrainingSet(data_folder, image_ids, config, rank=rank, world=world)


def _equal(one: Batch, other: Batch) -> bool:
    changes = all(
        np.array_equal(getattr(one.changes, field.name), getattr(other.changes, field.name))
        for field in dataclasses.fields(one.changes)
    )
    same_pixels = np.array_equal(one.images, other.images) and np.array_equal(one.masks, other.masks)
    return one.image_ids == other.image_ids and same_pixels and changes


def test_an_epoch_has_every_image_once_in_an_order_of_its_own(make_data) -> None:
    _, data = _open(make_data(images=13), batch_size=4)
    epochs = [[name for batch in data.batches(epoch) for name in batch.image_ids] for epoch in range(2)]
    assert len(data) == 4
    assert [sorted(names) for names in epochs] == [sorted(data.image_ids)] * 2
    assert epochs[0] != epochs[1]


def test_batches_depend_on_seed_epoch_and_position_alone(make_data) -> None:
    folder = make_data(images=12, size=(64, 160))
    settings = {"batch_size": 4, "crop_widths_px": (64,)}
    first = list(_open(folder, **settings)[1].batches(3))
    data = _open(folder, **settings)[1]
    list(data.batches(0))  # what was drawn before does not matter
    assert all(_equal(a, b) for a, b in zip(first, data.batches(3), strict=True))
    assert not any(_equal(a, b) for a, b in zip(first, data.batches(4), strict=True))
    other = _open(folder, **settings, seed=1)[1]
    assert not any(_equal(a, b) for a, b in zip(first, other.batches(3), strict=True))


@pytest.mark.parametrize(("world", "batch", "step"), [(2, 4, None), (2, 2, 3), (3, 1, 2), (3, 4, 4), (20, 2, None)])
def test_devices_share_the_images_of_each_step(make_data, world: int, batch: int, step: int | None) -> None:
    folder = make_data(images=13, size=(64, 160))
    settings = {"batch_size": batch, "step_images": step, "crop_widths_px": (64,)}
    sets = [_open(folder, rank, world, **settings)[1] for rank in range(world)]
    alone = _open(folder, batch_size=13, crop_widths_px=(64,))[1]
    pieces = {name: row for whole in alone.batches(1) for name, row in zip(whole.image_ids, whole.images, strict=True)}
    seen: list[str] = []
    weight = 0.0
    steps = 0
    for batches in zip(*(data.batches(1) for data in sets), strict=True):  # as many on each
        assert len({(one.ends_step, one.images.shape[2:]) for one in batches}) == 1
        counts = [len(one.image_ids) for one in batches]
        assert max(counts) <= batch
        assert max(counts) - min(counts) <= 1
        assert all(len(one.images) == max(count, 1) for one, count in zip(batches, counts, strict=True))
        for one in batches:
            assert all(np.array_equal(pieces[name], row) for name, row in zip(one.image_ids, one.images, strict=False))
            seen += one.image_ids
        weight += sum(one.loss_weight for one in batches) / world
        if batches[0].ends_step:
            assert weight == pytest.approx(1)
            weight, steps = 0.0, steps + 1
    assert sorted(seen) == sorted(sets[0].image_ids)
    assert steps == len(sets[0])


@pytest.mark.parametrize("size", [(64, 160), (80, 64), (50, 70)])
def test_masks_lie_on_their_pixels(make_data, size: tuple[int, int]) -> None:
    # bright and dark rectangles on mid-grey: whatever was cut, flipped or reflected, the light tells where they are
    _, data = _open(make_data(images=12, size=size), batch_size=3, crop_widths_px=(64,), crop_height_px=64)
    seen = 0
    for epoch in range(3):
        for batch in data.batches(epoch):
            assert batch.images.shape == (3, 1, *data.piece)
            bright, dark = batch.masks[:, 0].astype(bool), batch.masks[:, 1].astype(bool)
            pixels = batch.images[:, 0].astype(float)
            plain = pixels[~bright & ~dark]
            assert 100 < plain.mean() < 120
            if bright.any():
                assert (pixels[bright] > 130).mean() > 0.97
            if dark.any():
                assert (pixels[dark] < 90).mean() > 0.97
            seen += bright.any() + dark.any()
    assert seen > 10


def test_pieces_are_multiples_of_32_that_waste_little(make_data) -> None:
    folder = make_data(size=(50, 70))
    assert _open(folder)[1].piece == (64, 64)  # 14 of 50 rows are too many to leave out, 6 of 70 columns are not
    assert _open(folder, crop_widths_px=(32,))[1].piece == (64, 32)
    assert _open(make_data("larger", size=(200, 200)))[1].piece == (192, 192)


def test_steps_take_one_of_the_widths_and_are_gathered_over_batches(make_data) -> None:
    folder = make_data(images=23, size=(64, 640))
    _, data = _open(folder, batch_size=2, step_images=5, crop_widths_px=(64, 96, 256))
    assert (len(data), data.piece) == (5, (64, 256))
    batches = list(data.batches(0))
    assert [len(batch.image_ids) for batch in batches] == [2, 2, 1] * 4 + [2, 1]
    assert [batch.ends_step for batch in batches] == [False, False, True] * 4 + [False, True]
    assert [batch.loss_weight for batch in batches[-3:]] == pytest.approx([1 / 5, 2 / 3, 1 / 3])
    widths = [batch.images.shape[3] for batch in batches]
    assert all(len(set(widths[at : at + 3])) == 1 for at in range(0, 12, 3))
    seen = {batch.images.shape[3] for epoch in range(6) for batch in data.batches(epoch)}
    assert seen == {64, 96, 256}
    assert sorted(name for batch in batches for name in batch.image_ids) == sorted(data.image_ids)


def test_half_size_first_whole_images_last(make_data) -> None:
    folder = make_data(images=12, size=(96, 640))
    settings = {"batch_size": 8, "crop_widths_px": (160,), "half_size_share": 0.3, "whole_image_share": 0.2}
    data_folder, data = _open(folder, **settings)
    first, middle, last = (next(iter(data.batches(0, share))) for share in (0.29, 0.3, 0.8))
    # at half size the sides are multiples of 64, so that the halves are of 32
    assert (first.halved, first.images.shape) == (True, (8, 1, 128, 192))
    assert (middle.halved, middle.images.shape) == (False, (8, 1, 96, 160))
    # a device takes as many pixels of whole images at once as of pieces
    assert (last.halved, last.images.shape) == (False, (2, 1, 96, 640))
    for name, image in zip(last.image_ids, last.images[:, 0], strict=True):
        true = data_folder.cache[data_folder.cache.index[name]]
        assert any(np.array_equal(image, true[::rows, ::columns]) for rows in (1, -1) for columns in (1, -1))


def test_the_largest_batch_is_that_of_the_stage_with_the_most_pixels(make_data) -> None:
    folder = make_data(size=(64, 160))
    crops = {"crop_widths_px": (32, 64), "batch_size": 4}
    assert _open(folder, **crops)[1].largest_batch == (4, 64, 64)
    assert _open(folder, **crops, step_images=3)[1].largest_batch == (3, 64, 64)
    assert _open(folder, **crops, whole_image_share=0.5)[1].largest_batch == (4, 64, 64)  # 1 whole image is less
    assert _open(folder, **crops | {"batch_size": 2}, whole_image_share=0.5)[1].largest_batch == (1, 64, 160)
    data = _open(folder, **crops | {"batch_size": None}, step_images=6)[1]
    assert data.largest_batch == (6, 64, 64)
    data.at_once = 3
    assert data.largest_batch == (3, 64, 64)
    assert [len(batch.image_ids) for batch in data.batches(0)] == [3] * 8


def test_share_of_pieces_over_defects(make_data) -> None:
    folder = make_data(images=90, size=(64, 640))

    def share_with_defect(defect_share: float) -> float:
        data_folder, data = _open(folder, crop_widths_px=(64,), defect_share=defect_share)
        with_defect = {image_id for image_id, _ in data_folder.masks}
        found = [
            mask.any()
            for batch in data.batches(0)
            for name, mask in zip(batch.image_ids, batch.masks, strict=True)
            if name in with_defect
        ]
        return float(np.mean(found))

    assert share_with_defect(1.0) == 1.0
    assert 0.2 < share_with_defect(0.0) < 0.65
    assert 0.5 < share_with_defect(0.5) < 0.9


def test_changes_of_light_and_flips_occur_within_their_ranges(make_data) -> None:
    _, data = _open(make_data(images=24), brightness=0.1, contrast=0.25, batch_size=24)
    gains, offsets = zip(
        *((batch.changes.gain, batch.changes.offset) for epoch in range(4) for batch in data.batches(epoch)),
        strict=True,
    )
    gain, offset = np.concatenate(gains), np.concatenate(offsets)
    assert 0.8 <= gain.min() < 0.85 < 1.15 < gain.max() <= 1.25
    assert -0.1 <= offset.min() < -0.08 < 0.08 < offset.max() <= 0.1


def test_a_reader_that_stops_early_leaves_no_thread_behind(make_data) -> None:
    import threading

    _, data = _open(make_data(images=24), batch_size=2)
    before = threading.active_count()
    batches = data.batches(0)
    next(batches)
    batches.close()
    assert threading.active_count() == before
