"""What an epoch is judged by."""

import csv

import numpy as np
import pytest
import torch

from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.dataset.splits import HOLDOUT, read_splits
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.scoring import dice


def test_validation_is_the_competitions_dice_on_whole_images_of_the_fold(trained) -> None:
    data, folder = trained
    card = model_card.read_card(folder)
    data_folder = open_data_folder(data)
    split = read_splits(data / "splits.csv")
    fold = split.ids_of("0")
    assert card.validation_images == len(fold)
    assert card.train_images == len(split.parts) - len(fold) - len(split.ids_of(HOLDOUT))
    network = run_folder.load_network(folder, card)
    scores = []
    for image_id in fold:
        image = data_folder.cache[data_folder.cache.index[image_id]]
        pixels = (torch.from_numpy(image.copy()).float()[None, None] / 255 - card.mean) / card.std
        with torch.no_grad():
            logits = network(pixels)
        # the head's probability that a class is there is a factor
        probs = (logits.masks.sigmoid() * logits.classes.sigmoid()[:, :, None, None])[0].numpy()
        levels = np.round(probs * 255).astype(np.uint8)
        exclusive = postprocess.make_exclusive(levels) if card.exclusive else levels
        for channel in range(card.classes):
            true = data_folder.masks.get((image_id, channel), rle.EMPTY)
            scores.append(dice.dice(rle.encode(exclusive[channel] >= 128), true))
    # the run validated in the precision of the device, this is float32
    assert card.validation_dice == pytest.approx(float(np.mean(scores)), abs=0.02)
    best = max(float(row["dice"]) for row in csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert card.validation_dice == pytest.approx(best)
