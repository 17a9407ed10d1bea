"""A plain prediction script, as written in an hour: the baseline for ours. Only the network is the package's.

float32, images in colour by OpenCV, one view at a time, threshold 0.5, components by OpenCV, RLE by numpy.

    python bench/plain_predict.py IMAGES RUN --tta flips --out submission.csv
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from severstal_cli.learning.runs import model_card, run_folder

FLIPS = {"none": [()], "flips": [(), (3,), (2,), (2, 3)]}
SMALLEST = 100


class Network(torch.nn.Module):
    """The network of a run for three equal channels, as it would be with an encoder in colour."""

    def __init__(self, folder):
        super().__init__()
        card = model_card.read_card(folder)
        self.network, self.mean, self.std = run_folder.load_network(folder, card).eval(), card.mean, card.std

    def forward(self, images):
        logits = self.network((images[:, :1] - self.mean) / self.std)
        probs = logits.masks.sigmoid()
        return probs if logits.classes is None else probs * logits.classes.sigmoid()[:, :, None, None]


def read(path):
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return torch.from_numpy((image.astype(np.float32) / 255).transpose(2, 0, 1))


def encode(mask):
    """A mask's run lengths, as most notebooks of the competition make them."""
    pixels = np.concatenate([[0], mask.T.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(number) for number in runs)


def without_small(mask):
    """The mask without its small components, and how many it had."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] > SMALLEST)
    return np.isin(labels, large[large > 0]), count - 1


@torch.inference_mode()
def predict(paths, network, tta, out, batch_size=8):
    """Write the submission. How many components its masks had before the small ones went: they take time."""
    rows, components = [], 0
    for begin in range(0, len(paths), batch_size):
        some = paths[begin : begin + batch_size]
        images = torch.stack([read(path) for path in some])
        probs = sum(network(images.flip(axes)).flip(axes) for axes in FLIPS[tta]) / len(FLIPS[tta])
        for path, of_image in zip(some, probs.numpy(), strict=True):
            for number, prob in enumerate(of_image, start=1):
                mask, count = without_small(prob > 0.5)
                rows.append((f"{path.name}_{number}", encode(mask)))
                components += count
    pd.DataFrame(rows, columns=["ImageId_ClassId", "EncodedPixels"]).to_csv(out, index=False)
    return components


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--tta", default="none", choices=sorted(FLIPS))
    parser.add_argument("--out", type=Path, default=Path("submission.csv"))
    options = parser.parse_args()
    paths = sorted(options.images.iterdir())
    network = Network(options.run)
    begun = time.perf_counter()
    components = predict(paths, network, options.tta, options.out)
    print(f"{len(paths) / (time.perf_counter() - begun):.2f} images/s, {components} components")


if __name__ == "__main__":
    main()
