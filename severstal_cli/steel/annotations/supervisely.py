"""Supervisely: a project with `meta.json`, and one JSON file per image in `DATASET/ann/`.

    ds/ann/a.jpg.json:  {"size": {"height": 256, "width": 1600}, "objects": [
        {"classTitle": "scratch", "geometryType": "polygon",
         "points": {"exterior": [[10, 20], [30, 20], [20, 40]], "interior": []}},
        {"classTitle": "scratch", "geometryType": "bitmap", "bitmap": {"origin": [40, 5], "data": "eJzr..."}}]}

Masks equal those of the SDK (supervisely/supervisely, supervisely/geometry). OpenCV fills a polygon with truncated
coordinates, then clears its holes and their outlines (`Polygon._draw_impl`). A bitmap is a PNG, compressed by zlib, in
base64, with its upper left corner at `origin` (`Bitmap.base64_2_data`). Shapes are clipped to the image as in
`Annotation` (`Polygon.crop`, by shapely). Classes are those of `meta.json`, in its order.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from severstal_cli.steel.annotations import supervisely_shapes
from severstal_cli.steel.annotations.documents import member, read_json
from severstal_cli.steel.annotations.shapes import (
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Shape,
    check_declared,
    in_file,
    is_background,
    located,
)
from severstal_cli.steel.images.image_headers import IMAGE_SUFFIXES

_DRAWERS = {"polygon": supervisely_shapes.draw_polygon, "bitmap": supervisely_shapes.draw_bitmap}


def find_meta(root: Path) -> Path | None:
    """Return the `meta.json` of a project: in `root`, or above it if `root` is a data set of the project."""
    for folder in (root, root.parent, root.parent.parent):
        path = folder / "meta.json"
        if path.is_file() and _files(root):
            meta = read_json(path)
            if isinstance(meta, dict) and isinstance(meta.get("classes"), list):
                return path
    return None


def read(root: Path, meta: Path) -> Annotations:
    """Read a project or one of its data sets. Raises InputError."""
    with in_file(f"{meta}"):
        names = [member(record, "title", str) for record in read_json(meta)["classes"]]
    images = []
    for source in _files(root):
        with in_file(f"{source}"):
            images.append(_image(source, read_json(source), names))
    return Annotations(
        format="Supervisely",
        path=root,
        images=tuple(images),
        names=tuple(name for name in names if not is_background(name)),
    )


def _files(root: Path) -> list[Path]:
    paths = root.glob("*.json") if root.name == "ann" else root.rglob("ann/*.json")
    return sorted(path for path in paths if not path.name.startswith("."))


def _image(source: Path, document: Any, names: Sequence[str]) -> AnnotatedImage:
    size_record = member(document, "size", dict)
    size = check_declared(size_record.get("height"), size_record.get("width"))
    shapes = []
    for number, record in enumerate(member(document, "objects", list), start=1):
        with located(f"object {number}"):
            label, kind = member(record, "classTitle", str), member(record, "geometryType", str)
            if label not in names:
                raise AnnotationError(f"there is no class {label!r:.40} in meta.json")
        draw = partial(_DRAWERS.get(kind, supervisely_shapes.refuse), record)
        shapes.append(Shape(where=f"object {number} ({label:.40})", label=label, draw=draw))
    name, folder = source.stem, source.parent.parent / "img"
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:  # old projects name annotations without the image suffix
        matches = sorted(path.name for path in folder.glob("*") if name in (path.name, path.stem))
        if len(matches) != 1:
            raise AnnotationError(f"{len(matches)} images are named {name} in {folder}")
        name = matches[0]
    path = folder / name
    return AnnotatedImage(
        source=source, name=name, size=size, shapes=tuple(shapes), path=path if path.is_file() else None
    )
