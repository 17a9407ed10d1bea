"""Effect of half precision and other engines on the mean Dice of the holdout, relative to torch in float32.

    python bench/prediction_precision.py RUN [RUN...] [--engines torch openvino] [--tta none] [--precision auto]

Each run predicts its holdout with torch in float32, and then like `severstal predict` with each engine in the fastest
precision of the device, always with the run's own thresholds. The target is a difference of at most 0.001.
`--precision bf16-mixed` uses bfloat16 even if the device has no instructions for it, which is slow.
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import engines, ensemble, held_out, level_maps
from severstal_cli.progress import SILENT
from severstal_cli.steel.masks import postprocess
from severstal_cli.steel.scoring.dice import dice_matrix


def masks_and_levels(part, how, members, fabric, views):
    cache = part.data_folder.cache
    pixels = (cache[cache.index[image_id]] for image_id in part.image_ids)
    masks, first = {}, []
    levels_of = level_maps.predict_levels(members, pixels, fabric, views=views, exclusive=how.thresholds.exclusive)
    for image_id, levels in zip(part.image_ids, levels_of, strict=True):
        found = postprocess.levels_to_rle(levels, how.thresholds.rules)
        masks |= {(image_id, channel): runs for channel, runs in enumerate(found) if len(runs)}
        first.append(levels.copy() if len(first) < 16 else None)
    return masks, list(islice(first, 16))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--engines", nargs="+", default=["torch", "openvino"])
    parser.add_argument("--tta", default="none")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    fastest = open_device(options.precision)
    exact = Fabric(accelerator=fastest.device.type, devices=1, precision="32-true")
    for folder in options.runs:
        how, part = ensemble.read([folder]), held_out.open_holdout([folder], None, SILENT)
        scores, levels = {}, {}
        for name, engine, fabric in [("float32", "torch", exact), *((name, name, fastest) for name in options.engines)]:
            members = engines.load_members(how.folders, how.cards, fabric, engine=engine)
            masks, levels[name] = masks_and_levels(part, how, members, fabric, options.tta)
            true, classes = part.data_folder.masks, len(how.thresholds.rules)
            scores[name] = float(dice_matrix(masks, true, part.image_ids, classes).mean())
        print(f"{folder.name}, {len(part.image_ids)} images: mean Dice by torch in float32 {scores['float32']:.5f}")
        for name in options.engines:
            apart = np.abs(np.stack(levels[name]).astype(int) - np.stack(levels["float32"]))
            print(
                f"    {name}, {fastest._precision.precision}: {scores[name] - scores['float32']:+.5f}; levels differ "
                f"by {apart.mean():.3f}, 1 in 10,000 by more than {np.quantile(apart, 0.9999):.0f}"
            )


if __name__ == "__main__":
    main()
