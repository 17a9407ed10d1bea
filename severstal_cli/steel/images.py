"""Photographs: found, decoded to grey and checked. The one place that imports OpenCV; others take `cv2` from here.

A picture is `(H, W) uint8`, grey, one byte a pixel, as stored: an EXIF orientation is ignored, because masks are drawn
on the stored pixels. Colour is weighed to grey by OpenCV, 16 bits are scaled to 8, transparency is dropped.

A decoder may show a file that was cut short as a picture with a grey rest, so the end of a file is checked here first:
a JPEG has an end marker (bytes after it are legal and common), a PNG has its IEND chunk and every chunk its check sum,
a BMP has the rows that its header promises, and the strips of a TIFF are checked by OpenCV.
"""

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli.errors import InputError, MachineError, check_memory
from severstal_cli.steel.parallel import map_in_order

try:
    import cv2 as cv2
    from cv2.utils import logging as _opencv_logging
except ImportError as error:  # no opencv, or a slim container without its system libraries
    if isinstance(error, ModuleNotFoundError):
        raise MachineError("opencv is missing", str(error), "Install it: pip install opencv-python") from error
    raise MachineError(
        "opencv needs a system library", str(error), "On Debian or Ubuntu: apt-get install libgl1 libglib2.0-0"
    ) from error

_opencv_logging.setLogLevel(_opencv_logging.LOG_LEVEL_SILENT)  # a bad file is told once, by InputError

Grey = NDArray[np.uint8]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}

_AS_STORED = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the segments that hold the size (ITU T.81, table B.1)
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # ends the coded data: neither stuffing, fill nor restart


class _CutShortError(Exception):
    """The bytes end before the picture does."""


class _DamagedError(Exception):
    """The bytes contradict themselves."""


def find_images(places: Sequence[Path]) -> list[Path]:
    """Return the image files among `places`: files as named, folders by what they hold, sorted by name, not recursive.

    Hidden files and files of other kinds are passed over in folders.

    Raises:
        InputError: a place does not exist, a folder has no images, or two files have the same name (it is their id).
    """
    found: dict[str, Path] = {}
    for place in places:
        if place.is_dir():
            paths = sorted(path for path in place.iterdir() if _is_image_name(path.name) and _is_file(path))
            if not paths:
                raise InputError(
                    f"no images in {place}", "none of " + " ".join(sorted(IMAGE_SUFFIXES)), "Name the folder with them"
                )
        elif place.exists():
            paths = [place]
        else:
            raise InputError(f"{place}", "no such file or folder", "Check the path")
        for path in paths:
            if path.name in found:
                raise InputError(
                    f"two images are named {path.name}", f"{found[path.name]} and {path}", "Give each a name of its own"
                )
            found[path.name] = path
    return list(found.values())


def read_grey(path: Path) -> Grey:
    """Decode the picture at `path` to `(H, W) uint8`, as stored.

    Raises:
        InputError: the file is missing, unreadable, empty, cut short, damaged or not an image.
    """
    data = _read(path)
    try:
        _check(data)
    except _CutShortError:
        raise InputError(f"{path}", "the image is cut short", "Copy or download it again") from None
    except _DamagedError as fault:
        raise InputError(f"{path}", f"the image is damaged: {fault}", "Copy or download it again") from None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _AS_STORED)
    except cv2.error as error:  # also raised for more pixels than OpenCV is willing to decode
        check_memory(error, f"decoding {path}")
        image = None
    if image is None:
        raise InputError(f"{path}", "not an image, damaged, or of a kind that OpenCV does not read", "Replace it")
    return image  # type: ignore[return-value]  # the flag makes it uint8


def read_all(paths: Sequence[Path], *, threads: int | None = None, ahead: int = 32) -> Iterator[Grey]:
    """Yield the pictures of `paths` in order, decoded in threads as `map_in_order` tells."""
    return map_in_order(read_grey, paths, threads=threads, ahead=ahead, name="decode")


