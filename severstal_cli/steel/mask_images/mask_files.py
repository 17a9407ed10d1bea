"""Mask files: what is drawn at each pixel, whatever the kind of file; and masks written as PNG.

Tools that draw masks write 8-bit grey, 1-bit, indexed or colour files. What counts is what a person sees. In an
indexed file that is the colour, not its place in the palette: tools sort palettes by brightness or by frequency, so
that the background may stand anywhere. Two palettes say themselves that the place is the class: levels of grey, where
place and level are the same number, and the standard palette of PASCAL VOC.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from severstal_cli.errors import InputError
from severstal_cli.steel.images.decoding import check_pixels, checked_header, cv2, decode, read_file
from severstal_cli.steel.mask_images.colours import voc_colour

MASK_SUFFIXES = {".png", ".bmp", ".tif", ".tiff", ".gif", ".webp"}
KINDS = "PNG, BMP, TIFF, GIF or lossless WebP"
SAVE_AS_PNG = "Save masks as PNG"

GREY_LEVEL = 0x010101
"""Times a level of grey is its colour."""

_LOSSY_TIFF = {6, 7, 33003, 33005, 34712, 34892, 50001, 50002}  # JPEG, JPEG 2000, lossy DNG, WebP, JPEG XL
_TRANSPARENT = 1 << 24  # the code of a pixel that shows nothing, above all colours


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Something that is drawn in a mask file: a value or a colour that occurs."""

    code: int
    """What stands for it in `MaskImage.codes`."""
    number: int | None = None
    """The grey value as stored, or the place in a palette that counts classes; None for a mere colour."""
    colour: int | None = None
    """0xRRGGBB as it is shown; None for grey values of more than 8 bits and for what is transparent."""
    place: int | None = None
    """Its place in the palette of an indexed file."""
    is_transparent: bool = False

    @property
    def is_black(self) -> bool:
        return self.colour == 0 or self.number == 0


@dataclass(frozen=True, kw_only=True)
class MaskImage:
    """What a mask file shows."""

    codes: NDArray[Any]
    """(H, W), an unsigned number for each thing drawn."""
    drawn: tuple[Drawn, ...]
    """All that occurs, by code."""

    @property
    def size(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1]


def read_mask(path: Path) -> MaskImage:
    """Read a mask file.

    Raises:
        InputError: missing, unreadable, cut short, of a kind that changes pixels or holds several images,
            half-transparent, or 16 bits a channel in colour.
    """
    data = read_file(path)
    is_png = data.startswith(b"\x89PNG") and data[12:16] == b"IHDR"
    depth, kind = (data[24], data[25]) if is_png and len(data) > 25 else (0, 0)
    if (depth, kind) == (8, 0) and b"tRNS" not in data[: data.find(b"IDAT")]:
        return _grey(decode(path, data)[0])
    if is_png or data.startswith(b"BM"):
        checked_header(path, data)  # Pillow accepts some files that are cut short
    if data.startswith(b"\xff\xd8"):
        raise InputError(f"{path}", "a JPEG file: its compression changes pixels", SAVE_AS_PNG)
    if data[8:12] == b"WEBP" and b"VP8L" not in data:
        raise InputError(f"{path}", "a lossy WebP file: its compression changes pixels", SAVE_AS_PNG)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "BMP", "TIFF", "GIF", "WEBP")) as image:
            check_pixels(path, image.height, image.width)  # before any pixel is decoded
            depth = depth or _bits(path, image)
            if getattr(image, "n_frames", 1) > 1:
                raise InputError(f"{path}", f"it holds {image.n_frames} images", "Save one mask a file")  # type: ignore[attr-defined]
            if depth > 8 and image.mode in ("RGB", "RGBA", "LA"):
                return _deep_colours(path, data)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # upright, as images are read
            return _read(path, image, depth)
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, struct.error, zlib.error) as error:
        if isinstance(error, UnidentifiedImageError):
            raise InputError(f"{path}", f"not a {KINDS} file inside", SAVE_AS_PNG) from error
        raise InputError(f"{path}", "the image is cut short or damaged", "Copy or download it again") from error


def png_of(mask: NDArray[np.bool_]) -> bytes:
    """(H, W) bool as the bytes of an 8-bit grey PNG, 0 and 255."""
    _, data = cv2.imencode(".png", mask.view(np.uint8) * np.uint8(255))
    return data.tobytes()


