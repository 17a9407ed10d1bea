"""Random fields for steel and its defects: float32 with a standard deviation of about 1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.images.decoding import cv2

Field = NDArray[np.float32]
Size = tuple[int, int]  # (height, width)


def white(rng: np.random.Generator, size: Size) -> Field:
    """Return (H, W) independent values: the grain of an image."""
    return rng.standard_normal(size, dtype=np.float32)


def smooth(rng: np.random.Generator, size: Size, cell: tuple[float, float]) -> Field:
    """Return (H, W) smooth values of length scale `cell` = (down, across) pixels; tall cells are vertical streaks."""
    height, width = size
    grid = white(rng, (int(height / cell[0]) + 2, int(width / cell[1]) + 2))
    # kinks would be visible in a profile of one row
    how = cv2.INTER_CUBIC if height == 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grid, (width, height), interpolation=how), np.float32) * np.float32(1.4)


def oriented(rng: np.random.Generator, size: Size, along_px: float, across_px: float, degrees: float) -> Field:
    """Return (H, W) streaks of about `along_px` x `across_px`, `degrees` off the vertical (positive leans right)."""
    height, width = size
    reach = float(np.hypot(height, width))
    rows, columns = int(reach / along_px) + 3, int(reach / across_px) + 3
    grid = white(rng, (rows, columns))
    angle = np.deg2rad(degrees)
    sine, cosine = float(np.sin(angle)), float(np.cos(angle))
    # maps a pixel (x, y) of the result to the grid: rotate about the centre, then scale each axis
    turn = np.array([[cosine, sine], [-sine, cosine]]) / [[across_px], [along_px]]
    shift = np.array([columns / 2, rows / 2]) - turn @ [width / 2, height / 2]
    field = cv2.warpAffine(
        grid,
        np.column_stack([turn, shift]),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray(field, np.float32) * np.float32(1.4)


def ramp(field: NDArray[np.floating[Any]], low: float, high: float) -> Field:
    """Map `field` linearly from low..high to 0..1, clipped: a mask with a soft edge."""
    scale = 1.0 / (high - low)
    scaled = np.asarray(field * np.float32(scale) - np.float32(low * scale), np.float32)
    np.clip(scaled, np.float32(0), np.float32(1), out=scaled)
    return scaled
