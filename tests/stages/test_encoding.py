"""`encode` and `decode`: files to rows and back, and what is refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from severstal_cli.config import DecodeConfig, EncodeConfig
from severstal_cli.errors import InputError, OutputError, SeverstalError, UsageError
from severstal_cli.stages import encoding
from severstal_cli.stages.encoding import decode, encode
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.jagged import likelier_height
from severstal_cli.steel.tables.mask_table import read_table

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"

ORIGINAL = """ImageId_ClassId,EncodedPixels
a.jpg_1,1 3
a.jpg_2,
b_c.jpg_1,
b_c.jpg_2,
d.jpg_1,2 1 7 2
d.jpg_2,1 1 12 1
"""
CURRENT = """ImageId,ClassId,EncodedPixels
a.jpg,1,1 3
d.jpg,1,2 1 7 2
d.jpg,2,1 1 12 1
"""


def save(path: Path, values: NDArray[np.generic] | list[list[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(values, np.uint8))


def fault(config: EncodeConfig | DecodeConfig) -> str:
    with pytest.raises(SeverstalError) as caught:
        encode(config) if isinstance(config, EncodeConfig) else decode(config)
    return str(caught.value)


def test_decode_then_encode_gives_the_same_table_in_both_layouts(tmp_path: Path) -> None:
    masks, images = tmp_path / "masks", tmp_path / "images"
    for name in ("a.jpg", "b_c.jpg", "d.jpg"):
        save(images / name, np.zeros((3, 4)))
    for layout, text in (("original", ORIGINAL), ("current", CURRENT)):
        table, back = tmp_path / f"{layout}.csv", tmp_path / f"{layout}-back.csv"
        table.write_text(text)
        decoded = decode(DecodeConfig(table=table, out=masks, size=(3, 4), overwrite=True))
        assert (decoded.masks, decoded.images) == (3, 3 if layout == "original" else 2)
        assert sorted(path.name for path in masks.iterdir()) == ["a_1.png", "d_1.png", "d_2.png"]
        result = encode(EncodeConfig(masks=masks, out=back, layout=layout, images=images))
        assert back.read_text() == text
        assert (result.rows, result.images, result.masks, result.classes) == (text.count("\n") - 1, 3, 3, 2)


def test_decoded_files_are_drawn_where_the_runs_say(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(CURRENT)
    decode(DecodeConfig(table=table, out=tmp_path / "masks", size=(3, 4)))
    drawn = cv2.imread(str(tmp_path / "masks" / "d_1.png"), cv2.IMREAD_UNCHANGED)
    assert drawn is not None
    assert drawn.tolist() == [[0, 0, 255, 0], [255, 0, 255, 0], [0, 0, 0, 0]]


def test_the_order_of_a_list_is_kept(tmp_path: Path) -> None:
    table, back = tmp_path / "t.csv", tmp_path / "back.csv"
    table.write_text("ImageId_ClassId,EncodedPixels\nz.png_1,1 1\nclean.png_1,\na.png_1,2 1\n")
    decode(DecodeConfig(table=table, out=tmp_path / "masks", size=(1, 2)))
    encode(EncodeConfig(masks=tmp_path / "masks", out=back, layout="original", images=table))
    assert back.read_text() == table.read_text()


def test_label_images_hold_all_classes(tmp_path: Path) -> None:
    save(tmp_path / "masks" / "a_b.png", [[0, 1, 1], [3, 0, 1]])
    save(tmp_path / "masks" / "clean.png", [[0, 0, 0], [0, 0, 0]])
    out = tmp_path / "t.csv"
    result = encode(EncodeConfig(masks=tmp_path / "masks", out=out, label_images=True, suffix=".png"))
    assert out.read_text() == "ImageId,ClassId,EncodedPixels\na_b.png,1,3 1 5 2\na_b.png,3,2 1\n"
    assert (result.images, result.masks, result.classes) == (2, 2, 3)
    again = EncodeConfig(
        masks=tmp_path / "masks", out=out, label_images=True, layout="original", classes=4, overwrite=True
    )
    encode(again)
    assert out.read_text().splitlines()[5:] == [f"clean.jpg_{class_id}," for class_id in (1, 2, 3, 4)]


def test_names_of_images_come_from_the_suffix_or_the_mask(tmp_path: Path) -> None:
    save(tmp_path / "masks" / "a_1.png", [[9, 0]])  # any one value is a mask
    save(tmp_path / "masks" / "b.bmp_1.png", [[0, 255]])
    out = tmp_path / "t.csv"
    encode(EncodeConfig(masks=tmp_path / "masks", out=out, suffix=".tif"))
    assert out.read_text() == "ImageId,ClassId,EncodedPixels\na.tif,1,1 1\nb.bmp,1,2 1\n"


def test_an_empty_mask_is_an_empty_row_and_counts_its_class(tmp_path: Path) -> None:
    save(tmp_path / "masks" / "a_2.png", [[0, 0]])
    out = tmp_path / "t.csv"
    encode(EncodeConfig(masks=tmp_path / "masks", out=out, layout="original"))
    assert out.read_text() == "ImageId_ClassId,EncodedPixels\na.jpg_2,\n"
    encode(EncodeConfig(masks=tmp_path / "masks", out=out, layout="original", classes=2, overwrite=True))
    assert out.read_text() == "ImageId_ClassId,EncodedPixels\na.jpg_1,\na.jpg_2,\n"


SMALL = [[0, 255], [0, 0]]


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {}, "masks: no such file or folder"),
        ({"a.png": SMALL}, {}, "a.png: its name is not IMAGE_CLASS.png: ClassId 'a' is not a whole number from 1"),
        ({"a_0.png": SMALL}, {}, "a_0.png: its name is not IMAGE_CLASS.png: ClassId 0 is below 1"),
        ({"_1.png": SMALL}, {"suffix": ""}, "_1.png: its name is not IMAGE_CLASS.png: ImageId is empty"),
        ({"a_1.jpg": SMALL}, {}, "a_1.jpg: a JPG file: its compression changes pixels. Save masks as PNG"),
        ({"a_1.png": [[0, 255], [90, 12]]}, {}, "a_1.png: 3 values besides 0 in a mask of one class: 12, 90, 255"),
        ({"a.png": [[0, 255]]}, {"label_images": True}, "a.png: a label image with the values 0 and 255 only. For "),
        ({"a.png": [[0, 85, 170, 255]]}, {"label_images": True}, "a.png: the value 170 in a label image. If it is a "),
        (
            {"a.png": [[0, *range(5, 250, 5)]]},
            {"label_images": True},
            "a.png: the value 245 in a label image. Save it w",
        ),
        ({"a_1.png": SMALL, "notes.pgm": SMALL}, {}, "notes.pgm: masks are PNG, BMP, TIFF, GIF or lossless WebP files"),
        ({"a_1.png": [[0, 1]], "b_1.png": [[0, 2]]}, {}, "b_1.png: value 2 is class 1, but in a_1.png value 1 is"),
        ({"a.png": [[0, 1]], "b.png": [[0, 2]]}, {"class_id": 1}, "b.png: value 2 is class 1, but in a.png value 1 is"),
        (
            {"a.png": SMALL},
            {},
            "a whole number from 1. For masks named like their images, all of one class, use --class 1",
        ),
        (
            {"a.png": [[0, 2]]},
            {},
            "a whole number from 1. For one mask file with all classes of an image use --label-im",
        ),
        (
            {"In_8.png": SMALL, "Pa_3.png": SMALL, "Sc_7.png": SMALL},
            {},
            "In_8.png -> image In.jpg, class 8: 3 files with the numbers 3, 7, 8 look like numbered images. "
            "If 8 is a class, give --classes 8, or --images; if In_8 is an image, --label-images or --class 1",
        ),
        ({"In_300.png": SMALL}, {}, "ClassId '300' is above 254. For masks named like their images, all of one class"),
        ({"a_1.png": SMALL, "a_2.png": [[0, 1]]}, {}, "a_2.png: 1x2 pixels, another mask of the image has 2x2"),
        ({"a_3.png": SMALL}, {"classes": 2}, "masks: a mask of class 3. The classes are 1 to 2"),
        ({"a_1.png": SMALL, "a.jpg_1.png": SMALL}, {}, "a_1.png: a.jpg_1.png is the same mask"),
    ],
)
def test_what_encode_refuses(
    tmp_path: Path, files: dict[str, list[list[int]]], options: dict[str, object], message: str
) -> None:
    masks, out = tmp_path / "masks", tmp_path / "t.csv"
    for name, values in files.items():
        save(masks / name, values)
    config = EncodeConfig(masks=masks, out=out, **options)
    assert message in fault(config)
    assert not out.exists()


def test_masks_must_fit_the_images(tmp_path: Path) -> None:
    masks, images, out = tmp_path / "masks", tmp_path / "images", tmp_path / "t.csv"
    save(images / "a.png", np.zeros((2, 3)))
    save(masks / "a_1.png", SMALL)
    assert f"a_1.png: 2x2 pixels, {images / 'a.png'} has 2x3" in fault(
        EncodeConfig(masks=masks, out=out, images=images)
    )
    save(masks / "a_1.png", np.zeros((2, 3)))
    save(masks / "b_1.png", np.zeros((2, 3)))
    assert f"b_1.png: no image b in {images}" in fault(EncodeConfig(masks=masks, out=out, images=images))
    (masks / "b_1.png").rename(masks / "a.jpg_1.png")
    assert f"no image a.jpg in {images} (a.png exists)" in fault(EncodeConfig(masks=masks, out=out, images=images))
    (masks / "a.jpg_1.png").rename(masks / "b_1.png")
    save(images / "b.png", np.zeros((2, 3)))
    save(images / "b.jpg", np.zeros((2, 3)))
    found = fault(EncodeConfig(masks=masks, out=out, images=images))
    assert "b_1.png: it matches b.jpg and b.png. Use the full image name, e.g. b.jpg_1.png" in found
    assert not out.exists()


def test_a_broken_mask_among_good_ones_is_named(tmp_path: Path) -> None:
    masks, out = tmp_path / "masks", tmp_path / "t.csv"
    for number in range(20):
        save(masks / f"{number:02}_1.png", np.eye(64) * 255)
    whole = (masks / "07_1.png").read_bytes()
    (masks / "07_1.png").write_bytes(whole[: len(whole) // 2])
    assert fault(EncodeConfig(masks=masks, out=out)).startswith(f"{masks / '07_1.png'}: the image is cut short")
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CURRENT.replace("12 1", "12 2"), "line 4: d.jpg, class 2: run 2 (number 4): length 2 reaches past the end"),
        (CURRENT + "x" * 250 + ".png,1,1 1\n", "has 256 bytes. At most 250 are possible: shorten it"),
        (CURRENT + "../d.png,1,1 1\n", "line 5: ImageId '../d.png' is a path"),
    ],
)
def test_decode_refuses_before_it_writes(tmp_path: Path, content: str, message: str) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "masks"
    table.write_text(content)
    assert message in fault(DecodeConfig(table=table, out=out, size=(3, 4)))
    assert not out.exists()


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    table, out, masks = tmp_path / "t.csv", tmp_path / "train.csv", tmp_path / "masks"
    table.write_text(CURRENT)
    out.write_text("made by hand")
    masks.mkdir()
    (masks / "d_2.png").write_text("drawn by hand")
    (masks / "notes.txt").write_text("mine")
    decoding = DecodeConfig(table=table, out=masks, size=(3, 4))
    assert fault(decoding) == f"{masks / 'd_2.png'} exists already. Give another folder, or replace them by --overwrite"
    assert (masks / "d_2.png").read_text() == "drawn by hand"
    assert sorted(path.name for path in masks.iterdir()) == ["d_2.png", "notes.txt"]
    decode(dataclasses.replace(decoding, overwrite=True))
    assert sorted(path.name for path in masks.iterdir()) == ["a_1.png", "d_1.png", "d_2.png", "notes.txt"]
    found = "a_1.png and 2 more masks exist already"
    assert found in fault(decoding)
    encoding = EncodeConfig(masks=masks, out=out)
    assert fault(encoding) == f"{out} exists already. Give another file, or replace it by --overwrite"
    assert out.read_text() == "made by hand"
    encode(dataclasses.replace(encoding, overwrite=True))
    assert out.read_text() == CURRENT


def test_masks_of_an_earlier_decode_are_named(tmp_path: Path, heard: Any) -> None:
    table, masks = tmp_path / "t.csv", tmp_path / "masks"
    for name in ("a_2.png", "d_1.png", "other_1.png"):
        save(masks / name, SMALL)
    table.write_text(CURRENT)
    decode(DecodeConfig(table=table, out=masks, size=(3, 4), overwrite=True), heard)
    assert heard.lines == [f"{masks} keeps 1 other masks of these images: a_2.png"]


def test_a_decode_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, masks = tmp_path / "t.csv", tmp_path / "new" / "masks"
    table.write_text(CURRENT)
    calls = []

    def fails(mask: NDArray[np.bool_]) -> bytes:
        calls.append(mask)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return b"a mask"

    monkeypatch.setattr(encoding, "png_of", fails)
    config = DecodeConfig(table=table, out=masks, size=(3, 4))
    with pytest.raises(OutputError, match=r"No space left on device\. Free some space"):
        decode(config)
    assert not (tmp_path / "new").exists()
    masks.mkdir(parents=True)
    (masks / "d_1.png").write_text("old")
    calls.clear()
    with pytest.raises(OutputError):
        decode(dataclasses.replace(config, overwrite=True))
    assert [(path.name, path.read_text()) for path in masks.iterdir()] == [("d_1.png", "old")]


def test_decode_where_no_mask_can_be(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(CURRENT)
    (tmp_path / "masks" / "a_1.png").mkdir(parents=True)
    config = DecodeConfig(table=table, out=tmp_path / "masks", size=(3, 4), overwrite=True)
    with pytest.raises(OutputError, match=r"cannot write .*a_1\.png: it is a folder"):
        decode(config)
    with pytest.raises(OutputError, match=r"cannot write masks to .*t\.csv: it is a file"):
        decode(dataclasses.replace(config, out=table))
    with pytest.raises(OutputError, match=r"cannot write masks to .*: t\.csv is a file"):
        decode(dataclasses.replace(config, out=table / "masks"))


def test_ids_with_dots_and_ids_that_differ_in_the_ending(tmp_path: Path) -> None:
    table, masks, back = tmp_path / "t.csv", tmp_path / "masks", tmp_path / "back.csv"
    ids = ["a.b.jpg", "a.c.jpg", "plate.001", "plate.002", "d.jpg", "d.png", "z.jpg.png"]
    rows = "".join(f"{image_id},1,{number} 2\n" for number, image_id in enumerate(ids, 1))
    table.write_text("ImageId,ClassId,EncodedPixels\n" + rows)
    decode(DecodeConfig(table=table, out=masks, size=(3, 4)))
    assert sorted(path.name for path in masks.iterdir()) == [
        "a.b_1.png",
        "a.c_1.png",
        "d.jpg_1.png",
        "d.png_1.png",
        "plate.001_1.png",
        "plate.002_1.png",
        "z.jpg.png_1.png",
    ]
    encode(EncodeConfig(masks=masks, out=back, images=table))
    assert back.read_text() == table.read_text()


def test_the_images_say_the_size(tmp_path: Path) -> None:
    table, images, masks = tmp_path / "t.csv", tmp_path / "images", tmp_path / "masks"
    table.write_text(CURRENT)
    save(images / "a.jpg", np.zeros((3, 4)))
    save(images / "d.jpg", np.zeros((6, 2)))
    config = DecodeConfig(table=table, out=masks, images=images)
    decode(config)
    assert {path.name: cv2.imread(str(path)).shape[:2] for path in masks.iterdir()} == {
        "a_1.png": (3, 4),
        "d_1.png": (6, 2),
        "d_2.png": (6, 2),
    }
    again = dataclasses.replace(config, out=tmp_path / "again")
    assert "a.jpg: 3x4 pixels, but --size is 4x3. The size is" in fault(dataclasses.replace(again, size=(4, 3)))
    assert "t.csv: a file, not a folder" in fault(dataclasses.replace(again, images=table))
    save(images / "d.jpg", np.zeros((5, 2)))
    assert "d.jpg, class 2: run 2 (number 3): start 12 reaches past the end, pixel 10" in fault(again)
    (images / "d.jpg").rename(images / "d.png")
    assert f"t.csv, line 3: no image d.jpg in {images} (d.png exists)" in fault(again)
    assert not again.out.exists()


def test_a_size_with_height_and_width_exchanged_is_refused(tmp_path: Path) -> None:
    table, masks = tmp_path / "t.csv", tmp_path / "masks"
    mask = np.zeros((20, 30), bool)
    mask[5:12, 8:24] = True
    table.write_text(f"ImageId,ClassId,EncodedPixels\na.jpg,1,{rle.to_text(rle.encode(mask))}\n")
    config = DecodeConfig(table=table, out=masks, size=(30, 20))
    assert "t.csv: at 30x20 its masks are jagged, at 20x30 they are not" in fault(config)
    assert not masks.exists()
    assert decode(dataclasses.replace(config, trust_size=True)).masks == 1
    save(tmp_path / "images" / "a.jpg", np.zeros((30, 20)))
    assert decode(dataclasses.replace(config, images=tmp_path / "images", out=tmp_path / "sized")).masks == 1


RGB = [[(0, 0, 0), (255, 0, 0)], [(0, 255, 0), (0, 0, 0)]]


def save_colours(path: Path, colours: Any, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(colours, np.uint8))
    (image.quantize() if palette else image).save(path)


def table_of(config: EncodeConfig) -> list[str]:
    encode(dataclasses.replace(config, overwrite=True))
    return config.out.read_text().splitlines()[1:]


@pytest.mark.parametrize("palette", [False, True], ids=["rgb", "palette"])
def test_colours_are_classes_only_as_given(tmp_path: Path, palette: bool) -> None:
    masks = tmp_path / "masks"
    save_colours(masks / "a.png", RGB, palette)
    config = EncodeConfig(masks=masks, out=tmp_path / "t.csv", label_images=True)
    found = fault(config)
    assert "a.png: 2 colours without a class: " in found
    assert "ff0000 1 px" in found
    assert "00ff00=N" in found
    assert not config.out.exists()
    assert table_of(dataclasses.replace(config, colours="ff0000=2,00ff00=1")) == ["a.jpg,1,2 1", "a.jpg,2,3 1"]
    assert table_of(dataclasses.replace(config, colours="ff0000=1,00ff00=1")) == ["a.jpg,1,2 2"]
    assert table_of(dataclasses.replace(config, colours="ff0000=1,00ff00=0")) == ["a.jpg,1,3 1"]
    assert "1 colour without a class" in fault(dataclasses.replace(config, colours="ff0000=1", overwrite=True))


def test_colours_of_voc_are_classes_where_it_is_said(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    save_colours(masks / "a.png", [[(0, 128, 0), (128, 0, 0)], [(224, 224, 192), (0, 0, 0)]])
    config = EncodeConfig(masks=masks, out=tmp_path / "t.csv", label_images=True)
    assert "if they are the colours of PASCAL VOC, --colours voc" in fault(config)
    assert table_of(dataclasses.replace(config, colours="voc")) == ["a.jpg,1,3 1", "a.jpg,2,1 1"]


def test_a_labelmap_beside_the_masks_says_the_classes(tmp_path: Path, heard: Any) -> None:
    masks, labelmap = tmp_path / "SegmentationClass", tmp_path / "labelmap.txt"
    save_colours(masks / "a.png", RGB)
    labelmap.write_text("background:0,0,0::\npatch:0,255,0::\nscratch:255,0,0::\npit:1,2,3::\n")
    config = EncodeConfig(masks=masks, out=tmp_path / "t.csv", label_images=True)
    result = encode(config, heard)
    assert config.out.read_text().splitlines()[1:] == ["a.jpg,1,2 1", "a.jpg,2,3 1"]
    assert result.classes == 3
    assert heard.lines[0] == f"colours by {labelmap}: 00ff00=1,ff0000=2,010203=3"
    given = dataclasses.replace(config, colours="ff0000=1,00ff00=2")
    assert table_of(given) == ["a.jpg,1,3 1", "a.jpg,2,2 1"]


VIRIDIS = [[(68, 1, 84), (253, 231, 36)], [(68, 1, 84), (68, 1, 84)]]


def test_a_mask_of_one_class_may_have_any_colours(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    config = EncodeConfig(masks=masks, out=tmp_path / "t.csv")
    save_colours(masks / "a_1.png", VIRIDIS)
    assert (
        "2 colours in a mask of one class: 440154 3 px, fde724 1 px. Name the background, e.g. --colours 440154=0"
        in (fault(config))
    )
    assert table_of(dataclasses.replace(config, colours="440154=0")) == ["a.jpg,1,3 1"]
    save_colours(masks / "a_1.png", [[(68, 1, 84)] * 2] * 2)  # an empty mask in that colour map
    assert "a colour in a mask of one class: 440154 4 px. Name the background, e.g. --colours 440154=0" in fault(
        dataclasses.replace(config, overwrite=True)
    )
    assert table_of(dataclasses.replace(config, colours="440154=0")) == []
    for palette in (False, True):
        save_colours(masks / "a_1.png", [[(0, 0, 0), (255, 0, 0)], [(0, 0, 0), (0, 0, 0)]], palette)
        found = fault(dataclasses.replace(config, overwrite=True))
        assert "a colour in a mask of one class: " in found
        assert "Name the background, e.g. --colours 000000=0; if the file holds all classes, --label-images" in found
        assert table_of(dataclasses.replace(config, colours="000000=0")) == ["a.jpg,1,3 1"]
        assert table_of(dataclasses.replace(config, colours="ff0000=1")) == ["a.jpg,1,3 1"]
    save_colours(masks / "a_1.png", [[(9, 9, 9, 0), (255, 0, 0, 255)], [(0, 0, 0, 0), (1, 0, 0, 0)]])
    assert "Name the background, e.g. --colours 000000=0" in fault(dataclasses.replace(config, overwrite=True))
    assert table_of(dataclasses.replace(config, colours="000000=0")) == ["a.jpg,1,3 1"]
    save(masks / "a_1.png", [[255, 255], [0, 255]])
    assert table_of(dataclasses.replace(config, colours="ffffff=0")) == ["a.jpg,1,2 1"]
    save_colours(masks / "a_1.png", RGB)
    assert "2 colours in a mask of one class" in fault(dataclasses.replace(config, overwrite=True))
    wrong = dataclasses.replace(config, colours="ff0000=1,00ff00=2", overwrite=True)
    assert "00ff00 is class 2, its file name has class 1" in fault(wrong)
    assert table_of(dataclasses.replace(config, colours="ff0000=1,00ff00=0,000000=0")) == ["a.jpg,1,3 1"]


def test_white_counts_wherever_a_palette_has_it(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    save_colours(masks / "a_1.png", [[(0, 0, 0), (255, 255, 255)], [(0, 0, 0), (0, 0, 0)]], palette=True)
    with Image.open(masks / "a_1.png") as image:
        assert image.getpalette()[:6] == [255, 255, 255, 0, 0, 0]
    assert table_of(EncodeConfig(masks=masks, out=tmp_path / "t.csv")) == ["a.jpg,1,3 1"]


def test_black_beside_transparent_is_asked_about(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    save_colours(masks / "a_1.png", [[(0, 0, 0, 0), (0, 0, 0, 255)], [(9, 9, 9, 0), (0, 0, 0, 0)]])
    config = EncodeConfig(masks=masks, out=tmp_path / "t.csv")
    assert "transparent and black pixels: 000000 1 px, transparent 3 px" in fault(config)
    assert table_of(dataclasses.replace(config, colours="000000=1")) == ["a.jpg,1,3 1"]
    assert table_of(dataclasses.replace(config, colours="000000=0")) == []


def test_places_of_one_colour_are_not_told_apart(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    image = Image.frombytes("P", (2, 1), bytes([0, 1]))
    image.putpalette([0] * 6)
    image.save(tmp_path / "masks" / "a_1.png")
    config = EncodeConfig(masks=tmp_path / "masks", out=tmp_path / "t.csv")
    assert "2 entries of its palette have the same colour: palette 0: 000000 1 px, 1: 000000 1 px" in fault(config)


def test_255_is_no_label_beside_class_ids(tmp_path: Path, heard: Any) -> None:
    masks = tmp_path / "masks"
    save(masks / "a.png", [[0, 2, 255], [1, 2, 255]])
    save(masks / "b.png", [[0, 2, 0], [0, 0, 0]])
    config = EncodeConfig(masks=masks, out=tmp_path / "t.csv", label_images=True)
    encode(config, heard)
    assert config.out.read_text().splitlines()[1:] == ["a.jpg,1,2 1", "a.jpg,2,3 2", "b.jpg,2,3 1"]
    assert "255 means no label: background in 1 of 2 label images, 2 pixels" in heard.lines
    save(masks / "a.png", [[0, 255]])
    config = dataclasses.replace(config, overwrite=True)
    assert "a.png: a label image with the values 0 and 255 only" in fault(config)
    assert table_of(dataclasses.replace(config, colours="ffffff=0")) == ["b.jpg,2,3 1"]


def test_masks_named_as_their_images_have_the_class_that_is_given(tmp_path: Path) -> None:
    masks, images = tmp_path / "masks", tmp_path / "images"
    save(masks / "a.png", SMALL)
    save(masks / "In_8.png", SMALL)
    save(images / "a.bmp", SMALL)
    save(images / "In_8.jpg", SMALL)
    config = EncodeConfig(masks=masks, out=tmp_path / "t.csv", class_id=2)
    assert table_of(config) == ["In_8.jpg,2,3 1", "a.jpg,2,3 1"]
    assert table_of(dataclasses.replace(config, images=images)) == ["In_8.jpg,2,3 1", "a.bmp,2,3 1"]


def test_how_names_are_read_is_said(tmp_path: Path, heard: Any) -> None:
    save(tmp_path / "masks" / "In_8.png", SMALL)
    (tmp_path / "masks" / "notes.txt").write_text("x")
    (tmp_path / "masks" / "more").mkdir()
    config = EncodeConfig(masks=tmp_path / "masks", out=tmp_path / "t.csv", classes=8)
    encode(config, heard)
    assert heard.lines == [
        "names are read as In_8.png -> image In.jpg, class 8",
        f"ignored in {tmp_path / 'masks'}: more/, notes.txt",
    ]


def test_images_settle_what_a_name_means(tmp_path: Path) -> None:
    masks, images = tmp_path / "masks", tmp_path / "images"
    save(masks / "In_8.png", SMALL)
    config = EncodeConfig(masks=masks, out=tmp_path / "t.csv", images=images)
    save(images / "In_8.jpg", SMALL)
    assert "In_8.png: In_8.jpg is an image, so the file name has no class. For masks named like their images" in fault(
        config
    )
    save(images / "In.jpg", SMALL)
    assert "each file is also named like an image. If 8 is a class, give --classes 8; if In_8 is an image" in fault(
        config
    )
    assert table_of(dataclasses.replace(config, classes=8)) == ["In.jpg,8,3 1"]
    (images / "In_8.jpg").unlink()
    assert table_of(config) == ["In.jpg,8,3 1"]


def test_names_are_compared_composed(tmp_path: Path) -> None:
    images = tmp_path / "list.csv"
    images.write_text("ImageId\nr\u00e4nder.jpg\n", encoding="utf-8")
    save(tmp_path / "masks" / "ra\u0308nder_1.png", SMALL)
    config = EncodeConfig(masks=tmp_path / "masks", out=tmp_path / "t.csv", images=images)
    assert table_of(config) == ["r\u00e4nder.jpg,1,3 1"]
    assert table_of(dataclasses.replace(config, images=None)) == ["r\u00e4nder.jpg,1,3 1"]


def test_masks_that_cover_most_of_their_images_are_said(tmp_path: Path, heard: Any) -> None:
    save(tmp_path / "masks" / "a_1.png", [[255, 255], [0, 255]])
    encode(EncodeConfig(masks=tmp_path / "masks", out=tmp_path / "t.csv"), heard)
    assert heard.lines[-1].startswith("1 of 1 masks cover more than half of their image: if white is the background")


KINDS: dict[str, Callable[[NDArray[np.uint8]], Image.Image]] = {
    "grey.png": lambda mask: Image.fromarray(mask * np.uint8(255)),
    "one.png": Image.fromarray,
    "bits.png": lambda mask: Image.fromarray(mask.astype(bool)),
    "bits.tif": lambda mask: Image.fromarray(mask.astype(bool)),
    "deep.png": lambda mask: Image.fromarray(mask * np.uint16(65535)),
    "deep.tif": lambda mask: Image.fromarray(mask.astype(np.int32)),
    "grey.bmp": lambda mask: Image.fromarray(mask * np.uint8(255)),
    "grey.tif": lambda mask: Image.fromarray(mask * np.uint8(255)),
    "grey.gif": lambda mask: Image.fromarray(mask * np.uint8(255)),
    "rgb.webp": lambda mask: Image.fromarray(np.repeat(mask[..., None] * np.uint8(255), 3, 2)),
    "quantized.png": lambda mask: Image.fromarray(np.repeat(mask[..., None] * np.uint8(255), 3, 2)).quantize(),
    "red.png": lambda mask: Image.fromarray(np.dstack([mask * np.uint8(255), mask * 0, mask * 0])),
    "layer.png": lambda mask: Image.fromarray(np.dstack([mask * 0 + 9, mask * 0, mask * 0, mask * np.uint8(255)])),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    drawn = np.random.default_rng(0).random((3, 23, 41)) < 0.3
    (tmp_path / "masks").mkdir()
    for number, mask in enumerate(drawn):
        path = tmp_path / "masks" / f"{number}_1{Path(name).suffix}"
        KINDS[name](mask.astype(np.uint8)).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    colours = "000000=0" if name in ("red.png", "layer.png") else ""
    encode(EncodeConfig(masks=tmp_path / "masks", out=tmp_path / "t.csv", colours=colours))
    decode(DecodeConfig(table=tmp_path / "t.csv", out=tmp_path / "back", size=(23, 41)))
    for number, mask in enumerate(drawn):
        back = cv2.imread(str(tmp_path / "back" / f"{number}_1.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(back, mask * np.uint8(255))
    encode(EncodeConfig(masks=tmp_path / "back", out=tmp_path / "again.csv"))
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "t.csv").read_bytes()


def test_configs_refuse_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layout"):
        EncodeConfig(masks=tmp_path, out=tmp_path, layout="auto")
    for suffix in ("png", ".a/b", "*.png"):
        with pytest.raises(UsageError, match="wrong suffix: "):
            EncodeConfig(masks=tmp_path, out=tmp_path, suffix=suffix)
    for class_id in (0, 255, -1):
        with pytest.raises(UsageError, match=f"wrong class: {class_id}. It must be between 1 and 254"):
            EncodeConfig(masks=tmp_path, out=tmp_path, class_id=class_id)
    with pytest.raises(UsageError, match=r"wrong class: 1\. It must be left out with --label-images"):
        EncodeConfig(masks=tmp_path, out=tmp_path, class_id=1, label_images=True)
    with pytest.raises(UsageError, match=r"wrong size: None\. It must be given by --size or --images"):
        DecodeConfig(table=tmp_path, out=tmp_path)
    with pytest.raises(InputError, match="size: 0x4"):
        DecodeConfig(table=tmp_path, out=tmp_path, size=(0, 4))


@pytest.mark.parametrize(("name", "size"), [("neu_seg", (200, 200)), ("severstal-real", (256, 1600))])
def test_real_masks_go_there_and_back(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    source = REAL / name / "train.csv"
    if not source.exists():
        pytest.skip("the real annotations are not here")
    decode(DecodeConfig(table=source, out=tmp_path / "masks", size=size))
    config = EncodeConfig(masks=tmp_path / "masks", out=tmp_path / "back.csv", images=REAL / name / "train_images")
    encode(config)
    back, given = read_table(config.out).masks, read_table(source).masks
    assert back.keys() == given.keys()
    assert all((back[key] == given[key]).all() for key in given)


@pytest.mark.parametrize("count", [5, 3000])
def test_real_masks_show_that_a_size_is_exchanged(count: int) -> None:
    source = REAL / "severstal" / "train.csv"
    if not source.exists():
        pytest.skip("the real annotations are not here")
    masks = list(read_table(source).masks.values())[:count]
    assert likelier_height(masks, (256, 1600)) is None
    assert likelier_height(masks, (1600, 256)) == 256


def test_class_ids_with_gaps_get_no_rows_in_between(tmp_path: Path) -> None:
    """A row names a class, and a class that is named counts in every mean."""
    for name in ("a_2.png", "b_7.png"):
        save(tmp_path / "masks" / name, np.full((2, 2), 255))
    out = tmp_path / "t.csv"
    for name in ("a.jpg", "b.jpg"):
        save(tmp_path / "images" / name, np.zeros((2, 2)))
    encode(EncodeConfig(masks=tmp_path / "masks", out=out, layout="original", images=tmp_path / "images"))
    assert [row.split(",")[0] for row in out.read_text().splitlines()[1:]] == [
        "a.jpg_2",
        "a.jpg_7",
        "b.jpg_2",
        "b.jpg_7",
    ]
    assert read_table(out).class_ids == (2, 7)
