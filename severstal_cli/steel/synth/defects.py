"""Four kinds of defects, drawn inside given masks.

An annotator draws a coarse polygon somewhat larger than the defect. So the masks come first, and each connected
component gets the texture of its class. The texture fills most of the polygon, fades towards its edge, and varies in
strength; about one in eight is faint.

    class 1     pits, inclusions, short marks: small, dark, with a bright rim
    class 2     thin vertical cracks: a dark hairline, bright on one side
    class 3     scratches and abrasions: many bright or dark streaks of any size, or a few dark lines along the strip
    class 4     torn patches and rolled-in scale: a rough relief with a sharp edge

A fifth class looks like the first, and so on.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.synth.noise import Field, oriented, ramp, smooth, white

KINDS = 4
MARGIN_PX = 2  # around the bounding box of a component
LINED = 0.6  # share of the tall components of class 3 that show lines


def draw_defects(
    rng: np.random.Generator, image: Field, mask: NDArray[np.bool_], channel: int, difficulty: float = 1.0
) -> None:
    """Draw defects of the class of `channel` (0..) inside `mask` (H, W) into `image` (H, W), grey levels.

    difficulty: share of the usual number of faint defects and of dark lines, 0..1.
    """
    components, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    strength = float(rng.uniform(0.3, 0.5) if rng.random() < 0.12 * difficulty else rng.uniform(0.85, 1.35))
    # bright defects are invisible on glare, dark ones on dark steel
    level = float(image[mask].mean()) if mask.any() else 0.0
    bright = bool(rng.random() < np.interp(level, [50, 110, 165], [0.9, 0.5, 0.0]))
    for component in range(1, components):
        left, top, wide, tall, _ = (int(v) for v in boxes[component])
        rows = slice(max(top - MARGIN_PX, 0), min(top + tall + MARGIN_PX, mask.shape[0]))
        columns = slice(max(left - MARGIN_PX, 0), min(left + wide + MARGIN_PX, mask.shape[1]))
        inside = (labels[rows, columns] == component).astype(np.uint8)
        draw = _DRAW[channel % KINDS]
        if draw is _draw_scratches and tall > 3 * wide and difficulty and rng.random() < LINED * difficulty:
            draw = _draw_lines
        draw(rng, image[rows, columns], inside, strength * float(rng.uniform(0.8, 1.2)), bright)


def _depth(inside: NDArray[np.uint8]) -> Field:
    """Return (h, w): 0 outside the polygon, 1 at its innermost pixel. The image edge is not an edge of the polygon."""
    distance = np.asarray(cv2.distanceTransform(inside, cv2.DIST_L2, 3), np.float32)
    return np.asarray(distance / max(float(distance.max()), 1.0), np.float32)


def _draw_pits(
    rng: np.random.Generator, image: Field, inside: NDArray[np.uint8], strength: float, bright: bool
) -> None:
    size = inside.shape[0], inside.shape[1]
    cell = max(2.0, min(size) / 7)
    shape = np.float32(1.5) * _depth(inside) + np.float32(0.45) * smooth(rng, size, (cell * 1.6, cell))
    shape += np.float32(0.15) * white(rng, size)
    core = ramp(shape, 0.6, 1.1) * inside
    image *= 1 - np.float32(min(0.6 * strength, 0.85)) * core
    # with light from the upper left, the far wall of a pit is bright
    wall = core - np.roll(core, (-2, -1), axis=(0, 1))
    image += np.maximum(wall, 0) * np.float32((120 if bright else 70) * strength)
    image += ramp(white(rng, size), 1.2, 2.5) * core * np.float32((190 if bright else 70) * strength)


def _draw_crack(
    rng: np.random.Generator, image: Field, inside: NDArray[np.uint8], strength: float, bright: bool
) -> None:
    height, width = inside.shape
    columns = np.arange(width, dtype=np.float32)
    filled = inside.sum(axis=1, dtype=np.float32)
    middle = (inside @ columns) / np.maximum(filled, 1)
    lines = 1 if min(filled.max(), width) < 9 else int(rng.integers(1, 3))
    for _ in range(lines):
        wander = np.cumsum(rng.normal(0, 0.35, height))
        wander -= np.linspace(wander[0], wander[-1], height)
        reach = np.maximum(filled * 0.3 - 0.5, 0)
        at = middle + np.clip(wander + rng.normal(0, 0.12) * filled.max(), -reach, reach)
        distance = columns[None, :] - at.astype(np.float32)[:, None]
        half = np.float32(rng.uniform(0.8, 1.1) + 0.035 * filled.max())
        fade = ramp(smooth(rng, (height, 1), (max(height / 6, 2), 1)), -1.8, -0.6)
        fade *= np.sin(np.linspace(0.25, np.pi - 0.25, height, dtype=np.float32), dtype=np.float32)[:, None]
        line = np.exp(-((distance / half) ** 2)) * fade * inside
        rim = np.exp(-(((distance - 2 * half) / half) ** 2)) * fade * inside
        image *= 1 - np.float32(min(0.7 * strength, 0.9)) * line
        image += rim * np.float32((55 if bright else 20) * strength)


def _draw_scratches(
    rng: np.random.Generator, image: Field, inside: NDArray[np.uint8], strength: float, bright: bool
) -> None:
    size = height, width = inside.shape[0], inside.shape[1]
    tall = height > 1.3 * width
    degrees = float(rng.normal(0, 3) if tall else rng.choice([0, 0, -60, 60, 75]) + rng.normal(0, 8))
    along = float(np.clip(max(size) * rng.uniform(0.15, 0.6), 6, 90))
    across = float(rng.uniform(1.4, 3.2))
    streaks = oriented(rng, size, along, across, degrees) + 0.6 * oriented(rng, size, along, 4 * across, degrees)
    clumps = smooth(rng, size, (max(height / 3, 8), max(width / 4, 6)))
    body = ramp(_depth(inside) * np.float32(2.2) + 0.25 * streaks, 0.1, 0.75) * inside
    density = float(rng.uniform(-0.6, 0.35))
    grit = white(rng, size)
    lines = ramp(streaks + 0.5 * clumps + 0.35 * grit, density, density + 1.6) * body
    tint = rng.uniform(0.08, 0.25) * strength
    image *= 1 + np.float32(tint if bright else -tint) * body
    if bright:
        image += lines * (np.float32(rng.uniform(40, 110) * strength) * (1 + 0.35 * grit))
        image += ramp(streaks + grit, 1.8, 3.2) * body * np.float32(90 * strength)
        image *= 1 - np.float32(0.35 * strength) * ramp(-streaks, 0.7, 1.6) * body
    else:
        image *= 1 - np.float32(min(rng.uniform(0.5, 0.8) * strength, 0.88)) * lines
        image += ramp(streaks + grit, 2.4, 3.5) * body * np.float32(70 * strength)


def _draw_lines(
    rng: np.random.Generator, image: Field, inside: NDArray[np.uint8], strength: float, bright: bool
) -> None:
    """Draw dark lines of one to three pixels that run with the polygon, straight, each over a part of its length."""
    height, width = inside.shape
    columns, down = np.arange(width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32)
    filled = inside.sum(axis=1, dtype=np.float32)
    middle = (inside @ columns) / np.maximum(filled, 1)
    rows = np.flatnonzero(filled)
    lean = np.polyval(np.polyfit(rows, middle[rows], 1), np.arange(height)).astype(np.float32)
    usual = float(np.median(filled[rows]))
    dark = np.zeros(image.shape, np.float32)
    for _ in range(max(round(usual / rng.uniform(7, 14)), 1)):
        at = lean + np.float32(rng.uniform(-0.42, 0.42) * usual)
        begin, end = (0.0, 1.0) if rng.random() < 0.5 else np.sort(rng.uniform(-0.2, 1.2, 2))
        line = np.exp(-(((columns[None, :] - at[:, None]) / np.float32(rng.uniform(0.8, 2.2))) ** 2))
        line *= (ramp(down, begin - 0.03, begin + 0.03) * ramp(down, end + 0.03, end - 0.03))[:, None]
        np.maximum(dark, line * np.float32(rng.uniform(0.6, 1)), out=dark)
    dark *= inside * (1 + np.float32(0.2) * smooth(rng, image.shape, (5, 2)))
    image *= 1 - np.float32(rng.uniform(0, 0.15) * strength) * inside  # rubbed steel around them
    image *= 1 - np.clip(np.float32(0.65 * strength) * dark, 0, np.float32(0.9))
    if bright:  # their edges shine
        image += np.roll(dark, 2, axis=1) * inside * np.float32(40 * strength)


def _draw_patch(
    rng: np.random.Generator, image: Field, inside: NDArray[np.uint8], strength: float, bright: bool
) -> None:
    size = inside.shape[0], inside.shape[1]
    cell = float(np.clip(min(size) / 5, 4, 26))
    rough = smooth(rng, size, (cell * 0.7, cell * 1.5)) + 0.55 * smooth(rng, size, (cell / 2.5, cell / 1.8))
    rough += 0.3 * smooth(rng, size, (2.5, 3.5))
    hard = ramp(_depth(inside) * np.float32(1.6) + 0.16 * rough, 0.2, 0.34) * inside
    relief = cv2.Sobel(rough, cv2.CV_32F, 0, 1, ksize=3, scale=0.25) * np.float32(0.9)
    relief += cv2.Sobel(rough, cv2.CV_32F, 1, 0, ksize=3, scale=0.25) * np.float32(0.45)
    relief += 0.22 * white(rng, size)
    # a patch is partly smooth and partly torn open, partly burnt dark and partly bare
    torn_open = ramp(smooth(rng, size, (3 * cell, 4 * cell)) + 0.3 * rough, -0.6, 0.8)
    bare = ramp(smooth(rng, size, (2 * cell, 3 * cell)) + 0.4 * rough, -0.1, 0.9)
    level = float(np.clip(image.mean(), 50, 150))
    dark, light = rng.uniform(0.25, 0.7), rng.uniform(0.8, 1.7 if bright else 1.15)
    torn = np.float32(level) * (np.float32(dark) + np.float32(light - dark) * bare + np.float32(0.08) * rough)
    relief *= np.float32(0.25) + torn_open
    torn += relief * np.float32(rng.uniform(45, 90))
    torn += ramp(relief, 0.8, 1.8) * np.float32(130 if bright else 60)
    blend = hard * np.float32(min(strength, 1.0))
    image += (torn - image) * blend
    # the patch is raised: a bright upper rim and a shadow below
    rim = np.asarray(cv2.Sobel(hard, cv2.CV_32F, 0, 1, ksize=3, scale=0.25), np.float32)
    image += rim * np.float32(60 * strength)
    np.maximum(image, 2, out=image)


_DRAW: tuple[Callable[[np.random.Generator, Field, NDArray[np.uint8], float, bool], None], ...] = (
    _draw_pits,
    _draw_crack,
    _draw_scratches,
    _draw_patch,
)
