"""Pictures: every kind and mode decodes, every way to be broken is one clear line, nothing leaks to stderr."""

import itertools
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from severstal_cli.errors import InputError
from severstal_cli.steel import containers, images
from severstal_cli.steel.images import cv2

GREY = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 200), np.uint8), (0, 0), 2)


def encoded(suffix: str, picture: np.ndarray = GREY, *flags: int) -> bytes:
    return cv2.imencode(suffix, picture, flags)[1].tobytes()


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
        images.read_grey(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", KINDS)
def test_kinds_decode_to_the_stored_pixels(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    picture = images.read_grey(path)
    assert picture.dtype == np.uint8
    tolerance = 6 if name.endswith(".jpg") else 0
    assert np.abs(picture.astype(int) - GREY).max() <= tolerance
    assert images.image_size(path) == (48, 200)


@pytest.mark.parametrize("name", KINDS)
def test_bytes_after_the_end_are_no_fault(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(KINDS[name] + b"\0\0written by a camera\xff")
    assert images.read_grey(path).shape == (48, 200)


@pytest.mark.parametrize(("name", "kept"), list(itertools.product(KINDS, [0.99, 0.6, 0.2])))
def test_a_cut_short_file_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, kept: float) -> None:
    data = KINDS[name]
    message = fault(tmp_path / name, data[: int(len(data) * kept)])
    assert "cut short" in message or (name.endswith((".tif", ".tiff")) and "damaged" in message)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["a.jpg", "progressive.jpg", "thumbnail.jpg", "a.png", "a.bmp"])
def test_every_cut_is_seen_before_the_decoder_runs(name: str) -> None:
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
    assert "damaged: wrong check sum of PNG chunk IDAT" in fault(tmp_path / "a.png", bytes(data))
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
        off = np.abs(images.read_grey(tmp_path / name).astype(int) - grey)
        assert off.max() <= (name == "colour.png"), name  # weighed to 119.8: libraries round it up or down


def test_a_palette_png_shows_its_colours(tmp_path: Path) -> None:
    from PIL import Image

    indices = Image.fromarray((np.arange(24, dtype=np.uint8) % 3).reshape(4, 6))
    palette = Image.new("P", (6, 4))
    palette.putpalette([200, 200, 200, 50, 50, 50, 0, 0, 0])
    palette.putdata(list(indices.tobytes()))
    palette.save(tmp_path / "palette.png")
    expected = np.array([200, 50, 0], np.uint8)[np.arange(24) % 3].reshape(4, 6)
    np.testing.assert_array_equal(images.read_grey(tmp_path / "palette.png"), expected)


def test_size_of_a_jpeg_with_a_long_preface(tmp_path: Path) -> None:
    segment = b"\xff\xe2" + struct.pack(">H", 65_000) + bytes(64_998)
    (tmp_path / "a.jpg").write_bytes(KINDS["a.jpg"][:2] + segment * 3 + KINDS["a.jpg"][2:])
    assert images.image_size(tmp_path / "a.jpg") == (48, 200)


def test_find_images(tmp_path: Path) -> None:
    folder = tmp_path / "train_images"
    (folder / "inner.png").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "c.tiff", "._b.jpg", "notes.txt", "d.jpg.part"):
        (folder / name).touch()
    single = tmp_path / "single.jpg"
    single.touch()
    found = images.find_images([single, folder])
    assert found == [single, folder / "a.PNG", folder / "b.jpg", folder / "c.tiff"]
    (folder / "lost.jpg").symlink_to(tmp_path / "gone.jpg")
    (folder / "linked.jpg").symlink_to(folder / "inner.png")  # a folder
    assert folder / "lost.jpg" in images.find_images([folder])
    assert folder / "linked.jpg" not in images.find_images([folder])
    with pytest.raises(InputError, match=r"lost\.jpg: no such file"):
        images.read_grey(folder / "lost.jpg")


def test_find_images_faults(tmp_path: Path) -> None:
    one, two, empty = tmp_path / "one", tmp_path / "two", tmp_path / "empty"
    for folder in (one, two, empty):
        folder.mkdir()
    for folder in (one, two):
        (folder / "a.jpg").touch()
    with pytest.raises(InputError, match=r"two images are named a\.jpg: .*one.*two"):
        images.find_images([one, two])
    with pytest.raises(InputError, match=r"no images in .*empty"):
        images.find_images([one, empty])
    with pytest.raises(InputError, match="absent: no such file or folder"):
        images.find_images([tmp_path / "absent"])


def test_read_all_keeps_order_and_raises_at_the_place_of_the_fault(tmp_path: Path) -> None:
    paths = []
    for number in range(40):
        paths.append(tmp_path / f"{number:02}.png")
        paths[-1].write_bytes(encoded(".png", np.full((1 + number, 3), number, np.uint8)))
    read = list(images.read_all(paths, threads=3, ahead=4))
    assert [picture.shape for picture in read] == [(1 + number, 3) for number in range(40)]
    assert all((picture == number).all() for number, picture in enumerate(read))

    paths[20].write_bytes(b"broken")
    reading = images.read_all(paths, threads=3, ahead=4)
    assert [len(next(reading)) for _ in range(20)] == list(range(1, 21))
    with pytest.raises(InputError, match=r"20\.png"):
        next(reading)


def test_read_all_looks_ahead_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(images, "read_grey", lambda path, **_: asked.append(path) or GREY)
    reading = images.read_all([tmp_path / str(number) for number in range(100)], threads=2, ahead=5)
    next(reading)
    assert len(asked) <= 6
    reading.close()
    assert len(asked) <= 6


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.integers(1, 33), seed=st.integers(0, 2**32 - 1))
def test_padding_reflects_at_bottom_and_right(height: int, width: int, multiple: int, seed: int) -> None:
    stack = np.random.default_rng(seed).integers(0, 256, (2, height, width), np.uint8)
    padded = images.pad_to_multiple(stack, multiple)
    assert padded.dtype == np.uint8
    assert padded.shape[1:] == (-(-height // multiple) * multiple, -(-width // multiple) * multiple)

    def mirrored(at: int, length: int) -> int:  # 0 1 2 3 2 1 0 1 ... for length 4
        at %= max(2 * length - 2, 1)
        return at if at < length else 2 * length - 2 - at

    for row, column in itertools.product(range(padded.shape[1]), range(padded.shape[2])):
        assert (padded[:, row, column] == stack[:, mirrored(row, height), mirrored(column, width)]).all()


def test_a_missing_system_library_is_told(tmp_path: Path) -> None:
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from severstal_cli.errors import MachineError\n"
        "try: import severstal_cli.steel.images\n"
        "except MachineError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("opencv needs a system library: libGL.so.1: cannot open")
    assert "apt-get install libgl1 libglib2.0-0" in result.stdout
