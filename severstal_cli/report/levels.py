"""The levels of an image, small enough for a page, and exact at every threshold that its slider can stand on.

A level is kept as how many of the steps it reaches. Take the steps 12, 128, 250 and the levels 0 12 127 128 255: kept
are 0 1 1 2 3. The mask at threshold 128, the second step, is where at least 2 are reached: . . . # #, as of the levels.
The steps of a class are the thresholds that the search scores, a quarter of log-odds apart, and its rule's own.

The map goes down the columns, as run lengths do, from the first to the last column that reaches a step; then deflate
(zlib's form) and base64. A class whose map reaches no step is left out.
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
    """The thresholds that can be chosen for a class, rising."""
    own = [rule.pixel_threshold] if rule.pixel_threshold < DISABLED else []
    return np.unique(np.concatenate([THRESHOLDS, own])).astype(np.uint8)


def pack(levels: NDArray[np.uint8], steps: Sequence[NDArray[np.uint8]]) -> list[dict[str, Any]]:
    """levels: (C, H, W), exclusive where the masks are; steps: C of them -> JSON values, one a class that shows."""
    packed = []
    for channel, (level, own) in enumerate(zip(levels, steps, strict=True)):
        top = int(level.max(initial=0))
        if top < own[0]:
            continue
        columns = np.flatnonzero((level >= own[0]).any(axis=0))
        first, end = int(columns[0]), int(columns[-1]) + 1
        reached = np.searchsorted(own, np.arange(256), side="right").astype(np.uint8)
        down = np.ascontiguousarray(reached[level[:, first:end]].T)
        data = base64.b64encode(zlib.compress(down.tobytes(), 6)).decode("ascii")
        packed.append({"channel": channel, "x": first, "w": end - first, "top": top, "data": data})
    return packed
