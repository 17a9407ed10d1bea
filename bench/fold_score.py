"""The score of a run on its validation fold, as JSON: at threshold 0.5, and with cross-validated thresholds.

    python bench/fold_score.py models/unet-resnet34-fold0

The fold is split into fifths, stratified by classes, with near-duplicates kept together. Each fifth is scored with the
post-processing that `thresholds` selects on the others; `searched` is the mean over all images. One view, no TTA.
"""

import json
import sys
from pathlib import Path

import numpy as np

from severstal_cli.learning.inference import held_out
from severstal_cli.progress import SILENT
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.masks.postprocess import ClassPostprocess
from severstal_cli.steel.scoring import dice
from severstal_cli.steel.thresholds import rule_selection
from severstal_cli.steel.thresholds.per_image_gains import PerImageGains


def main():
    part = held_out.open_validation([Path(sys.argv[1])], None, SILENT)
    data_folder, ids = part.data_folder, part.image_ids
    height, width = data_folder.usual_size()
    gains = [PerImageGains.for_images(height * width) for _ in range(data_folder.classes)]
    at_half = np.empty((len(ids), data_folder.classes))
    is_present = np.zeros(at_half.shape, bool)
    levels_of = part.levels(views="none", exclusive=part.cards[0].exclusive, batch_size=8, progress=SILENT)
    for row, (image_id, levels) in enumerate(levels_of):
        for channel, of_class in enumerate(gains):
            runs = data_folder.masks.get((image_id, channel))
            is_present[row, channel] = runs is not None
            of_class.add(row, levels[channel], None if runs is None else rle.decode(runs, levels.shape[1:]))
            mask = postprocess.levels_to_rle(levels[[channel]], [ClassPostprocess()])[0]
            at_half[row, channel] = dice.dice(mask, rle.EMPTY if runs is None else runs)
    chosen = rule_selection.choose(
        gains, rule_selection.assign_folds(ids, part.split), rule_selection.groups_of(ids, part.split)
    )
    default = np.mean([choice.mean_dice_default for choice in chosen.choices])
    assert abs(default - at_half.mean()) < 1e-9, (default, at_half.mean())
    result = {
        "dice": float(at_half.mean()),
        "dice_present": float(at_half[is_present].mean()) if is_present.any() else None,
        "searched": chosen.mean_dice_held_out,
        "nothing": float(1 - is_present.mean()),
        "images": len(ids),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
