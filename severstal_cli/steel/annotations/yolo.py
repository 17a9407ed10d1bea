"""YOLO segmentation (Ultralytics): a text file an image in `labels/`, a line a polygon, the images in `images/`.

    labels/a.txt:   0 0.481719 0.634028 0.690625 0.713278 0.4125 0.5521      class, then x y x y ... over width, height
    data.yaml:      names: {0: scratch, 1: inclusion}                         or classes.txt, obj.names: a name a line

Pixels are those of `ultralytics.data.utils.polygon2mask`: the coordinates, float32 as in `verify_image_label`, times
width and height, cut to whole numbers and filled by OpenCV. Class 0 is class_id 1. A line of five numbers is a box and
is refused. An image with an empty file or none is clean; its size comes from the image file.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli.errors import InputError
from severstal_cli.steel.annotations.documents import read_bytes, read_text
from severstal_cli.steel.annotations.shapes import (
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Mask,
    Shape,
    Size,
    is_background,
)
from severstal_cli.steel.annotations.yolo_names import is_names_file, label_folders, names_file, read_names
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.images.image_files import find_images

_ROW = re.compile(r"\d{1,4}(\.0+)?(\s+[-+.\deE]+){4,}\s*")
_SLACK = 0.01  # verify_image_label lets a coordinate lie so far outside


def find_labels(root: Path) -> list[Path]:
    """The label files below `root`: in folders named labels, else beside each other; [] if it is not of this kind."""
    inside = [path for folder in label_folders(root) for path in sorted(folder.rglob("*.txt"))]
    found = [path for path in inside or sorted(root.glob("*.txt")) if path.is_file() and not is_names_file(path)]
    found = [path for path in found if not path.name.startswith(".")]
    if inside or not found:
        return found
    rows = [path for path in found if _ROW.fullmatch(_first_line(path))]
    blank = [path for path in found if _is_blank(path)]
    return sorted(rows + blank) if rows or (blank and names_file(root)) else []


def read(root: Path, labels: Sequence[Path], images: Path | None, source: Path | None = None) -> Annotations:
    """The annotations of label files; the images are those of `images`, or lie where Ultralytics looks for them.

    `source` names the classes; by default the file that lies beside.

    Raises InputError: no image for a label file, a box, a wrong row, names that are no list.
    """
    source = source or names_file(root)
    names = read_names(source) if source else {}
    found = find_images([images]) if images else list(_beside(labels))
    by_stem: dict[str, list[Path]] = {}
    for path in found:
        by_stem.setdefault(path.stem, []).append(path)
    shapes: dict[Path, tuple[Shape, ...]] = {}
    sources: dict[Path, Path] = {}
    highest = max(names, default=-1)
    for label in labels:
        folder = images or image_folder(label)
        candidates = [path for path in by_stem.get(label.stem, []) if path.parent == folder]
        if len(candidates) != 1:
            count = f"{len(candidates)} images are" if candidates else "no image is"
            raise InputError(f"{label}", f"{count} named {label.stem} in {folder}", "Name their folder with --images")
        if candidates[0] in shapes:
            raise InputError(f"{label}", f"{sources[candidates[0]]} is of the same image", "Remove one")
        rows = list(_rows(label, names))
        highest = max([highest, *(number for number, _ in rows)])
        shapes[candidates[0]] = tuple(shape for _, shape in rows)
        sources[candidates[0]] = label
    every = [
        AnnotatedImage(
            source=sources.get(path, path), name=path.name, size=None, shapes=shapes.get(path, ()), path=path
        )
        for path in found
    ]
    ordered = [names.get(number, str(number)) for number in range(highest + 1)]
    without = len(found) - len(labels)
    notes = [f"{without} images have no label file: they are clean"] if without else []
    return Annotations(
        format="YOLO", path=root, images=tuple(every), notes=tuple(notes),
        names=tuple(name for name in ordered if not is_background(name)),
    )  # fmt: skip


def image_folder(label: Path) -> Path:
    """Where the image of a label file lies: the last `labels` is `images` (`img2label_paths`), else beside it."""
    parts = list(label.parent.parts)
    if "labels" not in parts:
        return label.parent
    last = len(parts) - 1 - parts[::-1].index("labels")
    parts[last] = "images"
    there = Path(*parts)
    return there if there.is_dir() else label.parent


def _beside(labels: Sequence[Path]) -> Iterator[Path]:
    for folder in dict.fromkeys(image_folder(label) for label in labels):
        try:
            yield from find_images([folder])
        except InputError:
            raise InputError(f"{folder}", "no images beside the labels", "Name their folder with --images") from None


def _rows(path: Path, names: dict[int, str]) -> Iterator[tuple[int, Shape]]:
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        try:
            number, points = _row(text)
            if names and number not in names:
                raise AnnotationError(f"there is no class {number} among {len(names)} names")
        except AnnotationError as error:
            raise InputError(f"{path}, line {line}", str(error)) from None
        yield number, Shape(where=f"line {line}", label=names.get(number, str(number)), draw=partial(_draw, points))


def _row(text: str) -> tuple[int, NDArray[np.float32]]:
    fields = text.split()
    try:
        values = np.array(fields, np.float32)
    except ValueError:
        raise AnnotationError(f"not a row of numbers: {text!r:.40}") from None
    if not np.isfinite(values).all() or values[0] < 0 or values[0] % 1 or values[0] > 9999:
        raise AnnotationError(f"not a class and coordinates: {text!r:.40}")
    if len(values) == 5:
        raise AnnotationError("five numbers are a box, of YOLO for detection; a box is no mask")
    if len(values) < 7 or not len(values) % 2:
        raise AnnotationError(f"{len(values) - 1} coordinates: a polygon has x and y of 3 points or more")
    points = values[1:].reshape(-1, 2)
    if points.min() < -_SLACK or points.max() > 1 + _SLACK:
        raise AnnotationError("a coordinate is not between 0 and 1: they are shares of width and height")
    return int(values[0]), points


def _draw(points: NDArray[np.float32], size: Size) -> Mask:
    mask = np.zeros(size, np.uint8)
    pixels = (points * np.array([size[1], size[0]], np.float32)).astype(np.int32)
    cv2.fillPoly(mask, [pixels], color=(1,))
    return mask.view(np.bool_)


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        lines = file.read(1 << 16).decode("utf-8-sig", "replace").split("\n", 1)
    return lines[0]


def _is_blank(path: Path) -> bool:
    return not read_bytes(path).strip()
