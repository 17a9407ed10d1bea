"""Headers of image files: format, size, EXIF orientation, bit depth and pages, without decoding.

Pillow parses the headers, restricted to formats that it decodes itself: others start programs (EPS) or have no single
size (PDF, video). Ours are the eXIf chunk of a PNG (Pillow decodes the image to look for it behind the pixels), the
bits of JPEG 2000 (Pillow does not keep them) and the choice of TIFF tags (OpenCV decodes more TIFFs than Pillow opens).

EXIF orientation (tag 0x0112): 1 is upright; 2, 3, 4 are mirrored, rotated by 180 degrees, flipped; 5 to 8 exchange
height and width. JPEG, PNG (eXIf chunk), TIFF, WebP and AVIF carry it.
"""

import os
import re
import struct
import warnings
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, TiffImagePlugin

from severstal_cli.errors import UsageError

warnings.filterwarnings("ignore", module=r"PIL\.")  # warns about odd metadata; only the orientation is used
Image.MAX_IMAGE_PIXELS = None  # `max_pixels` limits all formats, and its message names the file

IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "bmp", "dib", "tif", "tiff", "webp", "avif", "jp2", "j2k",
        "jpx", "jpf", "j2c", "jpc", "gif", "pbm", "pgm", "ppm", "pnm", "tga", "icb", "vda", "vst", "sgi", "rgb",
        "rgba", "bw", "ras", "sr", "pcx", "qoi",
    )
)  # fmt: skip
"""Suffixes of image files, in lower case."""

MAX_PIXELS = 2**27
"""Default limit of pixels per image, 134 million; the environment variable MAX_PIXELS_VARIABLE overrides it."""
MAX_PIXELS_VARIABLE = "SEVERSTAL_MAX_PIXELS"

PNG_START = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112

