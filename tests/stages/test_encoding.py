"""`encode` and `decode`: files to rows and back, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from severstal_cli.config import DecodeConfig, EncodeConfig
from severstal_cli.errors import InputError, OutputError
from severstal_cli.stages.encoding import decode, encode
from severstal_cli.steel.images import cv2

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
    with pytest.raises(InputError) as caught:
        encode(config) if isinstance(config, EncodeConfig) else decode(config)
    return str(caught.value)


def test_decode_then_encode_gives_the_same_table_in_both_layouts(tmp_path: Path) -> None:
    masks, images = tmp_path / "masks", tmp_path / "images"
    for name in ("a.jpg", "b_c.jpg", "d.jpg"):
        save(images / name, np.zeros((3, 4)))
    for layout, text in (("original", ORIGINAL), ("current", CURRENT)):
        table, back = tmp_path / f"{layout}.csv", tmp_path / f"{layout}-back.csv"
        table.write_text(text)
        decoded = decode(DecodeConfig(table=table, out=masks, size=(3, 4)))
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
    encode(EncodeConfig(masks=tmp_path / "masks", out=out, label_images=True, layout="original", classes=4))
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
    assert out.read_text() == "ImageId_ClassId,EncodedPixels\na.jpg_1,\na.jpg_2,\n"


SMALL = [[0, 255], [0, 0]]


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {}, "masks: no such file or folder"),
        ({"a.png": SMALL}, {}, "a.png: its name is not IMAGE_CLASS.png: ClassId 'a' is not a whole number from 1"),
        ({"a_0.png": SMALL}, {}, "a_0.png: its name is not IMAGE_CLASS.png: ClassId 0 is below 1"),
        ({"_1.png": SMALL}, {"suffix": ""}, "_1.png: its name is not IMAGE_CLASS.png: ImageId is empty"),
        ({"a_1.jpg": SMALL}, {}, "a_1.jpg: not a PNG file"),
        ({"a_1.png": [[0, 255], [90, 12]]}, {}, "a_1.png: 3 values beside 0 in a mask of one class: 12, 90, 255"),
        ({"a.png": [[0, 255]]}, {"label_images": True}, "a.png: the value 255 in a label image"),
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
    config = EncodeConfig(masks=masks, out=out, **options)  # type: ignore[arg-type]
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
    save(images / "b.png", np.zeros((2, 3)))
    save(images / "b.jpg", np.zeros((2, 3)))
    assert "b_1.png: it could be of b.jpg or b.png" in fault(EncodeConfig(masks=masks, out=out, images=images))
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
        (CURRENT + "d.png,1,1 1\n", "t.csv: d.jpg and d.png would share the names of their masks"),
        (CURRENT + "../d.png,1,1 1\n", "line 5: ImageId '../d.png' is a path"),
    ],
)
def test_decode_refuses_before_it_writes(tmp_path: Path, content: str, message: str) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "masks"
    table.write_text(content)
    assert message in fault(DecodeConfig(table=table, out=out, size=(3, 4)))
    assert not out.exists()


def test_decode_into_a_file_is_an_output_error(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(CURRENT)
    (tmp_path / "masks" / "a_1.png").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot write .*a_1\.png"):
        decode(DecodeConfig(table=table, out=tmp_path / "masks", size=(3, 4)))


def test_configs_refuse_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layout"):
        EncodeConfig(masks=tmp_path, out=tmp_path, layout="auto")
    with pytest.raises(InputError, match="size: 0x4"):
        DecodeConfig(table=tmp_path, out=tmp_path, size=(0, 4))


def test_real_masks_go_there_and_back(tmp_path: Path) -> None:
    source = REAL / "sd900" / "train.csv"
    if not source.exists():
        pytest.skip("the real annotations are not here")
    decode(DecodeConfig(table=source, out=tmp_path / "masks", size=(200, 200)))
    config = EncodeConfig(masks=tmp_path / "masks", out=tmp_path / "back.csv", images=REAL / "sd900" / "train_images")
    assert encode(config).masks == 723
    assert (tmp_path / "back.csv").read_bytes() == source.read_bytes()
