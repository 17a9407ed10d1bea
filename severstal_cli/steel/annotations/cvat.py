"""CVAT for images 1.1: `annotations.xml` with images and their shapes.

    <annotations><meta><task><labels><label><name>scratch</name></label></labels></task></meta>
      <image id="0" name="a.jpg" width="1600" height="256">
        <polygon label="scratch" points="10.50,20.00;30.00,20.00;20.00,40.00" z_order="0"/>
        <mask label="scratch" rle="3, 2, 3" left="10" top="20" width="4" height="2" z_order="0"/></image></annotations>

Masks equal those of CVAT's own export (cvat-ai/cvat, cvat/apps/dataset_manager/formats/mask.py): pycocotools draws a
polygon (datumaro, PolygonsToMasks), a mask is an RLE along the rows of its box, starting outside (transformations.py,
MaskConverter), and OpenCV fills an ellipse (EllipsesToMasks). Classes are the labels in file order. Boxes, lines,
points, cuboids and skeletons are refused, since they are not masks. Tags have no pixels and are ignored.
"""

import math
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from severstal_cli.steel.annotations import coco_masks
from severstal_cli.steel.annotations.documents import read_xml
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
    reach,
    to_points,
)
from severstal_cli.steel.images.decoding import cv2

_NO_MASKS = ("box", "polyline", "points", "cuboid", "skeleton")


def read(source: Path) -> Annotations | None:
    """Read a CVAT file; None for other XML. Raises InputError."""
    root = read_xml(source)
    if root.tag != "annotations":
        return None
    with in_file(f"{source}"):
        if root.find("track") is not None:
            raise AnnotationError("its format is CVAT for video; export it as CVAT for images 1.1")
        images = tuple(_image(source, element) for element in root.iter("image"))
        labels = [shape.label for image in images for shape in image.shapes]
        names = _names(root) or sorted(set(labels))
        if unknown := sorted(set(labels) - set(names)):
            raise AnnotationError(f"the label {unknown[0]!r} is not in its list of labels: {', '.join(names)}")
    notes = []
    if tags := sum(1 for _ in root.iter("tag")):
        notes.append(f"{tags} tags are ignored: they have no pixels")
    return Annotations(
        format="CVAT",
        path=source,
        images=images,
        names=tuple(name for name in names if not is_background(name)),
        notes=tuple(notes),
        is_painted=True,
    )


def _names(root: Element) -> list[str]:
    """Return the labels of the task or project without the points of a skeleton, which have a parent."""
    labels = [label for meta in root.iter("meta") for label in meta.iter("label") if label.find("parent") is None]
    return list(dict.fromkeys(label.findtext("name") or "" for label in labels))


def _image(source: Path, element: Element) -> AnnotatedImage:
    name = base_name(element.get("name", ""))
    with located(f"image {name}"):
        size = check_declared(_whole(element, "height"), _whole(element, "width"))
        shapes = []
        for number, child in enumerate((child for child in element if child.tag != "tag"), start=1):
            where = f"{child.tag} number {number} ({child.get('label', ''):.40})"
            order = _number(child, "z_order") if "z_order" in child.attrib else 0.0
            draw = partial(_DRAWERS.get(child.tag, _refuse), child)
            shapes.append((order, Shape(where=where, label=child.get("label", ""), draw=draw)))
    shapes.sort(key=lambda pair: pair[0])
    return AnnotatedImage(source=source, name=name, size=size, shapes=tuple(shape for _, shape in shapes))


def _refuse(element: Element, size: Size) -> Mask:
    raise AnnotationError("it is not a mask" if element.tag in _NO_MASKS else "this kind of shape is unknown")


def _draw_polygon(element: Element, size: Size) -> Mask:
    pairs = [pair.split(",") for pair in element.get("points", "").split(";")]
    try:
        points = [[float(value) for value in pair] for pair in pairs]
    except ValueError:
        raise AnnotationError(f"its points are not x,y;x,y;...: {element.get('points', '')!r:.40}") from None
    # datumaro rounds to two digits (annotation.py, _Shape)
    return coco_masks.draw_polygons([to_points(points, size).round(2)], size)


def _draw_mask(element: Element, size: Size) -> Mask:
    top, left, height, width = (_whole(element, key) for key in ("top", "left", "height", "width"))
    check_declared(height, width)
    if height > size[0] or width > size[1]:
        raise AnnotationError(f"its mask of {height} x {width} is larger than the image of {size[0]} x {size[1]}")
    try:
        counts = coco_masks.to_counts([int(count) for count in element.get("rle", "").split(",")])
    except ValueError:  # includes AnnotationError
        raise AnnotationError("its RLE is not a list of whole numbers between commas") from None
    if int(counts.sum()) != height * width:
        raise AnnotationError(f"its RLE has {int(counts.sum())} pixels in place of {height} x {width}")
    values = np.arange(len(counts)) % 2 == 1
    return paste(np.repeat(values, counts).reshape(height, width), top, left, size)


def _draw_ellipse(element: Element, size: Size) -> Mask:
    cx, cy, rx, ry = (_number(element, key) for key in ("cx", "cy", "rx", "ry"))
    if min(rx, ry) < 0 or max(abs(cx), abs(cy), rx, ry) > reach(size):
        raise AnnotationError("a radius is negative, or it lies far outside its image")
    angle = _number(element, "rotation") if "rotation" in element.attrib else 0.0
    mask = np.zeros(size, np.uint8)
    cv2.ellipse(mask, (round(cx), round(cy)), (round(rx), round(ry)), angle, 0, 360, (1,), thickness=-1)
    return mask.view(np.bool_)


def _number(element: Element, key: str) -> float:
    try:
        value = float(element.get(key, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise AnnotationError(f"its {key} is {element.get(key)!r:.40}")
    return value


def _whole(element: Element, key: str) -> int:
    value = _number(element, key)
    if value % 1:
        raise AnnotationError(f"its {key} is {element.get(key)!r:.40}, not a whole number")
    return int(value)


_DRAWERS = {"polygon": _draw_polygon, "mask": _draw_mask, "ellipse": _draw_ellipse}
