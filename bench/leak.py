"""Leakage by near-duplicates: how much they raise a score if a split separates them, on synthetic steel.

    python bench/leak.py --out DIR [--epochs 12] [--seeds 0 1 2] [--images 300] [--arch linknet] [--encoder resnet18]

In a synthetic set of 64 x 128, half of the images are near-duplicates of another one; some of these form the holdout.
Each seed has two trainings with the same number of images, settings and epochs, scored on the same holdout. One never
saw its steel, as with a split that keeps near-duplicates together. The other one has the near-duplicates of each
held-out image in its training set, as with a split by single images. Existing trainings are reused. Thresholds are
tuned on the same validation images, which belong to neither. The 95 % interval of the difference covers other images
and other seeds.
"""

import argparse
import os
import shutil
from pathlib import Path

import numpy as np

from severstal_cli.config import ScoreConfig, ThresholdsConfig, TrainConfig
from severstal_cli.learning.networks import names
from severstal_cli.learning.runs import run_folder
from severstal_cli.progress import TerminalProgress
from severstal_cli.stages import scoring, threshold_search, training
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.dataset.splits import split_data
from severstal_cli.steel.scoring import scores
from severstal_cli.steel.synth import series, write_synthetic_set
from severstal_cli.steel.tables import mask_table

SIZE = 64, 128
VALIDATION = 100


def draw(folder, images):
    """Make a set with many near-duplicates; return its split, with their groups."""
    from severstal_cli.config import SplitConfig

    if not (folder / "splits.csv").exists():
        series.COPIES = 0.5
        write_synthetic_set(folder, seed=0, images=6 * images, test_images=0, size=SIZE, defect_share=0.7)
        split_data(SplitConfig(data=folder), TerminalProgress())
    return splits.read_splits(folder / "splits.csv")


def assign(split, images):
    """Return names: held out, their near-duplicates, validation, others, without any further near-duplicates."""
    members = {}
    for name, group in split.groups.items():
        members.setdefault(group, []).append(name)
    rng = np.random.default_rng(0)
    order = [members[group] for group in rng.permutation(sorted(members))]
    several, alone = [names for names in order if len(names) > 1], [names[0] for names in order if len(names) == 1]
    several = several[: images // 2]
    held, twins = [names[0] for names in several], [names[1] for names in several]
    return held, twins, alone[:VALIDATION], alone[VALIDATION:]


def write(folder, whole, masks, held, validation, train):
    """Write a data folder of these images only, with their split."""
    if folder.exists():
        return
    (folder / "train_images").mkdir(parents=True)
    names = [*held, *validation, *train]
    for name in names:
        os.link(whole / "train_images" / name, folder / "train_images" / name)
    own = {key: runs for key, runs in masks.items() if key[0] in set(names)}
    mask_table.write_table(folder / "train.csv", own, names, 4, layout=mask_table.Layout.CURRENT, empty_rows=False)
    parts = np.array([-1] * len(held) + [0] * len(validation) + [1] * len(train), np.int8)
    sets = [frozenset(channel + 1 for channel in range(4) if (name, channel) in masks) for name in names]
    splits.write_splits(folder / "splits.csv", names, parts, np.arange(len(names)), sets)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--arch", default="linknet")
    parser.add_argument("--encoder", default="resnet18")
    options = parser.parse_args()
    progress = TerminalProgress()
    split = draw(options.out / "whole", options.images)
    masks = open_data_folder(options.out / "whole", progress).masks
    held, twins, validation, others = assign(split, options.images)
    if len(others) < options.images:
        raise SystemExit(f"only {len(others)} images are left to train on")
    print(f"{len(held)} held out, {len(validation)} to validate on, {options.images} to train on", flush=True)
    scores_of = {}
    for name, train in (("together", others), ("apart", twins + others)):
        data = options.out / name
        write(data, options.out / "whole", masks, held, validation, train[: options.images])
        scores_of[name] = []
        for seed in options.seeds:
            config = TrainConfig(
                data=data, arch=options.arch, encoder=options.encoder, encoder_weights="none", seed=seed, fold=0,
                epochs=options.epochs, learning_rate=3e-3, crop_widths_px=(SIZE[1],),
                models=options.out / "models", name=f"{name}-{seed}",
            )  # fmt: skip
            folder = names.folder_for(config)
            if not (folder / run_folder.THRESHOLDS).exists():
                shutil.rmtree(folder, ignore_errors=True)
                training.train(config, progress)
                threshold_search.search(ThresholdsConfig(runs=(folder,)), progress)
            scores_of[name].append(scoring.score_runs(ScoreConfig(runs=(folder,)), progress))
            print(f"{name}, seed {seed}: {scores_of[name][-1].dice.mean():.4f}", flush=True)
    first = scores_of["together"][0]
    # the two folders list the same images in the same order of names
    nothing = float((~first.there).mean())
    for name, every in scores_of.items():
        print(f"{name}: {np.mean([one.dice.mean() for one in every]):.4f} (predicting nothing {nothing:.4f})")
    apart = scores.differences(scores_of["apart"], scores_of["together"])[-1]
    print(
        f"near-duplicates on both sides add {apart.difference:+.4f}, 95 % interval {apart.interval[0]:+.4f} to "
        f"{apart.interval[1]:+.4f}"
    )


if __name__ == "__main__":
    main()
