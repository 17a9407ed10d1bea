"""Detect the format of annotations by the content of the files."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from severstal_cli.errors import InputError
from severstal_cli.steel.annotations import coco, cvat, labelme, supervisely, yolo, yolo_names
from severstal_cli.steel.annotations.documents import read_bytes, read_json
from severstal_cli.steel.annotations.shapes import Annotations
from severstal_cli.steel.images.image_headers import IMAGE_SUFFIXES
from severstal_cli.wording import listed

KNOWN = "Supported are COCO, YOLO segmentation, labelme, CVAT for images, Supervisely, and masks as PNG"


def detect(path: Path, images: Path | None = None) -> Annotations | None:
    """Read the annotations at `path`; None if there are none, as in a folder of mask files.

    Args:
        path: a file of annotations, or a folder with such files.
        images: a folder of images; YOLO needs it if the images do not lie beside the labels.

    Raises:
        InputError: a file is damaged or has an unknown format, or the folder has two formats.
    """
    images = images if images is not None and images.is_dir() else None
    if path.is_file():
        return _in_file(path, images)
    if not path.is_dir():
        return None
    if meta := supervisely.find_meta(path):
        return supervisely.read(path, meta)
    formats: dict[str, Callable[[], Annotations]] = {}
    for source in _below(path, ".xml"):
        annotations = cvat.read(source)
        if annotations and "CVAT" in formats:
            raise InputError(f"{path}", "several files of CVAT", "Name one of them")
        if annotations:
            formats["CVAT"] = partial(_same, annotations)
    documents, others = _documents(path)
    for name, read in (("COCO", coco.read), ("labelme", labelme.read)):
        if name in documents:
            formats[name] = partial(read, path, documents[name])
    if labels := yolo.find_labels(path, images):
        formats["YOLO"] = partial(yolo.read, path, labels, images)
    if len(formats) > 1:
        raise InputError(f"{path}", f"annotations of {' and '.join(formats)}", "Name the file or folder of one of them")
    if formats:
        _refuse_damaged(others, documents.get("labelme", {}))
        annotations = next(iter(formats.values()))()
        ignored = (f"ignored, of an unknown format: {listed([one.name for one in others], 5)}",) if others else ()
        return dataclasses.replace(annotations, notes=(*annotations.notes, *ignored))
    if others and not any(one.suffix.lower() in IMAGE_SUFFIXES for one in path.iterdir()):
        raise InputError(f"{path}", f"no masks, and {others[0].name} has an unknown format", KNOWN)
    return None


def _in_file(path: Path, images: Path | None) -> Annotations | None:
    start = read_bytes(path)[: 1 << 12].removeprefix(b"\xef\xbb\xbf").lstrip()
    annotations: Annotations | None = None
    if start.startswith(b"PK\x03\x04"):
        raise InputError(f"{path}", "it is a ZIP archive", "Unpack it, and name the folder")
    if start.startswith((b"{", b"[")):
        document = read_json(path)
        if coco.is_coco(document):
            annotations = coco.read(path, {path: document})
        elif labelme.is_labelme(document):
            annotations = labelme.read(path, {path: document})
    elif start.startswith((b"<", b"\xff\xfe<", b"\xfe\xff\x00<")):
        annotations = cvat.read(path)
    elif yolo_names.is_names_file(path):
        annotations = yolo.read(path.parent, yolo.find_labels(path.parent, images), images, path)
    else:
        return None
    if annotations is None:
        raise InputError(f"{path}", "annotations of an unknown format", KNOWN)
    return annotations


def _same(annotations: Annotations) -> Annotations:
    return annotations


def _documents(folder: Path) -> tuple[dict[str, dict[Path, Any]], list[Path]]:
    """Return the JSON documents of a folder by format, and the other files."""
    documents: dict[str, dict[Path, Any]] = defaultdict(dict)
    others = []
    for source in _below(folder, ".json"):
        document = read_json(source)
        if coco.is_coco(document):
            documents["COCO"][source] = document
        elif labelme.is_labelme(document):
            documents["labelme"][source] = labelme.without_pixels(document)
        else:
            others.append(source)
    return documents, others


def _refuse_damaged(others: Sequence[Path], labelme_files: Iterable[Path]) -> None:
    """Raise InputError if a JSON file among those of labelme is named like an image, which would count as clean."""
    first = next(iter(labelme_files), None)
    for one in others if first else ():
        beside = (path for path in one.parent.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if first and any(path.stem == one.stem for path in beside):
            raise InputError(
                f"{one}", f"it is not labelme, like {first.name}", "Save it again in labelme, or remove it"
            )


def _below(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder and of its direct subfolders, the layouts of COCO and Roboflow."""
    paths = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.suffix.lower() == suffix]
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))
