"""Read the classes of a mask file: either one class, or a label image with all classes of an image.

Black and transparent pixels are background. In a mask of one class, the only other grey value is the class. A colour
is the class only if the user named the background or the class, since it may belong to another class. In a label image
grey values are class ids; colours are classes only by a colour map or by the standard palette of PASCAL VOC. 255 in a
label image means "no label" (VOC, Cityscapes) and becomes background.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from severstal_cli.errors import InputError
from severstal_cli.steel.mask_images.colours import BLACK, VOID, WHITE, ColourMap, show, voc_colour
from severstal_cli.steel.mask_images.mask_files import GREY_LEVEL, Drawn, MaskImage, read_mask
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE
from severstal_cli.steel.tables.csv_rows import MAX_CLASS_ID

MOST_VALUES = 20
"""Number of VOC classes. Higher grey values are probably brightness, as 85 and 170, or smoothed edges."""

_SHOWN = 8  # colours that a message lists
_SMOOTHED = "Save it without smoothing (anti-aliasing, dithering), then name its colours by --colours"
_VOC = {voc_colour(number) for number in range(1, VOID + 1)}


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Masks of a file."""

    size: tuple[int, int]
    """(height, width)"""
    masks: dict[int, RLE]
    """class_id -> RLE; only a file of one class has empty masks."""
    value: str = ""
    """File of one class: its grey value or colour, for messages; empty if a colour map defines it."""
    highest_value: int = 0
    """Label image: the highest class id that comes from a plain grey value."""
    void_px: int = 0
    """Label image: number of pixels of 255, which become background."""


def read_one_class(path: Path, class_id: int, colours: ColourMap) -> Classes:
    """Read the mask of a file that shows one class.

    Args:
        path: the file.
        class_id: its class.
        colours: empty, or the colours of the background (0) or of the class. A named background replaces black; the
            only other colour is then the class.

    Raises InputError: the file is unreadable, or has more than a background and one other value or colour.
    """
    image = read_mask(path)
    black_is_background = BLACK in colours or 0 not in colours.values()
    inside, unnamed = [], []
    for drawn in image.drawn:
        named = _named(drawn, colours)
        if named is None:
            if not drawn.is_transparent and not (drawn.is_black and black_is_background):
                unnamed.append(drawn)
        elif named not in (0, class_id):
            raise InputError(
                f"{path}",
                f"{show(drawn.colour or 0)} is class {named}, its file name has class {class_id}",
                "Correct --colours, or use --label-images if the file holds all classes",
            )
        elif named:
            inside.append(drawn)
    _check_background(path, image, colours)
    if len(unnamed) > 1 or (unnamed and inside) or (unnamed and 0 not in colours.values() and _is_hue(unnamed[0])):
        _refuse_one_class(path, image, unnamed)
    value = _name(unnamed[0]) if unnamed else ""
    inside = inside or unnamed
    runs = _runs(image, [drawn.code for drawn in inside])
    return Classes(size=image.size, masks={class_id: runs}, value=value)


def read_label_image(path: Path, colours: ColourMap) -> Classes:
    """Read the masks of a file with all classes of an image.

    Args:
        path: the file.
        colours: if empty, grey values, or indices in the palette of VOC, are class ids. If it names a class, only its
            colours are classes. If it names backgrounds only, all other values are class ids.

    Raises InputError: the file is unreadable, a colour has no class, or a value is not a class id.
    """
    image = read_mask(path)
    by_class: dict[int, list[int]] = {}
    numbers_count = not any(colours.values())
    unnamed, void, highest = [], [], 0
    for drawn in image.drawn:
        class_id = _named(drawn, colours)
        if class_id is None:
            if drawn.is_transparent or drawn.is_black:
                continue
            if not numbers_count or drawn.number is None:
                unnamed.append(drawn)
                continue
            class_id = drawn.number
            if class_id == VOID:
                void.append(drawn)
                continue
            if drawn.index is None or drawn.colour != voc_colour(class_id):
                highest = max(highest, class_id)
        if class_id:
            by_class.setdefault(class_id, []).append(drawn.code)
    _check_background(path, image, colours)
    if unnamed:
        _refuse_unnamed(path, image, unnamed, colours)
    if void and not by_class and void[0].colour in (WHITE, None):
        remedy = "For masks of one class use --class N instead; if 255 means no label: --colours ffffff=0"
        raise InputError(f"{path}", "a label image with the values 0 and 255 only", remedy)
    if highest > MAX_CLASS_ID and len(by_class) == 1:
        raise InputError(
            f"{path}", f"a label image with the values 0 and {highest} only", "For masks of one class use --class N"
        )
    if highest > MAX_CLASS_ID:
        remedy = f"Pixel values are class ids up to {MAX_CLASS_ID}, 0 for no defect"
        raise InputError(f"{path}", f"the value {highest} in a label image", remedy)
    masks = {class_id: _runs(image, codes) for class_id, codes in sorted(by_class.items())}
    void_px = int((image.codes == void[0].code).sum()) if void else 0
    return Classes(size=image.size, masks=masks, highest_value=highest, void_px=void_px)


def remedy_for_whole_name(path: Path) -> str:
    """Return a remedy for a file that is named like its image: the option that reads its content."""
    label_images = "for one mask file with all classes of an image use --label-images"
    one_class = "for masks named like their images, all of one class, use --class 1"
    try:
        shown = [drawn for drawn in read_mask(path).drawn if not drawn.is_transparent and not drawn.is_black]
    except InputError:
        shown = []
    if len(shown) == 1 and (shown[0].number is None or shown[0].number >= VOID):
        return one_class[0].upper() + one_class[1:]
    if (len(shown) == 1 and shown[0].number != 1) or len(shown) > 1:
        return label_images[0].upper() + label_images[1:]
    return f"F{one_class[1:]}; {label_images}"


