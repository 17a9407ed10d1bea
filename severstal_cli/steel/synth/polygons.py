"""Sample the classes of an image, and the coarse polygons that an annotator would draw around their defects.

Counts, areas and shapes follow the competition's training set. Areas are for images of 256 x 1600 pixels and scale
with the image: an image with a quarter of the pixels has defects of a quarter of the area.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.images.decoding import cv2

FULL_PX = 256 * 1600

# number of images with each set of classes in the competition's training set, 12,568 in total
CLASS_SETS: tuple[tuple[tuple[int, ...], int], ...] = (
    ((), 5902),
    ((3,), 4759),
    ((1,), 769),
    ((4,), 516),
    ((3, 4), 284),
    ((2,), 195),
    ((1, 3), 91),
    ((1, 2), 35),
    ((2, 3), 14),
    ((1, 2, 3), 2),
    ((2, 4), 1),
)
CLASS_IMAGES = {1: 897, 2: 247, 3: 5150, 4: 801}
CLEAN_SHARE = 5902 / 12568


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Shape statistics of the masks of one class in an image of 256 x 1600."""

    area_px: tuple[int, int, int]
    """Minimum, median and maximum area of the mask of an image."""
    area_spread: float
    """Standard deviation of the logarithm of the area."""
    parts: tuple[int, ...]
    """Numbers of polygons per mask; a number that occurs more often is more frequent."""
    slender: tuple[float, float]
    """Height over width of a polygon: median, standard deviation of the logarithm."""
    strips: float
    """Fraction of polygons that are strips along the defect; the others are blobs around a centre."""
    sticks: float
    """Maximum distance of a polygon beyond the upper or lower edge, as a fraction of its height. It is then moved back
    to the edge, so this determines how many polygons touch an edge."""


KINDS: dict[int, Kind] = {
    1: Kind(
        area_px=(230, 3525, 31303), area_spread=0.85, parts=(1, 1, 1, 1, 2, 2, 3, 4, 6, 9),
        slender=(1.7, 0.5), strips=0.4, sticks=0.3,
    ),
    2: Kind(
        area_px=(316, 2944, 14023), area_spread=0.6, parts=(1, 1, 1, 1, 1, 1, 2, 2, 3),
        slender=(9.5, 0.4), strips=1.0, sticks=0.35,
    ),
    3: Kind(
        area_px=(115, 11497, 368240), area_spread=1.2, parts=(1, 1, 1, 1, 1, 2, 2, 3, 4, 6),
        slender=(3.5, 1.1), strips=0.7, sticks=0.25,
    ),
    4: Kind(
        area_px=(1486, 24858, 192780), area_spread=0.9, parts=(1, 1, 1, 1, 2, 2, 3, 4, 6),
        slender=(0.8, 0.5), strips=0.15, sticks=0.15,
    ),
}  # fmt: skip
PLACING_ORDER = (2, 1, 4, 3)  # small ones first, before large ones take the room
TRIES = 60


def draw_class_set(rng: np.random.Generator, *, defect_share: float, rare_boost: float) -> tuple[int, ...]:
    """Sample the class ids of an image, often none.

    Args:
        defect_share: fraction of images with a defect.
        rare_boost: 0 = class frequencies of the competition, 1 = all classes about equally frequent.
    """
    if rng.random() >= defect_share:
        return ()
    most = max(CLASS_IMAGES.values())
    shown = [classes for classes, _ in CLASS_SETS if classes]
    weights = [
        count * (most / min(CLASS_IMAGES[c] for c in classes)) ** rare_boost for classes, count in CLASS_SETS if classes
    ]
    return shown[int(rng.choice(len(shown), p=np.array(weights) / sum(weights)))]


def draw_labels(
    rng: np.random.Generator, classes: tuple[int, ...], size: tuple[int, int], enlarged: float = 1.0
) -> NDArray[np.uint8]:
    """Return (H, W), the class id at each pixel, 0 = steel, with polygons for each of `classes` (1..4).

    With one number per pixel, the masks of two classes cannot overlap. Areas are `enlarged` times the usual ones.
    """
    labels = np.zeros(size, np.uint8)
    for class_id in PLACING_ORDER:
        if class_id in classes:
            _place_class(rng, labels, class_id, enlarged)
    return labels


def area_limits(class_id: int, size: tuple[int, int], enlarged: float = 1.0) -> tuple[float, float]:
    """Return the minimum and maximum area in pixels of a mask of the class in an image of `size`."""
    least, _, largest = KINDS[class_id].area_px
    shrink = size[0] * size[1] / FULL_PX * enlarged
    return max(least * shrink, 6.0), largest * shrink


