"""Decode image files to grey pixels. Only this module imports OpenCV; others import `cv2` from it.

An image is `(H, W) uint8`, grey and upright. An EXIF orientation is applied in every file format, as browsers, labelme
and Pillow's `exif_transpose` do. Colours become luminance; transparency is dropped.

16-bit files are scaled to 8 bits by the bits in use, since cameras store 10, 12 or 14 bits in them. Only a set of
images reveals this number (see surveys): all images of a set are divided by the same power of two.

A small file may declare a huge image. So the header is read first, and images above `max_pixels` are refused.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from severstal_cli import files
from severstal_cli.errors import InputError, MachineError, SeverstalError
from severstal_cli.parallel import map_in_order
from severstal_cli.steel.images.containers import CutShortError, DamagedError, check_whole
from severstal_cli.steel.images.image_headers import (
    MAX_PIXELS_VARIABLE,
    UNKNOWN,
    Header,
    HeaderError,
    max_pixels,
    read_header,
    upright,
)

try:
    import cv2 as cv2
    from cv2.utils import logging as _opencv_logging
except ImportError as error:  # no opencv, or a slim container without its system libraries
    if isinstance(error, ModuleNotFoundError):
        raise MachineError("opencv is missing", str(error), "Install it: pip install opencv-python") from error
    raise MachineError(
        "opencv needs a system library", str(error), "On Debian or Ubuntu: apt-get install libgl1 libglib2.0-0"
    ) from error

_opencv_logging.setLogLevel(_opencv_logging.LOG_LEVEL_SILENT)  # InputError alone reports a bad file

Grey = NDArray[np.uint8]

FULL_DEPTH = 16
DEPTHS = (8, 10, 12, 14, FULL_DEPTH)
"""Bit depths of cameras. The bits of a set's brightest pixel are rounded up to one of them."""

_AS_STORED = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


def read_grey(path: Path, bits: int = FULL_DEPTH) -> Grey:
    """Decode the image at `path` to `(H, W) uint8`, upright.

    bits: bits in use in the 16-bit files of the image's set. It does not affect other files.

    Raises:
        InputError: the file is missing, unreadable, empty, truncated, damaged, not an image, has too many pixels, or
            has pixels brighter than `bits` allow.
        MachineError: there is not enough memory.
    """
    pixels, header = decoded(path)
    if pixels.dtype == np.uint8:
        return pixels
    if bits < FULL_DEPTH and (brightest := int(pixels.max())) >> bits:
        raise InputError(
            f"{path}",
            f"its brightest pixel is {brightest:,}, but its set uses {bits} bits, up to {(1 << bits) - 1:,}",
            "Scale it like the images on which the bits were measured",
        )
    grey = (pixels >> (bits - 8)).astype(np.uint8)
    return ~grey if header.white_is_zero else grey


def read_all(
    paths: Sequence[Path], *, bits: int = FULL_DEPTH, threads: int | None = None, ahead: int = 32
) -> Iterator[Grey]:
    """Yield the images of `paths` in order, decoded in threads (see `map_in_order`). `bits`: as in `read_grey`."""
    return map_in_order(partial(read_grey, bits=bits), paths, threads=threads, ahead=ahead, name="decode")


def image_size(path: Path) -> tuple[int, int]:
    """Return `(height, width)` of the upright image at `path`, from its header.

    Raises InputError as `read_grey` does, but only for faults of the header.
    """
    return header_at(path).size


def checked_header(path: Path, data: bytes) -> Header:
    """Check without decoding that the content `data` of an image file is complete; return its header.

    Raises InputError: the data is empty, truncated, damaged or not an image, or has too many pixels.
    """
    try:
        check_whole(data)
    except CutShortError:
        raise InputError(f"{path}", "the image is cut short", "Copy or download it again") from None
    except DamagedError as fault:
        raise InputError(f"{path}", f"the image is damaged: {fault}", "Copy or download it again") from None
    return _header_of(path, io.BytesIO(data))


def check_pixels(path: Path, height: int, width: int) -> None:
    """Raise InputError if an image of this size has more than `max_pixels`."""
    if height * width > max_pixels():
        raise InputError(
            f"{path}",
            f"{height:,} x {width:,} pixels, more than {max_pixels():,}",
            f"If the file is trusted, set {MAX_PIXELS_VARIABLE}={height * width}",
        )


def pixel_digest(image: Grey) -> bytes:
    """Return a hash of the size and pixels of `(H, W) uint8`."""
    pixels = hashlib.blake2b(b"%d x %d" % image.shape)
    pixels.update(np.ascontiguousarray(image).data)
    return pixels.digest()


