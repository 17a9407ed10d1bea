"""Render one image: bare steel with defects inside given masks."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.masks import rle
from severstal_cli.steel.synth.defects import draw_defects
from severstal_cli.steel.synth.surface import Roll, draw_roll, draw_surface


def render(
    rng: np.random.Generator,
    annotations: Mapping[int, rle.RLE],
    size: tuple[int, int],
    *,
    roll: Roll | None = None,
    difficulty: float = 1.0,
) -> NDArray[np.uint8]:
    """Return an image of steel, (H, W) grey levels, with defects inside the given masks.

    Args:
        rng: the only source of randomness.
        annotations: channel (0..) -> RLE. Channel 0 looks like the competition's class 1, and so on; a fifth class
            looks like the first.
        size: (height, width).
        roll: the roll of steel in the image; by default a random one.
        difficulty: 0..1, 1 as the competition: the share of structures that resemble defects, and of faint defects.
    """
    masks = {channel: rle.decode(runs, size) for channel, runs in sorted(annotations.items()) if len(runs)}
    marked = np.zeros(size[1], bool)
    for mask in masks.values():
        marked |= mask.any(axis=0)
    image = draw_surface(rng, roll or draw_roll(rng, difficulty), size, marked, difficulty)
    for channel, mask in masks.items():
        draw_defects(rng, image, mask, channel, difficulty)
    return np.asarray(np.clip(image + np.float32(0.5), 0, 255), np.uint8)
