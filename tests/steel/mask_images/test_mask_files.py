"""Mask files: the visible colour counts in every format."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from severstal_cli.errors import InputError
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.mask_images.colours import voc_colour
from severstal_cli.steel.mask_images.mask_files import png_of, read_mask

matplotlib.use("Agg")

VALUES = np.array([[0, 1, 2, 3], [3, 0, 0, 1]], np.uint8)


def png(depth: int, kind: int, rows: list[bytes], *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG of VALUES' size, built by hand; `rows` without their filter bytes."""
    header = struct.pack(">IIBBBBB", 4, 2, depth, kind, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def seen(path: Path) -> list[list[object]]:
    """What a file shows at each pixel: its number, else its colour, else "transparent"."""
    image = read_mask(path)
    names: dict[int, object] = {}
    for drawn in image.drawn:
        colour = f"{drawn.colour:06x}" if drawn.colour is not None else "transparent"
        names[drawn.code] = drawn.number if drawn.number is not None else colour
    return [[names[code] for code in row] for row in image.codes.tolist()]


def numbers(path: Path) -> NDArray[Any]:
    return np.array(seen(path))


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
        png(16, 0, [bytes(b for value in row for b in (0, value)) for row in VALUES.tolist()]),
        png(8, 2, [bytes(np.repeat(row, 3).tolist()) for row in VALUES]),
        png(8, 4, [bytes(b for value in row for b in (value, 255)) for row in VALUES.tolist()]),
        png(8, 6, [bytes(b for value in row for b in (value, value, value, 255)) for row in VALUES.tolist()]),
    ],
    ids=["grey8", "grey4", "grey2", "indexed8", "indexed4", "grey16", "rgb", "grey-alpha", "rgba"],
)
def test_every_kind_of_png_gives_the_stored_values(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a_1.png"
    path.write_bytes(data)
    np.testing.assert_array_equal(numbers(path), VALUES)


def voc_palette() -> list[int]:
    return [channel for number in range(256) for channel in voc_colour(number).to_bytes(3)]


def indexed(values: NDArray[np.uint8], palette: list[int]) -> Image.Image:
    image = Image.frombytes("P", (values.shape[1], values.shape[0]), values.tobytes())
    image.putpalette(palette)
    return image


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.gif"])
@pytest.mark.parametrize("kind", ["grey", "voc", "grey palette"])
def test_lossless_kinds_give_the_stored_values(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    image = Image.fromarray(VALUES)
    if kind == "voc":
        image = indexed(VALUES, voc_palette())
    elif kind == "grey palette":
        image = image.convert("P")
    image.save(path)
    np.testing.assert_array_equal(numbers(path), VALUES)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_tiff_of_many_bits(tmp_path: Path, dtype: Any) -> None:
    values = np.array([[0, 1], [300, 65535]], dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(numbers(tmp_path / "a.tif"), values)


def test_sixteen_bits_are_not_scaled_down(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(16, 0, [struct.pack(">4H", 0, 1, 300, 65535)] * 2))
    np.testing.assert_array_equal(numbers(path), [[0, 1, 300, 65535]] * 2)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_of_equal_channels_are_grey(tmp_path: Path, name: str) -> None:
    assert cv2.imwrite(str(tmp_path / name), np.repeat(VALUES[..., None], 3, axis=2).astype(np.uint16))
    np.testing.assert_array_equal(numbers(tmp_path / name), VALUES)


@pytest.mark.parametrize("kind", ["indexed", "rgb"])
def test_masks_are_read_upright(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # shown turned by 90 degrees
    image = indexed(VALUES, voc_palette()) if kind == "indexed" else Image.fromarray(np.repeat(VALUES[..., None], 3, 2))
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(numbers(tmp_path / "a.png"), np.rot90(VALUES, -1))


def test_one_bit_is_0_and_1(tmp_path: Path) -> None:
    values = np.array([[True, False], [False, True]])
    for name, options in (("a.png", {}), ("a.bmp", {}), ("a.tif", {"compression": "group4"}), ("b.tif", {})):
        Image.fromarray(values).save(tmp_path / name, **options)
        np.testing.assert_array_equal(numbers(tmp_path / name), values)


BOX = np.zeros((20, 30), np.uint8)
BOX[5:12, 8:20] = 1


def as_people_save_it(path: Path, tool: str) -> None:
    """A mask of BOX, white on black."""
    white = np.repeat(BOX[..., None] * np.uint8(255), 3, axis=2)
    rgb = Image.fromarray(white)
    if tool == "quantize":
        image = rgb.quantize(2)
    elif tool == "adaptive":
        image = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    elif tool == "web":
        image = rgb.convert("P")
    elif tool == "octree":
        image = rgb.convert("RGBA").quantize()
    elif tool == "white first":
        image = indexed(1 - BOX, [255, 255, 255, 0, 0, 0])
        image.info["transparency"] = b"\xff\xff"
    elif tool == "pyplot":
        from matplotlib import pyplot

        pyplot.imsave(path, BOX, cmap="gray")
        return
    elif tool == "transparent":
        image = Image.fromarray(np.dstack([white, BOX * np.uint8(255)]))
    elif tool == "grey-alpha":
        image = Image.fromarray(np.dstack([white[..., 0], np.full_like(BOX, 255)]))
    elif tool == "cv2":
        assert cv2.imwrite(str(path), white)
        return
    image.save(path)


@pytest.mark.parametrize(
    "tool",
    ["quantize", "adaptive", "web", "octree", "white first", "pyplot", "transparent", "grey-alpha", "cv2"],
)
def test_white_is_white_at_any_palette_index(tmp_path: Path, tool: str) -> None:
    path = tmp_path / "a_1.png"
    as_people_save_it(path, tool)
    image = read_mask(path)
    white = [drawn.code for drawn in image.drawn if drawn.colour == 0xFFFFFF]
    dark = [drawn for drawn in image.drawn if drawn.is_black or drawn.is_transparent]
    assert (len(white), len(dark)) == (1, 1)
    np.testing.assert_array_equal(image.codes == white[0], BOX == 1)


def test_a_palette_index_is_a_class_only_if_all_colours_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    indexed(VALUES, voc_palette()).save(path)
    np.testing.assert_array_equal(numbers(path), VALUES)
    swapped = voc_palette()
    swapped[3:9] = swapped[6:9] + swapped[3:6]
    indexed(VALUES, swapped).save(path)
    assert seen(path)[0] == ["000000", "008000", "800000", "808000"]
    indexed(VALUES, [0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255]).save(path)
    assert seen(path)[0] == ["000000", "555555", "aaaaaa", "ffffff"]


def test_transparent_palette_entries_are_background(tmp_path: Path) -> None:
    for name in ("a.png", "a.gif"):
        image = indexed(BOX, [255, 255, 255, 255, 0, 0])
        image.save(tmp_path / name, transparency=0)
        assert {value for row in seen(tmp_path / name) for value in row} == {"transparent", "ff0000"}


def test_an_indexed_png_is_decoded_once_and_a_grey_one_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png(8, 3, IN_EIGHT_BITS, PALETTE))
    (tmp_path / "b.png").write_bytes(png(8, 0, IN_EIGHT_BITS))
    reads: list[str] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (reads.append(path.name), read_bytes(path))[1])
    read_mask(tmp_path / "b.png")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV decodes what Pillow decodes"))
    read_mask(tmp_path / "a.png")
    assert reads == ["b.png", "a.png"]


def test_the_palette_of_voc() -> None:
    assert [f"{voc_colour(number):06x}" for number in (0, 1, 2, 3, 4, 7, 8, 15, 20, 255)] == [
        "000000", "800000", "008000", "808000", "000080", "808080", "400000", "c08080", "004080", "e0e0c0",
    ]  # fmt: skip
    assert len({voc_colour(number) for number in range(256)}) == 256


DEEP = np.arange(24, dtype=np.uint16).reshape(2, 4, 3)
COLOUR = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png(8, 4, [bytes(range(8))] * 2), "half-transparent pixels, alpha 1 to 7"),
        (
            saved(indexed(BOX, [0, 0, 0, 255, 0, 0]), "PNG", transparency=b"\xff\x80"),
            "half-transparent pixels, alpha 128",
        ),
        (png(8, 0, IN_EIGHT_BITS)[:-15], "the image is cut short"),
        (saved(COLOUR, "JPEG"), "a JPEG file: its compression changes pixels. Save masks as PNG"),
        (saved(COLOUR, "WEBP", quality=80), "a lossy WebP file: its compression changes pixels"),
        (saved(COLOUR, "TIFF", compression="jpeg"), "a TIFF file with lossy compression, which changes pixels"),
        (saved(COLOUR, "TIFF")[:-20], "the image is cut short or damaged"),
        (saved(COLOUR.resize((40, 40)), "GIF")[:-90], "the image is cut short or damaged"),
        (saved(COLOUR, "BMP")[:-20], "the image is cut short"),
        (saved(COLOUR, "TIFF", save_all=True, append_images=[COLOUR]), "it holds 2 images. Save one mask per file"),
        (saved(COLOUR, "GIF", save_all=True, append_images=[COLOUR.rotate(180)]), "it holds 2 images"),
        (saved(COLOUR.convert("CMYK"), "TIFF"), "its pixels have mode CMYK, which no mask has"),
        (saved(Image.fromarray(np.float32([[0, 0.5]])), "TIFF"), "values that are not whole numbers from 0"),
        (saved(Image.fromarray(np.int32([[0, -1]])), "TIFF"), "values that are not whole numbers from 0"),
        (cv2.imencode(".png", DEEP)[1].tobytes(), "a colour file of 16 bits per channel"),
        (cv2.imencode(".tif", DEEP)[1].tobytes(), "a colour file of 16 bits per channel"),
        (png(8, 3, IN_EIGHT_BITS, (b"PLTE", bytes(3))), "value 3 has no colour in its palette of 1"),
        (b"", "the file is empty"),
        (b"no image at all", "not a PNG, BMP, TIFF, GIF or lossless WebP file inside"),
    ],
)
def test_files_that_are_not_masks_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a_1.png"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_mask(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_lossless_webp_is_a_mask(tmp_path: Path) -> None:
    path = tmp_path / "a_1.webp"
    Image.fromarray(np.repeat(VALUES[..., None], 3, axis=2)).save(path, lossless=True)
    np.testing.assert_array_equal(numbers(path), VALUES)


def test_a_mask_is_written_as_0_and_255(tmp_path: Path) -> None:
    path = tmp_path / "a_1.png"
    mask = np.random.default_rng(0).random((17, 33)) < 0.3
    path.write_bytes(png_of(mask))
    np.testing.assert_array_equal(numbers(path), np.where(mask, 255, 0))
