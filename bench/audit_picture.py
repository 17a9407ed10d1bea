"""docs/audit-findings.png: eight findings in synthetic steel with injected faults, from the folder of a seed.

    python bench/audit.py --steel --work WORK --images 400 --folds 2 --epochs 6 --seeds 0
    python bench/audit_picture.py --seed-folder WORK/seed0

Each panel has rank and kind as title, the annotation as a tint, and the predicted mask as an outline. Only rows about
an injected fault are shown, the two most suspicious of each kind of finding first.
"""

import argparse
import io
from pathlib import Path

import audit_faults
import audit_rankings
import figures
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from severstal_cli.steel import drawing
from severstal_cli.steel.audit import class_parts, finding_table
from severstal_cli.steel.dataset import data_folder, splits
from severstal_cli.steel.masks import rle

OUT = Path(__file__).resolve().parents[1] / "docs" / "audit-findings.png"
EACH, PANELS, TINT = 2, 8, 0.45


def chosen(found, faulty):
    """(rank, finding): the first of each kind, then the others by rank, each image once."""
    ranked = [each for each in enumerate(found, start=1) if each[1].image_id in faulty]
    once = list({each[1].image_id: each for each in reversed(ranked)}.values())[::-1]
    count, first, later = {}, [], []
    for each in once:
        kind = each[1].kind
        count[kind] = count.get(kind, 0) + 1
        (first if count[kind] <= EACH else later).append(each)
    return sorted((first + later)[:PANELS], key=lambda each: each[0])


def panel(axis, image, drawn, levels):
    """The image, its annotation as a tint, and the predicted masks as outlines, in the colours of the classes."""
    shown = np.repeat(image[..., None], 3, axis=2).astype(float) / 255
    for channel, mask in enumerate(drawn):
        colour = np.array([int(drawing.PALETTE[channel][at : at + 2], 16) for at in (1, 3, 5)]) / 255
        shown[mask] = (1 - TINT) * shown[mask] + TINT * colour
    axis.imshow(shown, interpolation="nearest")
    for channel, of_class in enumerate(levels):
        predicted = of_class >= class_parts.THRESHOLD
        if predicted.any():
            axis.contour(predicted, [0.5], colors=[drawing.PALETTE[channel]], linewidths=1.6)
    axis.set_axis_off()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed-folder", type=Path, required=True)
    options = parser.parse_args()
    source = options.seed_folder / "data"
    kept = np.load(options.seed_folder / "levels.npz")
    names, levels = kept["names"].tolist(), kept["levels"]
    folder = data_folder.open_data_folder(source)
    found, _ = audit_rankings.findings_of(folder, names, levels, splits.read_splits(source / "splits.csv"))
    faults = {fault.image_id: fault.kind for fault in audit_faults.read(source / "faults.csv")}
    figure, axes = plt.subplots(4, 2, figsize=(9, 9.6), layout="constrained")
    for axis, (rank, one) in zip(axes.flat, chosen(finding_table.ranked(found), faults), strict=True):
        row = names.index(one.image_id)
        drawn = [
            rle.decode(folder.masks.get((one.image_id, at), rle.EMPTY), levels.shape[2:])
            for at in range(folder.classes)
        ]
        panel(axis, np.squeeze(np.asarray(folder.cache[folder.cache.index[one.image_id]])), drawn, levels[row])
        title = f"{rank}: {one.kind.replace('_', ' ')}, class {one.class_id} ({faults[one.image_id]})"
        axis.set_title(title, fontsize=10)
    with io.BytesIO() as file:
        figure.savefig(file, dpi=90)
        figures.save(Image.open(file), OUT, 900, 128)


if __name__ == "__main__":
    main()