_STARTS = (
    (rb"\xff\xd8", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"BM", "BMP"),
    (rb"(II[*+]\0|MM\0[*+])", "TIFF"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"GIF8[79]a", "GIF"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG2000"),
    (rb"P[1-6]\s", "PPM"),
    (rb"\x59\xa6\x6a\x95", "SUN"),
    (rb"\x01\xda[\0\1]", "SGI"),
    (rb"qoif", "QOI"),
    (rb"\x0a[\0\2\3\4\5]\x01[\1\2\4\10]", "PCX"),
)
_BY_NAME = {".tga": "TGA", ".icb": "TGA", ".vda": "TGA", ".vst": "TGA"}  # TGA has no signature

_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6  # PhotometricInterpretation (TIFF 6.0, page 117)
_NOT_BY_OPENCV = {34925, 50000, 50001}  # Compression: LZMA, Zstandard, WebP
_TIFF_COLOURS = {_WHITE_IS_ZERO, 1, _RGB, _PALETTE, _CMYK, _YCBCR}


UNKNOWN = "not an image, damaged, or of an unsupported format"


class HeaderError(Exception):
    """The file has no supported header, or its pixels cannot become grey levels; `str(error)` is the reason."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Properties of an image that are known before it is decoded."""

    kind: str
    """Format, as Pillow names it."""
    height: int
    width: int
    """Width as stored, like the height: before the orientation is applied."""
    orientation: int = 1
    """EXIF orientation, 1 to 8."""
    pages: int = 1
    """Pages of a TIFF (without reduced copies), frames of a GIF, PNG, WebP or AVIF."""
    deep: bool = False
    """Whether it has more than 8 bits per sample."""
    white_is_zero: bool = False
    """Whether it is a deep TIFF that stores white as 0; the decoders do not invert it."""
    by_pillow: bool = False
    """Whether OpenCV cannot decode it, or decodes it wrongly."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def max_pixels() -> int:
    """Return the limit of pixels per image. Raises UsageError: the environment variable is not a number."""
    given = os.environ.get(MAX_PIXELS_VARIABLE)
    if not given:
        return MAX_PIXELS
    if not (given.isascii() and given.isdecimal() and 0 < len(given) <= 18 and int(given)):
        raise UsageError(f"wrong {MAX_PIXELS_VARIABLE}", given, "Give a whole number of pixels")
    return int(given)


def kind_of(start: bytes) -> str | None:
    """Return the supported format whose files start with these bytes; 16 are enough."""
    return next((kind for pattern, kind in _STARTS if re.match(pattern, start, re.DOTALL)), None)


def read_header(file: IO[bytes], suffix: str) -> Header:
    """Read the header of a file that is open at its beginning. `suffix`: of its name.

    Raises HeaderError, and OSError if the file cannot be read.
    """
    kind = kind_of(file.read(16)) or _BY_NAME.get(suffix.lower())
    if kind is None:
        raise HeaderError(UNKNOWN)
    file.seek(0)
    try:
        header = _tiff(file) if kind == "TIFF" else _by_pillow(file, kind)
    except HeaderError:
        raise
    except OSError as fault:
        if fault.errno is not None:  # a disk error; Pillow's errors about the content have no errno
            raise
        raise HeaderError(UNKNOWN) from fault
    except Exception as fault:  # damaged headers raise many kinds of errors
        raise HeaderError(UNKNOWN) from fault
    if header.height < 1 or header.width < 1:
        raise HeaderError(f"damaged: {header.height} x {header.width} pixels")
    return header


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation to `(H, W, ...)` as stored, like browsers, labelme and Pillow's `exif_transpose`."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _by_pillow(file: IO[bytes], kind: str) -> Header:
    # Image.open returns another format (MPO) for a JPEG that another JPEG follows
    image = JpegImagePlugin.JpegImageFile(file) if kind == "JPEG" else Image.open(file, formats=[kind])
    width, height = image.size
    orientation = _orientation(_png_exif(file) if kind == "PNG" else image.info.get("exif"))
    if kind == "PNG":
        file.seek(24)
        deep = file.read(1) == b"\x10"
    elif kind == "JPEG2000":
        deep = _jpeg2000_bits(file) > 8
    elif kind == "PPM":
        coding = image.tile[0].args  # the mode, or (mode, highest value)
        deep = image.mode == "I" or (isinstance(coding, tuple) and int(coding[-1]) > 255)
    else:
        deep = image.mode.startswith("I")
    return Header(
        kind=kind,
        height=height,
        width=width,
        orientation=orientation,
        pages=getattr(image, "n_frames", 1),
        deep=deep,
        # OpenCV does not rescale a PGM whose highest value is below 255
        by_pillow=not (kind in ("JPEG", "PNG", "BMP", "WEBP", "JPEG2000") or (kind == "PPM" and deep)),
    )


def _jpeg2000_bits(file: IO[bytes]) -> int:
    """Return the bits of the first component (ITU T.800, A.5.1: byte 42 of the codestream is sign << 7 | bits - 1)."""
    file.seek(0)
    start = file.read(1 << 16)
    begin = start.find(b"\xff\x4f\xff\x51")
    if begin < 0 or len(start) <= begin + 42:
        raise HeaderError("damaged: no JPEG 2000 codestream")
    if start[begin + 42] & 0x80:
        raise HeaderError("its pixels are signed numbers, for which no range from black to white is known")
    return start[begin + 42] + 1


def _orientation(exif: bytes | None) -> int:
    """Return the orientation in an EXIF block; 1 without a readable one."""
    if not exif:
        return 1
    block = Image.Exif()
    try:
        block.load(exif)
        found = block.get(_ORIENTATION, 1)
    except Exception:  # cameras write malformed blocks; the image is still usable
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _png_exif(file: IO[bytes]) -> bytes | None:
    """Return the eXIf chunk of a PNG, which may follow the pixels."""
    file.seek(len(PNG_START))
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind == b"eXIf":
            return file.read(length)
        if kind == b"IEND":
            return None
        file.seek(length + 4, 1)
    return None


def _tiff(file: IO[bytes]) -> Header:
    """Read the tags of a TIFF: OpenCV decodes more kinds of TIFF than Pillow opens."""
    start = file.read(8)
    if start[2] == 43 or start[3] == 43:  # BigTIFF
        start += file.read(8)
    directory = TiffImagePlugin.ImageFileDirectory_v2(start)
    tags: dict[int, Any] = {}
    pages, seen = 0, set()
    while directory.next and directory.next not in seen:
        seen.add(directory.next)
        file.seek(directory.next)
        directory.load(file)
        tags = tags or dict(directory)
        pages += not directory.get(254, 0) & 0b101  # NewSubfileType: skip reduced copies and masks
    height, width = int(tags[257]), int(tags[256])
    bits, formats = _numbers(tags.get(258, 1)), _numbers(tags.get(339, 1))
    colours, samples = int(tags.get(262, 1)), int(tags.get(277, 1))
    if formats - {1, 4} or max(bits) > 16:
        kind = "floating-point" if 3 in formats else "signed" if 2 in formats else f"{max(bits)}-bit"
        raise HeaderError(f"its pixels are {kind} numbers, for which no range from black to white is known")
    if colours not in _TIFF_COLOURS or (colours == _CMYK and max(bits) > 8):
        raise HeaderError(f"its colours are not supported (TIFF, photometric interpretation {colours})")
    plain = 4 if colours == _CMYK else 3 if colours in (_RGB, _YCBCR) else 1
    stored = tags.get(_ORIENTATION, 1)
    return Header(
        kind="TIFF",
        height=height,
        width=width,
        pages=max(pages, 1),
        deep=max(bits) > 8,
        orientation=stored if isinstance(stored, int) and 1 <= stored <= 8 else 1,
        white_is_zero=colours == _WHITE_IS_ZERO and max(bits) > 8,
        # OpenCV multiplies 8-bit colours by the alpha, and does not support 2 and 4 bits
        by_pillow=tags.get(259) in _NOT_BY_OPENCV
        or (max(bits) <= 8 and (samples > plain or (max(bits) < 8 and bits != {1}))),
    )


def _numbers(value: Any) -> set[int]:
    return {int(each) for each in (value if isinstance(value, tuple) else (value,))}
