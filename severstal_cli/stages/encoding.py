"""`encode` and `decode`: convert mask files or annotations of other tools to a table of RLE, and back to mask files.

A mask is `IMAGE_CLASS.png`: `0002cc93b_1.png` is class 1 of image `0002cc93b.jpg`, with the value 0 and one other. Or
one label image holds all classes of an image: the pixel values of `0002cc93b.png` are class ids.

The readers of mask files are in steel/mask_images/mask_source.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from severstal_cli.config import DecodeConfig, EncodeConfig
from severstal_cli.errors import InputError, OutputError, UsageError
from severstal_cli.files import check_writable, is_writable, write_text, writing
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import class_names
from severstal_cli.steel.annotations import detection, reading
from severstal_cli.steel.annotations.shapes import Annotations
from severstal_cli.steel.dataset.agreement import check_inside
from severstal_cli.steel.images.image_files import check_no_images, same_stem_hint
from severstal_cli.steel.images.surveys import Survey, images_of, orientation_remedy, survey
from severstal_cli.steel.mask_images.mask_files import png_of
from severstal_cli.steel.mask_images.mask_names import mask_name, need_full_names
from severstal_cli.steel.mask_images.mask_source import DrawnMasks, masks_in_files
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.jagged import likelier_height
from severstal_cli.steel.masks.rle import RLE
from severstal_cli.steel.tables.csv_rows import place
from severstal_cli.steel.tables.mask_table import (
    Layout,
    MaskTable,
    log_merged,
    read_image_list,
    read_table,
    write_table,
)

_PART = ".part"
_LONGEST_NAME = 255 - len(_PART)  # bytes of a name, on most file systems


@dataclass(frozen=True, kw_only=True)
class EncodeResult:
    """The table that `encode` wrote."""

    out: Path
    layout: Layout
    rows: int
    """Rows after the header."""
    images: int
    """Images of the table: those of `--images`, else those with mask files."""
    masks: int
    """Masks that are not empty."""
    classes: int
    names: tuple[str, ...] = ()
    """Names of class_id 1, 2, ..., if annotations of another tool name them."""
    masks_by_class: tuple[int, ...] = ()
    """Number of masks of each named class."""


@dataclass(frozen=True, kw_only=True)
class DecodeResult:
    """The masks that `decode` wrote."""

    out: Path
    masks: int
    """Written files: one per mask that is not empty."""
    images: int
    """Images of the table."""


def encode(config: EncodeConfig, progress: Progress = SILENT) -> EncodeResult:
    """Read the masks of a folder, or the annotations of another tool, and write them as a table.

    Raises:
        InputError: there are no masks; the name or content of a file is no mask or ambiguous; an image is not in
            `config.images` or has another size; two files hold one mask.
        OutputError: the table cannot be written, or exists and must not be replaced.
    """
    check_writable(config.out)
    if config.out.exists() and not config.overwrite:
        raise OutputError(f"{config.out} exists already", "", "Give another file, or replace it by --overwrite")
    listed, headers = _listed_images(config.images, progress)
    if annotations := detection.detect(config.masks, config.images):
        return _encode_annotations(config, annotations, listed, headers, progress)
    if config.class_names:
        raise UsageError("--class-names", "mask files name no classes", "Omit it")
    source = masks_in_files(config, listed, progress)
    masks: dict[tuple[str, int], RLE] = {}
    sizes: dict[str, tuple[int, int]] = {}
    named = set(range(1, (config.classes or source.classes) + 1))
    with progress.bar("encode", source.total, "masks") as bar:
        for drawn in source.drawn:
            _check_size(drawn, sizes, listed, headers)
            masks.update({(drawn.image_id, class_id - 1): runs for class_id, runs in drawn.masks.items() if len(runs)})
            named |= drawn.masks.keys()
            bar.advance()
    highest = max(named, default=0)
    if config.classes and highest > config.classes:
        raise InputError(f"{config.masks}", f"a mask of class {highest}", f"The classes are 1 to {config.classes}")
    image_ids = list(listed) if config.images else list(source.image_ids)
    layout, classes = Layout(config.layout), config.classes or highest
    rows = write_table(
        config.out,
        masks,
        image_ids,
        classes,
        layout=layout,
        empty_rows=layout.form.has_all_rows,
        rows=list(product(image_ids, sorted(named))),  # a row would make an unused class count
    )
    return EncodeResult(
        out=config.out, layout=layout, rows=rows, images=len(image_ids), masks=len(masks), classes=classes
    )


def _encode_annotations(
    config: EncodeConfig,
    annotations: Annotations,
    listed: dict[str, Path | None],
    headers: Survey,
    progress: Progress,
) -> EncodeResult:
    """Rasterise the annotations of another tool and write the table."""
    for option, is_given in (
        ("--class", config.class_id),
        ("--colours", config.colours),
        ("--label-images", config.label_images),
        ("--suffix", config.suffix != EncodeConfig.suffix),
    ):
        if is_given:
            raise UsageError(option, f"{config.masks} holds annotations, not mask files", "Omit it")
    drawn = reading.draw(annotations, listed, headers, config.class_names, progress)
    classes, layout = config.classes or len(drawn.names), Layout(config.layout)
    if classes < len(drawn.names):
        raise InputError(f"{config.masks}", f"{len(drawn.names)} classes", f"The classes are 1 to {classes}")
    names_path = class_names.path_beside(config.out, drawn.names, classes, config.overwrite, progress)
    rows = write_table(
        config.out, drawn.masks, drawn.image_ids, classes, layout=layout, empty_rows=layout.form.has_all_rows
    )
    if names_path is not None:
        write_text(names_path, class_names.to_text(drawn.names))
    counts = Counter(channel for _, channel in drawn.masks)
    return EncodeResult(
        out=config.out,
        layout=layout,
        rows=rows,
        images=len(drawn.image_ids),
        masks=len(drawn.masks),
        classes=classes,
        names=drawn.names,
        masks_by_class=tuple(counts[channel] for channel in range(len(drawn.names))),
    )


def decode(config: DecodeConfig, progress: Progress = SILENT) -> DecodeResult:
    """Write every mask of a table that is not empty as `IMAGE_CLASS.png`: all of them, or none.

    Raises:
        InputError: the table is wrong, an RLE run ends past the end of its image, an image is missing or has another
            size, or the masks are jagged at this size.
        OutputError: a mask cannot be written, or exists and must not be replaced.
    """
    size = config.size
    table = read_table(config.table, pixels=size[0] * size[1] if size else None)
    log_merged(config.table, table, progress)
    sizes = _sizes(config, table, progress)
    if config.images is None and size and not config.trust_size:
        _doubt_size(config.table, table, size)
    check_no_images(config.out, table.image_ids, "Masks would be taken for images: give another folder")
    in_full = need_full_names(table.image_ids)
    names = {key: mask_name(key[0], key[1] + 1, key[0] in in_full) for key in table.masks}
    _check_folder(config.out, list(names.values()), config.overwrite)
    _log_other_masks(config.out, table, set(names.values()), in_full, progress)
    with _all_or_none(config.out) as folder, progress.bar("decode", len(names), "masks") as bar:

        def write(item: tuple[tuple[str, int], RLE]) -> None:
            (image_id, channel), runs = item
            name = names[image_id, channel]
            with writing(config.out / name):
                (folder / f"{name}{_PART}").write_bytes(png_of(rle.decode(runs, sizes[image_id])))

        for _ in map_in_order(write, table.masks.items(), ahead=64, name="decode"):
            bar.advance()
    return DecodeResult(out=config.out, masks=len(table.masks), images=len(table.image_ids))


def _listed_images(images: Path | None, progress: Progress) -> tuple[dict[str, Path | None], Survey]:
    """image_id -> file, None if only the name is known; and the survey of the files."""
    if images is not None and images.is_dir():
        paths, headers = images_of(images, progress)
        return dict(paths), headers
    return dict.fromkeys(read_image_list(images).image_ids if images else ()), survey([])


def _check_size(
    drawn: DrawnMasks, sizes: dict[str, tuple[int, int]], listed: Mapping[str, Path | None], headers: Survey
) -> None:
    """Check the size of masks against their image, or else the image's other masks, whose size `sizes` holds."""
    image_path = listed.get(drawn.image_id)
    if drawn.image_id not in sizes:
        sizes[drawn.image_id] = headers.size_of(image_path) if image_path else drawn.size
    if drawn.size != sizes[drawn.image_id]:
        whose = f"{image_path}" if image_path else "another mask of the image"
        raise InputError(
            drawn.origin,
            "{}x{} pixels, {} has {}x{}".format(*drawn.size, whose, *sizes[drawn.image_id]),
            (image_path and orientation_remedy(image_path)) or "A mask has the height and width of its image",
        )


