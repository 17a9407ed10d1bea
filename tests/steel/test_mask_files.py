"""PNG masks: the stored values count, whatever the kind of file."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from severstal_cli.errors import InputError
from severstal_cli.steel.images import cv2
from severstal_cli.steel.mask_files import read_values, write_mask

VALUES = np.array([[0, 1, 2, 3], [3, 0, 0, 1]], np.uint8)


def png(depth: int, kind: int, rows: list[bytes], *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG of VALUES' size, built by hand; `rows` without their filter bytes."""
    header = struct.pack(">IIBBBBB", 4, 2, depth, kind, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


# the palette of a label image, filled up with black as many tools do: two places share the colour of the background
PALETTE = (b"PLTE", bytes([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]) + bytes(3 * 12))
IN_FOUR_BITS = [bytes([0x01, 0x23]), bytes([0x30, 0x01])]
IN_TWO_BITS = [bytes([0b00011011]), bytes([0b11000001])]
IN_EIGHT_BITS = [bytes(row) for row in VALUES.tolist()]


@pytest.mark.parametrize(
    "data",
    [
        png(8, 0, IN_EIGHT_BITS),
        png(4, 0, IN_FOUR_BITS),
        png(2, 0, IN_TWO_BITS),
        png(8, 3, IN_EIGHT_BITS, PALETTE),
        png(4, 3, IN_FOUR_BITS, PALETTE),
        png(4, 3, IN_FOUR_BITS, PALETTE, (b"tRNS", b"\0")),
        png(16, 0, [bytes(b for value in row for b in (0, value)) for row in VALUES.tolist()]),
        png(8, 2, [bytes(np.repeat(row, 3).tolist()) for row in VALUES]),
        png(8, 4, [bytes(b for value in row for b in (value, 255)) for row in VALUES.tolist()]),
        png(8, 6, [bytes(b for value in row for b in (value, value, value, 255)) for row in VALUES.tolist()]),
    ],
    ids=[
        "grey8",
        "grey4",
        "grey2",
        "indexed8",
        "indexed4",
        "indexed-transparent",
        "grey16",
        "rgb",
        "grey-alpha",
        "rgba",
    ],
)
def test_every_kind_gives_the_stored_values(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a_1.png"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_values(path), VALUES)


def test_sixteen_bits_are_not_scaled_down(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(16, 0, [struct.pack(">4H", 0, 1, 300, 65535)] * 2))
    assert read_values(path).tolist() == [[0, 1, 300, 65535]] * 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png(8, 2, [bytes(range(12))] * 2), "it is a colour picture"),
        (png(8, 4, [bytes(range(8))] * 2), "it has transparent pixels"),
        (png(8, 0, IN_EIGHT_BITS)[:-15], "the image is cut short"),
        (cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes(), "not a PNG file inside"),
        (b"", "the file is empty"),
    ],
)
def test_what_is_no_mask_is_told(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a_1.png"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_values(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_mask_is_written_as_0_and_255(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a_1.png"
    mask = np.random.default_rng(0).random((17, 33)) < 0.3
    write_mask(path, mask)
    np.testing.assert_array_equal(read_values(path), np.where(mask, 255, 0))
    assert [file.name for file in path.parent.iterdir()] == ["a_1.png"]
