"""Names that differ by their endings, and tables that are of other images."""

import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from severstal_cli.errors import InputError
from severstal_cli.steel.dataset import agreement
from severstal_cli.steel.dataset.data_folder import check_fits
from severstal_cli.steel.images import image_files
from severstal_cli.steel.images.cache import open_cache
from severstal_cli.steel.tables.mask_table import read_table


@pytest.mark.parametrize(
    ("wanted", "named", "pairs"),
    [
        (["a.jpg", "b.jpg"], {"a.png", "b.jpg"}, {"a.jpg": "a.png"}),
        (["a.jpg"], {"a"}, {"a.jpg": "a"}),
        (["a"], {"a.jpg"}, {"a": "a.jpg"}),
        (["a.jpg"], {"A.JPG"}, {"a.jpg": "A.JPG"}),
        (["a.jpg"], {"a.JPG"}, {"a.jpg": "a.JPG"}),
        (["a.jpg", "a.png"], {"a.png"}, {}),  # that row is of the other image
        (["1.2.3.4"], {"1.2.3.5"}, {}),  # no ending of an image
        (["a.jpg"], {"b.jpg"}, {}),
    ],
)
def test_endings(wanted: list[str], named: set[str], pairs: dict[str, str]) -> None:
    assert image_files.same_stem_names(wanted, named) == pairs


def test_names_with_another_suffix_are_reported(tmp_path: Path) -> None:
    (tmp_path / "train_images").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "train_images" / name), np.zeros((8, 8), np.uint8))
    path = tmp_path / "train.csv"
    path.write_text("ImageId,ClassId,EncodedPixels\nb.png,1,1 3\na.jpg,1,1 3\n")
    with pytest.raises(InputError, match=r"line 3: there is no image a\.jpg in train_images: .* a\.png exists: give"):
        check_fits(path, read_table(path), open_cache(tmp_path / "train_images"), "train_images")


def test_files_are_known_by_names_in_one_form(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "\u00e4.png")
    cv2.imwrite(str(tmp_path / name), np.zeros((2, 3), np.uint8))
    (tmp_path / "b.png").touch()
    files = image_files.paths_by_id(image_files.find_images([tmp_path]))
    assert set(files) == {"\u00e4.png", "b.png"}
    sizes, wrong = agreement.sizes_of(files)
    assert sizes == {"\u00e4.png": (2, 3)}
    assert agreement.unread(wrong).startswith("masks were not checked against the size of 1 unreadable images, ")
    assert agreement.unread([]) == ""
