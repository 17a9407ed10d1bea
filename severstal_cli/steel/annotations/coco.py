"""COCO: one JSON file with `images`, `annotations` and `categories` (https://cocodataset.org/#format-data).

    {"images": [{"id": 1, "file_name": "a.jpg", "height": 256, "width": 1600}],
     "categories": [{"id": 7, "name": "scratch"}],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "segmentation": [[10, 10, 20.5, 10, 20, 30]]}]}

A segmentation is a list of polygons, or run lengths: {"size": [256, 1600], "counts": [...] or "..."}. Pixels are
those of `COCO.annToMask` (cocodataset/cocoapi), a crowd as any other. Classes are the categories in the order of their
ids. An annotation with a box alone is refused: it has no pixels.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from severstal_cli.errors import InputError
from severstal_cli.steel.annotations import coco_masks
from severstal_cli.steel.annotations.documents import member
from severstal_cli.steel.annotations.shapes import (
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Shape,
    base_name,
    check_declared,
    is_background,
)

_Shapes = dict[int | str, list[Shape]]
"""By the id of their image."""


def is_coco(document: Any) -> bool:
    """Whether a JSON document is a COCO file."""
    return isinstance(document, dict) and all(
        isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    )


def read(path: Path, documents: Mapping[Path, Any]) -> Annotations:
    """The annotations of COCO files with the same categories. Raises InputError."""
    categories: dict[int, str] = {}
    first, images, used = next(iter(documents)), [], set()
    for source, document in documents.items():
        try:
            found = _categories(document["categories"])
            if source == first:
                categories = found
            elif found != categories:
                raise AnnotationError(f"its categories are not those of {first.name}; name one of both")
            by_image, some = _annotations(document["annotations"], categories)
            images += _images(source, document["images"], by_image)
            used |= some
        except AnnotationError as error:
            raise InputError(f"{source}", str(error)) from None
    ids = [number for number in sorted(categories) if _is_class(number, document["categories"], used)]
    notes = []
    if left := [categories[number] for number in sorted(categories) if number not in ids]:
        notes.append(f"categories that are no classes, without annotations or background: {', '.join(left)}")
    if ids != list(range(1, len(ids) + 1)):
        pairs = ", ".join(f"{number} is {categories[number]}" for number in ids)
        notes.append(f"category ids of COCO are not the class ids: {pairs}")
    names = [categories[number] for number in ids]
    return Annotations(format="COCO", path=path, images=tuple(images), names=tuple(names), notes=tuple(notes))


def _categories(records: list[Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for position, record in enumerate(records, start=1):
        try:
            number, name = member(record, "id", int), member(record, "name", str)
        except AnnotationError as error:
            raise AnnotationError(f"category number {position}: {error}") from None
        if categories.setdefault(number, name) != name:
            raise AnnotationError(f"two categories have the id {number}")
    return categories


def _is_class(number: int, records: list[Any], used: set[int]) -> bool:
    """Roboflow puts a group of all classes first, as their supercategory; it has no annotations of its own."""
    name = next(record["name"] for record in records if record["id"] == number)
    is_group = number not in used and any(
        record.get("supercategory") == name and record["id"] != number for record in records
    )
    return not is_group and not is_background(name)


def _annotations(records: list[Any], categories: dict[int, str]) -> tuple[_Shapes, set[int]]:
    """The shapes by image, and the categories that have any."""
    by_image: _Shapes = defaultdict(list)
    used: set[int] = set()
    for position, record in enumerate(records, start=1):
        where = f"annotation number {position}"
        try:
            if isinstance(record, dict) and "segments_info" in record:
                raise AnnotationError("it is of a panoptic file, whose masks lie in PNG files of their own")
            image, category = _image_key(record, "image_id"), member(record, "category_id", int)
            where = f"annotation {record.get('id', f'number {position}')!r:.40}"
            if category not in categories:
                raise AnnotationError(f"there is no category {category}")
        except AnnotationError as error:
            raise AnnotationError(f"{where}: {error}") from None
        used.add(category)
        draw = partial(coco_masks.draw_segmentation, record.get("segmentation"))
        by_image[image].append(Shape(where=where, label=categories[category], draw=draw))
    return by_image, used


def _image_key(record: Any, key: str) -> int | str:
    """The id of an image: a number, but some tools write texts."""
    if isinstance(record, dict) and isinstance(record.get(key), str):
        return str(record[key])
    return member(record, key, int)


def _images(source: Path, records: list[Any], by_image: _Shapes) -> list[AnnotatedImage]:
    images: dict[int | str, AnnotatedImage] = {}
    for position, record in enumerate(records, start=1):
        where = f"image number {position}"
        try:
            number, name = _image_key(record, "id"), base_name(member(record, "file_name", str))
            where = f"image {name}"
            size = None
            if record.get("height") is not None or record.get("width") is not None:
                size = check_declared(record.get("height"), record.get("width"))
            if number in images:
                raise AnnotationError(f"{images[number].name} has the id {number!r:.40}, too")
        except AnnotationError as error:
            raise AnnotationError(f"{where}: {error}") from None
        shapes = tuple(by_image.get(number, ()))
        images[number] = AnnotatedImage(source=source, name=name, size=size, shapes=shapes)
    for number, lost in by_image.items():
        if number not in images:
            raise AnnotationError(f"{lost[0].where}: there is no image with the id {number!r:.40}")
    return list(images.values())