def _runs(image: MaskImage, codes: list[int]) -> RLE:
    if not codes:
        return rle.EMPTY
    return rle.encode(image.codes == codes[0] if len(codes) == 1 else np.isin(image.codes, codes))


def _named(drawn: Drawn, colours: ColourMap) -> int | None:
    return None if drawn.colour is None else colours.get(drawn.colour)


def _check_background(path: Path, image: MaskImage, colours: ColourMap) -> None:
    """Raise InputError if colours are ambiguous, or if both black and transparent pixels occur."""
    if BLACK not in colours and any(drawn.is_transparent for drawn in image.drawn):
        black = next((drawn for drawn in image.drawn if drawn.is_black), None)
        if black is not None:
            remedy = "Give black as background, --colours 000000=0, or as a class, e.g. --colours 000000=1"
            raise InputError(f"{path}", f"transparent and black pixels: {_list(image)}", remedy)
    if not colours:
        seen = Counter(drawn.colour for drawn in image.drawn if drawn.index is not None and not drawn.is_transparent)
        for count in seen.values():
            if count > 1:
                duplicates = f"{count} entries of its palette have the same colour: {_list(image)}"
                raise InputError(f"{path}", duplicates, "Save class ids as 8-bit grey PNG, or with the palette of VOC")


def _is_hue(drawn: Drawn) -> bool:
    """Whether it is a colour other than grey."""
    return drawn.number is None and drawn.colour is not None and drawn.colour % GREY_LEVEL > 0


def _refuse_one_class(path: Path, image: MaskImage, unnamed: list[Drawn]) -> None:
    numbers = [drawn.number for drawn in unnamed if drawn.number is not None]
    if len(numbers) == len(unnamed):
        some = ", ".join(map(str, numbers[:4])) + (" and more" if len(numbers) > 4 else "")
        if len(numbers) == len(image.drawn) == 2 and all(drawn.colour is not None for drawn in unnamed):
            _refuse_without_black(path, image, numbers)
        remedy = "Save it without smoothing"
        if numbers[-1] <= MOST_VALUES or (numbers[-1] == VOID and numbers[-2] <= MOST_VALUES):
            remedy += ", or use --label-images if they are class ids"
        raise InputError(f"{path}", f"{len(numbers)} values besides 0 in a mask of one class: {some}", remedy)
    if len(unnamed) > _SHOWN:
        remedy = _SMOOTHED
    else:
        shown = [drawn for drawn in image.drawn if not drawn.is_transparent]
        background = max(shown, key=lambda drawn: int((image.codes == drawn.code).sum())).colour or 0
        if len(shown) < len(image.drawn):
            background = BLACK  # transparent pixels are the background, so any unused colour works
        remedy = f"Name the background, e.g. --colours {show(background)}=0"
        if len(unnamed) != 2 or any(drawn.is_black for drawn in image.drawn):
            remedy += f"; if the file holds all classes, --label-images --colours {_choices(image, unnamed)}"
    count = f"{len(unnamed)} colours" if len(unnamed) > 1 else "a colour"
    raise InputError(f"{path}", f"{count} in a mask of one class: {_list(image)}", remedy)


def _refuse_without_black(path: Path, image: MaskImage, numbers: list[int]) -> None:
    background = max(image.drawn, key=lambda drawn: int((image.codes == drawn.code).sum())).colour or 0
    found = f"the values {numbers[0]} and {numbers[1]} in a mask of one class, and no 0"
    raise InputError(f"{path}", found, f"Name the background, e.g. --colours {show(background)}=0")


def _refuse_unnamed(path: Path, image: MaskImage, unnamed: list[Drawn], colours: ColourMap) -> None:
    if all(drawn.colour is None for drawn in unnamed):
        raise InputError(f"{path}", "16-bit grey, which --colours cannot name", "Save it as 8-bit PNG")
    found = f"{len(unnamed)} colour{'s' if len(unnamed) > 1 else ''} without a class: {_list(image)}"
    if len(unnamed) > _SHOWN:
        raise InputError(f"{path}", found, _SMOOTHED)
    remedy = f"Give the class of each, 0 for the background: --colours {_choices(image, unnamed, colours)}"
    if all(drawn.colour in _VOC for drawn in unnamed):
        remedy += "; if they are the colours of PASCAL VOC, --colours voc"
    raise InputError(f"{path}", found, remedy)


def _choices(image: MaskImage, unnamed: list[Drawn], colours: ColourMap | None = None) -> str:
    """Return the value of --colours as a template with N for the classes, since users would copy a suggested class."""
    known = [f"{show(colour)}={class_id}" for colour, class_id in (colours or {}).items()]
    return ",".join(known[:_SHOWN] + [f"{show(drawn.colour or 0)}=N" for drawn in unnamed])


def _name(drawn: Drawn) -> str:
    return f"value {drawn.number}" if drawn.number is not None else f"colour {show(drawn.colour or 0)}"


def _list(image: MaskImage) -> str:
    """List the colours of an image with their palette indices and pixel counts."""
    texts = []
    for drawn in image.drawn[:_SHOWN]:
        count = int((image.codes == drawn.code).sum())
        index = f"{drawn.index}: " if drawn.index is not None else ""
        colour = "transparent" if drawn.is_transparent else f"value {drawn.number}"
        if drawn.colour is not None:
            colour = show(drawn.colour)
        texts.append(f"{index}{colour} {count:,} px")
    rest = len(image.drawn) - _SHOWN
    prefix = "palette " if image.drawn[0].index is not None else ""
    return prefix + ", ".join(texts) + (f" and {rest} more" if rest > 0 else "")