def _place_class(rng: np.random.Generator, labels: NDArray[np.uint8], class_id: int, enlarged: float = 1.0) -> None:
    kind = KINDS[class_id]
    size = labels.shape[0], labels.shape[1]
    least, largest = area_limits(class_id, size, enlarged)
    mask = np.zeros_like(labels)
    for attempt in range(TRIES):
        median = kind.area_px[1] * size[0] * size[1] / FULL_PX * enlarged
        total = float(np.clip(median * np.exp(rng.normal(0, kind.area_spread)), least * 1.3, largest * 0.9))
        parts = min(int(rng.choice(kind.parts)), max(int(total / 12), 1))
        shares = rng.dirichlet(np.full(parts, 3.0))
        mask[:] = 0
        middle = rng.uniform(0.05, 0.95) * size[1]
        for share in shares:
            points = _polygon(rng, kind, max(total * float(share), 8.0), size)
            cv2.fillPoly(mask, [_place(rng, points, kind, middle, size)], 1)
        # the first tries need free ground; the later ones cut off what other classes cover
        if attempt < TRIES // 2 and (mask.astype(bool) & (labels > 0)).any():
            continue
        mask[labels > 0] = 0
        if least <= int(mask.sum(dtype=np.int64)) <= largest:
            labels[mask > 0] = class_id
            return


def _polygon(rng: np.random.Generator, kind: Kind, area_px: float, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return (K, 2) corners (x, y) around the origin of a coarse polygon of about `area_px` that fits into `size`."""
    slender = kind.slender[0] * float(np.exp(rng.normal(0, kind.slender[1])))
    strip = rng.random() < kind.strips
    tall = float(np.clip(np.sqrt(area_px / 0.8 * slender), 2.0, size[0]))
    wide = float(np.clip(area_px / 0.8 / tall, 2.0, size[1]))
    points = _strip(rng, tall, wide) if strip else _blob(rng, tall, wide, ragged=kind.slender[0] < 1)
    x, y = points[:, 0], points[:, 1]
    actual = abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2
    points *= np.sqrt(area_px / max(actual, 1.0))
    height = float(np.ptp(points[:, 1]))
    if height > size[0]:  # too tall for the image: shorten and widen it
        points *= [height / size[0], size[0] / height]
    return points


def _strip(rng: np.random.Generator, tall: float, wide: float) -> NDArray[np.float64]:
    """Return the corners of a strip along the longer axis with slightly uneven sides."""
    knots = int(rng.integers(2, 5))
    along = np.linspace(-0.5, 0.5, knots)
    lean = rng.normal(0, 0.25) * along
    half = 0.5 * np.clip(rng.normal(1, 0.15, (2, knots)), 0.55, 1.5)
    near, far = lean - half[0], lean + half[1]
    across = np.concatenate([near, far[::-1]])
    length = np.concatenate([along, along[::-1]]) + rng.normal(0, 0.012, 2 * knots)
    corners = np.column_stack([across, length]) if tall >= wide else np.column_stack([length, across])
    return corners * [wide, tall]


def _blob(rng: np.random.Generator, tall: float, wide: float, *, ragged: bool) -> NDArray[np.float64]:
    """Return the corners of a polygon around the origin, dented if `ragged`."""
    corners = int(rng.integers(6, 15) if ragged else rng.integers(4, 9))
    angles = (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * 2 * np.pi / corners + rng.uniform(0, 2 * np.pi)
    radius = np.clip(rng.normal(1, 0.2 if ragged else 0.1, corners), 0.45, 1.35)
    return np.column_stack([np.cos(angles) * radius * wide / 2, np.sin(angles) * radius * tall / 2])


def _place(
    rng: np.random.Generator, points: NDArray[np.float64], kind: Kind, middle: float, size: tuple[int, int]
) -> NDArray[np.int32]:
    """Move a polygon near the `middle` column of its mask; one beyond an edge is moved back into the image."""
    low, high = points.min(axis=0), points.max(axis=0)
    wide, tall = (high - low).tolist()
    left = rng.normal(middle, 0.12 * size[1]) - wide / 2
    top = rng.uniform(-kind.sticks * tall, size[0] - tall + kind.sticks * tall)
    corner = np.array([np.clip(left, 0, max(size[1] - wide, 0)), np.clip(top, 0, max(size[0] - tall, 0))])
    return np.asarray(np.rint(points - low + corner), np.int32)
