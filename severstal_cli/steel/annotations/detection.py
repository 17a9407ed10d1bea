"""Which format of annotations lies at a path, found by what the files hold, not by their names alone."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from severstal_cli.errors import InputError
from severstal_cli.steel.annotations import coco, cvat, labelme, supervisely, yolo, yolo_names
from severstal_cli.steel.annotations.documents import read_bytes, read_json
from severstal_cli.steel.annotations.shapes import Annotations
from severstal_cli.steel.images.image_headers import IMAGE_SUFFIXES

KNOWN = "COCO, YOLO segmentation, labelme, CVAT for images and Supervisely are read, and masks as PNG"


def detect(path: Path, images: Path | None = None) -> Annotations | None:
    """The annotations at `path`; None where there are none, so that it may hold masks as PNG.

    Args:
        path: a file of annotations, or a folder with them.
        images: a folder of images, which YOLO needs for their sizes where they do not lie beside the labels.

    Raises:
        InputError: a file of annotations that is damaged or of an unknown kind, or those of two formats in one folder.
    """
    images = images if images is not None and images.is_dir() else None
    if path.is_file():
        return _in_file(path, images)
    if not path.is_dir():
        return None
    if meta := supervisely.find_meta(path):
        return supervisely.read(path, meta)
    found: dict[str, Callable[[], Annotations]] = {}
    for source in _below(path, ".xml"):
        annotations = cvat.read(source)
        if annotations and "CVAT" in found:
            raise InputError(f"{path}", "several files of CVAT", "Name one of them")
        if annotations:
            found["CVAT"] = partial(_same, annotations)
    documents, others = _documents(path)
    for name, read in (("COCO", coco.read), ("labelme", labelme.read)):
        if name in documents:
            found[name] = partial(read, path, documents[name])
    if labels := yolo.find_labels(path):
        found["YOLO"] = partial(yolo.read, path, labels, images)
    if len(found) > 1:
        raise InputError(f"{path}", f"annotations of {' and '.join(found)}", "Name the file or folder of one of them")
    if found:
        return next(iter(found.values()))()
    if others and not any(one.suffix.lower() in IMAGE_SUFFIXES for one in path.iterdir()):
        raise InputError(f"{path}", f"no masks, and {others[0].name} is of no known kind", KNOWN)
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
        annotations = yolo.read(path.parent, yolo.find_labels(path.parent), images, path)
    else:
        return None
    if annotations is None:
        raise InputError(f"{path}", "annotations of no known kind", KNOWN)
    return annotations


def _same(annotations: Annotations) -> Annotations:
    return annotations


def _documents(folder: Path) -> tuple[dict[str, dict[Path, Any]], list[Path]]:
    """The JSON documents of a folder by format, and the files that are of none."""
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


def _below(folder: Path, suffix: str) -> list[Path]:
    """The files in a folder and in those right below it, as COCO and Roboflow lay them."""
    paths = [path for pattern in ("*", "*/*") for path in folder.glob(pattern + suffix)]
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))
