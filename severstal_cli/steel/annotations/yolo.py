"""YOLO segmentation (Ultralytics): one text file per image in `labels/`, one polygon per line, images in `images/`.

    labels/a.txt:   0 0.481719 0.634028 0.690625 0.713278 0.4125 0.5521      class, then x y x y ... over width, height
    data.yaml:      names: {0: scratch, 1: inclusion}                       or classes.txt, obj.names: one name per line

Masks equal those of `ultralytics.data.utils.polygon2mask`: coordinates, float32 as in `verify_image_label`, times
width and height, truncated and filled by OpenCV. Class 0 is class_id 1. A line of five numbers is a box and is refused.
An image with an empty label file or none is clean; its size comes from the image file.
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
    in_file,
    is_background,
)
from severstal_cli.steel.annotations.yolo_names import (
    is_names_file,
    label_folders,
    names_file,
    names_files,
    read_names,
)
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.images.image_files import find_images
from severstal_cli.steel.images.image_headers import IMAGE_SUFFIXES

_ROW = re.compile(r"\d{1,4}(\.0+)?(\s+[-+.\deE]+){4,}\s*")
_SLACK = 0.01  # tolerance of verify_image_label


def find_labels(root: Path, images: Path | None = None) -> list[Path]:
    """Return the label files in folders named labels below `root`, else those in `root`; [] if it is not a YOLO set.

    In `root`, a text file named like an image there, or in `images`, is a label file, even if it is damaged.
    """
    inside = [path for folder in label_folders(root) for path in sorted(folder.rglob("*")) if _is_text(path)]
    labels = inside or [path for path in sorted(root.iterdir()) if _is_text(path)]
    if inside or not labels:
        return labels
    rows = [path for path in labels if _ROW.fullmatch(_first_line(path))]
    blank = [path for path in labels if not read_bytes(path).strip()]
    if not rows and not (blank and names_files(root)):
        return []
    beside = [path for folder in (root, images) if folder is not None for path in folder.iterdir()]
    named = {path.stem for path in beside if path.suffix.lower() in IMAGE_SUFFIXES}
    return [path for path in labels if path in rows or path in blank or path.stem in named]


def _is_text(path: Path) -> bool:
    return (
        path.suffix.lower() == ".txt" and not path.name.startswith(".") and path.is_file() and not is_names_file(path)
    )


def read(root: Path, labels: Sequence[Path], images: Path | None, source: Path | None = None) -> Annotations:
    """Read label files; their images are in `images`, or where Ultralytics looks for them.

    `source`: the file of class names; by default the one in the data set.

    Raises InputError: a label file has no image, a row is a box or wrong, or the names are not a list.
    """
    source = source or names_file(root)
    names = read_names(source) if source else {}
    paths = find_images([images]) if images else list(_beside(labels))
    by_stem: dict[str, list[Path]] = {}
    for path in paths:
        by_stem.setdefault(path.stem, []).append(path)
    shapes: dict[Path, tuple[Shape, ...]] = {}
    sources: dict[Path, Path] = {}
    highest = max(names, default=-1)
    for label in labels:
        folder = images or image_folder(label)
        candidates = [path for path in by_stem.get(label.stem, []) if path.parent == folder]
        if len(candidates) != 1:
            count = f"{len(candidates)} images are" if candidates else "no image is"
            raise InputError(
                f"{label}", f"{count} named {label.stem} in {folder}", "Name the image folder with --images"
            )
        if candidates[0] in shapes:
            raise InputError(f"{label}", f"{sources[candidates[0]]} labels the same image", "Remove one")
        rows = list(_rows(label, names))
        highest = max([highest, *(number for number, _ in rows)])
        shapes[candidates[0]] = tuple(shape for _, shape in rows)
        sources[candidates[0]] = label
    every = [
        AnnotatedImage(
            source=sources.get(path, path), name=path.name, size=None, shapes=shapes.get(path, ()), path=path
        )
        for path in paths
    ]
    ordered = [names.get(number, str(number)) for number in range(highest + 1)]
    without = len(paths) - len(labels)
    notes = [f"{without} images have no label file: they are clean"] if without else []
    return Annotations(
        format="YOLO",
        path=root,
        images=tuple(every),
        notes=tuple(notes),
        names=tuple(name for name in ordered if not is_background(name)),
    )


def image_folder(label: Path) -> Path:
    """Return the image folder of a label file: its own, the last `labels` replaced by `images` (`img2label_paths`)."""
    parts = list(label.parent.parts)
    if "labels" not in parts:
        return label.parent
    last = len(parts) - 1 - parts[::-1].index("labels")
    parts[last] = "images"
    folder = Path(*parts)
    return folder if folder.is_dir() else label.parent


def _beside(labels: Sequence[Path]) -> Iterator[Path]:
    for folder in dict.fromkeys(image_folder(label) for label in labels):
        try:
            yield from find_images([folder])
        except InputError:
            raise InputError(
                f"{folder}", "no images beside the labels", "Name the image folder with --images"
            ) from None


def _rows(path: Path, names: dict[int, str]) -> Iterator[tuple[int, Shape]]:
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        with in_file(f"{path}, line {line}"):
            number, points = _row(text)
            if names and number not in names:
                raise AnnotationError(f"there is no class {number} among {len(names)} names")
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
        raise AnnotationError("five numbers are a box of YOLO detection; a box is not a mask")
    if len(values) < 7 or not len(values) % 2:
        raise AnnotationError(f"{len(values) - 1} coordinates: a polygon has x and y of at least 3 points")
    points = values[1:].reshape(-1, 2)
    if points.min() < -_SLACK or points.max() > 1 + _SLACK:
        raise AnnotationError("a coordinate is not between 0 and 1, as fractions of width and height are")
    return int(values[0]), points


def _draw(points: NDArray[np.float32], size: Size) -> Mask:
    mask = np.zeros(size, np.uint8)
    pixels = (points * np.array([size[1], size[0]], np.float32)).astype(np.int32)
    cv2.fillPoly(mask, [pixels], color=(1,))
    return mask.view(np.bool_)


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        lines = file.read(1 << 16).decode("utf-8-sig", "replace").lstrip().split("\n", 1)
    return lines[0]
