"""What is reported of a set of images by its headers, and the bits that its 16-bit files use."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from severstal_cli.errors import InputError
from severstal_cli.steel.images import surveys
from severstal_cli.steel.images.surveys import Depth

GREY = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) % 200


def draw(path: Path, highest: int | None = None, **options: object) -> Path:
    """An 8-bit image, or one of 16 bits whose brightest pixel is `highest`."""
    pixels = GREY.astype(np.uint8) if highest is None else np.minimum(GREY * (highest // 199 + 1), highest)
    Image.fromarray(pixels).save(path, **options)
    return path


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def test_images_with_an_orientation_are_counted_and_sized_upright(tmp_path: Path) -> None:
    paths = [draw(tmp_path / "a.jpg"), draw(tmp_path / "b.jpg", exif=exif(6)), draw(tmp_path / "c.png", exif=exif(3))]
    found = surveys.survey(paths)
    assert found.sizes == {paths[0]: (64, 96), paths[1]: (96, 64), paths[2]: (64, 96)}
    assert found.notes == [
        "2 of 3 images carry an EXIF orientation, first b.jpg: they are read upright, as browsers and labelme show "
        "them, so masks must be drawn on them as shown"
    ]
    assert surveys.orientation_remedy(paths[0]) == ""
    assert surveys.orientation_remedy(paths[1]).startswith("b.jpg carries EXIF orientation 6 and is read upright")


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "avif", "webp"])
def test_further_pages_are_counted(tmp_path: Path, suffix: str) -> None:
    pages = [Image.fromarray(np.roll(GREY, 9 * turn, axis=1).astype(np.uint8)) for turn in range(3)]
    pages[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:])
    paths = [draw(tmp_path / "b.png"), tmp_path / f"a.{suffix}"]
    assert surveys.survey(paths).notes == [
        f"1 of 2 images have further pages or frames, first a.{suffix} with 3 in all: only the first one is read"
    ]


def test_a_smaller_copy_in_a_tiff_is_no_page(tmp_path: Path) -> None:
    small = Image.fromarray(GREY[::2, ::2].astype(np.uint8))
    with TiffImagePlugin.AppendingTiffWriter(tmp_path / "a.tif", new=True) as file:
        Image.fromarray(GREY.astype(np.uint8)).save(file, "TIFF")
        file.newFrame()
        small.save(file, "TIFF", tiffinfo={254: 1})
    with Image.open(tmp_path / "a.tif") as file:
        assert file.n_frames == 2
    assert surveys.survey([tmp_path / "a.tif"]).notes == []


def test_what_cannot_be_read_is_kept_for_later(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    found = surveys.survey([tmp_path / "a.png", tmp_path / "gone.png"])
    assert found.sizes == {}
    assert [str(fault).partition(": ")[2][:9] for fault in found.wrong.values()] == ["not an im", "no such f"]


def test_sizes_come_from_the_survey_without_reading_again(tmp_path: Path) -> None:
    first, later = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    paths, headers = surveys.images_of(tmp_path)
    assert list(paths) == ["a.png", "b.png", "c.png"]
    first.unlink()
    (tmp_path / "c.png").unlink()
    assert headers.size_of(first) == (64, 96)
    assert surveys.survey([]).size_of(later) == (64, 96)
    with pytest.raises(InputError, match="not an image"):
        headers.size_of(paths["c.png"])


@pytest.mark.parametrize(
    ("highest", "bits"),
    [(200, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (1999, 12), (4095, 12), (4096, 14), (16384, 16),
     (65535, 16)],
)  # fmt: skip
def test_bits_in_use_are_those_of_a_camera(tmp_path: Path, highest: int, bits: int) -> None:
    """The brightest pixel of a set may stay below half of the range: 1,999 is of 12 bits, not of 11."""
    paths = [draw(tmp_path / "a.png"), draw(tmp_path / "b.png", highest), draw(tmp_path / "c.tif", highest // 2)]
    found = surveys.survey(paths)
    assert found.deep == paths[1:]
    assert surveys.depth_of(found.deep) == Depth(bits=bits, files=2)


def test_without_16_bit_files_there_is_no_depth(tmp_path: Path) -> None:
    assert surveys.depth_of(surveys.survey([draw(tmp_path / "a.png")]).deep) is None
    assert surveys.depth_of([tmp_path / "gone.png"]) is None


def test_files_of_another_depth_are_named(tmp_path: Path) -> None:
    deep = [draw(tmp_path / "a.png", 65535), draw(tmp_path / "b.png", 4095), draw(tmp_path / "c.png", 4096)]
    found = surveys.depth_of(deep)
    assert found == Depth(bits=16, files=3, dim=1)
    assert found.note(5) == (
        "3 of 5 images are 16-bit files with 16 bits in use: grey levels of 0 to 65,535 become 0 to 255; 1 of them "
        "stay below 1/16 of that and become nearly black: rescale them if they have another depth"
    )


def test_a_reader_scales_by_its_set(tmp_path: Path) -> None:
    paths = {"a.png": draw(tmp_path / "a.png", 1999), "b.png": draw(tmp_path / "b.png")}
    read = surveys.reader(paths)
    assert read("a.png").max() == 1999 >> 4
    assert read("b.png").max() == 199


def test_one_pixel_does_not_make_a_set_black(tmp_path: Path) -> None:
    deep = [draw(tmp_path / "a.png", 900), draw(tmp_path / "b.png", 65535), draw(tmp_path / "c.png", 1023)]
    with pytest.raises(
        InputError, match=r"b\.png: its brightest pixel is 65,\d+, which makes 2 of 3 16-bit images nearly"
    ):
        surveys.depth_of(deep)
