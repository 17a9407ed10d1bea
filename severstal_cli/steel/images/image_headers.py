"""What the first bytes of an image file say: its kind, size, EXIF orientation, depth and pages. Nothing is decoded.

Pillow parses the headers. It is held to formats that it decodes by itself: others start programs (EPS), or are no
images of one size (PDF, video).

EXIF orientation (tag 0x0112): 1 is upright; 2, 3, 4 are mirrored, turned by 180 degrees, flipped; 5 to 8 exchange
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

warnings.filterwarnings("ignore", module=r"PIL\.")  # odd metadata, of which nothing but the orientation counts
Image.MAX_IMAGE_PIXELS = None  # `max_pixels` is the bound: for all kinds, with the file's name

IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "bmp", "dib", "tif", "tiff", "webp", "avif", "jp2", "j2k",
        "jpx", "jpf", "j2c", "jpc", "gif", "pbm", "pgm", "ppm", "pnm", "tga", "icb", "vda", "vst", "sgi", "rgb",
        "rgba", "bw", "ras", "sr", "pcx", "qoi",
    )
)  # fmt: skip
"""Endings of the names of image files, in lower case."""

MAX_PIXELS = 2**27
"""Of an image, unless the environment variable MAX_PIXELS_VARIABLE says otherwise: 134 million."""
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
_BY_NAME = {".tga": "TGA", ".icb": "TGA", ".vda": "TGA", ".vst": "TGA"}  # they have no first bytes of their own

_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6  # PhotometricInterpretation (TIFF 6.0, page 117)
_NOT_BY_OPENCV = {34925, 50000, 50001}  # Compression: LZMA, Zstandard, WebP
_TIFF_COLOURS = {_WHITE_IS_ZERO, 1, _RGB, _PALETTE, _CMYK, _YCBCR}


UNKNOWN = "not an image, damaged, or of a kind that is not read"


class HeaderError(Exception):
    """There is no header of a kind that is read, or what it describes cannot become grey levels: `str(error)`."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is known of an image before it is decoded."""

    kind: str
    """Pillow's name of the format."""
    height: int
    width: int
    """As stored, before the orientation is applied."""
    orientation: int = 1
    """1 to 8, as EXIF counts."""
    pages: int = 1
    """Pages of a TIFF (reduced copies not counted), frames of a GIF, PNG, WebP or AVIF."""
    deep: bool = False
    """It has more than 8 bits a sample."""
    white_is_zero: bool = False
    """A deep TIFF that stores white as 0, which the decoders leave as it is."""
    by_pillow: bool = False
    """OpenCV does not decode this, or not rightly."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def max_pixels() -> int:
    """The most pixels of an image that is decoded. Raises UsageError: the environment variable is no number."""
    given = os.environ.get(MAX_PIXELS_VARIABLE)
    if not given:
        return MAX_PIXELS
    if not (given.isascii() and given.isdecimal() and 0 < len(given) <= 18 and int(given)):
        raise UsageError(f"wrong {MAX_PIXELS_VARIABLE}", given, "Give a whole number of pixels")
    return int(given)


def kind_of(start: bytes) -> str | None:
    """The format whose files start like this, of those that are read; 16 bytes are enough."""
    return next((kind for pattern, kind in _STARTS if re.match(pattern, start, re.DOTALL)), None)


def read_header(file: IO[bytes], suffix: str) -> Header:
    """Read the header of an open file, which is at its beginning. `suffix`: the ending of its name.

    Raises HeaderError, and OSError where the file cannot be read.
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
        if fault.errno is not None:  # of the disk, not Pillow's of the content
            raise
        raise HeaderError(UNKNOWN) from fault
    except Exception as fault:  # a damaged header raises many kinds
        raise HeaderError(UNKNOWN) from fault
    if header.height < 1 or header.width < 1:
        raise HeaderError(f"damaged: {header.height} x {header.width} pixels")
    return header


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn `(H, W, ...)`, as stored, upright: as browsers, labelme and Pillow's `exif_transpose` show it."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _by_pillow(file: IO[bytes], kind: str) -> Header:
    # its factory would take a JPEG with a second one behind it for another kind
    image = JpegImagePlugin.JpegImageFile(file) if kind == "JPEG" else Image.open(file, formats=[kind])
    width, height = image.size
    orientation = _orientation(_png_exif(file) if kind == "PNG" else image.info.get("exif"))
    if kind == "PNG":
        file.seek(24)
        deep = file.read(1) == b"\x10"
    elif kind == "JPEG2000":
        deep = _jpeg2000_bits(file) > 8
    elif kind == "PPM":
        coding = image.tile[0].args  # the mode, or the mode and the highest value
        deep = image.mode == "I" or (isinstance(coding, tuple) and int(coding[-1]) > 255)
    else:
        deep = image.mode.startswith("I")
    return Header(
        kind=kind, height=height, width=width, orientation=orientation, pages=getattr(image, "n_frames", 1),
        deep=deep,
        # OpenCV does not spread the levels of a PGM whose highest value is below 255
        by_pillow=not (kind in ("JPEG", "PNG", "BMP", "WEBP", "JPEG2000") or (kind == "PPM" and deep)),
    )  # fmt: skip


