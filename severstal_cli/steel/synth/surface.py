"""Bare steel: images of a rolled strip without defects.

Rolls of steel (`Roll`) differ in brightness, grain and finish. Structures that resemble defects come on top: vertical
streaks and drips, stains, bright lines, spots of scale, glare, a step in brightness where the lighting changes, those
of `lookalikes`, and black beyond the end of the strip.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.synth.lookalikes import add_checker_plate, add_grit, add_splashes, add_tongues
from severstal_cli.steel.synth.noise import Field, Size, oriented, ramp, smooth, white
from severstal_cli.steel.synth.strip_end import end_strip

LOOKALIKES = ((add_tongues, 0.3), (add_checker_plate, 0.05), (add_grit, 0.25), (add_splashes, 0.05))
"""What is added to images of full difficulty, in this order, and to which share of them."""


@dataclass(frozen=True, kw_only=True)
class Roll:
    """Common properties of the images of one roll of steel."""

    brightness: float
    """Mean grey level, 0..255."""
    grain: float
    """Standard deviation of single pixels, grey levels."""
    peel: float
    """Strength of the orange-peel roughness of a few pixels, grey levels."""
    weave: float
    """Strength of the fine horizontal lines, as a fraction of the brightness."""
    streaks: float
    """Strength of the vertical streaks, as a fraction of the brightness."""
    mottle: float
    """Darkening of ragged two-tone areas, as a fraction; 0 = none."""
    waves: float
    """Strength of wavy lines across the strip, as a fraction; 0 = none."""
    tilt: float
    """Brightness at the bottom relative to the top, as a fraction: -0.3..0.3."""
    specks: float
    """Bright specks per 100 x 100 pixels."""


def draw_roll(rng: np.random.Generator, difficulty: float = 1.0) -> Roll:
    """Sample a roll of steel.

    difficulty: strength of the structures that resemble defects, 0..1.
    """
    return Roll(
        brightness=float(np.clip(np.exp(rng.normal(4.47, 0.28)), 45, 160)),
        grain=float(rng.uniform(3.0, 6.5)),
        peel=float(rng.uniform(0.0, 5.0)) * difficulty,
        weave=float(rng.choice([0.01, 0.03, 0.07])),
        streaks=float(rng.uniform(0.015, 0.09)) * difficulty,
        mottle=float(rng.choice([0.0, 0.0, 0.08, 0.14, 0.22])) * difficulty,
        waves=float(rng.choice([0.0, 0.0, 0.0, 0.05, 0.09])) * difficulty,
        tilt=float(rng.normal(0, 0.12)),
        specks=float(rng.exponential(0.5)) * difficulty,
    )


def draw_surface(
    rng: np.random.Generator, roll: Roll, size: Size, marked: NDArray[np.bool_], difficulty: float = 1.0
) -> Field:
    """Return (H, W) grey levels of steel without defects.

    difficulty: frequency of the structures that resemble defects, 0..1.

    marked: (W,) columns of defects, where the strip must not end.
    """
    height, width = size
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    share = smooth(rng, size, (height * 1.5, max(width / 6, 8))) * np.float32(0.07) + np.float32(1)
    share += np.float32(roll.tilt) * down
    # streaks come in bundles, with smooth steel between them
    bundles = ramp(smooth(rng, (1, width), (1, width / 14)), -0.4, 1.2)
    fine = smooth(rng, size, (height / 1.5, 2)) + 0.8 * smooth(rng, size, (height / 7, 3))
    share += fine * (np.float32(roll.streaks * 0.8) * (bundles + np.float32(0.15)))
    share += np.float32(roll.streaks) * smooth(rng, size, (height * 1.5, 17))
    lines = np.float32(roll.weave) * oriented(rng, size, 6, 1.3, 90 + float(rng.normal(0, 1)))
    if roll.mottle:
        ragged = _mottle(rng, size)
        share -= np.float32(roll.mottle) * ragged
        lines *= np.float32(0.4) + np.float32(2) * ragged
    share += lines
    if roll.waves:
        share += _waves(rng, roll, size)
    _add_stains(rng, share, difficulty)
    _add_drips(rng, share, difficulty)
    if rng.random() < 0.12 * difficulty:
        _add_step(rng, share)
    image = share * np.float32(roll.brightness)
    image += white(rng, size) * np.float32(roll.grain) + smooth(rng, size, (2.5, 2.2)) * np.float32(roll.peel)
    if difficulty:  # without look-alikes, a set draws as it did before there were these
        for add, share_of_images in LOOKALIKES:
            if rng.random() < share_of_images * difficulty:
                add(rng, image)
    _add_specks(rng, roll, image)
    if rng.random() < 0.06 * difficulty:
        _add_bright_lines(rng, image)
    if rng.random() < 0.09 * difficulty:
        _add_glare(rng, image)
    if rng.random() < 0.2 * difficulty:
        end_strip(rng, image, marked)
    return image


def _mottle(rng: np.random.Generator, size: Size) -> Field:
    """Return (H, W) 0..1: areas with ragged edges, taller than wide, as on an unevenly pickled surface."""
    field = smooth(rng, size, (size[0] / 1.5, 50)) + 0.45 * smooth(rng, size, (45, 10))
    field += 0.4 * smooth(rng, size, (14, 2.5)) + 0.25 * smooth(rng, size, (2, 3))
    threshold = float(rng.uniform(-0.3, 1.0))
    return ramp(field, threshold, threshold + float(rng.choice([0.25, 0.5, 1.2])))


def _waves(rng: np.random.Generator, roll: Roll, size: Size) -> Field:
    """Return (H, W): fine lines across the strip that bend and fade, like traces of a worn work roll."""
    down = np.arange(size[0], dtype=np.float32)[:, None] * np.float32(rng.uniform(0.7, 1.3))
    bent = np.sin(down + 5 * smooth(rng, size, (size[0] / 3, size[1] / 6)))
    bent *= np.float32(roll.waves) * ramp(smooth(rng, size, (size[0] / 3, size[1] / 8)), -0.5, 1.5)
    return np.asarray(bent, np.float32)


def _add_stains(rng: np.random.Generator, share: Field, difficulty: float) -> None:
    """Add blotches of oil, water or thin scale with soft edges, slightly darker or brighter than the steel."""
    height, width = share.shape
    for _ in range(rng.poisson(1.2 * difficulty)):
        tall, wide = int(rng.uniform(0.2, 0.9) * height), int(rng.uniform(0.1, 0.6) * height)
        rows, columns = _window(rng, (height, width), (tall, wide))
        size = (rows.stop - rows.start, columns.stop - columns.start)
        patch = _dome(size) + 0.3 * smooth(rng, size, (14, 8)) + 0.15 * smooth(rng, size, (3, 2))
        share[rows, columns] *= 1 - np.float32(rng.normal(0.1, 0.12)) * ramp(patch, 0.35, 0.9)
    for _ in range(rng.poisson(0.5 * difficulty)):  # spots of scale: small dark dots
        rows, columns = _window(rng, (height, width), (height // 3, height // 2))
        size = (rows.stop - rows.start, columns.stop - columns.start)
        dots = ramp(smooth(rng, size, (2.5, 2.5)) + 1.5 * _dome(size), 2.3, 2.9)
        share[rows, columns] *= 1 - np.float32(rng.uniform(0.15, 0.35)) * dots


def _add_drips(rng: np.random.Generator, share: Field, difficulty: float) -> None:
    """Add dark vertical traces of dried liquid that fade at both ends, in loose groups."""
    height, width = share.shape
    for _ in range(rng.poisson(0.9 * difficulty)):
        middle, spread = rng.uniform(0, width), rng.uniform(0.02, 0.12) * width
        for _ in range(rng.integers(2, 9)):
            tall, wide = int(rng.uniform(0.15, 1.0) * height), int(rng.integers(3, 10))
            left = int(np.clip(rng.normal(middle, spread), 0, width - wide))
            top = int(rng.uniform(-0.2 * tall, height - 0.8 * tall))
            rows = slice(max(top, 0), min(top + tall, height))
            fade = np.sin(np.linspace(0.05, np.pi - 0.05, rows.stop - rows.start, dtype=np.float32))[:, None]
            across = np.sin(np.linspace(0.3, np.pi - 0.3, wide, dtype=np.float32))[None, :]
            share[rows, left : left + wide] *= 1 - np.float32(rng.uniform(0.06, 0.33)) * fade * across


def _add_step(rng: np.random.Generator, share: Field) -> None:
    """Make the strip brighter or darker on one side of a column: other lighting, or another pass of the rolls."""
    height, width = share.shape
    at = rng.uniform(0.1, 0.9) * width + np.cumsum(rng.normal(0, 0.5, height)) + rng.normal(0, 0.1) * np.arange(height)
    across = np.arange(width, dtype=np.float32)[None, :] - at.astype(np.float32)[:, None]
    side = np.clip(across / np.float32(3), 0, 1) if rng.random() < 0.5 else np.clip(across / np.float32(-3), 0, 1)
    share *= 1 + np.float32(rng.choice([-0.3, -0.18, 0.25, 0.5])) * side


def _add_specks(rng: np.random.Generator, roll: Roll, image: Field) -> None:
    height, width = image.shape
    count = rng.poisson(roll.specks * height * width / 1e4)
    rows, columns = rng.integers(0, height - 1, count), rng.integers(0, width - 1, count)
    glint = rng.uniform(20, 120, count).astype(np.float32)
    for shift, weight in (((0, 0), 1.0), ((0, 1), 0.6), ((1, 0), 0.7)):
        image[rows + shift[0], columns + shift[1]] += glint * np.float32(weight)


def _add_bright_lines(rng: np.random.Generator, image: Field) -> None:
    """Add thin, nearly straight bright lines from top to bottom: marks of a guide."""
    height, width = image.shape
    first = rng.uniform(0.1, 0.85) * width
    for _ in range(rng.integers(1, 4)):
        at = first + np.cumsum(rng.normal(0, 0.15, height)) + rng.uniform(0, 0.06) * width
        distance = np.arange(width, dtype=np.float32)[None, :] - at.astype(np.float32)[:, None]
        near = slice(max(int(at.min()) - 6, 0), min(int(at.max()) + 7, width))
        profile = np.exp(-((distance[:, near] / np.float32(rng.uniform(0.9, 2.2))) ** 2))
        image[:, near] += np.float32(rng.uniform(50, 130)) * profile


def _add_glare(rng: np.random.Generator, image: Field) -> None:
    """Add a reflection of the lamp: a band at the lower or upper edge that saturates to white."""
    height, width = image.shape
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    if rng.random() < 0.3:
        down = down[::-1]
    bend = smooth(rng, (1, width), (1, width / 3)) * np.float32(0.06)
    fall = ramp(smooth(rng, (1, width), (1, width / 2)), -1.2, 0.6) if rng.random() < 0.7 else np.float32(1)
    light = np.clip((down - np.float32(rng.uniform(0.55, 0.9)) + bend) * np.float32(rng.uniform(2, 5)), 0, 1) ** 1.5
    image += light * fall * np.float32(rng.uniform(170, 300))
    np.minimum(image, 255, out=image)


def _window(rng: np.random.Generator, size: Size, wanted: Size) -> tuple[slice, slice]:
    """Return a random window of about `wanted` (rows, columns) in an image of `size`, clipped at its edges."""
    spans = []
    for whole, length in zip(size, wanted, strict=True):
        start = int(rng.uniform(-0.3 * length, max(whole - 0.7 * length, -0.3 * length)))
        spans.append(slice(max(start, 0), max(min(start + length, whole), max(start, 0) + 2)))
    return spans[0], spans[1]


def _dome(size: Size) -> Field:
    """Return (H, W): 1 in the centre, 0 on the ellipse that fills the window, negative outside."""
    down = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, size[1], dtype=np.float32)[None, :]
    return 1 - np.sqrt(down * down + across * across)