def _sizes(config: DecodeConfig, table: MaskTable, progress: Progress) -> Mapping[str, tuple[int, int]]:
    """(height, width) of each image: of the image file, else `config.size`. Raises InputError if they differ."""
    if config.images is None:
        return dict.fromkeys(table.image_ids, config.size or (0, 0))
    if config.images.is_file():
        raise InputError(f"{config.images}", "a file, not a folder", "Give the folder of the images")
    files, headers = images_of(config.images, progress)
    sizes = {}
    for image_id in table.image_ids:
        if image_id not in files:
            line = min(line for (named, _), line in table.lines.items() if named == image_id)
            missing = f"no image {image_id} in {config.images}{same_stem_hint(image_id, files)}"
            raise InputError(f"{config.table}, {place(line)}", missing, "Give the folder of its images")
        sizes[image_id] = headers.size_of(files[image_id])
        if config.size not in (None, sizes[image_id]):
            differ = "{}x{} pixels, but --size is {}x{}".format(*sizes[image_id], *(config.size or ()))
            raise InputError(f"{files[image_id]}", differ, "The size is height x width; with --images omit it")
    check_inside(config.table, table, sizes)
    return sizes


def _doubt_size(path: Path, table: MaskTable, size: tuple[int, int]) -> None:
    """Raise InputError if masks are jagged at `size`, but smooth at another height."""
    height = likelier_height(list(table.masks.values()), size)
    if height is not None:
        likelier = f"{size[1]}x{size[0]}" if height == size[1] else f"a height of {height}"
        raise InputError(
            f"{path}",
            "at {}x{} its masks are jagged, ".format(*size) + f"at {likelier} they are not",
            "The size is height x width: correct it, or give --images to check it; --trust-size skips this check",
        )