def _jpeg2000_bits(file: IO[bytes]) -> int:
    """Bits of the first component (ITU T.800, A.5.1: byte 42 of the codestream, less 1, with the sign on top)."""
    file.seek(0)
    start = file.read(1 << 16)
    begin = start.find(b"\xff\x4f\xff\x51")
    if begin < 0 or len(start) <= begin + 42:
        raise HeaderError("damaged: no JPEG 2000 codestream")
    if start[begin + 42] & 0x80:
        raise HeaderError("its pixels are signed numbers, for which no range from black to white is known")
    return start[begin + 42] + 1


def _orientation(exif: bytes | None) -> int:
    """That of an EXIF block; 1 where there is none, or none that can be read."""
    if not exif:
        return 1
    block = Image.Exif()
    try:
        block.load(exif)
        found = block.get(_ORIENTATION, 1)
    except Exception:  # cameras write odd ones: no reason to refuse the image
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _png_exif(file: IO[bytes]) -> bytes | None:
    """The eXIf chunk of a PNG, which may stand behind the pixels."""
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
    """By the tags alone: Pillow's own image knows fewer kinds than OpenCV decodes."""
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
        pages += not directory.get(254, 0) & 0b101  # NewSubfileType: reduced copies and masks are no pages
    height, width = int(tags[257]), int(tags[256])
    bits, formats = _numbers(tags.get(258, 1)), _numbers(tags.get(339, 1))
    colours, samples = int(tags.get(262, 1)), int(tags.get(277, 1))
    if formats - {1, 4} or max(bits) > 16:
        kind = "floating-point" if 3 in formats else "signed" if 2 in formats else f"{max(bits)}-bit"
        raise HeaderError(f"its pixels are {kind} numbers, for which no range from black to white is known")
    if colours not in _TIFF_COLOURS or (colours == _CMYK and max(bits) > 8):
        raise HeaderError(f"its colours are of a kind that is not read (TIFF, photometric interpretation {colours})")
    plain = 4 if colours == _CMYK else 3 if colours in (_RGB, _YCBCR) else 1
    found = tags.get(_ORIENTATION, 1)
    return Header(
        kind="TIFF", height=height, width=width, pages=max(pages, 1), deep=max(bits) > 8,
        orientation=found if isinstance(found, int) and 1 <= found <= 8 else 1,
        white_is_zero=colours == _WHITE_IS_ZERO and max(bits) > 8,
        # OpenCV multiplies 8-bit colours by the alpha, and knows no 2 and 4 bits
        by_pillow=tags.get(259) in _NOT_BY_OPENCV
        or (max(bits) <= 8 and (samples > plain or (max(bits) < 8 and bits != {1}))),
    )  # fmt: skip


def _numbers(value: Any) -> set[int]:
    return {int(each) for each in (value if isinstance(value, tuple) else (value,))}