def image_size(path: Path) -> tuple[int, int]:
    """Return `(height, width)` of the picture at `path`: from its header for most JPEG, PNG and BMP, else by decoding.

    Raises InputError as `read_grey` does, but a fault behind the header goes unseen.
    """
    size = _header_size(_read(path, limit=1 << 16))
    if size is None:
        height, width = read_grey(path).shape
        return height, width
    return size


def pad_to_multiple(images: Grey, multiple: int = 32) -> Grey:
    """Pad `(..., H, W)` at the bottom and the right, by reflection, to the next multiple; cut back with `[:H, :W]`.

    Where the pad is wider than the picture, the picture is mirrored as often as it takes. Already fitting arrays are
    returned as they are.
    """
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return images
    return np.pad(images, [(0, 0)] * (images.ndim - 2) + [(0, bottom), (0, right)], mode="reflect")


def _is_file(path: Path) -> bool:
    """Whether it is a file, or a link to something that is missing: that must not be passed over in silence."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _is_image_name(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def _read(path: Path, limit: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit)
    except FileNotFoundError:
        raise InputError(f"{path}", "no such file", "Check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}", "a folder, not an image", "Name a file") from None
    except OSError as fault:
        raise InputError(f"{path}", f"cannot be read: {fault.strerror}", "Check the file and its permissions") from None
    if not data:
        raise InputError(f"{path}", "the file is empty", "Copy or download it again")
    return data


def _check(data: bytes) -> None:
    """Raise _CutShortError or _DamagedError for a JPEG, PNG or BMP that is not whole."""
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(_PNG_START):
        _check_png(data)
    elif data.startswith(b"BM"):
        _check_bmp(data)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, place behind it) of a JPEG up to its end marker 0xD9. Raises _CutShortError, _DamagedError."""
    at = 2
    while True:
        marker = _JPEG_MARKER.search(data, at)
        if marker is None:
            raise _CutShortError
        at, code = marker.end(), data[marker.end() - 1]
        yield code, at
        if code == 0xD9:
            return
        if code not in (0x01, 0xD8):  # those two stand alone; every other one has a length
            if at + 2 > len(data):
                raise _CutShortError
            length = int.from_bytes(data[at : at + 2])
            if length < 2:
                raise _DamagedError(f"a JPEG segment of length {length}")
            at += length


def _check_jpeg(data: bytes) -> None:
    for _ in _jpeg_segments(data):
        pass


def _check_png(data: bytes) -> None:
    at = len(_PNG_START)
    while True:
        if at + 12 > len(data):
            raise _CutShortError
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise _CutShortError
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise _DamagedError(f"wrong check sum of PNG chunk {kind.decode('ascii', 'replace')}")
        if kind == b"IEND":
            return
        at = end


def _check_bmp(data: bytes) -> None:
    if len(data) < 26:
        raise _CutShortError
    stated, pixels_at, header_length = struct.unpack_from("<I4xII", data, 2)
    if header_length < 40:  # the header of OS/2, with its 16-bit sizes
        return
    if len(data) < 34:
        raise _CutShortError
    width, height, bits, compression = struct.unpack_from("<iixxHI", data, 18)
    # plain rows are filled up to 4 bytes each; the stated length, often left at 0, is all there is for packed ones
    rows_end = pixels_at + (width * bits + 31) // 32 * 4 * abs(height)
    if len(data) < (rows_end if compression in (0, 3) else stated):
        raise _CutShortError


def _header_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) as the header of a JPEG, PNG or BMP says; None if it does not, or for another kind."""
    if data.startswith(b"\xff\xd8"):
        try:
            for code, at in _jpeg_segments(data):
                if code in _JPEG_FRAMES:
                    height, width = int.from_bytes(data[at + 3 : at + 5]), int.from_bytes(data[at + 5 : at + 7])
                    return (height, width) if height and width and at + 7 <= len(data) else None
        except (_CutShortError, _DamagedError):
            return None
    elif data.startswith(_PNG_START) and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    elif data.startswith(b"BM") and len(data) >= 26 and int.from_bytes(data[14:18], "little") >= 40:
        width, height = struct.unpack_from("<ii", data, 18)
        return abs(height), width
    return None
