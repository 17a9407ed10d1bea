"""Whether an image file is whole, by its container: a decoder may show one that was cut short with a grey rest.

A JPEG has an end marker (bytes after it are legal and common), a PNG has its IEND chunk and every chunk its check sum,
and a BMP has the rows that its header promises. The strips of a TIFF are checked by OpenCV, other kinds by Pillow.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from severstal_cli.steel.images.image_headers import PNG_START

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # ends the coded data: neither stuffing, fill nor restart


class CutShortError(Exception):
    """The bytes end before the image does."""


class DamagedError(Exception):
    """The bytes contradict themselves."""


def check_whole(data: bytes) -> None:
    """Raise CutShortError or DamagedError for a JPEG, PNG or BMP that is not whole."""
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(PNG_START):
        _check_png(data)
    elif data.startswith(b"BM"):
        _check_bmp(data)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, place behind it) of a JPEG up to its end marker 0xD9. Raises CutShortError, DamagedError."""
    at = 2
    while True:
        marker = _JPEG_MARKER.search(data, at)
        if marker is None:
            raise CutShortError
        at, code = marker.end(), data[marker.end() - 1]
        yield code, at
        if code == 0xD9:
            return
        if code not in (0x01, 0xD8):  # those two stand alone; every other one has a length
            if at + 2 > len(data):
                raise CutShortError
            length = int.from_bytes(data[at : at + 2])
            if length < 2:
                raise DamagedError(f"a JPEG segment of length {length}")
            at += length


def _check_jpeg(data: bytes) -> None:
    for _ in _jpeg_segments(data):
        pass


def _check_png(data: bytes) -> None:
    at = len(PNG_START)
    while True:
        if at + 12 > len(data):
            raise CutShortError
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise CutShortError
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise DamagedError(f"wrong check sum of PNG chunk {kind.decode('ascii', 'replace')}")
        if kind == b"IEND":
            return
        at = end


def _check_bmp(data: bytes) -> None:
    if len(data) < 26:
        raise CutShortError
    stated, pixels_at, header_length = struct.unpack_from("<I4xII", data, 2)
    if header_length < 40:  # the header of OS/2, with its 16-bit sizes
        return
    if len(data) < 34:
        raise CutShortError
    width, height, bits, compression = struct.unpack_from("<iixxHI", data, 18)
    # plain rows are filled up to 4 bytes each; the stated length, often left at 0, is all there is for packed ones
    rows_end = pixels_at + (width * bits + 31) // 32 * 4 * abs(height)
    if len(data) < (rows_end if compression in (0, 3) else stated):
        raise CutShortError
