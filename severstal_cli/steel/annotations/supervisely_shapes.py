"""Masks of polygons and bitmaps as the Supervisely SDK draws them (supervisely/supervisely, supervisely/geometry)."""

import math
import zlib
from typing import Any

import numpy as np

from severstal_cli.errors import MachineError
from severstal_cli.steel.annotations.documents import from_base64, member, png_size
from severstal_cli.steel.annotations.shapes import AnnotationError, Mask, Size, to_points
from severstal_cli.steel.images.decoding import cv2

_Ring = list[list[int]]
"""[[x, y], ...]"""


def refuse(record: dict[str, Any], size: Size) -> Mask:
    """Raise AnnotationError: boxes, lines and points are not masks."""
    raise AnnotationError(f"a {record['geometryType']:.40} is not a mask")


def draw_polygon(record: dict[str, Any], size: Size) -> Mask:
    """Draw a polygon by `Polygon._draw_impl`, after `Polygon.crop` if it leaves the image. Raises AnnotationError."""
    points = member(record, "points", dict)
    exterior = _ring(points.get("exterior"), size)
    holes = points.get("interior") or []
    if not isinstance(holes, list):
        raise AnnotationError("its interior is not a list of holes")
    interior = [_ring(hole, size) for hole in holes]
    inside = all(0 <= x < size[1] and 0 <= y < size[0] for x, y in exterior)
    mask = np.zeros(size, np.bool_)
    for outline, inner in [(exterior, interior)] if inside else _crop(exterior, interior, size):
        polygon = np.zeros(size, np.uint8)
        cv2.fillPoly(polygon, [np.array(outline, np.int32)], color=(1,))
        if inner:
            cv2.fillPoly(polygon, [np.array(hole, np.int32) for hole in inner], color=(0,))
        mask |= polygon.view(np.bool_)
    return mask


def _ring(values: Any, size: Size) -> _Ring:
    return [[math.floor(x), math.floor(y)] for x, y in to_points(values, size).tolist()]


def _crop(exterior: _Ring, interior: list[_Ring], size: Size) -> list[tuple[_Ring, list[_Ring]]]:
    """Clip a polygon to the image; return the outline and holes of each resulting polygon."""
    try:
        from shapely import GEOSException, get_parts
        from shapely.geometry import Polygon
    except ImportError as error:
        raise MachineError(
            "polygons of Supervisely that leave the image need shapely",
            str(error),
            "Install it: pip install 'severstal[annotations]'",
        ) from None
    try:
        bottom, right = size[0] - 1, size[1] - 1
        window = Polygon([(0, 0), (0, right), (bottom, right), (bottom, 0)])
        clipped = Polygon(_swapped(exterior), list(map(_swapped, interior))).buffer(0).intersection(window)
    except (GEOSException, ValueError) as error:
        raise AnnotationError(f"it leaves the image and cannot be clipped: {error}") from None
    polygons = [each for each in get_parts(clipped) if each.geom_type == "Polygon" and not each.is_empty]
    return [(_rounded(each.exterior), [_rounded(hole) for hole in each.interiors]) for each in polygons]


def _rounded(ring: Any) -> _Ring:
    return [[round(x), round(y)] for y, x in list(ring.coords)[:-1]]


def _swapped(ring: _Ring) -> _Ring:
    """Swap to (row, column), as the SDK passes points to shapely; (x, y) may round differently."""
    return [[y, x] for x, y in ring]


def draw_bitmap(record: dict[str, Any], size: Size) -> Mask:
    """Draw `Bitmap.base64_2_data` at its origin, clipped to the image. Raises AnnotationError."""
    bitmap = member(record, "bitmap", dict)
    origin = to_points([bitmap.get("origin")], size, least=1).tolist()[0]
    left, top = math.floor(origin[0]), math.floor(origin[1])
    patch = _patch(from_base64(bitmap.get("data")), size)
    if not patch.any():
        raise AnnotationError("its bitmap is empty")
    rows, columns = np.nonzero(patch)
    rows, columns = rows + top, columns + left
    seen = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    mask = np.zeros(size, np.bool_)
    mask[rows[seen], columns[seen]] = True
    return mask


def _patch(data: bytes, size: Size) -> Mask:
    """Decode the PNG of a bitmap to (h, w) bool, no larger than its image; decompression stops at that size."""
    is_packed = not data.startswith(b"\x89PNG")
    if is_packed:
        try:
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(data, 8 * size[0] * size[1] + (1 << 16))
        except zlib.error as error:
            raise AnnotationError(f"its bitmap is damaged: {error}") from None
        if not unpacker.eof:
            raise AnnotationError("its bitmap is truncated, or decompresses to more than its image can hold")
    height, width = png_size(data)
    if height > size[0] or width > size[1] or height * width == 0:
        raise AnnotationError(f"its bitmap of {height} x {width} does not fit the image of {size[0]} x {size[1]}")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise AnnotationError("its bitmap is a damaged PNG")
    seen = np.asarray(decoded != 0, np.bool_)
    if seen.ndim == 2:
        return seen
    if not is_packed:  # the SDK counts any colour here
        return np.asarray(seen.any(axis=-1), np.bool_)
    if seen.shape[2] < 4:
        raise AnnotationError("its bitmap is a PNG in colour without transparency")
    return seen[..., 3]