def _check_folder(out: Path, names: list[str], overwrite: bool) -> None:
    """Check that the masks can be written, before the work. Raises OutputError."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"cannot write masks to {out}", "it is a file", "Give a folder")
    files = {path.name for path in out.iterdir()} if out.is_dir() else set()
    existing = [name for name in names if name in files]
    if existing and not overwrite:
        rest = f" and {len(existing) - 1} more masks exist" if len(existing) > 1 else " exists"
        raise OutputError(
            f"{out / existing[0]}{rest} already", "", "Give another folder, or replace them by --overwrite"
        )
    too_long = next((name for name in names if len(os.fsencode(name)) > _LONGEST_NAME), None)
    if too_long:
        why = f"the name {too_long[:40]}... has {len(os.fsencode(too_long))} bytes"
        raise OutputError(f"cannot write masks to {out}", why, f"At most {_LONGEST_NAME} are possible: shorten it")
    for name in existing:
        if (out / name).is_dir():
            raise OutputError(f"cannot write {out / name}", "it is a folder", "Give another folder")
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not above.is_dir() or not is_writable(above):
        why = "no permission, or no space" if above.is_dir() else f"{above.name} is a file"
        raise OutputError(f"cannot write masks to {out}", why, "Give another folder")


def _log_other_masks(out: Path, table: MaskTable, names: set[str], in_full: set[str], progress: Progress) -> None:
    """Log which other masks of these images exist: `encode` would read them, too."""
    stems = {mask_name(image_id, 1, image_id in in_full).removesuffix("_1.png") for image_id in table.image_ids}
    existing = sorted(path.name for path in out.glob("*_*.png")) if out.is_dir() else []
    others = [name for name in existing if name not in names and name.rpartition("_")[0] in stems]
    if others:
        progress.log(f"{out} keeps {len(others)} other masks of these images: {', '.join(others[:5])}")


@contextmanager
def _all_or_none(out: Path) -> Iterator[Path]:
    """Yield a folder for files `NAME.part`: at the end they become `out/NAME`; on a failure all are removed."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix=".decode.", suffix=_PART, dir=out) as name:
                yield Path(name)
                for path in sorted(Path(name).iterdir()):
                    path.replace(out / path.name.removesuffix(_PART))
        except BaseException:
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()
            raise