def pad_to_multiple(images: Grey, multiple: int = 32) -> Grey:
    """Pad `(..., H, W)` at the bottom and the right, by reflection, to the next multiple; crop it with `[:H, :W]`.

    A pad wider than the image repeats the reflection. An array that already fits is returned unchanged.
    """
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return images
    return np.pad(images, [(0, 0)] * (images.ndim - 2) + [(0, bottom), (0, right)], mode="reflect")


def decoded(path: Path) -> tuple[NDArray[Any], Header]:
    """Return `(H, W)` uint8 or uint16, grey and upright, and the header of an image file. Raises as `read_grey`."""
    return decode(path, read_file(path))


def decode(path: Path, data: bytes) -> tuple[NDArray[Any], Header]:
    """Like `decoded`, for the content `data` of a file that is already in memory."""
    header = checked_header(path, data)
    pixels = None if header.by_pillow else _by_opencv(path, data, header)
    if pixels is None and header.kind == "TIFF" and not header.by_pillow:  # Pillow's TIFF library would write to stderr
        raise _unknown(path)
    if pixels is None:
        pixels = _by_pillow(path, data, header)
    if header.kind != "TIFF":  # both decoders turn a TIFF upright themselves
        pixels = upright(pixels, header.orientation)
    if pixels.shape != header.size:
        raise InputError(
            f"{path}", "the image is damaged: header and pixels differ in size", "Copy or download it again"
        )
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{path}",
            f"its pixels are {pixels.dtype} numbers, for which no range from black to white is known",
            _SAVE_GREY,
        )
    return pixels, header


_SAVE_GREY = "Save it as 8-bit or 16-bit grey PNG"


def _by_opencv(path: Path, data: bytes, header: Header) -> NDArray[Any] | None:
    # read as grey, the colours of a deep TIFF would be multiplied by its alpha
    is_deep_tiff = header.kind == "TIFF" and header.deep
    try:
        pixels: NDArray[Any] | None = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if is_deep_tiff else _AS_STORED
        )
        if pixels is not None and pixels.ndim == 3:
            pixels = cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_BGR2GRAY)
        return pixels
    except cv2.error as fault:  # also raised above OpenCV's own limit of pixels
        if fault.code == cv2.Error.StsNoMem:
            raise _no_memory(path, header) from fault
        return None


def _by_pillow(path: Path, data: bytes, header: Header) -> NDArray[Any]:
    try:
        image = Image.open(io.BytesIO(data), formats=[header.kind])
        if not image.mode.startswith(("I", "F")):
            return np.asarray(image.convert("L"))
        values = np.asarray(image)
        if image.mode == "I" and values.min() >= 0 and values.max() < 1 << FULL_DEPTH:
            values = values.astype(np.uint16)
        return values.astype(values.dtype.newbyteorder("="))
    except MemoryError as fault:
        raise _no_memory(path, header) from fault
    except Exception as fault:  # damaged files raise many kinds of errors
        raise _unknown(path) from fault


def _unknown(path: Path) -> InputError:
    return InputError(f"{path}", UNKNOWN, "Replace it")


def _no_memory(path: Path, header: Header) -> MachineError:
    return MachineError(
        f"not enough memory to decode {path}",
        f"{header.height} x {header.width} pixels",
        "Use a machine with more memory, or a smaller image",
    )


def header_at(path: Path) -> Header:
    """Return the header of an image file. Raises InputError as `checked_header`."""
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path}", "the file is empty", "Copy or download it again")
            file.seek(0)
            return _header_of(path, file)
    except OSError as fault:
        raise _unreadable(path, fault) from None


def _header_of(path: Path, file: IO[bytes]) -> Header:
    try:
        header = read_header(file, path.suffix)
    except HeaderError as fault:
        remedy = _SAVE_GREY if "its " in str(fault) else "Replace it"
        raise InputError(f"{path}", str(fault), remedy) from fault
    check_pixels(path, header.height, header.width)
    return header


def _unreadable(path: Path, fault: OSError) -> SeverstalError:
    if isinstance(fault, FileNotFoundError):
        return InputError(f"{path}", "no such file", "Check the path")
    if isinstance(fault, IsADirectoryError):
        return InputError(f"{path}", "a folder, not an image", "Name a file")
    return files.unreadable(path, fault)


def read_file(path: Path) -> bytes:
    """Return the content of an image file. Raises InputError: it is missing, unreadable or empty."""
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise _unreadable(path, fault) from None
    if not data:
        raise InputError(f"{path}", "the file is empty", "Copy or download it again")
    return data
