"""A folder of mask files as the input of `encode`.

A mask is `IMAGE_CLASS.png`: `0002cc93b_1.png` is class 1 of image `0002cc93b.jpg`, with 0 and one other value. Or one
label image holds all classes of an image: `0002cc93b.png`, whose pixel values or colours are classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from severstal_cli.config import EncodeConfig
from severstal_cli.errors import InputError
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import Progress
from severstal_cli.steel.mask_images.colours import ColourMap, find_labelmap, read_colours, read_labelmap, show
from severstal_cli.steel.mask_images.mask_classes import MOST_VALUES, Classes, read_label_image, read_one_class
from severstal_cli.steel.mask_images.mask_names import ImageNames, MaskFile, find_mask_files, name_masks
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE

_ANY_CLASS = ("value 255", "value 65535", "colour ffffff")
"""Values that tools use for masks of every class."""


@dataclass(frozen=True, kw_only=True)
class DrawnMasks:
    """Masks of one image from one file. An image may have several files with different classes."""

    origin: str
    """The file, for messages."""
    image_id: str
    size: tuple[int, int]
    """(height, width)"""
    masks: Mapping[int, RLE]
    """class_id -> RLE. An empty mask declares that the class exists."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Input of `encode`."""

    image_ids: tuple[str, ...]
    """Images of the masks, in the order of the table."""
    total: int
    """Number of `DrawnMasks`."""
    drawn: Iterator[DrawnMasks]
    classes: int = 0
    """Number of known classes, with masks or not."""


def masks_in_files(config: EncodeConfig, listed: Mapping[str, Path | None], progress: Progress) -> Source:
    """Return the masks of a folder of mask files."""
    paths, others = find_mask_files(config.masks)
    colours = _colours(config, progress)
    class_id = 0 if config.label_images else config.class_id
    names = ImageNames(config.images, listed, config.suffix)
    files, reading = name_masks(paths, names, class_id=class_id, classes=config.classes)
    progress.log(reading)
    if others:
        progress.log(f"ignored in {config.masks}: {', '.join(others[:5])}" + (", ..." if len(others) > 5 else ""))

    def read(file: MaskFile) -> Classes:
        if file.class_id:
            return read_one_class(file.path, file.class_id, colours)
        return read_label_image(file.path, colours)

    def drawn() -> Iterator[DrawnMasks]:
        notes = _Notes()
        for file, content in zip(files, map_in_order(read, files, ahead=64, name="encode"), strict=True):
            notes.add(file, content, config.classes)
            yield DrawnMasks(origin=f"{file.path}", image_id=file.image_id, size=content.size, masks=content.masks)
        if notes.void_files:
            progress.log(
                f"255 means no label: background in {notes.void_files} of {len(files)} label images, {notes.void_px:,} "
                "pixels"
            )
        if 2 * notes.large > len(files):
            progress.log(
                f"{notes.large} of {len(files)} masks cover more than half of their image: if white is the "
                "background, use --colours ffffff=0"
            )

    return Source(
        image_ids=tuple(dict.fromkeys(file.image_id for file in files)),
        total=len(files),
        drawn=drawn(),
        classes=max(colours.values(), default=0) if config.colours.lower() != "voc" else 0,
    )


@dataclass
class _Notes:
    """Statistics that are complete once all files are read."""

    values: dict[int, dict[str, Path]] = field(default_factory=dict)
    """class_id -> value or colour -> first file with it."""
    void_files: int = 0
    void_px: int = 0
    large: int = 0
    """Number of masks that cover more than half of their image."""

    def add(self, file: MaskFile, content: Classes, classes: int) -> None:
        """Raises InputError: values are not class ids, or differ between masks of one class."""
        if content.highest_value > MOST_VALUES and not classes:
            if len(content.masks) > 8:
                remedy = (
                    f"Save it without smoothing; if the values are class ids, give --classes {content.highest_value}"
                )
            else:
                remedy = (
                    f"If it is a class id, give --classes {content.highest_value}; if it is a level of grey, name the "
                    "classes by --colours, as --colours 555555=1,aaaaaa=2"
                )
            raise InputError(f"{file.path}", f"the value {content.highest_value} in a label image", remedy)
        self.void_files += bool(content.void_px)
        self.void_px += content.void_px
        if file.class_id:
            self.large += 2 * rle.area(content.masks[file.class_id]) > content.size[0] * content.size[1]
        if content.value and content.value not in _ANY_CLASS:
            first = self.values.setdefault(file.class_id, {})
            first.setdefault(content.value, file.path)
            if len(first) > 1:
                (one, path), (other, _) = first.items()
                raise InputError(
                    f"{file.path}",
                    f"{other} is class {file.class_id}, but in {path.name} {one} is",
                    "If values or colours are classes, use --label-images; else name those of the class by --colours",
                )


def _colours(config: EncodeConfig, progress: Progress) -> ColourMap:
    """Return the colour map of `--colours`, or of a labelmap beside label images."""
    labelmap = find_labelmap(config.masks) if config.label_images and not config.colours else None
    if labelmap is None:
        return read_colours(config.colours)
    colours = read_labelmap(labelmap)
    named = ",".join(f"{show(colour)}={class_id}" for colour, class_id in colours.items() if class_id)
    progress.log(f"colours by {labelmap}: {named}")
    return colours
