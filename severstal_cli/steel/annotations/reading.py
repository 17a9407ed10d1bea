"""Annotations to masks: classes numbered, names and sizes checked against the images, shapes drawn and merged."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from severstal_cli.errors import InputError
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.annotations.shapes import AnnotatedImage, AnnotationError, Annotations, Size, is_background
from severstal_cli.steel.images.image_files import other_ending
from severstal_cli.steel.images.surveys import Survey, orientation_remedy
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE
from severstal_cli.steel.tables.csv_rows import MAX_CLASS_ID, RowError, read_image_id


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What annotations come to."""

    image_ids: tuple[str, ...]
    """Every image: those of a folder or list that was given, else those that the format lists."""
    masks: dict[tuple[str, int], RLE]
    """(image_id, channel) -> runs, not empty. Shapes of one class are merged, classes may overlap."""
    names: tuple[str, ...]
    """The classes: class_id 1, 2, ..."""


def draw(
    annotations: Annotations,
    listed: dict[str, Path | None],
    headers: Survey,
    class_names: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Drawn:
    """Draw all shapes, in threads.

    Args:
        annotations: as found.
        listed: image_id -> its file or None, of the images that were given; {}: those of the annotations.
        headers: the survey of the files in `listed`.
        class_names: the classes in another order than that of the format, or with ones that have no annotation here.
        progress: shows a bar and what is to be known of the annotations.

    Raises:
        InputError: a shape that cannot be drawn, an unknown image, another size than that of the image file, one name
            of two images, a label that is no class.
        MachineError: a library that the format needs is missing.
    """
    names = tuple(class_names) or annotations.names
    if wrong := [name for name in names if not name.strip() or not name.isprintable()]:
        raise InputError(f"{annotations.path}", f"a class is named {wrong[0]!r:.60}", "Give it a name that can be read")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{annotations.path}", f"two classes are named {doubled[0]}", "Give each a name of its own")
    ids = {name: class_id for class_id, name in enumerate(names, start=1)}
    background = _check_classes(annotations, ids)
    count = len(annotations.images)
    progress.log(f"{annotations.path}: {annotations.format} annotations of {count} image{'s' * (count != 1)}")
    for note in annotations.notes:
        progress.log(f"note: {note}")
    if background:
        holes = ", and cut holes in what lies below" if annotations.is_painted else ""
        progress.log(f"note: {background} shapes are background: they are of no class{holes}")
    by_id = _by_image_id(annotations, listed)
    masks: dict[tuple[str, int], RLE] = {}
    work = partial(_draw_image, ids=ids, is_painted=annotations.is_painted, headers=headers)
    items = [(image, listed.get(image_id) or image.path) for image_id, image in by_id.items()]
    with progress.bar("draw", len(items), "images") as bar:
        drawn = map_in_order(work, items, ahead=32, name="draw")
        for image_id, found in zip(by_id, drawn, strict=True):
            masks.update({(image_id, class_id - 1): runs for class_id, runs in found.items() if len(runs)})
            bar.advance()
    return Drawn(image_ids=tuple(listed or by_id), masks=masks, names=names)


def _check_classes(annotations: Annotations, ids: dict[str, int]) -> int:
    """How many shapes are background. Raises InputError where others are of no class."""
    if len(ids) > MAX_CLASS_ID:
        raise InputError(f"{annotations.path}", f"{len(ids)} classes", f"There can be {MAX_CLASS_ID}")
    if not ids:
        raise InputError(f"{annotations.path}", "no class is named", "Name them: --class-names scratch,inclusion")
    background = 0
    for image in annotations.images:
        for shape in image.shapes:
            if shape.label in ids:
                continue
            if not is_background(shape.label):
                remedy = f"The classes are {', '.join(ids)}; --class-names names others"
                raise InputError(f"{image.source}, {shape.where}", f"{shape.label!r:.60} is no class", remedy)
            background += 1
    return background


def _by_image_id(annotations: Annotations, listed: dict[str, Path | None]) -> dict[str, AnnotatedImage]:
    """The annotated images by their ids, which must be in `listed` where this is given."""
    if not annotations.images:
        raise InputError(f"{annotations.path}", "it lists no image")
    found: dict[str, AnnotatedImage] = {}
    for image in annotations.images:
        try:
            image_id = read_image_id(image.name)
        except RowError as error:
            raise InputError(f"{image.source}", str(error)) from None
        if listed and image_id not in listed:
            found_there = other_ending(image_id, listed)
            raise InputError(
                f"{image.source}", f"no image {image.name} among those of --images{found_there}", "Name their folder"
            )
        if image_id in found:
            where = f"{found[image_id].source} and {image.source}" * (image.source != found[image_id].source)
            raise InputError(
                where or f"{image.source}", f"two images are named {image_id}", "Give each a name of its own"
            )
        found[image_id] = image
    return found


def _size(image: AnnotatedImage, path: Path | None, headers: Survey) -> Size:
    """The size as declared, which must be that of the file, where there is one."""
    actual = headers.size_of(path) if path else None
    if image.size is None and actual is None:
        raise InputError(f"{image.source}", f"no size of {image.name} is known", "Give the images with --images")
    if image.size and actual and image.size != actual:
        raise InputError(
            f"{image.source}",
            "{}x{} pixels are declared for {}, {} has {}x{}".format(*image.size, image.name, path, *actual),
            (path and orientation_remedy(path)) or "Annotations belong to the image as it was annotated",
        )
    return actual or image.size or (0, 0)


def _draw_image(
    item: tuple[AnnotatedImage, Path | None], *, ids: dict[str, int], is_painted: bool, headers: Survey
) -> dict[int, RLE]:
    """class_id -> runs of one image."""
    image, path = item
    size = _size(image, path, headers)
    present = {ids[shape.label] for shape in image.shapes if shape.label in ids}
    found: dict[int, RLE] = {}
    for class_id in sorted(present):  # one mask at a time, whatever the number of classes
        mask = np.zeros(size, np.bool_)
        for shape in image.shapes:
            is_hole = is_painted and shape.label not in ids
            if not is_hole and ids.get(shape.label) != class_id:
                continue
            try:
                drawn = shape.draw(size)
            except AnnotationError as error:
                raise InputError(f"{image.source}, image {image.name}, {shape.where}", str(error)) from None
            if is_hole:
                mask &= ~drawn
            else:
                mask |= drawn
        found[class_id] = rle.encode(mask)
    return found
