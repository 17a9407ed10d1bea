"""Turn annotations into masks: number the classes, check names and sizes against the images, draw the shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from severstal_cli.errors import InputError
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.annotations.shapes import AnnotatedImage, Annotations, Size, in_file, is_background
from severstal_cli.steel.images.image_files import same_stem_hint
from severstal_cli.steel.images.surveys import Survey, orientation_remedy
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE
from severstal_cli.steel.tables.csv_rows import MAX_CLASS_ID, RowError, read_image_id
from severstal_cli.wording import counted


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Masks of annotations."""

    image_ids: tuple[str, ...]
    """All images: the given ones, else those that the annotations list."""
    masks: dict[tuple[str, int], RLE]
    """(image_id, channel) -> RLE, not empty. Shapes of one class are merged, classes may overlap."""
    names: tuple[str, ...]
    """Names of the classes 1, 2, ..."""


def draw(
    annotations: Annotations,
    listed: dict[str, Path | None],
    headers: Survey,
    class_names: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Drawn:
    """Draw all shapes, in threads.

    Args:
        annotations: of any format.
        listed: image_id -> file or None of the given images; {} for the images that the annotations list.
        headers: the survey of the files in `listed`.
        class_names: all classes, if their order differs from the annotations or some have no annotations.
        progress: shows a bar and logs notes.

    Raises:
        InputError: a shape cannot be drawn, an image is unknown or has another size than its file, two images have
            the same name, or a label is not a class.
        MachineError: a library of the format is missing.
    """
    names = tuple(class_names) or annotations.names
    if wrong := [name for name in names if not name.strip() or not name.isprintable()]:
        raise InputError(f"{annotations.path}", f"a class is named {wrong[0]!r:.60}", "Give it a printable name")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{annotations.path}", f"two classes are named {doubled[0]}", "Rename one of them")
    ids = {name: class_id for class_id, name in enumerate(names, start=1)}
    background = _check_classes(annotations, ids)
    count = len(annotations.images)
    progress.log(f"{annotations.path}: {annotations.format} annotations of {count} image{'s' * (count != 1)}")
    for note in annotations.notes:
        progress.log(f"note: {note}")
    if background:
        holes = ", and cut holes in the shapes below" if annotations.is_painted else ""
        progress.log(f"note: {background} shapes are background{holes}")
    by_id = _by_image_id(annotations, listed)
    masks: dict[tuple[str, int], RLE] = {}
    work = partial(_draw_image, ids=ids, is_painted=annotations.is_painted, headers=headers)
    items = [(image, listed.get(image_id) or image.path) for image_id, image in by_id.items()]
    empty: list[str] = []
    is_beyond = False
    with progress.bar("draw", len(items), "images") as bar:
        drawn = map_in_order(work, items, ahead=32, name="draw")
        for image_id, of_image in zip(by_id, drawn, strict=True):
            masks.update({(image_id, class_id - 1): runs for class_id, runs in of_image.masks.items() if len(runs)})
            empty += of_image.empty
            is_beyond |= of_image.is_beyond
            bar.advance()
    shapes = sum(len(image.shapes) for image in annotations.images) - background
    if shapes and not is_beyond:
        raise InputError(
            f"{annotations.path}",
            f"all pixels of its {counted(shapes, 'shape')} lie in the upper left 2 x 2 or outside the images",
            "Coordinates are pixels: export them so, not as fractions of width and height",
        )
    if empty:
        verb = "cover" if len(empty) > 1 else "covers"
        progress.log(f"note: {counted(len(empty), 'shape')} {verb} no pixel, first {empty[0]}")
    return Drawn(image_ids=tuple(listed or by_id), masks=masks, names=names)


def _check_classes(annotations: Annotations, ids: dict[str, int]) -> int:
    """Return the number of background shapes. Raises InputError: another shape has no class."""
    if len(ids) > MAX_CLASS_ID:
        raise InputError(f"{annotations.path}", f"{len(ids)} classes", f"At most {MAX_CLASS_ID} are possible")
    if not ids:
        raise InputError(f"{annotations.path}", "it names no class", "Name them: --class-names scratch,inclusion")
    background = 0
    for image in annotations.images:
        for shape in image.shapes:
            if shape.label in ids:
                continue
            if not is_background(shape.label):
                remedy = f"The classes are {', '.join(ids)}; name others by --class-names"
                raise InputError(f"{image.source}, {shape.where}", f"{shape.label!r:.60} is not a class", remedy)
            background += 1
    return background


def _by_image_id(annotations: Annotations, listed: dict[str, Path | None]) -> dict[str, AnnotatedImage]:
    """Return image_id -> annotated image; the ids must be in `listed` unless that is empty."""
    if not annotations.images:
        raise InputError(f"{annotations.path}", "it lists no image")
    by_id: dict[str, AnnotatedImage] = {}
    for image in annotations.images:
        try:
            image_id = read_image_id(image.name)
        except RowError as error:
            raise InputError(f"{image.source}", str(error)) from None
        if listed and image_id not in listed:
            other = same_stem_hint(image_id, listed)
            raise InputError(
                f"{image.source}", f"no image {image.name} among those of --images{other}", "Name the right folder"
            )
        if image_id in by_id:
            sources = " and ".join(dict.fromkeys((f"{by_id[image_id].source}", f"{image.source}")))
            raise InputError(sources, f"two images are named {image_id}", "Rename one of them")
        by_id[image_id] = image
    return by_id


def _size(image: AnnotatedImage, path: Path | None, headers: Survey) -> Size:
    """Return the declared size, which must equal that of the image file, if there is one."""
    actual = headers.size_of(path) if path else None
    if image.size is None and actual is None:
        raise InputError(f"{image.source}", f"the size of {image.name} is unknown", "Give the images with --images")
    if image.size and actual and image.size != actual:
        raise InputError(
            f"{image.source}",
            "{}x{} pixels are declared for {}, {} has {}x{}".format(*image.size, image.name, path, *actual),
            (path and orientation_remedy(path)) or "Give the images that were annotated",
        )
    return actual or image.size or (0, 0)


@dataclass(frozen=True, kw_only=True)
class _DrawnImage:
    masks: dict[int, RLE]
    """class_id -> RLE."""
    empty: list[str]
    """Shapes without a pixel in the image."""
    is_beyond: bool
    """Whether a mask has a pixel beyond the upper left 2 x 2, where coordinates that are fractions would lie."""


def _draw_image(
    item: tuple[AnnotatedImage, Path | None], *, ids: dict[str, int], is_painted: bool, headers: Survey
) -> _DrawnImage:
    """Draw the masks of one image."""
    image, path = item
    size = _size(image, path, headers)
    present = {ids[shape.label] for shape in image.shapes if shape.label in ids}
    by_class: dict[int, RLE] = {}
    empty: list[str] = []
    is_beyond = False
    for class_id in sorted(present):  # one dense mask at a time bounds the memory
        mask = np.zeros(size, np.bool_)
        for shape in image.shapes:
            is_hole = is_painted and shape.label not in ids
            if not is_hole and ids.get(shape.label) != class_id:
                continue
            where = f"{image.source}, image {image.name}, {shape.where}"
            with in_file(where):
                drawn = shape.draw(size)
            if is_hole:
                mask &= ~drawn
            else:
                mask |= drawn
                is_beyond = is_beyond or bool(drawn[2:].any() or drawn[:, 2:].any() or (min(size) < 3 and drawn.any()))
                if not drawn.any():
                    empty.append(where)
        by_class[class_id] = rle.encode(mask)
    return _DrawnImage(masks=by_class, empty=empty, is_beyond=is_beyond)
