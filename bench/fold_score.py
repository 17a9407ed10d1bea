"""What a run reaches on its validation fold, as JSON: at threshold 0.5, and with thresholds that were searched fairly.

    python bench/fold_score.py models/unet-resnet34-fold0

The fold is dealt to fifths, near-duplicates together and every set of classes in each. Each fifth is scored with the
rules that `thresholds` chooses on the others; the mean over all images is the cross-fitted score. One view.
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
from severstal_cli.steel.thresholds.per_image_gains import Contributions
from severstal_cli.steel.thresholds.score_surface import ScoreSurface


def main():
    part = held_out.open_validation([Path(sys.argv[1])], None, SILENT)
    data_folder, ids = part.data_folder, part.image_ids
    height, width = data_folder.usual_size()
    surfaces = [ScoreSurface.for_images(height * width) for _ in range(data_folder.classes)]
    contributions = list(map(Contributions, surfaces))
    at_half = np.empty((len(ids), data_folder.classes))
    there = np.zeros(at_half.shape, bool)
    levels_of = part.levels(views="none", exclusive=part.cards[0].exclusive, batch_size=8, progress=SILENT)
    for row, (image_id, levels) in enumerate(levels_of):
        for channel, (surface, kept) in enumerate(zip(surfaces, contributions, strict=True)):
            runs = data_folder.masks.get((image_id, channel))
            there[row, channel] = runs is not None
            kept.add(row, surface.add(levels[channel], None if runs is None else rle.decode(runs, levels.shape[1:])))
            mask = rle.encode(postprocess.apply_rule(levels[channel], ClassPostprocess()))
            at_half[row, channel] = dice.dice(mask, rle.EMPTY if runs is None else runs)
    chosen = rule_selection.choose(
        contributions, rule_selection.deal(ids, part.split), rule_selection.groups_of(ids, part.split)
    )
    same = np.mean([choice.mean_dice_default for choice in chosen.choices])
    assert abs(same - at_half.mean()) < 1e-9, (same, at_half.mean())
    found = {
        "dice": float(at_half.mean()), "dice_present": float(at_half[there].mean()) if there.any() else None,
        "searched": chosen.mean_dice_held_out, "nothing": float(1 - there.mean()), "images": len(ids),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()
