"""COCO: one JSON file with `images`, `annotations` and `categories` (https://cocodataset.org/#format-data).

    {"images": [{"id": 1, "file_name": "a.jpg", "height": 256, "width": 1600}],
     "categories": [{"id": 7, "name": "scratch"}],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "segmentation": [[10, 10, 20.5, 10, 20, 30]]}]}

A segmentation is a list of polygons, or an RLE: {"size": [256, 1600], "counts": [...] or "..."}. Masks equal those of
`COCO.annToMask` (cocodataset/cocoapi); a crowd counts as any other annotation. Classes are the categories, ordered by
id. An annotation that has only a box is refused, since a box is not a mask.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from severstal_cli.steel.annotations import coco_masks
from severstal_cli.steel.annotations.documents import member
from severstal_cli.steel.annotations.shapes import (
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Shape,
    base_name,
    check_declared,
    in_file,
    is_background,
    located,
)

_Shapes = dict[int | str, list[Shape]]
"""Image id -> shapes."""


def is_coco(document: Any) -> bool:
    """Whether a JSON document is a COCO file."""
    return isinstance(document, dict) and all(
        isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    )


def read(path: Path, documents: Mapping[Path, Any]) -> Annotations:
    """Read COCO files that share their categories. Raises InputError."""
    categories: dict[int, str] = {}
    first, images, used = next(iter(documents)), [], set()
    for source, document in documents.items():
        with in_file(f"{source}"):
            own = _categories(document["categories"])
            if source == first:
                categories = own
            elif own != categories:
                raise AnnotationError(f"its categories differ from those of {first.name}; name one of the files")
            by_image, some = _annotations(document["annotations"], categories)
            images += _images(source, document["images"], by_image)
            used |= some
    ids = [number for number in sorted(categories) if _is_class(number, document["categories"], used)]
    notes = []
    if left := [categories[number] for number in sorted(categories) if number not in ids]:
        notes.append(f"categories without annotations or of the background, which are not classes: {', '.join(left)}")
    if ids != list(range(1, len(ids) + 1)):
        pairs = ", ".join(f"{number} is {categories[number]}" for number in ids)
        notes.append(f"class ids differ from the category ids of COCO: {pairs}")
    names = [categories[number] for number in ids]
    return Annotations(format="COCO", path=path, images=tuple(images), names=tuple(names), notes=tuple(notes))


def _categories(records: list[Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for position, record in enumerate(records, start=1):
        with located(f"category number {position}"):
            number, name = member(record, "id", int), member(record, "name", str)
        if categories.setdefault(number, name) != name:
            raise AnnotationError(f"two categories have the id {number}")
    return categories


def _is_class(number: int, records: list[Any], used: set[int]) -> bool:
    """Whether a category is a class: not the background, nor the supercategory that Roboflow adds above all classes."""
    name = next(record["name"] for record in records if record["id"] == number)
    is_group = number not in used and any(
        record.get("supercategory") == name and record["id"] != number for record in records
    )
    return not is_group and not is_background(name)


def _annotations(records: list[Any], categories: dict[int, str]) -> tuple[_Shapes, set[int]]:
    """Return the shapes by image, and the categories that have shapes."""
    by_image: _Shapes = defaultdict(list)
    used: set[int] = set()
    for position, record in enumerate(records, start=1):
        where = f"annotation number {position}"
        try:
            if isinstance(record, dict) and "segments_info" in record:
                raise AnnotationError("it is panoptic, with its masks in separate PNG files")
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
    """Return the id of an image: a number, or a text as some tools write."""
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
