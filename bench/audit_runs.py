"""Runs trained on annotations with injected faults, and their out-of-fold levels, for `bench/audit.py`.

Each seed has a folder: data/ with the noisy train.csv, clean.csv and faults.csv, models/fold0, fold1, ..., and
levels.npz. What is done is kept: the same command resumes.
"""

import os
import shutil
from pathlib import Path

import audit_faults
import numpy as np
from neu_seg import Work

from severstal_cli.learning.inference import held_out
from severstal_cli.progress import SILENT
from severstal_cli.stages import demo
from severstal_cli.steel.dataset import data_folder
from severstal_cli.steel.synth import write_synthetic_set
from severstal_cli.steel.tables import mask_table

STEEL_SEED = 100


def draw_steel(options):
    """The synthetic steel of `severstal demo`, a third of it clean: WORK/steel, with the images of all seeds."""
    folder = options.work / "steel"
    if not folder.exists():
        begun = folder.with_suffix(".begun")
        write_synthetic_set(
            begun,
            seed=STEEL_SEED,
            images=3 * options.images,
            test_images=0,
            size=demo.SIZE,
            defect_share=0.65,
            rare_boost=1.0,
            difficulty=0.0,
        )
        begun.rename(folder)
    return folder


def make_data(source, folder, options, seed):
    """A random part of a data folder with faults in its train.csv, and its split."""
    begun = folder.with_suffix(".begun")
    shutil.rmtree(begun, ignore_errors=True)
    (begun / "train_images").mkdir(parents=True)
    table = mask_table.read_table(source / "train.csv")
    names = sorted(path.name for path in (source / "train_images").iterdir())
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(names, min(options.images, len(names)), replace=False).tolist())
    for name in chosen:
        link(source / "train_images" / name, begun / "train_images" / name)
    taken = set(chosen)
    masks = {key: runs for key, runs in table.masks.items() if key[0] in taken}
    write = lambda path, masks: mask_table.write_table(  # noqa: E731
        path, masks, chosen, table.classes, layout=mask_table.Layout.CURRENT, empty_rows=False
    )
    write(begun / "train.csv", masks)
    opened = data_folder.open_data_folder(begun)
    sizes = {name: tuple(map(int, opened.cache.sizes[row])) for name, row in opened.cache.index.items()}
    noisy, faults = audit_faults.inject(masks, sizes, table.classes, options.share, seed)
    write(begun / "train.csv", noisy)
    write(begun / "clean.csv", masks)
    audit_faults.write(begun / "faults.csv", faults)
    begun.rename(folder)


def link(source, target):
    """A hard link, or a copy where the file systems differ."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def train_folds(work, options, seed, data="data", prefix="fold"):
    """One finished run per fold."""
    if options.encoder_file is not None:
        target = work.folder / "models" / "encoders" / f"{options.encoder}{options.encoder_file.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            link(options.encoder_file, target)
    if not (work.folder / data / "splits.csv").exists():
        work.severstal("split", "--data", data, "--holdout", 0, "--folds", options.folds)
    for fold in range(options.folds):
        train(work, options, seed, data, fold, f"{prefix}{fold}")


def train(work, options, seed, data, fold, name):
    """The finished run of this name."""
    words = [
        "train",
        "--data",
        data,
        "--arch",
        options.network,
        "--encoder",
        options.encoder,
        "--fold",
        fold,
        "--encoder-weights",
        "imagenet" if options.encoder_file else "none",
        "--seed",
        seed,
        "--epochs",
        options.epochs,
        "--name",
        name,
    ]
    words += ["--config", options.config.resolve()] if options.config else []
    if not any(entry["command"] == list(map(str, words)) for entry in work.entries(work.commands)):
        work.severstal(*words, resume=(work.folder / "models" / name / "training.ckpt").exists())


def keep_levels(folder, options):
    """Save the out-of-fold levels of a seed: image_ids and (N, C, H, W) uint8, for images of one size."""
    path = folder / "levels.npz"
    if path.exists():
        return
    runs = [folder / "models" / f"fold{fold}" for fold in range(options.folds)]
    subset = held_out.open_validation(runs, folder / "data", SILENT)
    exclusive = subset.cards[0].exclusive
    found = list(subset.levels(views="none", exclusive=exclusive, batch_size=8, progress=SILENT))
    with path.with_suffix(".begun").open("wb") as file:
        np.savez_compressed(file, names=np.array([name for name, _ in found]), levels=np.stack([x for _, x in found]))
    path.with_suffix(".begun").rename(path)


def prepare(options, seed):
    """The folder of a seed, complete."""
    work = Work(options.work.resolve() / f"seed{seed}")
    if not (work.folder / "data").exists():
        work.folder.mkdir(parents=True, exist_ok=True)
        make_data(options.data, work.folder / "data", options, seed)
    train_folds(work, options, seed)
    keep_levels(work.folder, options)
    return Path(work.folder)
