"""labelme: one JSON file beside each image, with `shapes` of labels and points.

    {"imagePath": "a.jpg", "imageHeight": 256, "imageWidth": 1600, "shapes": [
        {"label": "scratch", "shape_type": "polygon", "points": [[10.5, 20], [30, 20], [20, 40]]}]}

Masks equal those of `labelme.utils.shape_to_mask` (wkentaro/labelme), drawn by Pillow: polygons and rectangles with
their outline, lines 10 pixels wide, points as discs of radius 5; a `mask` is a PNG in base64 at its two points.
Classes are the labels in alphabetical order. As in labelme's examples, `_background_` and `__ignore__` are not
classes: they cut holes in the shapes below them.
"""

import io
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from severstal_cli.steel.annotations.documents import from_base64, member, png_size
from severstal_cli.steel.annotations.shapes import (
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Mask,
    Shape,
    Size,
    base_name,
    check_declared,
    in_file,
    is_background,
    located,
    paste,
    to_points,
)
from severstal_cli.steel.images.image_headers import IMAGE_SUFFIXES

_LINE_WIDTH, _POINT_RADIUS = 10, 5  # the defaults of shape_to_mask

_POINTS: Mapping[str, tuple[int, int | None]] = {
    "polygon": (3, None),
    "rectangle": (2, 2),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (2, None),
    "point": (1, 1),
    "oriented_rectangle": (4, 4),
    "mask": (2, 2),
}
"""Minimum and maximum number of points of each kind of shape."""


def is_labelme(document: Any) -> bool:
    """Whether a JSON document is a labelme file."""
    return isinstance(document, dict) and isinstance(document.get("shapes"), list) and "imagePath" in document


def without_pixels(document: dict[str, Any]) -> dict[str, Any]:
    """Drop the embedded image from `document`: megabytes per file."""
    return {key: value for key, value in document.items() if key != "imageData"}


def read(path: Path, documents: Mapping[Path, Any]) -> Annotations:
    """Read labelme files. Raises InputError."""
    images = []
    for source, document in documents.items():
        with in_file(f"{source}"):
            images.append(_image(source, document))
    labels = {shape.label for image in images for shape in image.shapes}
    names = tuple(sorted(label for label in labels if not is_background(label)))
    annotated = {image.name for image in images}
    beside = {one for folder in {source.parent for source in documents} for one in folder.iterdir()}
    alone = [one for one in beside if one.suffix.lower() in IMAGE_SUFFIXES and one.name not in annotated]
    notes = (
        (f"{len(alone)} images beside the JSON files have none; with --images they count as clean",) if alone else ()
    )
    return Annotations(format="labelme", path=path, images=tuple(images), names=names, notes=notes, is_painted=True)


def _image(source: Path, document: dict[str, Any]) -> AnnotatedImage:
    stated = member(document, "imagePath", str)
    name = base_name(stated)
    path = source.parent / stated.replace("\\", "/")
    size = None
    if document.get("imageHeight") is not None or document.get("imageWidth") is not None:
        size = check_declared(document.get("imageHeight"), document.get("imageWidth"))
    shapes = []
    for number, record in enumerate(document["shapes"], start=1):
        with located(f"shape {number}"):
            label = member(record, "label", str)
        shapes.append(Shape(where=f"shape {number} ({label:.40})", label=label, draw=partial(_draw, record)))
    return AnnotatedImage(
        source=source, name=name, size=size, shapes=tuple(shapes), path=path if path.is_file() else None
    )


def _draw(record: dict[str, Any], size: Size) -> Mask:
    kind = record.get("shape_type") or "polygon"
    if not isinstance(kind, str) or kind not in _POINTS:
        raise AnnotationError(f"labelme draws no mask for a shape of type {kind!r:.40}")
    least, most = _POINTS[kind]
    points = to_points(record.get("points"), size, least=least, most=most)
    if kind == "mask":
        (left, top), (right, bottom) = points.astype(int).tolist()  # as in shapes_to_label, which truncates
        return paste(_patch(record.get("mask"), (bottom - top + 1, right - left + 1)), top, left, size)
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    xy = [(float(x), float(y)) for x, y in points]
    if kind in ("circle", "point"):
        (x, y), radius = xy[0], math.dist(xy[0], xy[-1]) if kind == "circle" else _POINT_RADIUS
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif kind == "rectangle":
        (x0, y0), (x1, y1) = xy
        draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), outline=1, fill=1)
    elif kind in ("line", "linestrip"):
        draw.line(xy, fill=1, width=_LINE_WIDTH)
    else:
        draw.polygon(xy, outline=1, fill=1)
    return np.array(canvas, np.bool_)


def _patch(text: Any, size: Size) -> Mask:
    """Decode the PNG of a mask, whose header must declare `size`."""
    from PIL import Image

    data = from_base64(text)
    if png_size(data) != size:
        raise AnnotationError("its mask is a PNG of {} x {}, its points span {} x {}".format(*png_size(data), *size))
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            patch = np.array(image).astype(np.bool_)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AnnotationError(f"its mask is a damaged PNG: {error}") from None
    if patch.shape != size:
        raise AnnotationError("its mask is a PNG in colour")
    return patch
