"""Random fields from which steel and its defects are drawn. All of them are float32 with a spread of about 1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.images.decoding import cv2

Field = NDArray[np.float32]
Size = tuple[int, int]  # (height, width)


def white(rng: np.random.Generator, size: Size) -> Field:
    """(H, W) independent values per pixel: the grain of a image."""
    return rng.standard_normal(size, dtype=np.float32)


def smooth(rng: np.random.Generator, size: Size, cell: tuple[float, float]) -> Field:
    """(H, W) values that change over about `cell` = (down, across) pixels: tall cells give vertical streaks."""
    height, width = size
    grid = white(rng, (int(height / cell[0]) + 2, int(width / cell[1]) + 2))
    # a single row is a profile, where a kink would show
    how = cv2.INTER_CUBIC if height == 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grid, (width, height), interpolation=how), np.float32) * np.float32(1.4)


def oriented(rng: np.random.Generator, size: Size, along_px: float, across_px: float, degrees: float) -> Field:
    """(H, W) streaks of about `along_px` by `across_px` pixels, `degrees` off the vertical (positive leans right)."""
    height, width = size
    reach = float(np.hypot(height, width))
    rows, columns = int(reach / along_px) + 3, int(reach / across_px) + 3
    grid = white(rng, (rows, columns))
    angle = np.deg2rad(degrees)
    sine, cosine = float(np.sin(angle)), float(np.cos(angle))
    # maps a pixel (x, y) of the result to its place in the grid: turn about the middle, then shrink each axis
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
    """0 where `field` <= low, 1 where it is >= high, straight between: a mask with a soft edge."""
    scale = 1.0 / (high - low)
    scaled = np.asarray(field * np.float32(scale) - np.float32(low * scale), np.float32)
    np.clip(scaled, np.float32(0), np.float32(1), out=scaled)
    return scaled
