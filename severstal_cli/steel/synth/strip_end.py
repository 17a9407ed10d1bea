"""The end of the strip: black beside it, and a rough rim that the rolls and the shears leave."""

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.synth.noise import Field, ramp, smooth, white

BLACK = 3.0  # grey level beside the strip
WIDEST = 0.93  # share of the image that is black
RIM = 0.7  # width of all bands beside it, at most, as a share of the height


def end_strip(rng: np.random.Generator, image: Field, marked: NDArray[np.bool_]) -> None:
    """Make columns without defects at the left or right of `image` (H, W) black.

    marked: (W,) columns of defects, where the strip must not end.
    """
    height, width = image.shape
    held = np.flatnonzero(marked)
    left = bool(rng.random() < 0.5)
    room = width if not held.size else int(held[0]) if left else width - 1 - int(held[-1])
    black = int(min(rng.uniform(0.02, WIDEST) * width, room - 8))
    if black < 4:
        return
    # a cut edge is straight, a torn one is not
    torn = np.cumsum(rng.normal(0, 0.25, height)) if rng.random() < 0.4 else np.zeros(height)
    steps = torn + rng.normal(0, 0.02) * np.arange(height)
    edge = (black + np.clip(steps, -6, 6)).astype(np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :] if left else np.arange(width, dtype=np.float32)[None, ::-1]
    inwards = columns - edge
    rim = columns[0] < black + RIM * height
    image[:, rim] = _with_rim(rng, image[:, rim], inwards[:, rim], height / 256)
    near = columns[0] < black + 46
    fall = np.exp(-np.maximum(inwards[:, near], 0) / np.float32(rng.uniform(6, 14)))
    rough = white(rng, (height, int(near.sum()))) * np.float32(0.25) + np.float32(rng.uniform(-0.4, 0.35))
    image[:, near] *= 1 + fall * rough
    image *= np.clip(inwards / 2, 0, 1)
    image += np.float32(BLACK) * (inwards < 1) * rng.random(dtype=np.float32)


def _with_rim(rng: np.random.Generator, strip: Field, inwards: Field, unit: float) -> Field:
    """Return (H, W) with bands along the end that are rough and brighter or darker, and a groove at their border.

    inwards: (H, W) distance from the end in columns, positive on the strip. unit: pixels of this image to one of 256.
    """
    size = strip.shape[0], strip.shape[1]
    wide, light = 0.0, np.ones(size, np.float32)
    for _ in range(rng.integers(0, 4)):
        begin, wide = wide, wide + float(rng.uniform(6, 55)) * unit
        band = ramp(inwards, begin, begin + 2) * ramp(inwards, wide + 1, wide - 1)
        grain = smooth(rng, size, (2.5, 3.5)) * np.float32(rng.uniform(0.02, 0.3))
        light *= 1 + band * (np.float32(rng.choice([-0.35, -0.2, -0.1, 0.1, 0.3, 0.8])) + grain)
    if wide:
        light *= 1 - np.float32(rng.uniform(0, 0.6)) * np.exp(-(((inwards - np.float32(wide)) / np.float32(1.5)) ** 2))
    return strip * light
