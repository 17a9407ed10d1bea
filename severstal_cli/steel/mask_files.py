"""Masks as PNG files: values as they are stored, whatever the kind of PNG.

Tools that draw masks write 8-bit grey, 1-bit, indexed or colour files. What counts is the number stored at a pixel: in
an indexed file its place in the palette, as in the label images of PASCAL VOC, and not its colour.
"""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli.errors import InputError
from severstal_cli.steel.files import replacing
from severstal_cli.steel.images import cv2, read_grey

_GREY, _INDEXED = 0, 3  # kinds of PNG with one number a pixel (PNG specification, 11.2.1)


def read_values(path: Path) -> NDArray[Any]:
    """The values stored in a PNG file: (H, W) uint8, or uint16 for a file of that depth.

    Raises:
        InputError: missing, unreadable, cut short, not a PNG, colours that differ, or transparency.
    """
    grey = read_grey(path)  # the whole file is checked here; for plain grey this is all
    data = path.read_bytes()
    if data[12:16] != b"IHDR":
        raise InputError(f"{path}", "not a PNG file inside", "Save masks as PNG")
    depth, kind = data[24], data[25]
    if kind == _INDEXED:
        grey = _decode(path, _as_grey(data))
    if kind in (_GREY, _INDEXED) and depth <= 8:
        return grey // np.uint8(255 // (2**depth - 1))  # OpenCV spreads the levels of fewer bits over 0..255
    values = _decode(path, data)
    if values.ndim == 3 and values.shape[2] == 4:
        if (values[..., 3] != np.iinfo(values.dtype).max).any():
            raise InputError(f"{path}", "it has transparent pixels", "Save the mask as 8-bit grey PNG")
        values = values[..., :3]
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise InputError(f"{path}", "it is a colour picture", "Save the mask as 8-bit grey or indexed PNG")
        values = values[..., 0]
    return values


def write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write (H, W) bool as 8-bit grey PNG, 0 and 255, whole or not at all. Raises OutputError."""
    _, data = cv2.imencode(".png", mask.view(np.uint8) * np.uint8(255))
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _decode(path: Path, data: bytes) -> NDArray[Any]:
    values: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise InputError(f"{path}", "it cannot be decoded", "Save the mask as 8-bit grey PNG")
    return values


def _as_grey(data: bytes) -> bytes:
    """An indexed PNG turned into one that shows each place in the palette as a level of grey.

    Both kinds store one number a pixel in the same way: only the kind in the header changes, and palette and
    transparency are left out.
    """
    header = data[12:25] + bytes([_GREY]) + data[26:29]
    parts = [data[:12], header, struct.pack(">I", zlib.crc32(header))]
    at = 33
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in (b"IDAT", b"IEND"):
            parts.append(data[at : at + 12 + length])
        if kind == b"IEND":
            break
        at += 12 + length
    return b"".join(parts)
