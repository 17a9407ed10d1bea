"""Image files of every kind through the commands: read rightly, or refused in one line; nothing passes in silence."""

import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables.mask_table import read_table

SIZE = (64, 96)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def severstal(severstal: Run, trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`severstal("predict", "new")` runs it in a folder with `data` and `models/good`."""
    shutil.copytree(trained[0], tmp_path / "data")
    shutil.copytree(trained[1], tmp_path / "models" / "good")
    monkeypatch.chdir(tmp_path)
    return lambda *words: severstal(" ".join(words))


def scene(seed: int = 0) -> np.ndarray:
    """(64, 96) uint8: steel that the trained run knows."""
    image = np.random.default_rng(seed).normal(110, 20, SIZE)
    image[20:40, 30:60] += 90
    return image.clip(0, 255).astype(np.uint8)


def save(path: str, pixels: np.ndarray, orientation: int | None = None) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    options = {}
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    Image.fromarray(pixels).save(path, **options)


def last(text: str) -> str:
    return text.splitlines()[-1]


def invert(folder: str) -> None:
    for path in Path(folder).iterdir():
        cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_UNCHANGED))


def test_predict_takes_every_kind_in_a_folder_and_names_the_rest(severstal: Run) -> None:
    kinds = ["a.png", "b.jfif", "c.webp", "d.gif", "e.jpe", "f.ppm", "g.pgm", "h.jp2", "i.avif", "j.tga"]
    for name in kinds:
        save(f"new/{name}", scene())
    shutil.copy("new/a.png", "new/noending")
    shutil.copytree("new", "new/sub")
    Path("new/notes.txt").touch()
    code, _, err = severstal("predict new --model models/good --out new.csv")
    assert code == 0
    assert read_table(Path("new.csv")).image_ids == (*kinds, "noending")
    passed = "new: ignored 1 folder, first sub and 1 file that is not an image, first notes.txt"
    assert passed in err
    Path("truth.csv").write_text("ImageId,ClassId,EncodedPixels\na.png,1,1 3\na.png,2,\n")
    for line in ("check new.csv --images new", "score new.csv --truth truth.csv --images new"):
        code, _, err = severstal(line)
        assert (code, passed in err) == (0, True), err
    masks = read_table(Path("new.csv")).masks
    for lossless in ("f.ppm", "g.pgm", "noending", "j.tga"):  # the same pixels, the same masks
        for channel in range(2):
            found = masks.get((lossless, channel), rle.EMPTY)
            np.testing.assert_array_equal(found, masks.get(("a.png", channel), rle.EMPTY))


@pytest.mark.parametrize("orientation", [3, 6])
def test_masks_drawn_on_the_image_as_shown_fit(severstal: Run, orientation: int) -> None:
    shown = scene()
    stored = np.rot90(shown, {3: 2, 6: 1}[orientation])
    save("shot/x.jpg", np.ascontiguousarray(stored), orientation)
    mask = np.zeros(SIZE, bool)
    mask[2:9, 50:90] = True
    save("masks/x_1.png", mask * np.uint8(255))
    code, _, err = severstal("encode masks --images shot --out shot.csv")
    assert code == 0
    assert "1 of 1 images carry an EXIF orientation, first x.jpg: they are read upright" in err
    np.testing.assert_array_equal(rle.decode(read_table(Path("shot.csv")).masks["x.jpg", 0], SIZE), mask)
    code, _, err = severstal("predict shot --model models/good --out p.csv --masks drawn")
    assert (code, "EXIF orientation" in err) == (0, True), err
    assert cv2.imread("drawn/x.png").shape[:2] == SIZE


def test_masks_of_the_size_as_stored_are_refused_with_the_cause(severstal: Run) -> None:
    save("shot/x.jpg", scene(), 6)
    save("masks/x_1.png", np.full(SIZE, 255, np.uint8))
    code, _, err = severstal("encode masks --images shot --out shot.csv")
    assert code == 1
    assert "64x96 pixels, shot/x.jpg has 96x64. x.jpg carries EXIF orientation 6 and is read upright" in last(err)
    assert not Path("shot.csv").exists()


def train(severstal: Run, data: str, *more: str) -> None:
    code, _, err = severstal("train --arch unet-small --epochs 1 --fold none --data", data, "--name", data, *more)
    assert code == 0, err


def deepen(folder: str, factor: int) -> None:
    for path in Path(folder).iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.uint16) * factor)


def test_12_bit_images_are_trained_and_predicted_by_one_scale(severstal: Run) -> None:
    shutil.copytree("data/train_images", "bright")
    deepen("bright", 257)
    shutil.copytree("data", "deep")
    shutil.rmtree("deep/.severstal")
    deepen("deep/train_images", 16)
    code, _, err = severstal("split --data deep")
    said = "45 of 45 images are 16-bit files with 12 bits in use: grey levels of 0 to 4,095 become 0 to 255"
    assert (code, err.count(said)) == (0, 1), err
    train(severstal, "deep")
    train(severstal, "data")
    cards = [json.loads(Path(f"models/{name}/model.json").read_text()) for name in ("deep", "data")]
    assert [card["bits"] for card in cards] == [12, None]
    assert cards[0]["mean"] == cards[1]["mean"]
    assert cards[0]["pixels_fingerprint"] == cards[1]["pixels_fingerprint"]
    shutil.copy("models/good/thresholds.json", "models/deep/thresholds.json")
    shutil.copy("models/good/thresholds.json", "models/data/thresholds.json")

    save("one/dim.png", scene().astype(np.uint16) * 4)  # alone it would be of 10 bits
    save("eight/dim.png", scene() // 4)
    tables = []
    for images in ("one", "eight"):
        code, _, err = severstal(f"predict {images} --model models/deep --out {images}.csv")
        assert code == 0, err
        tables.append(Path(f"{images}.csv").read_text() + Path(f"{images}.scores.csv").read_text())
        assert ("1 of 1 images are 16-bit files with 12 bits in use" in err) == (images == "one")
    assert tables[0] == tables[1]

    code, _, err = severstal("predict deep/train_images --model models/data --out x.csv")
    assert (code, f"{said}, measured on these images, as the training had none" in err) == (0, True), err

    code, _, err = severstal("predict bright --model models/deep --out b.csv")
    assert code == 1
    assert re.search(r"bright/\S+: its brightest pixel is [\d,]+, but its set uses 12 bits, up to 4,095", last(err))
    code, _, err = severstal("predict bright --model models/deep --out b.csv --on-error skip")
    assert (code, err.count("skipped: bright/")) == (0, 45)

    card = json.loads(Path("models/data/model.json").read_text())
    Path("models/data/model.json").write_text(json.dumps(card | {"bits": 16}))
    code, _, err = severstal("predict bright --model models/deep --model models/data --out y.csv")
    assert (code, "12 bits and 16 bits. Use runs of the same data" in last(err)) == (1, True), err


@pytest.mark.parametrize("bits", [7, 12.0, "12", 400, [12]])
def test_a_card_with_odd_bits_is_damaged(severstal: Run, bits: object) -> None:
    card = json.loads(Path("models/good/model.json").read_text())
    Path("models/good/model.json").write_text(json.dumps(card | {"bits": bits}))
    code, _, err = severstal("predict data/train_images --model models/good --out x.csv")
    assert (code, "model.json is damaged" in last(err)) == (1, True), err


def test_changed_pixels_are_noticed_by_every_command_that_goes_on(severstal: Run) -> None:
    invert("data/train_images")
    code, _, err = severstal("train --data data --arch unet-small --epochs 4 --name good --resume")
    assert (code, "was trained with" in last(err)) == (1, True), err
    for line in ("thresholds models/good --data data", "score --model models/good --data data"):
        code, _, err = severstal(line)
        assert code == 1
        assert re.search(
            r"the images of data have changed since models/good was trained: pixels \w{16}, now", last(err)
        )
    invert("data/train_images")
    code, _, err = severstal("thresholds models/good --data data")
    assert code == 0, err


def test_a_run_of_an_earlier_version_is_taken_with_a_word(severstal: Run) -> None:
    path = Path("models/good/model.json")
    card = json.loads(path.read_text())
    del card["bits"], card["pixels_fingerprint"]
    path.write_text(json.dumps(card))
    code, _, err = severstal("thresholds models/good --data data")
    assert (code, "models/good was trained by an earlier version, so changes of the pixels of data" in err) == (0, True)
    deepen("data/train_images", 16)  # those it read nearly black
    code, _, err = severstal("thresholds models/good --data data")
    assert (code, "an earlier version, which read 16-bit images too dark" in last(err)) == (1, True), err


def every_command(images: str) -> list[str]:
    """Those that read a folder of images, but for split and train, which want it under its name."""
    return [
        f"predict {images} --model models/good --out x.csv",
        f"check data/train.csv --images {images}",
        f"score data/train.csv --truth data/train.csv --images {images}",
        f"encode masks --images {images} --out x.csv",
    ]


@pytest.mark.parametrize("name", [b"b\xff\x1b[31m.png", b"b\x1b[31m.png"])
def test_names_that_a_terminal_cannot_show_are_one_clean_line(severstal: Run, name: bytes) -> None:
    save("masks/a_1.png", np.zeros(SIZE, np.uint8))
    save("data/train_images/z.png", scene())
    try:
        Path("data/train_images/z.png").rename(os.fsdecode(os.path.join(b"data/train_images", name)))  # noqa: PTH118
    except OSError:
        pytest.skip("this file system has UTF-8 names alone")
    commands = [*every_command("data/train_images"), "split --data data", "train --data data --name x"]
    for line in commands:
        code, out, err = severstal(line)
        assert (code, out) == (1, ""), line
        assert r"\x1b[31m.png" in last(err), line
        assert "\x1b" not in err
        assert "Traceback" not in err


def test_names_that_are_passed_over_are_shown_clean(severstal: Run) -> None:
    save("new/a.png", scene())
    Path(os.fsdecode(b"new/\x1b]0;t\x07.txt")).touch()
    code, _, err = severstal("predict new --model models/good --out x.csv")
    assert (code, r"first \x1b]0;t\x07.txt" in err, "\x1b" in err) == (0, True, False), err


def test_names_in_two_unicode_forms_agree(severstal: Run) -> None:
    composed = unicodedata.normalize("NFC", "é.png")
    save(f"new/{unicodedata.normalize('NFD', composed)}", scene())
    save("new/b.png", scene(1))
    Path("truth.csv").write_text(f"ImageId,ClassId,EncodedPixels\n{composed},1,1 9\nb.png,2,5 5\n")
    Path("sample.csv").write_text(f"ImageId,EncodedPixels,ClassId\n{composed},,1\nb.png,,1\n")
    code, _, err = severstal("predict new --model models/good --out x.csv --sample sample.csv")
    assert code == 0, err
    assert read_table(Path("x.csv")).image_ids == (composed, "b.png")
    code, out, err = severstal("check truth.csv --images new")
    assert (code, "is missing" in out) == (0, False), out + err
    Path("d").mkdir()
    Path("new").rename("d/train_images")
    Path("truth.csv").rename("d/train.csv")
    for number in range(10):
        save(f"d/train_images/more{number}.png", scene(number))
    code, _, err = severstal("split --data d --folds 2 --holdout 0")
    assert code == 0, err
    assert f"\n{composed}," in Path("d/splits.csv").read_text()


def test_where_the_ending_alone_differs_the_message_names_the_file(severstal: Run) -> None:
    table = Path("data/train.csv")
    table.write_text(table.read_text().replace(".png", ".jpg"))
    code, _, err = severstal("split --data data")
    assert code == 1
    name = re.search(r"there is no image (\w+)\.jpg in train_images", last(err))
    assert name is not None
    assert f"{name[1]}.png exists: give rows and files the same suffix" in last(err)
    Path("sample.csv").write_text(f"ImageId,EncodedPixels,ClassId\n{name[1]}.jpg,,1\n")
    code, _, err = severstal("predict data/train_images --model models/good --out x.csv --sample sample.csv")
    assert (code, f"({name[1]}.png exists)" in last(err)) == (1, True), err


def test_an_image_bomb_is_refused_by_name_and_can_be_skipped(severstal: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    save("new/a.png", scene())
    Path("new/b.pgm").write_bytes(b"P5\n60000 50000\n255\n")
    code, _, err = severstal("predict new --model models/good --out x.csv")
    assert code == 1
    assert "severstal: new/b.pgm: 50,000 x 60,000 pixels, more than 134,217,728" in last(err)
    code, out, err = severstal("predict new --model models/good --out x.csv --on-error skip")
    assert (code, "skipped: new/b.pgm: 50,000 x 60,000" in err, "; 1 image skipped" in out) == (0, True, True), err
    monkeypatch.setenv("SEVERSTAL_MAX_PIXELS", "6143")
    save("masks/a_1.png", np.zeros(SIZE, np.uint8))
    for line in ("encode masks --out x2.csv", "predict new/a.png --model models/good --out x3.csv"):
        code, _, err = severstal(line)
        assert (code, "64 x 96 pixels, more than 6,143" in last(err)) == (1, True), err


@pytest.mark.parametrize(
    "line",
    [
        "predict {long}.jpg --model models/good --out x.csv",
        "predict data/train_images --model models/good --out {long}.csv",
        "split --data {long}",
        "check {long}.csv",
        "check data/train.csv --images {long}",
        "score {long}.csv --truth data/train.csv",
        "encode {long} --out x.csv",
        "encode masks --out {long}.csv",
        "decode data/train.csv --out {long} --size 64x96",
        "thresholds {long}",
    ],
)
def test_a_name_that_is_too_long_is_one_line_with_a_remedy(severstal: Run, line: str) -> None:
    save("masks/a_1.png", np.zeros(SIZE, np.uint8))
    code, _, err = severstal(line.format(long="a" * 300))
    assert code == 1
    assert re.fullmatch(r"severstal: .*File name too long\. [A-Z].*", last(err)), last(err)
    assert "OSError" not in err
