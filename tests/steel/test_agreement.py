"""Names that differ by their endings, and tables that are of other images."""

import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from severstal_cli.steel import agreement


@pytest.mark.parametrize(
    ("wanted", "named", "pairs"),
    [
        (["a.jpg", "b.jpg"], {"a.png", "b.jpg"}, {"a.jpg": "a.png"}),
        (["a.jpg"], {"a"}, {"a.jpg": "a"}),
        (["a"], {"a.jpg"}, {"a": "a.jpg"}),
        (["a.jpg"], {"a.JPG"}, {"a.jpg": "a.JPG"}),
        (["a.jpg", "a.png"], {"a.png"}, {}),  # that row is of the other image
        (["1.2.3.4"], {"1.2.3.5"}, {}),  # no ending of an image
        (["a.jpg"], {"b.jpg"}, {}),
    ],
)
def test_endings(wanted: list[str], named: set[str], pairs: dict[str, str]) -> None:
    assert agreement.other_endings(wanted, named) == pairs


def test_files_are_known_by_names_in_one_form(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "\u00e4.png")
    cv2.imwrite(str(tmp_path / name), np.zeros((2, 3), np.uint8))
    (tmp_path / "b.png").touch()
    files = agreement.files_by_id(tmp_path)
    assert set(files) == {"\u00e4.png", "b.png"}
    sizes, wrong = agreement.sizes_of(files)
    assert sizes == {"\u00e4.png": (2, 3)}
    assert agreement.unread(wrong).startswith(
        "runs past the end were not looked for in images that cannot be read: 1, "
    )
    assert agreement.unread([]) == ""
