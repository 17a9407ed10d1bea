"""Rankings of the masks of a data set by suspicion, and what they find of injected faults, for `bench/audit.py`.

Every ranking orders the same list: all pairs of an image and a class, whether drawn or empty. "The first 10 %" are the
first tenth of these pairs. A fault is found if one of its pairs is among them: a swapped mask has two. Precision at 50
is the share of the first 50 pairs that are pairs of a fault.

audit     the highest score of a row of `severstal audit` about the pair (of a wrong_class row that of ClassId); pairs
          without a row follow, by 1 less the expected Dice
cleanlab  1 less its label quality score, softmin over the pixels, of each class against the rest
1 - Dice  of the drawn mask and the predicted one (probability of one half); ties in random order
random    a random order
"""

import numpy as np

from severstal_cli.steel.audit import disagreement, findings
from severstal_cli.steel.dataset import data_folder, splits
from severstal_cli.steel.masks import rle

RANKINGS = ("audit", "cleanlab", "1 - Dice", "random")
FIRST, TOP = 0.1, 50


def findings_of(folder, names, levels, split):
    """All findings, and the expected Dice by image."""
    found, dice, exclusive = [], {}, folder.exclusive()
    for name, of_image in zip(names, levels, strict=True):
        drawn = [folder.masks.get((name, channel), rle.EMPTY) for channel in range(len(of_image))]
        some, dice[name] = findings.find(name, of_image, drawn, exclusive=exclusive)
        found += some
    found += disagreement.find(folder.cache, split.groups, folder.masks, dice, folder.classes)
    return found, dice


def suspicion(folder_path, names, levels, seed=0, wanted=RANKINGS):
    """Ranking -> (N, C) float, the higher the more suspicious."""
    folder = data_folder.open_data_folder(folder_path)
    split = splits.read_splits(splits.splits_path(folder_path))
    row = {name: number for number, name in enumerate(names)}
    shape, size = (len(names), folder.classes), levels.shape[2:]
    rng = np.random.default_rng(seed)
    drawn = np.zeros((*shape, *size), np.bool_)
    for (name, channel), runs in folder.masks.items():
        drawn[row[name], channel] = rle.decode(runs, size)
    scores = {}
    if "audit" in wanted:
        found, dice = findings_of(folder, names, levels, split)
        audit = np.array([[findings.LEAST_SCORE * (1 - each) for each in dice[name]] for name in names])
        for one in found:
            at = row[one.image_id], one.class_id - 1
            audit[at] = max(audit[at], one.score)
        scores["audit"] = audit
    if "cleanlab" in wanted:
        scores["cleanlab"] = np.column_stack(
            [cleanlab_suspicion(drawn[:, channel], levels[:, channel]) for channel in range(folder.classes)]
        )
    predicted = levels >= findings_threshold()
    area = drawn.sum(axis=(2, 3)) + predicted.sum(axis=(2, 3))
    both = (drawn & predicted).sum(axis=(2, 3))
    scores["1 - Dice"] = np.where(area > 0, 1 - 2 * both / np.maximum(area, 1), 0)
    scores["random"] = np.zeros(shape)
    return {name: values + 1e-9 * rng.random(shape) for name, values in scores.items() if name in wanted}


def findings_threshold():
    """The lowest level of a predicted mask."""
    from severstal_cli.steel.audit import class_parts

    return class_parts.THRESHOLD


def cleanlab_suspicion(drawn, levels, batch=100):
    """(N,) of one class; drawn: (N, H, W) bool, levels: (N, H, W) uint8."""
    from cleanlab.segmentation.rank import get_label_quality_scores

    scores = []
    for begin in range(0, len(drawn), batch):
        probs = levels[begin : begin + batch].astype(np.float32) / 255
        pred_probs = np.stack([1 - probs, probs], axis=1)
        scores.append(get_label_quality_scores(drawn[begin : begin + batch].astype(int), pred_probs, verbose=False)[0])
    return 1 - np.concatenate(scores)


def measure(scores, names, faults):
    """Kind -> share of its faults in the first tenth, "all", and "precision at 50"; scores: (N, C)."""
    row = {name: number for number, name in enumerate(names)}
    order = np.argsort(-scores, axis=None)
    place = np.empty(scores.size, int)
    place[order] = np.arange(scores.size)
    place = place.reshape(scores.shape)
    first = round(FIRST * scores.size)
    faulty = np.zeros(scores.shape, np.bool_)
    found = {}
    for fault in faults:
        pairs = [(row[fault.image_id], channel) for channel in fault.channels]
        found.setdefault(fault.kind, []).append(min(place[pair] for pair in pairs) < first)
        for pair in pairs:
            faulty[pair] = True
    shares = {kind: float(np.mean(some)) for kind, some in sorted(found.items())}
    shares["all"] = float(np.mean([each for some in found.values() for each in some]))
    shares["precision at 50"] = float(faulty.ravel()[order[:TOP]].mean())
    shares["precision of the tenth"] = float(faulty.ravel()[order[:first]].mean())
    return shares
