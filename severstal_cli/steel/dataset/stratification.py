"""The assignment of images to a holdout and folds, stratified by class, whole groups of near-duplicates at a time."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def make_splits(
    image_ids: Sequence[str],
    class_sets: Sequence[frozenset[int]],
    groups: NDArray[np.integer],
    *,
    holdout: float,
    folds: int,
    seed: int,
) -> NDArray[np.int8]:
    """Assign images to a holdout and folds, whole groups at a time, each part with its share of every set of classes.

    Groups are placed one after the other, large ones first, then those with the rarest set of classes, ties in an order
    drawn from the seed; each goes to the part that lacks most what it brings, by the chi-squared distance of the parts
    from their shares, over sets of classes, classes and images (in the spirit of Sechidis et al. 2011, On the
    stratification of multi-label data). The result depends on names, classes, groups and seed, not on their order.

    Args:
        image_ids: names of N images, each once.
        class_sets: class ids of each; empty for a clean image.
        groups: (N,) group number of each.
        holdout: share of the images kept back, at least 0 and below 1.
        folds: number of equal parts of the rest.
        seed: of the order.

    Returns:
        (N,) part of each image: -1 for the holdout, or 0..folds-1.
    """
    if not 0 <= holdout < 1 or not 1 <= folds <= 127:
        raise ValueError(f"holdout {holdout} or folds {folds} out of range")
    if not len(image_ids) == len(class_sets) == len(groups):
        raise ValueError(f"{len(image_ids)} images, {len(class_sets)} class sets, {len(groups)} groups")
    members: dict[int, list[int]] = {}
    for position in sorted(range(len(image_ids)), key=image_ids.__getitem__):
        members.setdefault(int(groups[position]), []).append(position)

    brings = _brings(class_sets)
    set_counts = Counter(class_sets)

    def rank(positions: list[int]) -> tuple[int, int, bytes]:
        drawn = hashlib.sha256(f"{seed}:{image_ids[positions[0]]}".encode()).digest()
        return -len(positions), min(set_counts[class_sets[position]] for position in positions), drawn

    shares = np.array([holdout] * (holdout > 0) + [(1 - holdout) / folds] * folds)
    wanted = shares[:, None] * brings.sum(axis=0)  # (parts, labels)
    lacking = wanted.copy()
    parts = np.empty(len(image_ids), np.int8)
    for positions in sorted(members.values(), key=rank):
        brought = brings[positions].sum(axis=0)
        part = int(np.argmax((brought * (2 * lacking - brought) / wanted).sum(axis=1)))
        lacking[part] -= brought
        parts[positions] = part - (holdout > 0)
    return parts


def _brings(class_sets: Sequence[frozenset[int]]) -> NDArray[np.float64]:
    """Return what each image counts for, (N, labels) of 0 and 1: its set of classes, each of its classes, an image."""
    sets = sorted(set(class_sets), key=sorted)
    classes = sorted(set().union(*sets)) if sets else []
    column = {class_set: number for number, class_set in enumerate(sets)}
    brings = np.zeros((len(class_sets), len(sets) + len(classes) + 1))
    for position, class_set in enumerate(class_sets):
        brings[position, column[class_set]] = 1
        for class_id in class_set:
            brings[position, len(sets) + classes.index(class_id)] = 1
    brings[:, -1] = 1
    return brings
