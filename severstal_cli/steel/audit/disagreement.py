"""Near-duplicates that show the same steel at the same place, and have different masks.

Groups are those of the split. A group may hold images that are shifted against each other, and chains of them, so each
pair is confirmed by the correlation of its textures without a shift. It may also show the same steel before and after
a defect, or with a defect pasted into it, so the pixels around the difference of both masks must correlate, too. The
score is half of the product of the lower correlation and 1 less the Dice of both masks, whatever the runs predict: of
two masks at least one is wrong. The row is that of the image whose own mask has the lower expected Dice.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from severstal_cli.steel.audit.findings import LEAST_SCORE, Finding, Kind, box_of
from severstal_cli.steel.dataset.near_duplicates import SAME_PLACE, similarity_in_place
from severstal_cli.steel.images.cache import ImageCache
from severstal_cli.steel.images.decoding import Grey, cv2
from severstal_cli.steel.masks import rle

MARGIN_PX = 8
"""Border around the difference of two masks, whose pixels are compared with it."""

Key = tuple[str, int]


def find(
    cache: ImageCache,
    groups: Mapping[str, int],
    masks: Mapping[Key, rle.RLE],
    expected_dice: Mapping[str, list[float]],
    classes: int,
) -> list[Finding]:
    """The findings of kind disagreement, at most one for each mask: that with the least similar other mask.

    groups: image_id -> number of its group; expected_dice: image_id -> one per class, of the audited images, which
    alone are looked at.
    """
    members: dict[int, list[str]] = defaultdict(list)
    for image_id in sorted(expected_dice):
        members[groups[image_id]].append(image_id)
    best: dict[Key, tuple[float, str]] = {}
    for group in members.values():
        for one, other, channel, score in _pairs(cache, group, masks, classes):
            own, doubtful = sorted((one, other), key=lambda name: (-expected_dice[name][channel], name))
            if score > best.get((doubtful, channel), (0.0, ""))[0]:
                best[doubtful, channel] = score, own
    return [
        _finding(image_id, channel, score, other, masks, cache) for (image_id, channel), (score, other) in best.items()
    ]


def _pairs(
    cache: ImageCache, group: list[str], masks: Mapping[Key, rle.RLE], classes: int
) -> Iterator[tuple[str, str, int, float]]:
    """(image_id, image_id, channel, score) of each pair with different masks in a group."""
    for one, other in combinations(group, 2):
        first, second = cache.index[one], cache.index[other]
        if tuple(cache.sizes[first]) != tuple(cache.sizes[second]):
            continue
        apart = []
        for channel in range(classes):
            a, b = masks.get((one, channel), rle.EMPTY), masks.get((other, channel), rle.EMPTY)
            px = rle.area(a) + rle.area(b)
            dice = 2 * rle.overlap(a, b) / px if px else 1.0
            if 1 - dice >= 2 * LEAST_SCORE:
                apart.append((channel, 1 - dice))
        if not apart:
            continue
        similarity = similarity_in_place(cache[first], cache[second])
        if similarity >= SAME_PLACE:
            for channel, difference in apart:
                around = _similarity_around(
                    cache[first],
                    cache[second],
                    masks.get((one, channel), rle.EMPTY),
                    masks.get((other, channel), rle.EMPTY),
                )
                if around < SAME_PLACE:
                    continue
                score = min(similarity, around) * difference / 2
                if score >= LEAST_SCORE:
                    yield one, other, channel, score


def _similarity_around(one: Grey, other: Grey, a: rle.RLE, b: rle.RLE) -> float:
    """The correlation of the pixels of two images in the box of the difference of two masks; 0 without contrast."""
    size = one.shape[0], one.shape[1]
    x, y, width, height = box_of(rle.decode(a, size) ^ rle.decode(b, size))
    window = (slice(max(y - MARGIN_PX, 0), y + height + MARGIN_PX), slice(max(x - MARGIN_PX, 0), x + width + MARGIN_PX))
    first, second = (cv2.GaussianBlur(image[window].astype(np.float32), (0, 0), 1.0) for image in (one, other))
    first, second = first - first.mean(), second - second.mean()
    contrast = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) / contrast if contrast else 0.0


def _finding(
    image_id: str, channel: int, score: float, other: str, masks: Mapping[Key, rle.RLE], cache: ImageCache
) -> Finding:
    """The box is that of the own mask, or of the other one where the own mask is empty."""
    own, instead = masks.get((image_id, channel), rle.EMPTY), masks.get((other, channel), rle.EMPTY)
    height, width = (int(side) for side in cache.sizes[cache.index[image_id]])
    shown = rle.decode(own if len(own) else instead, (height, width))
    return Finding(
        image_id=image_id,
        class_id=channel + 1,
        kind=Kind.DISAGREEMENT,
        score=min(score, 1.0),
        box=box_of(shown),
        pixels=int(np.count_nonzero(shown)),
        mask=instead,
        other_image_id=other,
    )