def _bits(path: Path, image: Image.Image) -> int:
    """Bits a channel, as far as the mode does not say; and that a TIFF is lossless."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(259, 1) in _LOSSY_TIFF:
        raise InputError(f"{path}", "a TIFF file with lossy compression, which changes pixels", SAVE_AS_PNG)
    bits = tags.get(258, 8)
    return int(max(bits) if isinstance(bits, tuple) else bits)


def _read(path: Path, image: Image.Image, depth: int) -> MaskImage:
    mode = image.mode
    if mode == "P":
        return _indexed(path, image)
    if "transparency" in image.info and (depth != 8 or mode not in ("L", "RGB")):
        raise InputError(f"{path}", "a transparent value in a file of other than 8 bits", SAVE_AS_PNG)
    if mode == "1":
        return _grey(np.asarray(image.convert("L")) // np.uint8(255), spread=255)
    if mode == "L" and depth < 8:  # shown spread over 0..255
        spread = 255 // (2**depth - 1)
        return _grey(np.asarray(image) // np.uint8(spread), spread=spread)
    if mode == "L" and "transparency" not in image.info:
        return _grey(np.asarray(image))
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _deep(path, np.asarray(image))
    if mode not in ("L", "LA", "RGB", "RGBA", "PA"):
        raise InputError(f"{path}", f"a file of kind {mode}, which is no mask", "Save the mask as 8-bit PNG")
    return _coloured(path, np.asarray(image.convert("RGBA")))


def _grey(values: NDArray[np.uint8], spread: int = 1) -> MaskImage:
    """Grey of at most 8 bits; a value is shown as `spread` times itself."""
    highest = int(values.max())
    inside, not_zero = np.count_nonzero(values == highest), np.count_nonzero(values)
    if not_zero in (0, inside):  # at most one value beside 0, as most masks have: ten times as fast as a histogram
        present = sorted({0, highest} if not_zero < values.size else {highest})
    else:
        present = np.flatnonzero(cv2.calcHist([values], [0], None, [256], [0, 256])).tolist()
    drawn = (Drawn(code=code, number=code, colour=code * spread * GREY_LEVEL) for code in present)
    return MaskImage(codes=values, drawn=tuple(drawn))


def _deep(path: Path, values: NDArray[Any]) -> MaskImage:
    """16 or 32 bits of grey, as whole numbers."""
    present = np.unique(values)
    if not np.isfinite(present).all() or (present != np.floor(present)).any() or present[0] < 0 or present[-1] >= 2**31:
        raise InputError(f"{path}", "values that are not whole numbers from 0", "Save the mask as 8-bit PNG")
    drawn = (Drawn(code=code, number=code) for code in present.astype(np.int64).tolist())
    return MaskImage(codes=values.astype(np.uint32), drawn=tuple(drawn))


def _deep_colours(path: Path, data: bytes) -> MaskImage:
    """16 bits a channel, of which Pillow would drop the low ones, and with them small class ids: grey alone is read."""
    values: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if (
        values is None
        or values.ndim != 3
        or np.any(values[..., :3] != values[..., :1])
        or np.any(values[..., 3:] != 65535)
    ):
        raise InputError(f"{path}", "16 bits a channel in a file of colours", "Save the mask as 8-bit PNG")
    return _deep(path, values[..., 0])


def _indexed(path: Path, image: Image.Image) -> MaskImage:
    image.apply_transparency()  # into the palette
    palette = np.array(image.getpalette("RGBA"), np.uint32).reshape(-1, 4)
    places = np.asarray(image)
    used = np.unique(places).tolist()
    if used[-1] >= len(palette):
        found = f"value {used[-1]} has no colour in its palette of {len(palette)}"
        raise InputError(f"{path}", found, "Save class ids as 8-bit grey PNG, or with the palette of VOC")
    _check_alpha(path, palette[used, 3])
    colours = {place: int(palette[place, 0] << 16 | palette[place, 1] << 8 | palette[place, 2]) for place in used}
    seen = [place for place in used if palette[place, 3]]
    counts_classes = all(colours[place] == place * GREY_LEVEL for place in seen) or all(
        colours[place] == voc_colour(place) for place in seen
    )
    drawn = (
        Drawn(code=place, number=place if counts_classes else None, colour=colours[place], place=place)
        if palette[place, 3]
        else Drawn(code=place, place=place, is_transparent=True)
        for place in used
    )
    return MaskImage(codes=places, drawn=tuple(drawn))


def _coloured(path: Path, pixels: NDArray[np.uint8]) -> MaskImage:
    """(H, W, 4): red, green, blue, alpha. Where all colours are levels of grey, these are the numbers."""
    alpha = pixels[..., 3]
    _check_alpha(path, alpha)
    codes: NDArray[Any] = pixels[..., 0].astype(np.uint32)
    is_grey = not ((pixels[..., :3] != pixels[..., :1]).any(axis=2) & (alpha > 0)).any()
    if not is_grey:
        codes = codes << 16 | pixels[..., 1].astype(np.uint32) << 8 | pixels[..., 2]
    codes[alpha == 0] = _TRANSPARENT
    drawn = (
        Drawn(code=code, is_transparent=True)
        if code == _TRANSPARENT
        else Drawn(code=code, number=code, colour=code * GREY_LEVEL)
        if is_grey
        else Drawn(code=code, colour=code)
        for code in np.unique(codes).tolist()
    )
    return MaskImage(codes=codes, drawn=tuple(drawn))


def _check_alpha(path: Path, alpha: NDArray[Any]) -> None:
    partly = (alpha > 0) & (alpha < 255)
    if partly.any():
        levels = np.unique(alpha[partly])
        found = f"half-transparent pixels, alpha {levels[0]}" + (f" to {levels[-1]}" if len(levels) > 1 else "")
        raise InputError(f"{path}", found, "Save the mask without transparency and without smoothing")
