"""Common representation of all formats: images with shapes, each with a label and a function that draws it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli.errors import InputError
from severstal_cli.steel.images.image_headers import max_pixels

Size = tuple[int, int]
"""(height, width) in pixels."""

Mask = NDArray[np.bool_]

_LONGEST_SIDE_PX = 2**20
"""Limit of OpenCV for a side."""

_FARTHEST_SIDES = 10
"""Points farther out, in sides of the image, are refused: Pillow needs minutes for a circle of that size."""

BACKGROUND = frozenset({"_background_", "__ignore__", "background"})
"""Labels without a class, in any case: those of labelme (its labels2voc example) and that of CVAT's masks."""


class AnnotationError(ValueError):
    """A file of annotations is wrong; the message names the fault and its location in the file."""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Prefix an AnnotationError of the block with its location in the file."""
    try:
        yield
    except AnnotationError as error:
        raise AnnotationError(f"{where}: {error}") from None


@contextmanager
def in_file(where: str) -> Iterator[None]:
    """Raise an AnnotationError of the block as an InputError; `where` starts with the path of the file."""
    try:
        yield
    except AnnotationError as error:
        raise InputError(where, str(error)) from None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One annotation. `draw(size)` returns (H, W) bool, or raises AnnotationError."""

    where: str
    """Its location in the file, for messages: "annotation 17"."""
    label: str
    draw: Callable[[Size], Mask]


@dataclass(frozen=True, kw_only=True)
class AnnotatedImage:
    """An annotated image; without shapes it is clean."""

    source: Path
    """The file that lists it."""
    name: str
    """File name without folders."""
    size: Size | None
    """Declared size; None if only the image file has it."""
    shapes: tuple[Shape, ...]
    path: Path | None = None
    """The image file, if the format gives its path."""


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """All annotations at a path."""

    format: str
    """Name of the format, for messages."""
    path: Path
    images: tuple[AnnotatedImage, ...]
    names: tuple[str, ...]
    """Names of the classes 1, 2, ..., in the order of the format."""
    notes: tuple[str, ...] = ()
    """Lines for the log: ignored entries, mapping of class ids."""
    is_painted: bool = False
    """Whether later shapes cover earlier ones, so that a background shape cuts a hole."""


def is_background(label: str) -> bool:
    """Whether `label` names no class."""
    return label.casefold() in BACKGROUND


def base_name(name: str) -> str:
    """`images/a.jpg` or `images\\a.jpg` -> `a.jpg`."""
    return name.replace("\\", "/").rpartition("/")[2]


def check_declared(height: Any, width: Any) -> Size:
    """Check a declared (height, width). Raises AnnotationError: not whole numbers from 1, or too many pixels."""
    sides = [side for side in (height, width) if type(side) in (int, float) and side >= 1 and side % 1 == 0]
    if len(sides) < 2:
        raise AnnotationError(f"its height {height!r:.40} and width {width!r:.40} are not whole numbers from 1")
    if max(sides) > _LONGEST_SIDE_PX or sides[0] * sides[1] > max_pixels():
        raise AnnotationError(f"its height {height!r:.40} and width {width!r:.40} are too large for an image")
    return int(sides[0]), int(sides[1])


def reach(size: Size) -> int:
    """Return the maximum distance of a point from the origin, in pixels."""
    return _FARTHEST_SIDES * max(size)


def to_points(
    values: Any, size: Size, *, least: int = 3, most: int | None = None, is_flat: bool = False
) -> NDArray[np.float64]:
    """Convert points from JSON to (N, 2) float64, x and y in pixels.

    Args:
        values: [[x, y], ...], or with `is_flat` [x, y, x, y, ...].
        size: of the image.
        least, most: allowed numbers of points.

    Raises AnnotationError: wrong structure, not numbers, NaN, infinite, far outside the image, or a wrong count.
    """
    if not isinstance(values, list) or (
        not is_flat and not all(isinstance(pair, list) and len(pair) == 2 for pair in values)
    ):
        raise AnnotationError(f"its points are not a list of {'numbers' if is_flat else '[x, y] pairs'}")
    flat = values if is_flat else list(chain.from_iterable(values))
    if not all(type(value) in (int, float) for value in flat):
        wrong = next(value for value in flat if type(value) not in (int, float))
        raise AnnotationError(f"a coordinate is not a number: {wrong!r:.40}")
    if len(flat) % 2:
        raise AnnotationError(f"{len(flat)} coordinates, an odd count")
    farthest = reach(size)
    if not all(-farthest <= value <= farthest for value in flat):  # NaN compares false
        wrong = next(value for value in flat if not -farthest <= value <= farthest)
        raise AnnotationError(f"a coordinate is {wrong!r:.40}, far outside its image of {size[0]} x {size[1]}")
    count = len(flat) // 2
    if count < least or (most is not None and count > most):
        wanted = f"{least}" if most == least else f"{least} or more"
        raise AnnotationError(f"{count} point{'s' * (count != 1)} where it needs {wanted}")
    return np.array(flat, np.float64).reshape(-1, 2)


def paste(patch: Mask, top: int, left: int, size: Size) -> Mask:
    """Place (h, w) `patch` at row `top` and column `left` of an empty mask. Raises AnnotationError."""
    height, width = patch.shape
    if top < 0 or left < 0 or top + height > size[0] or left + width > size[1]:
        raise AnnotationError(
            f"its mask of {height} x {width} at row {top}, column {left} leaves the image of {size[0]} x {size[1]}"
        )
    mask = np.zeros(size, np.bool_)
    mask[top : top + height, left : left + width] = patch
    return mask
