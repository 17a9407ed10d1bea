"""One image: bare steel, and defects under given masks."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks import rle
from severstal_cli.steel.synth.defects import draw_defects
from severstal_cli.steel.synth.surface import Roll, draw_roll, draw_surface


def render(
    rng: np.random.Generator, annotations: Mapping[int, rle.RLE], size: tuple[int, int], *, roll: Roll | None = None
) -> NDArray[np.uint8]:
    """A image of steel, (H, W) grey levels, with defects under the given masks.

    Args:
        rng: where all chance comes from.
        annotations: channel (0..) -> runs. Channel 0 is drawn as the competition's class 1, and so on; a fifth class
            looks like the first.
        size: (height, width).
        roll: the roll of steel that the picture is taken of; by default one by chance.
    """
    masks = {channel: rle.decode(runs, size) for channel, runs in sorted(annotations.items()) if len(runs)}
    marked = np.zeros(size[1], bool)
    for mask in masks.values():
        marked |= mask.any(axis=0)
    image = draw_surface(rng, roll or draw_roll(rng), size, marked)
    for channel, mask in masks.items():
        draw_defects(rng, image, mask, channel)
    return np.asarray(np.clip(image + np.float32(0.5), 0, 255), np.uint8)
