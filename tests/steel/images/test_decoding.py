"""Pictures: every kind and mode decodes, every way to be broken is one clear line, nothing leaks to stderr."""

import io
import itertools
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from severstal_cli.errors import InputError, MachineError, UsageError
from severstal_cli.steel.images import containers, decoding, image_files
from severstal_cli.steel.images.decoding import cv2

GREY = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 200), np.uint8), (0, 0), 2)


def encoded(suffix: str, image: np.ndarray = GREY, *flags: int) -> bytes:
    return cv2.imencode(suffix, image, flags)[1].tobytes()


def tiff_with_pixels_last() -> bytes:
    """A plain TIFF with its directory first, as scanners write it: cutting it short leaves the directory whole."""
    height, width = GREY.shape
    fields = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 122), (277, 3, 1)]
    fields += [(278, 4, height), (279, 4, height * width)]
    directory = b"".join(
        struct.pack("<HHII" if kind == 4 else "<HHIHxx", tag, kind, 1, value) for tag, kind, value in fields
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + directory + bytes(4)
    assert len(head) == 122
    return head + GREY.tobytes()


def progressive() -> bytes:
    return encoded(".jpg", GREY, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


def with_thumbnail() -> bytes:
    """A JPEG that holds a whole small JPEG in an application segment, as cameras do."""
    whole, small = encoded(".jpg"), encoded(".jpg", GREY[:16, :16])
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + whole[2:]


KINDS = {
    "a.jpg": encoded(".jpg"),
    "progressive.jpg": progressive(),
    "thumbnail.jpg": with_thumbnail(),
    "restarts.jpg": encoded(".jpg", GREY, cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
    "a.png": encoded(".png"),
    "a.bmp": encoded(".bmp"),
    "a.tif": encoded(".tif"),
    "plain.tiff": tiff_with_pixels_last(),
}


def fault(path: Path, data: bytes | None = None) -> str:
    """Return the message of reading a file with `data`."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        decoding.read_grey(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", KINDS)
def test_kinds_decode_to_the_stored_pixels(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    image = decoding.read_grey(path)
    assert image.dtype == np.uint8
    tolerance = 6 if name.endswith(".jpg") else 0
    assert np.abs(image.astype(int) - GREY).max() <= tolerance
    assert decoding.image_size(path) == (48, 200)


@pytest.mark.parametrize("name", KINDS)
def test_bytes_after_the_end_are_no_fault(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(KINDS[name] + b"\0\0written by a camera\xff")
    assert decoding.read_grey(path).shape == (48, 200)


@pytest.mark.parametrize(("name", "kept"), list(itertools.product(KINDS, [0.99, 0.6, 0.2])))
def test_a_truncated_file_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, kept: float) -> None:
    data = KINDS[name]
    message = fault(tmp_path / name, data[: int(len(data) * kept)])
    assert "cut short" in message or (name.endswith((".tif", ".tiff")) and "damaged" in message)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["a.jpg", "progressive.jpg", "thumbnail.jpg", "a.png", "a.bmp"])
def test_every_truncation_is_seen_before_the_decoder_runs(name: str) -> None:
    """A decoder may fill up what is missing, so ours is not asked."""
    data = KINDS[name]
    containers.check_whole(data)
    for length in {*range(2, 200), *range(len(data) - 200, len(data)), *range(200, len(data) - 200, 97)}:
        if data[:length].startswith((b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"BM")):
            with pytest.raises(containers.CutShortError):
                containers.check_whole(data[:length])


def test_a_damaged_png_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(KINDS["a.png"])
    data[len(data) // 2] ^= 1
    assert "damaged: wrong checksum of PNG chunk IDAT" in fault(tmp_path / "a.png", bytes(data))
    assert capfd.readouterr().err == ""


def test_other_faults_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in fault(tmp_path / "none.jpg")
    assert "a folder" in fault(tmp_path)
    assert "the file is empty" in fault(tmp_path / "empty.jpg", b"")
    assert "not an image" in fault(tmp_path / "text.jpg", b"ImageId,ClassId\n")
    assert "cut short" in fault(tmp_path / "start.jpg", b"\xff\xd8\xff")
    assert "segment of length 0" in fault(tmp_path / "odd.jpg", b"\xff\xd8\xff\xe0\0\0\0\0\0\0")
    assert capfd.readouterr().err == ""


def test_modes_become_grey(tmp_path: Path) -> None:
    colour = np.dstack([np.full((4, 6), level, np.uint8) for level in (10, 100, 200)])  # blue, green, red
    three_equal = np.dstack([GREY] * 3)
    cases = {
        "colour.png": (colour, np.full((4, 6), round(0.114 * 10 + 0.587 * 100 + 0.299 * 200), np.uint8)),
        "equal.png": (three_equal, GREY),
        "equal.bmp": (three_equal, GREY),
        "alpha.png": (np.dstack([three_equal, np.full_like(GREY, 7)]), GREY),
        "deep.png": (GREY.astype(np.uint16) * 257, GREY),
        "deep.tif": (GREY.astype(np.uint16) * 257, GREY),
    }
    for name, (stored, grey) in cases.items():
        (tmp_path / name).write_bytes(encoded(Path(name).suffix, stored))
        off = np.abs(decoding.read_grey(tmp_path / name).astype(int) - grey)
        assert off.max() <= (name == "colour.png"), name  # weighed to 119.8: libraries round it up or down


def test_a_palette_png_shows_its_colours(tmp_path: Path) -> None:
    indices = Image.fromarray((np.arange(24, dtype=np.uint8) % 3).reshape(4, 6))
    palette = Image.new("P", (6, 4))
    palette.putpalette([200, 200, 200, 50, 50, 50, 0, 0, 0])
    palette.putdata(list(indices.tobytes()))
    palette.save(tmp_path / "palette.png")
    expected = np.array([200, 50, 0], np.uint8)[np.arange(24) % 3].reshape(4, 6)
    np.testing.assert_array_equal(decoding.read_grey(tmp_path / "palette.png"), expected)


def pillow(image: Image.Image, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def oriented(kind: str, orientation: int, image: Image.Image) -> bytes:
    """A file that stores `image` with an orientation that turns it upright."""
    if kind == "TIFF":
        return pillow(image, kind, tiffinfo={0x0112: orientation})
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}, "AVIF": {"quality": 100}}.get(kind, {})
    return pillow(image, kind, exif=exif(orientation).tobytes(), **lossless)


def turning(way: Image.Transpose) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.transpose(way)


UPRIGHT = {
    1: lambda image: image,
    2: turning(Image.Transpose.FLIP_LEFT_RIGHT),
    3: turning(Image.Transpose.ROTATE_180),
    4: turning(Image.Transpose.FLIP_TOP_BOTTOM),
    5: turning(Image.Transpose.TRANSPOSE),
    6: turning(Image.Transpose.ROTATE_270),  # counted the other way round
    7: turning(Image.Transpose.TRANSVERSE),
    8: turning(Image.Transpose.ROTATE_90),
}
"""What makes a stored image upright, by its orientation (EXIF 2.32, page 36)."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_every_kind_is_read_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    """As browsers and labelme show it: masks are drawn on that."""
    path = tmp_path / "a"
    path.write_bytes(oriented(kind, orientation, Image.fromarray(GREY)))
    upright = np.asarray(UPRIGHT[orientation](Image.fromarray(GREY)))
    assert upright.shape == ((200, 48) if orientation >= 5 else (48, 200))
    assert np.abs(decoding.read_grey(path).astype(int) - upright).max() <= (0 if kind in ("PNG", "TIFF", "WEBP") else 3)
    assert decoding.image_size(path) == upright.shape


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_a_tiff_is_read_upright(tmp_path: Path, mode: str) -> None:
    deep = mode == "I;16"
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if deep else Image.fromarray(GREY).convert(mode)
    (tmp_path / "plain.tif").write_bytes(oriented("TIFF", 1, image))
    (tmp_path / "turned.tif").write_bytes(oriented("TIFF", 6, image))
    stored, read = decoding.read_grey(tmp_path / "plain.tif"), decoding.read_grey(tmp_path / "turned.tif")
    np.testing.assert_array_equal(read, np.rot90(stored, -1))


def test_the_orientation_of_a_png_may_stand_behind_its_pixels(tmp_path: Path) -> None:
    block = exif(6).tobytes().removeprefix(b"Exif\0\0")
    data = KINDS["a.png"]
    end = len(data) - 12
    (tmp_path / "a.png").write_bytes(data[:end] + chunk(b"eXIf", block) + data[end:])
    np.testing.assert_array_equal(decoding.read_grey(tmp_path / "a.png"), np.rot90(GREY, -1))
    assert decoding.image_size(tmp_path / "a.png") == (200, 48)


@pytest.mark.parametrize("block", [b"", b"nonsense", b"MM\0*\xff\xff\xff\xff", exif(9).tobytes()[6:]])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # the next test sees that nobody is bothered
def test_an_odd_exif_block_turns_nothing(tmp_path: Path, block: bytes) -> None:
    data = pillow(Image.fromarray(GREY), "JPEG", exif=b"Exif\0\0" + block, quality=100)
    (tmp_path / "a.jpg").write_bytes(data)
    assert decoding.read_grey(tmp_path / "a.jpg").shape == GREY.shape


def test_odd_metadata_leaves_no_word_on_stderr(tmp_path: Path) -> None:
    odd = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    (tmp_path / "a.jpg").write_bytes(pillow(Image.fromarray(GREY), "JPEG", exif=odd))
    code = "import sys; from pathlib import Path; from severstal_cli.steel.images import decoding\n"
    code += "print(decoding.read_grey(Path(sys.argv[1])).shape)"
    command = [sys.executable, "-c", code, str(tmp_path / "a.jpg")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("(48, 200)\n", "")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff(pixels: bytes, *, bits: int, colours: int = 1, form: int = 1, size: tuple[int, int] = (48, 200)) -> bytes:
    """A plain TIFF of one sample a pixel: by its bits, photometric interpretation and sample format."""
    fields = [(256, 4, size[1]), (257, 4, size[0]), (258, 3, bits), (259, 3, 1), (262, 3, colours), (273, 4, 134)]
    fields += [(277, 3, 1), (278, 4, size[0]), (279, 4, len(pixels)), (339, 3, form)]
    directory = b"".join(
        struct.pack("<HHII" if kind == 4 else "<HHIHxx", tag, kind, 1, value) for tag, kind, value in fields
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + directory + bytes(4)
    assert len(head) == 134
    return head + pixels


def packed(values: np.ndarray, bits: int) -> bytes:
    text = "".join(f"{value:0{bits}b}" for value in values.ravel())
    return int(text, 2).to_bytes(len(text) // 8)


COLOUR = Image.merge("RGB", [Image.fromarray(GREY), Image.fromarray(255 - GREY), Image.fromarray(GREY // 2)])
WEIGHED = np.asarray(COLOUR.convert("L"))
SEE_THROUGH = Image.fromarray(GREY // 3)
DEEP = GREY.astype(np.uint16) * 257
BINARY = np.where(GREY > 100, np.uint8(255), np.uint8(0))

FORMS = {
    "gif": (pillow(Image.fromarray(GREY), "GIF"), GREY, 0),
    "colour gif": (pillow(COLOUR.quantize(256), "GIF"), np.asarray(COLOUR.quantize(256).convert("L")), 1),
    "webp": (pillow(COLOUR, "WEBP", lossless=True), WEIGHED, 1),
    "avif": (pillow(Image.fromarray(GREY), "AVIF", quality=100), GREY, 3),
    "jp2": (pillow(Image.fromarray(GREY), "JPEG2000"), GREY, 0),
    "deep jp2": (pillow(Image.fromarray(DEEP), "JPEG2000"), GREY, 0),
    "pgm": (pillow(Image.fromarray(GREY), "PPM"), GREY, 0),
    "ppm": (pillow(COLOUR, "PPM"), WEIGHED, 1),
    "pbm": (pillow(Image.fromarray(BINARY).convert("1"), "PPM"), BINARY, 0),
    "ascii pgm": (b"P2\n200 48\n255\n" + " ".join(map(str, GREY.ravel())).encode(), GREY, 0),
    "pgm to 100": (b"P5\n200 48\n100\n" + (GREY // 3).tobytes(), np.rint((GREY // 3) * 2.55), 1),
    "deep pgm": (b"P5\n200 48\n65535\n" + DEEP.astype(">u2").tobytes(), GREY, 0),
    "sgi": (pillow(COLOUR, "SGI"), WEIGHED, 1),
    "pcx": (pillow(Image.fromarray(GREY), "PCX"), GREY, 0),
    "ras": (cv2.imencode(".ras", GREY)[1].tobytes(), GREY, 0),
    "cmyk jpg": (pillow(COLOUR.convert("CMYK"), "JPEG", quality=100), WEIGHED, 4),
    "1-bit png": (pillow(Image.fromarray(BINARY).convert("1"), "PNG"), BINARY, 0),
    "2-bit png": (
        pillow(Image.fromarray(GREY).quantize(4), "PNG", bits=2),
        np.asarray(Image.fromarray(GREY).quantize(4).convert("L")),
        0,
    ),
    "deep colour png": (
        cv2.imencode(".png", np.asarray(COLOUR)[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
        WEIGHED,
        1,
    ),
    "1-bit tif": (pillow(Image.fromarray(BINARY).convert("1"), "TIFF", compression="group4"), BINARY, 0),
    "2-bit tif": (tiff(packed(GREY >> 6, 2), bits=2), (GREY >> 6) * 85, 0),
    "4-bit tif": (tiff(packed(GREY >> 4, 4), bits=4), (GREY >> 4) * 17, 0),
    "12-bit tif": (tiff(packed(GREY.astype(int) << 4, 12), bits=12), GREY, 0),
    "palette tif": (pillow(COLOUR.quantize(256), "TIFF"), np.asarray(COLOUR.quantize(256).convert("L")), 1),
    "cmyk tif": (pillow(COLOUR.convert("CMYK"), "TIFF"), WEIGHED, 1),
    "alpha tif": (pillow(Image.merge("RGBA", [*COLOUR.split(), SEE_THROUGH]), "TIFF"), WEIGHED, 1),
    "zstandard tif": (pillow(Image.fromarray(GREY), "TIFF", compression="zstd"), GREY, 0),
    "white is 0": (tiff((255 - GREY).tobytes(), bits=8, colours=0), GREY, 0),
    "deep, white is 0": (tiff((65535 - DEEP).tobytes(), bits=16, colours=0), GREY, 0),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_pixels_become_grey(tmp_path: Path, name: str) -> None:
    data, grey, tolerance = FORMS[name]
    (tmp_path / "a").write_bytes(data)  # by its content
    assert np.abs(decoding.read_grey(tmp_path / "a") - grey.astype(float)).max() <= tolerance
    assert decoding.image_size(tmp_path / "a") == GREY.shape


def test_a_tga_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.tga").write_bytes(pillow(COLOUR, "TGA"))
    assert np.abs(decoding.read_grey(tmp_path / "a.tga").astype(int) - WEIGHED).max() <= 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(".tif", GREY.astype(np.float32)), "floating-point numbers, for which no range"),
        (tiff(GREY.astype("<i2").tobytes(), bits=16, form=2), "signed numbers, for which no range"),
        (tiff(GREY.astype("<u4").tobytes(), bits=32), "32-bit numbers, for which no range"),
        (tiff(GREY.tobytes(), bits=8, colours=8), "colours are not supported"),
    ],
)
def test_pixels_without_a_range_are_refused(tmp_path: Path, data: bytes, expected: str) -> None:
    message = fault(tmp_path / "a.tif", data)
    assert expected in message
    assert message.endswith("Save it as 8-bit or 16-bit grey PNG")
    with pytest.raises(InputError, match=expected):
        decoding.image_size(tmp_path / "a.tif")


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_files_become_8_bit_by_the_bits_in_use(tmp_path: Path, suffix: str, bits: int) -> None:
    stored = (GREY.astype(np.uint16) << (bits - 8)) | (1 if bits > 8 else 0)
    (tmp_path / f"a{suffix}").write_bytes(encoded(suffix, stored))
    np.testing.assert_array_equal(decoding.read_grey(tmp_path / f"a{suffix}", bits), GREY)


def test_white_is_0_in_12_bits(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff((4095 - (GREY.astype("<u2") << 4)).tobytes(), bits=16, colours=0))
    np.testing.assert_array_equal(decoding.read_grey(tmp_path / "a.tif", 12), GREY)


def test_a_pixel_beyond_the_bits_in_use_is_refused(tmp_path: Path) -> None:
    stored = GREY.astype(np.uint16) << 4
    stored[3, 5] = 4096
    (tmp_path / "a.png").write_bytes(encoded(".png", stored))
    with pytest.raises(InputError, match=r"its brightest pixel is 4,096, but its set uses 12 bits, up to 4,095"):
        decoding.read_grey(tmp_path / "a.png", 12)
    assert decoding.read_grey(tmp_path / "a.png", 14).max() == 64


def bomb(kind: str) -> bytes:
    """A few bytes that promise 50,000 x 60,000 pixels."""
    height, width = 50_000, 60_000
    if kind == "gif":
        frame = struct.pack("<HHHHB", 0, 0, width, height, 0)
        return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + b"," + frame + b"\2\2\x44\1\0;"
    if kind == "jpg":
        data = bytearray(pillow(Image.fromarray(GREY), "JPEG"))
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
        return bytes(data)
    if kind == "png":
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    if kind == "bmp":  # compressed rows: the length is unknown
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 2, 2)
        return b"BM" + struct.pack("<IHHI", 62, 0, 0, 62) + header + bytes(8)
    if kind == "tif":
        return tiff(bytes(10), bits=8, size=(height, width))
    if kind == "webp":  # the largest that there is: 16,383 x 16,383
        body = b"\x2f" + struct.pack("<I", 16_382 | 16_382 << 14) + bytes(61)
        chunks = b"WEBPVP8L" + struct.pack("<I", len(body)) + body
        return b"RIFF" + struct.pack("<I", len(chunks)) + chunks
    if kind == "jp2":
        data = bytearray(pillow(Image.fromarray(GREY), "JPEG2000"))
        for at in (data.index(b"ihdr") + 4, data.index(b"\xff\x4f\xff\x51") + 8):
            data[at : at + 8] = struct.pack(">II", height, width)
        return bytes(data)
    if kind == "pgm":
        return b"P5\n60000 50000\n255\n"
    if kind == "qoi":
        return b"qoif" + struct.pack(">IIBB", width, height, 3, 0) + bytes(8)
    return struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, width, height, 8, 0)  # tga


@pytest.mark.parametrize("kind", ["gif", "jpg", "png", "bmp", "tif", "webp", "jp2", "pgm", "qoi", "tga"])
def test_more_pixels_than_the_limit_are_refused_by_the_header(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"a.{kind}").write_bytes(bomb(kind))
    monkeypatch.setattr(cv2, "imdecode", None)  # it is not asked
    monkeypatch.setattr(Image.Image, "load", None)
    message = fault(tmp_path / f"a.{kind}")
    stated = "16,383 x 16,383" if kind == "webp" else "50,000 x 60,000"
    assert f"{stated} pixels, more than 134,217,728" in message
    assert message.endswith(f"set SEVERSTAL_MAX_PIXELS={268402689 if kind == 'webp' else 3000000000}")
    with pytest.raises(InputError, match="more than 134,217,728"):
        decoding.image_size(tmp_path / f"a.{kind}")


def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(KINDS["a.png"])
    monkeypatch.setenv("SEVERSTAL_MAX_PIXELS", "9600")
    assert decoding.read_grey(tmp_path / "a.png").shape == GREY.shape
    monkeypatch.setenv("SEVERSTAL_MAX_PIXELS", "9599")
    with pytest.raises(InputError, match="48 x 200 pixels, more than 9,599"):
        decoding.read_grey(tmp_path / "a.png")
    for wrong in ("many", "-1", "0", "1e9", "٣"):
        monkeypatch.setenv("SEVERSTAL_MAX_PIXELS", wrong)
        with pytest.raises(UsageError, match="SEVERSTAL_MAX_PIXELS"):
            image_files.find_images([tmp_path])


def test_a_full_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        error = cv2.error("no memory")
        error.code = cv2.Error.StsNoMem
        raise error

    (tmp_path / "a.png").write_bytes(KINDS["a.png"])
    monkeypatch.setattr(cv2, "imdecode", full)
    with pytest.raises(MachineError, match=r"not enough memory to decode .*a\.png: 48 x 200 pixels"):
        decoding.read_grey(tmp_path / "a.png")


def test_size_of_a_jpeg_with_a_long_preface(tmp_path: Path) -> None:
    segment = b"\xff\xe2" + struct.pack(">H", 65_000) + bytes(64_998)
    (tmp_path / "a.jpg").write_bytes(KINDS["a.jpg"][:2] + segment * 3 + KINDS["a.jpg"][2:])
    assert decoding.image_size(tmp_path / "a.jpg") == (48, 200)


def test_find_images(tmp_path: Path) -> None:
    folder = tmp_path / "train_images"
    (folder / "inner.png").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "c.tiff", "._b.jpg", "notes.txt", "d.jpg.part"):
        (folder / name).touch()
    single = tmp_path / "single.jpg"
    single.touch()
    found = image_files.find_images([single, folder])
    assert found == [single, folder / "a.PNG", folder / "b.jpg", folder / "c.tiff"]
    (folder / "lost.jpg").symlink_to(tmp_path / "gone.jpg")
    (folder / "linked.jpg").symlink_to(folder / "inner.png")  # a folder
    assert folder / "lost.jpg" in image_files.find_images([folder])
    assert folder / "linked.jpg" not in image_files.find_images([folder])
    with pytest.raises(InputError, match=r"lost\.jpg: no such file"):
        decoding.read_grey(folder / "lost.jpg")


def test_find_images_faults(tmp_path: Path) -> None:
    one, two, empty = tmp_path / "one", tmp_path / "two", tmp_path / "empty"
    for folder in (one, two, empty):
        folder.mkdir()
    for folder in (one, two):
        (folder / "a.jpg").touch()
    with pytest.raises(InputError, match=r"two images are named a\.jpg: .*one.*two"):
        image_files.find_images([one, two])
    with pytest.raises(InputError, match=r"no images in .*empty"):
        image_files.find_images([one, empty])
    with pytest.raises(InputError, match="absent: no such file or folder"):
        image_files.find_images([tmp_path / "absent"])


def test_read_all_keeps_order_and_raises_at_the_place_of_the_fault(tmp_path: Path) -> None:
    paths = []
    for number in range(40):
        paths.append(tmp_path / f"{number:02}.png")
        paths[-1].write_bytes(encoded(".png", np.full((1 + number, 3), number, np.uint8)))
    read = list(decoding.read_all(paths, threads=3, ahead=4))
    assert [image.shape for image in read] == [(1 + number, 3) for number in range(40)]
    assert all((image == number).all() for number, image in enumerate(read))

    paths[20].write_bytes(b"broken")
    reading = decoding.read_all(paths, threads=3, ahead=4)
    assert [len(next(reading)) for _ in range(20)] == list(range(1, 21))
    with pytest.raises(InputError, match=r"20\.png"):
        next(reading)


def test_read_all_looks_ahead_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(decoding, "read_grey", lambda path, **_: asked.append(path) or GREY)
    reading = decoding.read_all([tmp_path / str(number) for number in range(100)], threads=2, ahead=5)
    next(reading)
    assert len(asked) <= 6
    reading.close()
    assert len(asked) <= 6


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.integers(1, 33), seed=st.integers(0, 2**32 - 1))
def test_padding_reflects_at_bottom_and_right(height: int, width: int, multiple: int, seed: int) -> None:
    stack = np.random.default_rng(seed).integers(0, 256, (2, height, width), np.uint8)
    padded = decoding.pad_to_multiple(stack, multiple)
    assert padded.dtype == np.uint8
    assert padded.shape[1:] == (-(-height // multiple) * multiple, -(-width // multiple) * multiple)

    def mirrored(at: int, length: int) -> int:  # 0 1 2 3 2 1 0 1 ... for length 4
        at %= max(2 * length - 2, 1)
        return at if at < length else 2 * length - 2 - at

    for row, column in itertools.product(range(padded.shape[1]), range(padded.shape[2])):
        assert (padded[:, row, column] == stack[:, mirrored(row, height), mirrored(column, width)]).all()


def test_a_missing_system_library_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from severstal_cli.errors import MachineError\n"
        "try: import severstal_cli.steel.images.decoding\n"
        "except MachineError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("opencv needs a system library: libGL.so.1: cannot open")
    assert "apt-get install libgl1 libglib2.0-0" in result.stdout
