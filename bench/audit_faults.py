"""Faults injected into annotations, for `bench/audit.py`: which masks, and how.

Five kinds, each in `share` of the masks, at most one in an image, drawn by a seeded generator:

dropped   the mask is removed
swapped   it gets another class, which the image lacks
shifted   by 10 to 20 px in a random direction; what leaves the image is lost
dilated   by 5 to 10 px all around
invented  an image without a mask of the class gets that of another image of the same size
"""

import csv
from dataclasses import dataclass

import cv2
import numpy as np

from severstal_cli.steel.masks import rle

KINDS = ("dropped", "swapped", "shifted", "dilated", "invented")


@dataclass(frozen=True)
class Fault:
    """One injected fault; `channels`: the classes of the image whose masks are wrong now."""

    kind: str
    image_id: str
    channels: tuple[int, ...]


def inject(masks, sizes, classes, share, seed):
    """The masks with faults, and the faults.

    masks: (image_id, channel) -> RLE; sizes: image_id -> (H, W) of all images, clean ones too.
    """
    rng = np.random.default_rng(seed)
    keys = sorted(masks)
    wanted, noisy, faults, used = round(share * len(keys)), dict(masks), [], set()
    clean = [(name, channel) for name in sorted(sizes) for channel in range(classes) if (name, channel) not in masks]
    clean = [clean[number] for number in rng.permutation(len(clean))]
    drawn = [keys[number] for number in rng.permutation(len(keys))]
    # first the kind with few candidates: in a set with clean images these are what it is about
    with_mask = {name for name, _ in masks}
    clean.sort(key=lambda key: key[0] in with_mask)
    for kind in ("invented", "swapped", "dropped", "shifted", "dilated"):
        for key in clean if kind == "invented" else drawn:
            if sum(fault.kind == kind for fault in faults) == wanted:
                break
            if key[0] in used:
                continue
            channels = _apply(kind, key, noisy, masks, keys, sizes, classes, rng)
            if channels:
                used.add(key[0])
                faults.append(Fault(kind, key[0], channels))
    return noisy, faults


def _apply(kind, key, noisy, masks, keys, sizes, classes, rng):
    """Change `noisy` for one fault. Returns the wrong channels, none if this mask cannot have the fault."""
    name, channel = key
    size = sizes[name]
    if kind == "invented":
        donors = [other for other in keys if other[1] == channel and other[0] != name and sizes[other[0]] == size]
        if not donors:
            return ()
        noisy[key] = masks[donors[rng.integers(len(donors))]]
        return (channel,)
    if kind == "dropped":
        del noisy[key]
        return (channel,)
    if kind == "swapped":
        free = [other for other in range(classes) if (name, other) not in masks]
        if not free:
            return ()
        other = int(free[rng.integers(len(free))])
        noisy[name, other] = noisy.pop(key)
        return channel, other
    mask = rle.decode(masks[key], size)
    if kind == "shifted":
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(10, 20)
        matrix = np.array([[1, 0, round(length * np.cos(angle))], [0, 1, round(length * np.sin(angle))]], np.float32)
        changed = cv2.warpAffine(mask.astype(np.uint8), matrix, size[::-1], flags=cv2.INTER_NEAREST)
    else:
        radius = int(rng.integers(5, 11))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        changed = cv2.dilate(mask.astype(np.uint8), disc)
    if not changed.any() or (changed.astype(bool) == mask).all():
        return ()
    noisy[key] = rle.encode(changed)
    return (channel,)


def write(path, faults):
    """The faults as a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("Kind", "ImageId", "Channels"))
        writer.writerows((fault.kind, fault.image_id, " ".join(map(str, fault.channels))) for fault in faults)


def read(path):
    """The faults of `write`."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Fault(row["Kind"], row["ImageId"], tuple(map(int, row["Channels"].split()))) for row in csv.DictReader(file)
        ]
