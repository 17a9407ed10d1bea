"""The competition's score: 2·|X∩Y| / (|X| + |Y|) per image and class, 1 where both masks are empty.

The score of a submission is the mean over all pairs of image and class. Clean images count as much as others, and a
false alarm on one scores 0. All pixel counts come from RLE, without decoding masks.
Worked example: 4 predicted pixels, 6 true ones, 3 in both: 2·3 / (4 + 6) = 0.6.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE

Masks = Mapping[tuple[str, int], RLE]
"""(image_id, channel) -> RLE. A pair without an entry is an empty mask."""


def dice(predicted: RLE, true: RLE) -> float:
    """Dice of two masks; 1 where both are empty, 0 where one of them is."""
    total_px = rle.area(predicted) + rle.area(true)
    return 2 * rle.overlap(predicted, true) / total_px if total_px else 1.0


def dice_matrix(predicted: Masks, true: Masks, image_ids: Sequence[str], classes: int) -> NDArray[np.float64]:
    """Dice per image and class: (N, C) float64, rows in the order of `image_ids`.

    Other images and classes are ignored. Raises ValueError: an image is named twice.
    """
    scores = np.ones((len(image_ids), classes), dtype=np.float64)
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    if len(row_of) != len(image_ids):
        raise ValueError("an image is named twice")
    for image_id, channel in predicted.keys() | true.keys():
        row = row_of.get(image_id)
        if row is None or channel >= classes:
            continue
        key = image_id, channel
        scores[row, channel] = dice(predicted.get(key, rle.EMPTY), true.get(key, rle.EMPTY))
    return scores
