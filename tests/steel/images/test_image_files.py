"""Which files of a folder are images, their ids, and what is reported of the others."""

import os
import shutil
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from severstal_cli.errors import InputError
from severstal_cli.steel.images import image_files
from severstal_cli.steel.images.image_headers import IMAGE_SUFFIXES

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.zeros((4, 6), np.uint8))[1].tobytes())
    return path


def test_every_ending_of_an_image_is_taken(tmp_path: Path) -> None:
    for number, ending in enumerate(sorted(IMAGE_SUFFIXES)):
        (tmp_path / f"{number}{ending.upper() if number % 2 else ending}").touch()
    assert len(image_files.find_images([tmp_path])) == len(IMAGE_SUFFIXES)
    wanted = {".jpg", ".jpe", ".jfif", ".webp", ".jp2", ".ppm", ".pgm", ".pbm", ".gif", ".avif", ".tif", ".bmp", ".dib"}
    assert wanted <= IMAGE_SUFFIXES


def test_without_an_ending_the_first_bytes_count(tmp_path: Path) -> None:
    names = ["noextension", "sheet.0012"]  # a number is no ending
    for name in names:
        draw(tmp_path / name)
    draw(tmp_path / "a.png.bak")
    (tmp_path / "LICENSE").write_text("MIT")
    (tmp_path / "README").write_text("Images of mill 2")
    assert [path.name for path in image_files.find_images([tmp_path])] == names


def test_ignored_entries_are_counted_and_named(tmp_path: Path, heard) -> None:
    draw(tmp_path / "a.png")
    for name in ("notes.txt", "a.png.bak", "Thumbs.db", ".hidden", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("sub", "more", ".git"):
        draw(tmp_path / name / "b.png")
    found = image_files.find_images([tmp_path], heard)
    assert [path.name for path in found] == ["a.png"]
    assert heard.lines == [
        f"{tmp_path}: ignored 2 folders, first more and 3 files that are not images, first Thumbs.db"
    ]


def test_a_folder_of_images_logs_nothing(tmp_path: Path, heard) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / ".hidden").touch()
    image_files.find_images([tmp_path], heard)
    assert heard.lines == []


def test_a_folder_of_folders_is_reported(tmp_path: Path) -> None:
    draw(tmp_path / "part1" / "a.png")
    with pytest.raises(InputError, match=r"no images in .*: 1 folder, first part1\. Name the folder with the images"):
        image_files.find_images([tmp_path])


def test_an_id_is_the_name_as_nfc(tmp_path: Path) -> None:
    path = draw(tmp_path / DECOMPOSED)
    assert image_files.id_of(path) == COMPOSED != DECOMPOSED
    assert image_files.paths_by_id([path]) == {COMPOSED: path}
    assert image_files.in_folders([tmp_path], [COMPOSED]) == {COMPOSED: path}
    assert image_files.in_folders([tmp_path / "gone", tmp_path], [COMPOSED, "b.png"]) == {COMPOSED: path}
    assert image_files.in_folders([tmp_path / "gone"], [COMPOSED]) == {}


def test_images_are_sorted_by_id(tmp_path: Path) -> None:
    for name in (unicodedata.normalize("NFD", "é1.png"), "f.png", unicodedata.normalize("NFC", "é0.png")):
        draw(tmp_path / name)
    ids = list(map(image_files.id_of, image_files.find_images([tmp_path])))
    assert ids == sorted(ids)


def test_two_files_of_one_id_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / COMPOSED)
    if (tmp_path / DECOMPOSED).exists():
        pytest.skip("this file system keeps one form of a name")
    draw(tmp_path / DECOMPOSED)
    with pytest.raises(InputError, match=r"two images are named .*, in two Unicode forms"):
        image_files.find_images([tmp_path])


def test_a_name_that_is_not_utf8_is_refused_in_characters_that_can_be_shown(tmp_path: Path) -> None:
    try:
        shutil.copy(draw(tmp_path / "a.png"), os.fsencode(tmp_path) + b"/b\xff\x1b[31m.png")
    except OSError:
        pytest.skip("this file system has UTF-8 names alone")
    with pytest.raises(InputError) as caught:
        image_files.find_images([tmp_path])
    assert r"b\xff\x1b[31m.png: the name of the file is not UTF-8. Rename it" in str(caught.value)


def test_a_name_that_cannot_stand_in_a_table_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "a\x1b]0;title\x07.png")
    with pytest.raises(InputError, match=r"the name of an image is not allowed in a table: .*\\x1b\]0;title\\x07"):
        image_files.find_images([tmp_path])


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read: File name too long\. Check the path"):
        image_files.find_images([tmp_path / ("a" * 300 + ".png")])


def test_only_the_ending_of_an_image_is_no_part_of_its_stem() -> None:
    assert [image_files.image_stem(name) for name in ("a.b.jpg", "plate.001", "a.JPG", "a", "v1.2_x.png")] == [
        "a.b",
        "plate.001",
        "a",
        "a",
        "v1.2_x",
    ]


def test_what_is_there_under_another_ending() -> None:
    assert image_files.same_stem_hint("a.png", ["a.jpg", "b.png"]) == " (a.jpg exists)"
    assert image_files.same_stem_hint("a.png", ["A.JPG"]) == " (A.JPG exists)"
    assert image_files.same_stem_hint("a.png", ["b.png"]) == ""


def test_names_in_a_tuple_are_not_searched_one_by_one() -> None:
    class Names(tuple):
        def __contains__(self, name: object) -> bool:
            raise AssertionError("a search through all names for each of them")

    names = Names(f"{number}.jpg" for number in range(3))
    assert image_files.same_stem_names(["1.png", "2.jpg"], names) == {"1.png": "1.jpg"}
