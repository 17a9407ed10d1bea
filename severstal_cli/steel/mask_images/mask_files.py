"""Read the pixels of mask files of any format, and write masks as PNG.

Tools write masks as 8-bit grey, 1-bit, indexed or colour files. The visible colour counts: in an indexed file not the
palette index, as tools sort palettes by brightness or by frequency and the background may have any index. In two
palettes the index is the class: grey levels equal to their index, and the standard palette of PASCAL VOC.
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
"""A grey level times this is its colour."""

_LOSSY_TIFF = {6, 7, 33003, 33005, 34712, 34892, 50001, 50002}  # JPEG, JPEG 2000, lossy DNG, WebP, JPEG XL
_TRANSPARENT = 1 << 24  # code of transparent pixels, above all colours


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A value or colour that occurs in a mask file."""

    code: int
    """Its value in `MaskImage.codes`."""
    number: int | None = None
    """Grey value as stored, or index in a palette whose indices are classes; None for other colours."""
    colour: int | None = None
    """Visible colour, 0xRRGGBB; None for grey values of more than 8 bits and for transparent pixels."""
    index: int | None = None
    """Index in the palette of an indexed file."""
    is_transparent: bool = False

    @property
    def is_black(self) -> bool:
        return self.colour == 0 or self.number == 0


@dataclass(frozen=True, kw_only=True)
class MaskImage:
    """Pixels of a mask file."""

    codes: NDArray[Any]
    """(H, W) unsigned, the code of the value or colour at each pixel."""
    drawn: tuple[Drawn, ...]
    """All values and colours, by code."""

    @property
    def size(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1]


def read_mask(path: Path) -> MaskImage:
    """Read a mask file.

    Raises:
        InputError: the file is missing, unreadable, truncated, lossy or half-transparent, has several images, or 16
            bits per channel in colour.
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
                raise InputError(f"{path}", f"it holds {image.n_frames} images", "Save one mask per file")  # type: ignore[attr-defined]
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
    """Encode (H, W) bool as an 8-bit grey PNG of 0 and 255."""
    _, data = cv2.imencode(".png", mask.view(np.uint8) * np.uint8(255))
    return data.tobytes()


def _bits(path: Path, image: Image.Image) -> int:
    """Return the bits per channel, which the mode does not give. Raises InputError: a lossy TIFF."""
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
    if mode == "L" and depth < 8:  # Pillow scales the values to 0..255
        spread = 255 // (2**depth - 1)
        return _grey(np.asarray(image) // np.uint8(spread), spread=spread)
    if mode == "L" and "transparency" not in image.info:
        return _grey(np.asarray(image))
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _deep(path, np.asarray(image))
    if mode not in ("L", "LA", "RGB", "RGBA", "PA"):
        raise InputError(f"{path}", f"its pixels have mode {mode}, which no mask has", "Save the mask as 8-bit PNG")
    return _coloured(path, np.asarray(image.convert("RGBA")))


def _grey(values: NDArray[np.uint8], spread: int = 1) -> MaskImage:
    """Masks of at most 8 bits of grey; a value appears as `spread` times itself."""
    highest = int(values.max())
    inside, not_zero = np.count_nonzero(values == highest), np.count_nonzero(values)
    if not_zero in (0, inside):  # at most one value besides 0, as in most masks: 10 times faster than a histogram
        present = sorted({0, highest} if not_zero < values.size else {highest})
    else:
        present = np.flatnonzero(cv2.calcHist([values], [0], None, [256], [0, 256])).tolist()
    drawn = (Drawn(code=code, number=code, colour=code * spread * GREY_LEVEL) for code in present)
    return MaskImage(codes=values, drawn=tuple(drawn))


def _deep(path: Path, values: NDArray[Any]) -> MaskImage:
    """Masks of 16 or 32 bits of grey, as integers."""
    present = np.unique(values)
    if not np.isfinite(present).all() or (present != np.floor(present)).any() or present[0] < 0 or present[-1] >= 2**31:
        raise InputError(f"{path}", "values that are not whole numbers from 0", "Save the mask as 8-bit PNG")
    drawn = (Drawn(code=code, number=code) for code in present.astype(np.int64).tolist())
    return MaskImage(codes=values.astype(np.uint32), drawn=tuple(drawn))


def _deep_colours(path: Path, data: bytes) -> MaskImage:
    """Read a colour file of 16 bits per channel, if all channels are equal. Pillow would drop the low bits."""
    values: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if (
        values is None
        or values.ndim != 3
        or np.any(values[..., :3] != values[..., :1])
        or np.any(values[..., 3:] != 65535)
    ):
        raise InputError(f"{path}", "a colour file of 16 bits per channel", "Save the mask as 8-bit PNG")
    return _deep(path, values[..., 0])


def _indexed(path: Path, image: Image.Image) -> MaskImage:
    image.apply_transparency()  # into the palette
    palette = np.array(image.getpalette("RGBA"), np.uint32).reshape(-1, 4)
    indices = np.asarray(image)
    used = np.unique(indices).tolist()
    if used[-1] >= len(palette):
        outside = f"value {used[-1]} has no colour in its palette of {len(palette)}"
        raise InputError(f"{path}", outside, "Save class ids as 8-bit grey PNG, or with the palette of VOC")
    _check_alpha(path, palette[used, 3])
    colours = {index: int(palette[index, 0] << 16 | palette[index, 1] << 8 | palette[index, 2]) for index in used}
    visible = [index for index in used if palette[index, 3]]
    is_class = all(colours[index] == index * GREY_LEVEL for index in visible) or all(
        colours[index] == voc_colour(index) for index in visible
    )
    drawn = (
        Drawn(code=index, number=index if is_class else None, colour=colours[index], index=index)
        if palette[index, 3]
        else Drawn(code=index, index=index, is_transparent=True)
        for index in used
    )
    return MaskImage(codes=indices, drawn=tuple(drawn))


def _coloured(path: Path, pixels: NDArray[np.uint8]) -> MaskImage:
    """Masks of (H, W, 4): red, green, blue, alpha. If all colours are grey, the grey levels are the numbers."""
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
        seen = f"half-transparent pixels, alpha {levels[0]}" + (f" to {levels[-1]}" if len(levels) > 1 else "")
        raise InputError(f"{path}", seen, "Save the mask without transparency and without smoothing")
