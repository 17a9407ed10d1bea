"""Supervisely: a project with `meta.json`, and a JSON file an image in `DATASET/ann/`.

    ds/ann/a.jpg.json:  {"size": {"height": 256, "width": 1600}, "objects": [
        {"classTitle": "scratch", "geometryType": "polygon",
         "points": {"exterior": [[10, 20], [30, 20], [20, 40]], "interior": []}},
        {"classTitle": "scratch", "geometryType": "bitmap", "bitmap": {"origin": [40, 5], "data": "eJzr..."}}]}

Pixels are those of the SDK (supervisely/supervisely, supervisely/geometry): a polygon, cut to whole numbers, is filled
by OpenCV, then its holes are emptied, their outline with them (`Polygon._draw_impl`); a bitmap is a PNG, compressed
by zlib, in base64, its upper left corner at `origin` (`Bitmap.base64_2_data`). What leaves the image is cut off as
`Annotation` does it (`Polygon.crop`, by shapely). Classes are those of `meta.json`, in its order.
"""

import math
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from severstal_cli.errors import InputError, MachineError
from severstal_cli.steel.annotations.documents import from_base64, member, png_size, read_json
from severstal_cli.steel.annotations.shapes import (
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Mask,
    Shape,
    Size,
    check_declared,
    is_background,
    to_points,
)
from severstal_cli.steel.images import IMAGE_SUFFIXES, cv2

_Ring = list[list[int]]
"""[[x, y], ...]"""


def find_meta(root: Path) -> Path | None:
    """The `meta.json` of a project: in `root`, or above it where `root` is one of its data sets."""
    for folder in (root, root.parent, root.parent.parent):
        path = folder / "meta.json"
        if path.is_file() and _files(root):
            meta = read_json(path)
            if isinstance(meta, dict) and isinstance(meta.get("classes"), list):
                return path
    return None


def read(root: Path, meta: Path) -> Annotations:
    """The annotations of a project or of one of its data sets. Raises InputError."""
    source = meta
    try:
        names = [member(record, "title", str) for record in read_json(meta)["classes"]]
        images = []
        for source in _files(root):
            images.append(_image(source, read_json(source), names))
    except AnnotationError as error:
        raise InputError(f"{source}", str(error)) from None
    return Annotations(
        format="Supervisely", path=root, images=tuple(images),
        names=tuple(name for name in names if not is_background(name)),
    )  # fmt: skip


def _files(root: Path) -> list[Path]:
    found = root.glob("*.json") if root.name == "ann" else root.rglob("ann/*.json")
    return sorted(path for path in found if not path.name.startswith("."))


def _image(source: Path, document: Any, names: Sequence[str]) -> AnnotatedImage:
    size_record = member(document, "size", dict)
    size = check_declared(size_record.get("height"), size_record.get("width"))
    shapes = []
    for number, record in enumerate(member(document, "objects", list), start=1):
        where = f"object {number}"
        try:
            label, kind = member(record, "classTitle", str), member(record, "geometryType", str)
            if label not in names:
                raise AnnotationError(f"there is no class {label!r:.40} in meta.json")
        except AnnotationError as error:
            raise AnnotationError(f"{where}: {error}") from None
        draw = partial({"polygon": _draw_polygon, "bitmap": _draw_bitmap}.get(kind, _refuse), record)
        shapes.append(Shape(where=f"{where} ({label:.40})", label=label, draw=draw))
    name, folder = source.stem, source.parent.parent / "img"
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:  # projects of old name annotations without the ending
        names_there = sorted(path.name for path in folder.glob("*") if path.stem == name)
        if len(names_there) != 1:
            raise AnnotationError(f"{len(names_there)} images are named {name} in {folder}")
        name = names_there[0]
    path = folder / name
    return AnnotatedImage(
        source=source, name=name, size=size, shapes=tuple(shapes), path=path if path.is_file() else None
    )


def _refuse(record: dict[str, Any], size: Size) -> Mask:
    raise AnnotationError(f"a {record['geometryType']:.40} is no mask")


def _draw_polygon(record: dict[str, Any], size: Size) -> Mask:
    points = member(record, "points", dict)
    exterior = _ring(points.get("exterior"), size)
    interior = [_ring(hole, size) for hole in points.get("interior") or []]
    inside = all(0 <= x < size[1] and 0 <= y < size[0] for x, y in exterior)
    mask = np.zeros(size, np.bool_)
    for outline, holes in [(exterior, interior)] if inside else _crop(exterior, interior, size):
        part = np.zeros(size, np.uint8)
        cv2.fillPoly(part, [np.array(outline, np.int32)], color=(1,))
        if holes:
            cv2.fillPoly(part, [np.array(hole, np.int32) for hole in holes], color=(0,))
        mask |= part.view(np.bool_)
    return mask


def _ring(values: Any, size: Size) -> _Ring:
    return [[math.floor(x), math.floor(y)] for x, y in to_points(values, size).tolist()]


def _crop(exterior: _Ring, interior: list[_Ring], size: Size) -> list[tuple[_Ring, list[_Ring]]]:
    """The polygons that are left inside the image: outline and holes of each."""
    try:
        from shapely import GEOSException, get_parts
        from shapely.geometry import Polygon
    except ImportError as error:
        raise MachineError(
            "polygons of Supervisely that leave the image need shapely", str(error),
            "Install it: pip install 'severstal[annotations]'",
        ) from None  # fmt: skip
    try:
        bottom, right = size[0] - 1, size[1] - 1
        window = Polygon([(0, 0), (0, right), (bottom, right), (bottom, 0)])
        left = Polygon(_swapped(exterior), list(map(_swapped, interior))).buffer(0).intersection(window)
    except (GEOSException, ValueError) as error:
        raise AnnotationError(f"it leaves the image and cannot be cut: {error}") from None
    parts = [part for part in get_parts(left) if part.geom_type == "Polygon" and not part.is_empty]
    return [(_rounded(part.exterior), [_rounded(hole) for hole in part.interiors]) for part in parts]


def _rounded(ring: Any) -> _Ring:
    return [[round(x), round(y)] for y, x in list(ring.coords)[:-1]]


def _swapped(ring: _Ring) -> _Ring:
    """(row, column), as the SDK hands them to shapely: the other way, a point may be rounded otherwise."""
    return [[y, x] for x, y in ring]


def _draw_bitmap(record: dict[str, Any], size: Size) -> Mask:
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
    """The PNG of a bitmap: (h, w) bool. No larger than its image, and unpacked no further than such a PNG can be."""
    is_packed = not data.startswith(b"\x89PNG")
    if is_packed:
        try:
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(data, 8 * size[0] * size[1] + (1 << 16))
        except zlib.error as error:
            raise AnnotationError(f"its bitmap is damaged: {error}") from None
        if not unpacker.eof:
            raise AnnotationError("its bitmap is cut short, or unpacks to more than its image can hold")
    height, width = png_size(data)
    if height > size[0] or width > size[1] or height * width == 0:
        raise AnnotationError(f"its bitmap of {height} x {width} does not fit the image of {size[0]} x {size[1]}")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise AnnotationError("its bitmap is a damaged PNG")
    seen = np.asarray(decoded != 0, np.bool_)
    if seen.ndim == 2:
        return seen
    if not is_packed:  # the SDK takes any colour of these
        return np.asarray(seen.any(axis=-1), np.bool_)
    if seen.shape[2] < 4:
        raise AnnotationError("its bitmap is a PNG in colour without transparency")
    return seen[..., 3]
