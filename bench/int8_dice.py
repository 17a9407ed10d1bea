"""Mean Dice in float32, in half precision and in int8, on images that no run has seen.

    severstal export RUN --format openvino --int8
    python bench/int8_dice.py RUN [RUN...] [--truth test.csv --images test_images] [--engine openvino]

Each run predicts as `severstal predict` does, with its own thresholds and TTA views, first in float32 and then in the
fastest precision of the device; its int8 export (`RUN-openvino-int8`) predicts with its own thresholds. Without --truth
it is the holdout of the run's data. The target is a difference of at most 0.002 from float32. A processor without
bfloat16 computes "half" in float32.
"""

import argparse
import time
from pathlib import Path

from lightning_fabric import Fabric

from severstal_cli.learning.device import half_type, open_device
from severstal_cli.learning.inference import engines, ensemble, held_out, level_maps
from severstal_cli.progress import TerminalProgress
from severstal_cli.steel.images import decoding, image_files
from severstal_cli.steel.masks import postprocess
from severstal_cli.steel.scoring.dice import dice_matrix
from severstal_cli.steel.tables import mask_table


def images_of(run, options):
    """(image_ids, function that reads one, masks) of what is scored."""
    if options.truth is None:
        part = held_out.open_holdout([run], None, TerminalProgress())
        cache = part.data_folder.cache
        return part.image_ids, lambda image_id: cache[cache.index[image_id]], part.data_folder.masks
    paths = image_files.paths_by_id(image_files.find_images([options.images]))
    return (
        sorted(paths),
        lambda image_id: decoding.read_grey(paths[image_id]),
        mask_table.read_table(options.truth).masks,
    )


def mean_dice(run, fabric, options):
    """Mean Dice of a run on these images, and images per second from images in memory to masks."""
    how = ensemble.read([run])
    image_ids, read, true = images_of(run, options)
    members = engines.load_members(how.folders, how.cards, fabric, engine=options.engine, progress=TerminalProgress())
    images = [read(image_id) for image_id in image_ids]
    masks, begun = {}, time.perf_counter()
    levels_of = level_maps.predict_levels(members, images, fabric, views=how.views, exclusive=how.thresholds.exclusive)
    for image_id, levels in zip(image_ids, levels_of, strict=True):
        found = postprocess.levels_to_rle(levels, how.thresholds.rules)
        masks |= {(image_id, channel): runs for channel, runs in enumerate(found) if len(runs)}
    rate = len(images) / (time.perf_counter() - begun)
    return float(dice_matrix(masks, true, image_ids, how.cards[0].classes).mean()), rate, len(images)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--engine", default="openvino")
    options = parser.parse_args()
    fastest = open_device()
    exact = Fabric(accelerator=fastest.device.type, devices=1, precision="32-true")
    half = str(half_type(fastest) or "float32").removeprefix("torch.")
    for run in options.runs:
        int8 = run.with_name(f"{run.name}-openvino-int8")
        scores = []
        for name, folder, fabric in (("float32", run, exact), (half, run, fastest), ("int8", int8, fastest)):
            score, rate, count = mean_dice(folder, fabric, options)
            scores.append(score)
            print(
                f"{run.name}, {count} images, {name}: mean Dice {score:.5f} ({score - scores[0]:+.5f}), "
                f"{rate:.2f} images/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
