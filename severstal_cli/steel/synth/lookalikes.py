"""What clean images of the competition show and a network takes for defects. Drawn in place into (H, W) grey levels.

tongues         flat, sharply bounded dark areas along the strip: scale that the pickling left
splashes        columns of saturated white blots: water under the lamp
grit            bright rough columns: a seam, or rubbed steel
checker plate   raised lenses or crossed bars, lit from one side
"""

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.synth.noise import Field, ramp, smooth, white


def add_tongues(rng: np.random.Generator, image: Field) -> None:
    """Add flat areas of another tone with sharp edges, much taller than wide, over a part of the columns."""
    height, width = image.shape
    size = height, width
    field = smooth(rng, size, (height / 1.5, 26)) + 0.8 * smooth(rng, size, (height / 4, 9))
    field += 0.35 * smooth(rng, size, (12, 3))
    here = ramp(smooth(rng, (1, width), (1, max(width / 6, 8))), -0.6, 0.9)
    threshold = float(rng.uniform(-0.1, 1.1))
    areas = ramp(field + np.float32(1.6) * (here - 1), threshold, threshold + float(rng.uniform(0.08, 0.3)))
    tone = float(rng.choice([0.55, 0.7, 0.8, 1.25]))
    flat = cv2.blur(image, (7, 7)) * np.float32(tone) + white(rng, size) * np.float32(2.5)
    image += (flat - image) * areas


def add_splashes(rng: np.random.Generator, image: Field) -> None:
    """Add two to five columns of white blots with ragged edges, some hollow, a few columns apart."""
    height, width = image.shape
    unit = height / 256
    size = height, width
    across = np.arange(width, dtype=np.float32)[None, :]
    first = rng.uniform(0.1, 0.9) * width
    columns = np.zeros((1, width), np.float32)
    for _ in range(rng.integers(2, 6)):
        at, half = first + rng.normal(0, 55) * unit, rng.uniform(4, 12) * unit
        np.maximum(columns, np.exp(-(((across - np.float32(at)) / np.float32(half)) ** 2)), out=columns)
    blots = smooth(rng, size, (22 * unit, 9 * unit)) + 0.4 * smooth(rng, size, (3, 2))
    shape = blots + np.float32(4.5) * columns - np.float32(rng.uniform(4.1, 5.0))
    wet = ramp(shape, 0, 0.25)
    if rng.random() < 0.5:
        wet *= 1 - np.float32(rng.uniform(0.4, 1)) * ramp(shape, 0.7, 0.9)
    image += (np.float32(255) - image) * wet


def add_grit(rng: np.random.Generator, image: Field) -> None:
    """Add a bright rough column: narrow and dense from top to bottom, or wide, thin, and fading along the strip."""
    height, width = image.shape
    unit = height / 256
    is_seam = rng.random() < 0.5
    half = rng.uniform(2.5, 9) * unit if is_seam else rng.uniform(10, 60) * unit
    at = rng.uniform(0, width)
    near = slice(max(int(at - 2 * half), 0), min(int(at + 2 * half) + 2, width))
    size = height, near.stop - near.start
    across = (np.arange(near.start, near.stop, dtype=np.float32)[None, :] - np.float32(at)) / np.float32(half)
    there = ramp(np.abs(across), 1.3, 0.8) if is_seam else np.exp(-(across**2))
    along = ramp(smooth(rng, (height, 1), (height / 4, 1)), -1.8 if is_seam else -0.4, 1.0)
    rough = smooth(rng, size, (2.5, 1.5)) + 0.7 * white(rng, size)
    light = ramp(rough, 0.2, 2.2) if is_seam else ramp(rough, 0.9, 2.2)
    level = np.float32(image[:, near].mean())
    image[:, near] += (light + np.float32(0.25)) * there * along * level * np.float32(rng.uniform(0.5, 1.6))


def add_checker_plate(rng: np.random.Generator, image: Field) -> None:
    """Add a regular relief over the whole strip, bright on one side and in shadow on the other."""
    height, width = image.shape
    unit = height / 256
    raised = np.zeros((height, width), np.uint8)
    pitch = float(rng.uniform(90, 150)) * unit
    if rng.random() < 0.6:
        _place_lenses(rng, raised, pitch)
    else:
        _place_bars(rng, raised, pitch)
    soft = float(rng.uniform(2.5, 5)) * unit
    bumps = ramp(np.asarray(cv2.distanceTransform(raised, cv2.DIST_L2, 3), np.float32), 0, max(2 * soft, 2))
    bumps = np.asarray(cv2.GaussianBlur(bumps, (0, 0), max(0.4 * soft, 0.5)), np.float32)
    slope = np.asarray(cv2.Sobel(bumps, cv2.CV_32F, 0, 1, ksize=3), np.float32)
    slope += np.float32(rng.uniform(-0.5, 0.5)) * cv2.Sobel(bumps, cv2.CV_32F, 1, 0, ksize=3)
    # under a distant lamp the relief is flat, and only the crests shine
    seen = ramp(smooth(rng, (1, width), (1, max(width / 2, 8))), -1.6, 0.2) * np.float32(rng.uniform(0.5, 1.6))
    image *= np.clip(1 + seen * (np.float32(0.35) * bumps + np.float32(0.45) * slope), np.float32(0.1), np.float32(3))


def _place_lenses(rng: np.random.Generator, raised: NDArray[np.uint8], pitch: float) -> None:
    """Fill lenses that lean right and left in turn, each row shifted by half a pitch."""
    height, width = raised.shape
    half_long, half_wide = 0.29 * pitch, float(rng.uniform(0.08, 0.12)) * pitch
    along = np.linspace(-1, 1, 12)
    edge = np.concatenate([(1 - along**2), -(1 - along[::-1] ** 2)]) * half_wide
    lens = np.column_stack([np.concatenate([along, along[::-1]]) * half_long, edge])
    start = rng.uniform(0, pitch, 2)
    angle = np.deg2rad(rng.uniform(35, 55))
    for row in range(-2, int(2 * height / pitch) + 2):
        sine, cosine = np.sin(angle) * (-1) ** row, np.cos(angle)
        turned = lens @ np.array([[cosine, sine], [-sine, cosine]])
        for column in range(-2, int(width / pitch) + 2):
            shift = np.array([column + 0.5 * (row % 2), 0.52 * row]) * pitch
            cv2.fillConvexPoly(raised, np.asarray(np.rint(turned + start + shift), np.int32), 1)


def _place_bars(rng: np.random.Generator, raised: NDArray[np.uint8], pitch: float) -> None:
    """Fill bars in two directions that cross in diamonds."""
    height, width = raised.shape
    thick = max(int(rng.uniform(0.1, 0.17) * pitch), 1)
    lean = float(rng.uniform(0.35, 0.6)) * height
    start = float(rng.uniform(0, pitch))
    for column in range(-int(height / pitch) - 2, int((width + height) / pitch) + 2):
        foot = start + column * pitch
        for way in (lean, -lean):
            cv2.line(raised, (int(foot - way / 2), 0), (int(foot + way / 2), height - 1), 1, thick)
