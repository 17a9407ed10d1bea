"""`encode` and `decode`: masks as PNG files to a table of run lengths, and back; annotations of other tools, too.

A mask is `IMAGE_CLASS.png`: `0002cc93b_1.png` is class 1 of image `0002cc93b.jpg`, 0 and any one other value. Or one
label image holds all classes of an image: `0002cc93b.png`, whose pixel values are class ids.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from severstal_cli.config import DecodeConfig, EncodeConfig
from severstal_cli.errors import InputError, UsageError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import rle
from severstal_cli.steel.annotations import detection, reading
from severstal_cli.steel.annotations.shapes import Annotations
from severstal_cli.steel.files import check_place
from severstal_cli.steel.images import IMAGE_SUFFIXES, find_images, image_size
from severstal_cli.steel.mask_files import read_values, write_mask
from severstal_cli.steel.records import MAX_CLASS_ID, RowError, check_image_id, read_class
from severstal_cli.steel.rle import Runs
from severstal_cli.steel.tables import Layout, read_image_list, read_table, write_table


@dataclass(frozen=True, kw_only=True)
class EncodeResult:
    """What `encode` wrote."""

    out: Path
    layout: Layout
    rows: int
    """Rows behind the header."""
    images: int
    """Images known: with a file of their own, or listed."""
    masks: int
    """Masks that are not empty."""
    classes: int
    names: tuple[str, ...] = ()
    """The classes by name, where annotations of another tool name them: class_id 1, 2, ..."""
    masks_by_class: tuple[int, ...] = ()
    """How many masks each of them has."""


@dataclass(frozen=True, kw_only=True)
class DecodeResult:
    """What `decode` wrote."""

    out: Path
    masks: int
    """Files written: one for each mask that is not empty."""
    images: int
    """Images that the table names."""


@dataclass(frozen=True, kw_only=True)
class _MaskFile:
    """A PNG and what its name says; `class_id` 0: a label image, which holds several classes."""

    path: Path
    image_id: str
    class_id: int


def encode(config: EncodeConfig, progress: Progress = SILENT) -> EncodeResult:
    """Read the masks of a folder, or the annotations of another tool, and write them as a table.

    Raises:
        InputError: no masks, a name or a picture that is no mask, an image that is not among `config.images` or of
            another size, two files for one mask.
        OutputError: the table cannot be written.
    """
    check_place(config.out)
    listed = _listed_images(config.images)
    if annotations := detection.detect(config.masks, config.images):
        return _encode_annotations(config, annotations, listed, progress)
    if config.class_names:
        raise UsageError("--class-names", "masks as PNG name no classes", "Leave it out")
    files = _mask_files(config, listed)
    masks: dict[tuple[str, int], Runs] = {}
    sizes: dict[str, tuple[int, int]] = {}
    with progress.bar("encode", len(files), "masks") as bar, _threads() as threads:
        for file, (size, found) in zip(files, threads.map(_read_runs, files), strict=True):
            _check_size(file, size, sizes, listed)
            masks.update({(file.image_id, class_id - 1): runs for class_id, runs in found.items() if len(runs)})
            bar.advance()
    highest = max([channel + 1 for _, channel in masks] + [file.class_id for file in files])
    if config.classes and highest > config.classes:
        raise InputError(f"{config.masks}", f"a mask of class {highest}", f"The classes are 1 to {config.classes}")
    image_ids = list(listed) if config.images else list(dict.fromkeys(file.image_id for file in files))
    layout, classes = Layout(config.layout), config.classes or highest
    rows = write_table(config.out, masks, image_ids, classes, layout=layout, empty_rows=layout is Layout.ORIGINAL)
    return EncodeResult(
        out=config.out, layout=layout, rows=rows, images=len(image_ids), masks=len(masks), classes=classes
    )


def _encode_annotations(
    config: EncodeConfig, annotations: Annotations, listed: dict[str, Path | None], progress: Progress
) -> EncodeResult:
    """Draw the annotations of another tool and write them as a table."""
    drawn = reading.draw(annotations, listed, config.class_names, progress)
    classes, layout = config.classes or len(drawn.names), Layout(config.layout)
    if classes < len(drawn.names):
        raise InputError(f"{config.masks}", f"{len(drawn.names)} classes", f"The classes are 1 to {classes}")
    rows = write_table(
        config.out, drawn.masks, drawn.image_ids, classes, layout=layout, empty_rows=layout is Layout.ORIGINAL
    )
    counts = Counter(channel for _, channel in drawn.masks)
    return EncodeResult(
        out=config.out, layout=layout, rows=rows, images=len(drawn.image_ids), masks=len(drawn.masks), classes=classes,
        names=drawn.names, masks_by_class=tuple(counts[channel] for channel in range(len(drawn.names))),
    )  # fmt: skip


def decode(config: DecodeConfig, progress: Progress = SILENT) -> DecodeResult:
    """Write every mask of a table that is not empty as `IMAGE_CLASS.png`. Nothing is written if a row is wrong.

    Raises:
        InputError: the table is wrong, a run is past the end of the image, or two images would share a file.
        OutputError: a mask cannot be written.
    """
    height, width = config.size
    table = read_table(config.table, pixels=height * width)
    by_stem: dict[str, str] = {}
    for image_id in table.image_ids:
        other = by_stem.setdefault(Path(image_id).stem, image_id)
        if other != image_id:
            raise InputError(f"{config.table}", f"{other} and {image_id} would share the names of their masks")

    def write(item: tuple[tuple[str, int], Runs]) -> None:
        (image_id, channel), runs = item
        write_mask(config.out / f"{Path(image_id).stem}_{channel + 1}.png", rle.decode(runs, config.size))

    with progress.bar("decode", len(table.masks), "masks") as bar, _threads() as threads:
        for _ in threads.map(write, table.masks.items()):
            bar.advance()
    return DecodeResult(out=config.out, masks=len(table.masks), images=len(table.image_ids))


def _listed_images(images: Path | None) -> dict[str, Path | None]:
    """image_id -> its file, None where only its name is known."""
    if images is None:
        return {}
    if images.is_dir():
        return {path.name: path for path in find_images([images])}
    return dict.fromkeys(read_image_list(images).image_ids)


def _mask_files(config: EncodeConfig, listed: dict[str, Path | None]) -> list[_MaskFile]:
    """The masks of the folder by image and class, each image and class once."""
    by_stem: dict[str, list[str]] = {}
    for image_id in listed:
        by_stem.setdefault(Path(image_id).stem, []).append(image_id)

    def image_of(path: Path, stem: str) -> str:
        if not stem:
            raise RowError("ImageId is empty")
        if config.images is None:
            return stem if Path(stem).suffix.lower() in IMAGE_SUFFIXES else stem + config.suffix
        candidates = [stem] if stem in listed else by_stem.get(stem, [])
        if len(candidates) != 1:
            found = f"it could be of {' or '.join(candidates)}" if candidates else f"no image {stem} in {config.images}"
            raise InputError(f"{path}", found, "Name a mask after its image")
        return candidates[0]

    found: dict[tuple[str, int], _MaskFile] = {}
    for path in find_images([config.masks]):
        if path.suffix.lower() != ".png":
            raise InputError(f"{path}", "not a PNG file", "Save masks as PNG: other kinds change pixels")
        stem, class_id = path.stem, 0
        try:
            if not config.label_images:
                stem, _, class_text = path.stem.rpartition("_")
                class_id = read_class(class_text)
            image_id = image_of(path, stem)
            check_image_id(image_id)
        except RowError as error:
            remedy = "For one picture with all classes of an image use --label-images"
            raise InputError(f"{path}", f"its name is not IMAGE_CLASS.png: {error}", remedy) from error
        file = _MaskFile(path=path, image_id=image_id, class_id=class_id)
        if found.setdefault((image_id, class_id), file) is not file:
            raise InputError(f"{path}", f"{found[image_id, class_id].path.name} is the same mask", "Remove one")
    return [found[key] for key in sorted(found)]


def _read_runs(file: _MaskFile) -> tuple[tuple[int, int], dict[int, Runs]]:
    """(height, width) of a mask file, and class_id -> runs."""
    values = read_values(file.path)
    size = values.shape[0], values.shape[1]
    mask = values != 0
    if file.class_id and not (mask & (values != values.max())).any():
        return size, {file.class_id: rle.encode(mask)}
    present = [int(value) for value in np.unique(values) if value]
    if not file.class_id:
        if present and present[-1] > MAX_CLASS_ID:
            remedy = (
                f"Pixel values are class ids up to {MAX_CLASS_ID}, 0 for no defect; masks of 0 and 255 are one a class"
            )
            raise InputError(f"{file.path}", f"the value {present[-1]} in a label image", remedy)
        return size, {class_id: rle.encode(values == class_id) for class_id in present}
    some = ", ".join(map(str, present[:4])) + (" and more" if len(present) > 4 else "")
    remedy = "Save it without smoothing, or use --label-images if they are class ids"
    raise InputError(f"{file.path}", f"{len(present)} values beside 0 in a mask of one class: {some}", remedy)


def _check_size(
    file: _MaskFile, size: tuple[int, int], sizes: dict[str, tuple[int, int]], listed: dict[str, Path | None]
) -> None:
    """Compare the size of a mask with that of its image, or of the image's other masks; `sizes` keeps what is known."""
    image_path = listed.get(file.image_id)
    if file.image_id not in sizes:
        sizes[file.image_id] = image_size(image_path) if image_path else size
    if size != sizes[file.image_id]:
        whose = f"{image_path}" if image_path else "another mask of the image"
        raise InputError(
            f"{file.path}",
            "{}x{} pixels, {} has {}x{}".format(*size, whose, *sizes[file.image_id]),
            "A mask has the height and width of its image",
        )


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """One thread a core; on a failure, what has not begun is dropped."""
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
