"""Stratified assignment of whole groups of near-duplicates to folds and a holdout."""

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
    """Assign groups of images to a holdout and folds, so that each subset gets its share of every set of classes.

    Groups are assigned one by one: large ones first, then those with the rarest set of classes; the seed breaks ties.
    Each goes to the subset whose chi-squared distance from its target it reduces most, over sets of classes, classes
    and images (cf. Sechidis et al. 2011, On the stratification of multi-label data). The result depends on names,
    classes, groups and seed, not on the order of the images.

    Args:
        image_ids: names of N images, each once.
        class_sets: class ids of each image; empty for a clean image.
        groups: (N,) group number of each image.
        holdout: fraction of the images in the holdout, at least 0 and below 1.
        folds: number of equal folds of the rest.
        seed: breaks ties.

    Returns:
        (N,) subset of each image: -1 for the holdout, or 0..folds-1.
    """
    if not 0 <= holdout < 1 or not 1 <= folds <= 127:
        raise ValueError(f"holdout {holdout} or folds {folds} out of range")
    if not len(image_ids) == len(class_sets) == len(groups):
        raise ValueError(f"{len(image_ids)} images, {len(class_sets)} class sets, {len(groups)} groups")
    members: dict[int, list[int]] = {}
    for position in sorted(range(len(image_ids)), key=image_ids.__getitem__):
        members.setdefault(int(groups[position]), []).append(position)

    labels = _labels(class_sets)
    set_counts = Counter(class_sets)

    def rank(positions: list[int]) -> tuple[int, int, bytes]:
        tie_break = hashlib.sha256(f"{seed}:{image_ids[positions[0]]}".encode()).digest()
        return -len(positions), min(set_counts[class_sets[position]] for position in positions), tie_break

    shares = np.array([holdout] * (holdout > 0) + [(1 - holdout) / folds] * folds)
    target = shares[:, None] * labels.sum(axis=0)  # (subsets, labels)
    missing = target.copy()
    subsets = np.empty(len(image_ids), np.int8)
    for positions in sorted(members.values(), key=rank):
        added = labels[positions].sum(axis=0)
        subset = int(np.argmax((added * (2 * missing - added) / target).sum(axis=1)))
        missing[subset] -= added
        subsets[positions] = subset - (holdout > 0)
    return subsets


def _labels(class_sets: Sequence[frozenset[int]]) -> NDArray[np.float64]:
    """Return (N, labels) of 0 and 1: the set of classes of each image, its classes, and a constant 1."""
    sets = sorted(set(class_sets), key=sorted)
    classes = sorted(set().union(*sets)) if sets else []
    column = {class_set: number for number, class_set in enumerate(sets)}
    labels = np.zeros((len(class_sets), len(sets) + len(classes) + 1))
    for position, class_set in enumerate(class_sets):
        labels[position, column[class_set]] = 1
        for class_id in class_set:
            labels[position, len(sets) + classes.index(class_id)] = 1
    labels[:, -1] = 1
    return labels
