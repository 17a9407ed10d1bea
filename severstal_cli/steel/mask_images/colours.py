"""Colours of classes in mask files.

A colour is an int, 0xRRGGBB. A colour map maps colours to class ids, 0 is the background. It is either a list,

    ff0000=1,00ff00=2,ffffff=0

or `voc`, the standard palette of PASCAL VOC, or a `labelmap.txt`, which CVAT and Datumaro write beside masks:

    # label:color_rgb:parts:actions
    background:0,0,0::
    scratch:250,50,83::
"""

import re
from collections.abc import Mapping
from pathlib import Path

from severstal_cli.errors import InputError, UsageError
from severstal_cli.steel.tables.csv_rows import MAX_CLASS_ID

BLACK, WHITE = 0x000000, 0xFFFFFF
VOID = 255
"""The value, or index in the palette of VOC, of unlabelled pixels."""

LABELMAP = "labelmap.txt"

ColourMap = Mapping[int, int]


def voc_colour(number: int) -> int:
    """Return the colour of a class, 0 to 255, in the palette of PASCAL VOC (VOCcode/VOClabelcolormap.m of its kit).

    The bits of the number become the high bits of red, green and blue in turn, so all colours differ.
    """
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
    return channels[0] << 16 | channels[1] << 8 | channels[2]


def show(colour: int) -> str:
    """Format a colour for `--colours`: ff0000."""
    return f"{colour:06x}"


def read_colours(text: str) -> ColourMap:
    """Parse the value of `--colours`; "" is an empty colour map.

    Raises:
        UsageError: not a colour map, voc or a file; a colour has two classes; a class id above 254.
        InputError: the file is not a labelmap.
    """
    if text.lower() == "voc":
        return {voc_colour(number): number % VOID for number in range(VOID + 1)}
    if "=" not in text:
        if not text or Path(text).is_file():
            return read_labelmap(Path(text)) if text else {}
        raise UsageError("wrong colours", text, "Give RRGGBB=CLASS, as ff0000=1,00ff00=2, or voc, or a labelmap.txt")
    colours: dict[int, int] = {}
    for pair in text.split(","):
        match = re.fullmatch(r"\s*#?([0-9a-fA-F]{6})\s*=\s*(\d{1,3})\s*", pair)
        if not match:
            raise UsageError(
                "wrong colours", repr(pair), "Give RRGGBB=CLASS, as ff0000=1,00ff00=2; 0 is the background"
            )
        colour, class_id = int(match[1], 16), int(match[2])
        if class_id > MAX_CLASS_ID:
            raise UsageError("wrong colours", repr(pair), f"Class ids are 1 to {MAX_CLASS_ID}, 0 is the background")
        if colours.setdefault(colour, class_id) != class_id:
            both = f"{show(colour)} is class {colours[colour]} and class {class_id}"
            raise UsageError("wrong colours", both, "Give each colour one class")
    return colours


def find_labelmap(folder: Path) -> Path | None:
    """Return the labelmap in a folder of masks or in its parent, where CVAT writes it."""
    return next((path for path in (folder / LABELMAP, folder.parent / LABELMAP) if path.is_file()), None)


def read_labelmap(path: Path) -> ColourMap:
    """Return the colours of a labelmap: its labels, without the black one, are classes 1, 2, ... in file order.

    Raises InputError.
    """
    colours, classes = {BLACK: 0}, 0
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}", f"cannot be read: {error}", "Give the labelmap.txt of the masks") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r".*?:\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(:.*)?", line.strip())
        if not match or max(map(int, match.groups()[:3])) > 255:
            raise InputError(
                f"{path}, line {number}", "it is not label:red,green,blue::", "Give the classes by --colours"
            )
        red, green, blue = map(int, match.groups()[:3])
        colour = red << 16 | green << 8 | blue
        if colour == BLACK:
            continue
        if colour in colours:
            raise InputError(f"{path}, line {number}", f"another label has {show(colour)}, too", "Give each its own")
        classes += 1
        colours[colour] = classes
    if not classes:
        raise InputError(f"{path}", "it has no colour", "Give the classes by --colours")
    return colours
