"""The levels of an image, packed for the page, and exact at every threshold that a slider offers.

A level is stored as the number of steps that it reaches. With the steps 12, 128 and 250, the levels 0 12 127 128 255
become 0 1 1 2 3. The mask at threshold 128, the second step, is where the stored value is at least 2: . . . # #, the
same mask as from the levels. The steps of a class are the thresholds that the search scores, 0.25 log-odds apart, and
the tuned threshold of the class.

A stored map runs down the columns, as RLE does, from the first to the last column that reaches a step. It is compressed
by deflate (in zlib's format) and encoded in base64. Classes that reach no step are left out.
"""

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess
from severstal_cli.steel.thresholds.per_image_gains import THRESHOLDS


def steps_of(rule: ClassPostprocess) -> NDArray[np.uint8]:
    """The thresholds that the slider of a class offers, ascending."""
    tuned = [rule.pixel_threshold] if rule.pixel_threshold < DISABLED else []
    return np.unique(np.concatenate([THRESHOLDS, tuned])).astype(np.uint8)


def pack(levels: NDArray[np.uint8], steps: Sequence[NDArray[np.uint8]]) -> list[dict[str, Any]]:
    """Pack levels (C, H, W) as JSON values, one for each class that reaches its lowest step. `steps`: one per class."""
    packed = []
    for channel, (level, own) in enumerate(zip(levels, steps, strict=True)):
        top = int(level.max(initial=0))
        if top < own[0]:
            continue
        columns = np.flatnonzero((level >= own[0]).any(axis=0))
        first, end = int(columns[0]), int(columns[-1]) + 1
        reached = np.searchsorted(own, np.arange(256), side="right").astype(np.uint8)
        column_major = reached[level[:, first:end]].T.tobytes()
        data = base64.b64encode(zlib.compress(column_major, 6)).decode("ascii")
        packed.append({"channel": channel, "x": first, "w": end - first, "top": top, "data": data})
    return packed
