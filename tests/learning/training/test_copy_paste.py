"""Defects of other images: where they go, what they bring, what they leave alone."""

from pathlib import Path

import numpy as np

from severstal_cli.config import TrainConfig
from severstal_cli.learning.training.batches import TrainingSet
from severstal_cli.learning.training.copy_paste import FEATHER_PX, Donors
from severstal_cli.steel.dataset.data_folder import open_data_folder


def _donors(folder: Path) -> Donors:
    data_folder = open_data_folder(folder)
    return Donors(data_folder.cache, data_folder.cache.image_ids, data_folder.masks, data_folder.classes)


def test_a_defect_comes_with_its_mask_and_leaves_the_rest(make_data) -> None:
    donors = _donors(make_data(images=12, size=(64, 96)))
    classes = set()
    for seed in range(30):
        image, masks = np.full((64, 96), 110, np.uint8), np.zeros((2, 64, 96), np.uint8)
        donors.paste(np.random.default_rng(seed), image, masks)
        found = np.flatnonzero(masks.any(axis=(1, 2)))
        assert len(found) == 1
        classes.add(int(found[0]))
        inside = masks[found[0]].astype(bool)
        light = image[inside].astype(float).mean()
        assert light > 130 if found[0] == 0 else light < 90  # class 1 is bright, class 2 dark
        ys, xs = np.nonzero(inside)
        far = np.ones_like(inside)
        far[
            max(0, ys.min() - FEATHER_PX) : ys.max() + FEATHER_PX + 1,
            max(0, xs.min() - FEATHER_PX) : xs.max() + FEATHER_PX + 1,
        ] = False
        assert (image[far] == 110).all()
    assert classes == {0, 1}


def test_what_is_there_is_never_touched(make_data) -> None:
    donors = _donors(make_data(images=12, size=(64, 96)))
    pasted = 0
    for seed in range(40):
        image, masks = np.full((64, 96), 110, np.uint8), np.zeros((2, 64, 96), np.uint8)
        masks[0, :, :48] = 1
        donors.paste(np.random.default_rng(seed), image, masks)
        assert masks[0, :, :48].all()
        assert not masks[1, :, :48].any()
        pasted += masks[:, :, 48:].any()
        if not masks[:, :, 48:].any():
            assert (image == 110).all()
    assert 0 < pasted < 40


def test_rare_classes_are_pasted_as_often_as_common_ones(make_data) -> None:
    data_folder = open_data_folder(make_data(images=24))
    second = [key for key in data_folder.masks if key[1] == 1]
    masks = {key: runs for key, runs in data_folder.masks.items() if key[1] == 0 or key == second[0]}
    donors = Donors(data_folder.cache, data_folder.cache.image_ids, masks, 2)
    found = np.zeros(2, int)
    for seed in range(200):
        image, drawn = np.full((64, 96), 110, np.uint8), np.zeros((2, 64, 96), np.uint8)
        donors.paste(np.random.default_rng(seed), image, drawn)
        found += drawn.any(axis=(1, 2))
    assert 70 < found[1] < 130


def test_a_defect_larger_than_the_piece_is_cut(make_data) -> None:
    donors = _donors(make_data(images=12, size=(64, 96)))
    image, masks = np.full((8, 8), 110, np.uint8), np.zeros((2, 8, 8), np.uint8)
    for seed in range(10):
        donors.paste(np.random.default_rng(seed), image, masks)
    assert masks.any()


def test_the_share_of_pasted_pieces(make_data) -> None:
    folder = make_data(images=60, size=(64, 96))
    data_folder = open_data_folder(folder)

    def batch(**shares: float):
        config = TrainConfig(data=folder, arch="unet-small", batch_size=60, **shares)
        data = TrainingSet(data_folder, data_folder.cache.image_ids, config)
        return next(iter(data.batches(0)))

    plain, pasted = batch(), batch(paste_share=0.5)
    more = (pasted.masks.sum(axis=(1, 2, 3)) > plain.masks.sum(axis=(1, 2, 3))).mean()
    assert 0.1 < more < 0.5  # the defects of this set are large: many find no room
