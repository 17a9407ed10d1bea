"""Masks of polygons and RLE as pycocotools draws them, for COCO and for CVAT, whose exports use it as well.

Source: cocodataset/cocoapi, common/maskApi.c: `rleFrPoly` (polygons), `rleFrString` (compressed counts), and
PythonAPI/pycocotools/coco.py: `annToRLE` (the polygons of one annotation are merged).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli.errors import MachineError
from severstal_cli.steel.annotations.shapes import AnnotationError, Mask, Size, located, to_points
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE

_LONGEST_PX = 4_000_000  # rleFrPoly needs 40 bytes per pixel of an outline

_DIGITS, _MORE, _SIGN = 0x1F, 0x20, 0x10


def require_pycocotools() -> Any:
    """Import `pycocotools.mask`. Raises MachineError: it is missing."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MachineError(
            "polygons of COCO and CVAT need pycocotools", str(error), "Install it: pip install 'severstal[annotations]'"
        ) from None
    return mask


def draw_segmentation(segmentation: Any, size: Size) -> Mask:
    """Draw a segmentation like `COCO.annToMask`. Raises AnnotationError."""
    if not segmentation:
        raise AnnotationError("it has a box and no segmentation; a box is not a mask")
    if isinstance(segmentation, dict):
        if segmentation.get("size") != list(size):
            raise AnnotationError(f"its RLE has size {segmentation.get('size')!r:.40}, its image {list(size)}")
        return draw_counts(segmentation.get("counts"), size)
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        raise AnnotationError("its segmentation is neither a list of polygons nor an RLE")
    polygons: list[NDArray[np.float64]] = []
    for number, polygon in enumerate(segmentation, start=1):
        with located(f"polygon {number}"):
            polygons.append(to_points(polygon, size, is_flat=True))
    return draw_polygons(polygons, size)


def draw_polygons(polygons: list[NDArray[np.float64]], size: Size) -> Mask:
    """Draw the union of polygons, each (N, 2), by pycocotools. Raises AnnotationError."""
    coco = require_pycocotools()
    for points in polygons:
        steps = np.abs(points - np.roll(points, -1, axis=0)).max(axis=1)
        if steps.sum() > _LONGEST_PX:
            raise AnnotationError(f"the outline of its polygon is {steps.sum():.3g} pixels long")
    parts = coco.frPyObjects([points.reshape(-1).tolist() for points in polygons], *size)
    return draw_counts(coco.merge(parts)["counts"].decode("ascii"), size)


def runs_of(counts: NDArray[np.int64], size: Size) -> RLE:
    """Convert COCO counts, column by column `counts[0]` pixels outside, `counts[1]` inside and so on, to RLE.

    Raises AnnotationError: a count is negative, or the counts do not cover all pixels.
    """
    if (counts < 0).any() or int(counts.sum()) != size[0] * size[1]:
        raise AnnotationError(f"its RLE has {int(counts.sum())} pixels in place of {size[0]} x {size[1]}")
    ends = np.cumsum(counts)[1::2]
    lengths = counts[1::2]
    return np.stack([ends - lengths, lengths], axis=1)[lengths > 0].astype(np.int32)


def draw_counts(counts: Any, size: Size) -> Mask:
    """Draw COCO counts, a list of numbers or the compressed text of pycocotools. Raises AnnotationError."""
    numbers = _parse(counts) if isinstance(counts, str) else to_counts(counts)
    return rle.decode(runs_of(numbers, size), size)


def to_counts(counts: Any) -> NDArray[np.int64]:
    """Check counts from JSON. Raises AnnotationError."""
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count < 2**31 for count in counts):
        raise AnnotationError("its RLE is neither a list of whole numbers nor a text")
    return np.array(counts, np.int64)


def _parse(text: str) -> NDArray[np.int64]:
    """Decode compressed counts: five bits per character, offset 48, lowest first; from the fourth count on, the
    difference to the count two before. Ours, as pycocotools reads a damaged text beyond its end.
    """
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - 48
    if not len(data) or (data < 0).any() or (data > 63).any() or data[-1] & _MORE:
        raise AnnotationError("its compressed RLE is damaged")
    ends = np.flatnonzero((data & _MORE) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    widths = ends - starts + 1
    if widths.max() > 7:  # a count has at most 31 bits and a sign
        raise AnnotationError("its compressed RLE is damaged")
    shifts = 5 * (np.arange(len(data)) - np.repeat(starts, widths))
    values = np.add.reduceat((data & _DIGITS) << shifts, starts)
    values -= np.where(data[ends] & _SIGN, np.int64(1) << (5 * widths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
