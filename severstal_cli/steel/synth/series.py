"""The images of a set: classes, pixels and name of each, from the plan of the set and the number of the image.

Like the real data, a set has near-duplicates, within the training images and within the test images. Training and test
images show different rolls of steel.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from severstal_cli.config.checks import JPEG_SIDE_PX
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.synth import polygons
from severstal_cli.steel.synth.rendering import render
from severstal_cli.steel.synth.surface import Roll, draw_roll

TRAIN, TEST, GIVEN = 0, 1, 2  # subsets; GIVEN: drawn inside given annotations
ROLLS = 40  # rolls of steel per subset
COPIES = 0.05  # fraction of near-duplicates of an earlier image
LARGEST = 6  # area of the defects of the easiest set, relative to the competition
# random decisions, each with its own stream, so that a change to one leaves the others unchanged
SHOWN, PIXELS, ROLL, COPY, NAME, QUALITY = range(6)


@dataclass(frozen=True, kw_only=True)
class SetPlan:
    """Settings of a synthetic set except its length: an image depends only on these, its subset and its number."""

    seed: int
    """Random seed, 0 or more."""
    size: tuple[int, int] = (256, 1600)
    """(height, width) in pixels, 32 to `JPEG_SIDE_PX` each."""
    defect_share: float = 1 - polygons.CLEAN_SHARE
    """Fraction of images with a defect."""
    rare_boost: float = 0.0
    """0 = class frequencies of the competition, 1 = all classes about equally frequent."""
    difficulty: float = 1.0
    """1 = as in the competition, 0 = larger defects, none of them faint, on steel without look-alikes of defects."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, not {self.seed}")
        if min(self.size) < 32:
            raise ValueError(f"size must be at least 32 x 32, not {self.size[0]} x {self.size[1]}")
        if max(self.size) > JPEG_SIDE_PX:
            raise ValueError(f"size must be at most {JPEG_SIDE_PX:,} pixels a side, not {max(self.size):,}")
        if not all(0 <= share <= 1 for share in (self.defect_share, self.rare_boost, self.difficulty)):
            raise ValueError("defect_share, rare_boost and difficulty must be from 0 to 1")

    @property
    def enlarged(self) -> float:
        """Area of the defects, relative to those of the competition at the size of the image."""
        return 1 + (LARGEST - 1) * (1 - self.difficulty)


def image_name(plan: SetPlan, part: int, number: int) -> str:
    """Return a name like the competition's, 9 hex digits and ".jpg", unique within a set."""
    scramble = random_stream(plan, NAME, 0, 0)
    factor, offset = (int(v) for v in scramble.integers(2**30, 2**35, 2))
    code = (2 * number + part) & (2**36 - 1)
    for _ in range(2):  # both steps are invertible, so different numbers stay different
        code = (code * (2 * factor + 1) + offset) & (2**36 - 1)
        code ^= code >> 17
    return f"{code:09x}.jpg"


def origin_of(plan: SetPlan, part: int, number: int) -> int:
    """Return the number of the image that image `number` is a near-duplicate of; its own for most."""
    while number > 0 and random_stream(plan, COPY, part, number).random() < COPIES:
        number -= 1
    return number


def draw_annotation(plan: SetPlan, part: int, number: int) -> NDArray[np.uint8]:
    """Return (H, W), the class id at each pixel of an image, 0 = steel, without rendering the image."""
    origin = origin_of(plan, part, number)
    shown = random_stream(plan, SHOWN, part, origin)
    classes = polygons.draw_class_set(shown, defect_share=plan.defect_share, rare_boost=plan.rare_boost)
    labels = polygons.draw_labels(shown, classes, plan.size, plan.enlarged)
    return labels if origin == number else _redraw(random_stream(plan, COPY, part, number), labels, plan.enlarged)


def draw_image(plan: SetPlan, part: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return (H, W) grey levels of an image, and (H, W), the class id at each of its pixels."""
    origin = origin_of(plan, part, number)
    shown = draw_annotation(plan, part, origin)
    image = render(
        random_stream(plan, PIXELS, part, origin),
        to_runs(shown),
        plan.size,
        roll=roll_of(plan, part, origin),
        difficulty=plan.difficulty,
    )
    if origin == number:
        return image, shown
    return _retake(random_stream(plan, COPY, part, number), image), draw_annotation(plan, part, number)


def to_runs(labels: NDArray[np.uint8]) -> dict[int, rle.RLE]:
    """Return channel -> RLE of each class in `labels` (H, W), the class id at each pixel."""
    return {int(class_id) - 1: rle.encode(labels == class_id) for class_id in np.unique(labels) if class_id}


def random_stream(plan: SetPlan, stream: int, part: int, number: int) -> np.random.Generator:
    return np.random.default_rng([plan.seed, stream, part, number])


def roll_of(plan: SetPlan, part: int, number: int) -> Roll:
    which = int(random_stream(plan, ROLL, part, number).integers(ROLLS))
    return draw_roll(random_stream(plan, ROLL, part, 2**40 + which), plan.difficulty)


def quality_of(plan: SetPlan, part: int, number: int) -> int:
    return int(random_stream(plan, QUALITY, part, number).integers(88, 96))


def _shift_px(rng: np.random.Generator, width: int) -> tuple[int, int]:
    """Return the shift (down, across) of a near-duplicate; the first draw of its stream for both masks and pixels."""
    rng.random(2)
    reach = max(width // 400, 1)
    return int(rng.integers(-1, 2)), int(rng.integers(-reach, reach + 1))


def _redraw(rng: np.random.Generator, labels: NDArray[np.uint8], enlarged: float) -> NDArray[np.uint8]:
    """Return the masks of a near-duplicate: shifted with the image, four in ten slightly wider or narrower."""
    moved = _moved(labels, _shift_px(rng, labels.shape[1]), cv2.BORDER_CONSTANT)
    choice = rng.random()
    if choice < 0.4:
        change = cv2.erode if choice < 0.2 else cv2.dilate
        moved = np.asarray(change(moved, np.ones((3, 3), np.uint8)), np.uint8)
    for class_id in np.unique(labels):
        least, largest = polygons.area_limits(int(class_id), labels.shape, enlarged) if class_id else (0.0, np.inf)
        if not least <= np.count_nonzero(moved == class_id) <= largest:
            return labels
    return moved


def _retake(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Image the same steel again: slightly shifted, brighter or darker, with new noise."""
    moved = _moved(image, _shift_px(rng, image.shape[1]), cv2.BORDER_REFLECT_101)
    rng = np.random.default_rng(rng.integers(2**32))
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.8, 1.8))
    light = np.float32(rng.uniform(0.96, 1.04))
    return np.asarray(np.clip(moved.astype(np.float32) * light + noise, 0, 255), np.uint8)


def _moved(pixels: NDArray[np.uint8], by: tuple[int, int], border: int) -> NDArray[np.uint8]:
    move = np.array([[1, 0, by[1]], [0, 1, by[0]]], np.float32)
    height, width = pixels.shape
    return np.asarray(
        cv2.warpAffine(pixels, move, (width, height), flags=cv2.INTER_NEAREST, borderMode=border), np.uint8
    )
