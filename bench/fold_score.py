"""What a run reaches on its validation fold, as JSON: at threshold 0.5, and with thresholds that were searched fairly.

    python bench/fold_score.py models/unet-resnet34-fold0

The fold is halved, near-duplicates together and every set of classes in both. The thresholds searched on one half are
scored on the other, and the other way round; the mean over all images is the cross-fitted score. A surface of the
search holds the score of every rule, so each image is predicted, and its components counted, once. One view, no gate.
"""

import json
import sys
from pathlib import Path

import numpy as np

from severstal_cli.learning import evaluation
from severstal_cli.progress import SILENT
from severstal_cli.steel import dice, halves, postprocess, rle
from severstal_cli.steel.postprocess import ClassRule
from severstal_cli.steel.search import ONE, ScoreSurface


def main():
    part = evaluation.open_validation([Path(sys.argv[1])], None, SILENT)
    photographs, ids = part.photographs, part.image_ids
    half = halves.deal(ids, part.split)
    height, width = photographs.usual_size()
    surfaces = [[ScoreSurface.for_images(height * width) for _ in range(photographs.classes)] for _ in range(2)]
    at_half = np.empty((len(ids), photographs.classes))
    there = np.zeros(at_half.shape, bool)
    for row, (image_id, levels) in enumerate(part.levels(views="none", batch_size=8, progress=SILENT)):
        shown = postprocess.make_exclusive(levels) if part.cards[0].exclusive else levels
        for channel, surface in enumerate(surfaces[half[row]]):
            runs = photographs.masks.get((image_id, channel))
            there[row, channel] = runs is not None
            surface.add(shown[channel], None if runs is None else rle.decode(runs, levels.shape[1:]))
            mask = rle.encode(postprocess.apply_rule(shown[channel], ClassRule()))
            at_half[row, channel] = dice.dice(mask, rle.EMPTY if runs is None else runs)
    searched = same = 0.0
    for own, other in (surfaces, surfaces[::-1]):
        for from_own, from_other in zip(own, other, strict=True):
            searched += from_own.sum_of(from_other.choose().rule) / ONE / at_half.size
            same += from_own.images * from_own.choose().mean_dice_default / at_half.size
    assert abs(same - at_half.mean()) < 1e-9, (same, at_half.mean())
    found = {
        "dice": float(at_half.mean()), "dice_present": float(at_half[there].mean()) if there.any() else None,
        "searched": searched, "nothing": float(1 - there.mean()), "images": len(ids),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()
