"""Colour maps: as given by hand, of PASCAL VOC, and of a labelmap."""

from pathlib import Path

import pytest

from severstal_cli.errors import InputError, UsageError
from severstal_cli.steel.mask_images.colours import find_labelmap, read_colours, read_labelmap

LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nscratch:250,50,83::\nold: paint:50,183,250:a,b:\n"


def test_colours_are_given_by_hand() -> None:
    assert read_colours("ff0000=1, #00FF00=2,ffffff=0,f00000=1") == {0xFF0000: 1, 0xFF00: 2, 0xFFFFFF: 0, 0xF00000: 1}
    assert read_colours("") == {}


def test_the_colours_of_voc() -> None:
    colours = read_colours("voc")
    assert (colours[0], colours[0x800000], colours[0x008000], colours[0x004080], colours[0xE0E0C0]) == (0, 1, 2, 20, 0)


def test_a_labelmap_counts_its_labels_but_the_background(tmp_path: Path) -> None:
    path = tmp_path / "labelmap.txt"
    path.write_text(LABELMAP)
    assert read_labelmap(path) == {0: 0, 0xFA3253: 1, 0x32B7FA: 2}
    assert read_colours(str(path)) == read_labelmap(path)
    (tmp_path / "SegmentationClass").mkdir()
    assert find_labelmap(tmp_path / "SegmentationClass") == path
    assert find_labelmap(tmp_path) == path
    assert find_labelmap(tmp_path.parent) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ff0000", "wrong colours: ff0000. Give RRGGBB=CLASS, as ff0000=1,00ff00=2, or voc, or a labelmap.txt"),
        ("red=1", "wrong colours: 'red=1'. Give RRGGBB=CLASS"),
        ("ff0000=N", "wrong colours: 'ff0000=N'"),
        ("ff0000=1,", "wrong colours: ''"),
        ("ff0000=255", "wrong colours: 'ff0000=255'. Class ids are 1 to 254, 0 is the background"),
        ("ff0000=1,FF0000=2", "wrong colours: ff0000 is class 1 and class 2. Give each colour one class"),
    ],
)
def test_wrong_colours_are_wrong_usage(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_colours(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a:1,2\n", "labelmap.txt, line 1: it is not label:red,green,blue::"),
        ("a:1,2,256::\n", "labelmap.txt, line 1: it is not label:red,green,blue::"),
        ("a:1,2,3::\nb:1,2,3::\n", "labelmap.txt, line 2: another label has 010203, too"),
        ("background:0,0,0::\n", "labelmap.txt: it has no colour"),
    ],
)
def test_a_wrong_labelmap_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "labelmap.txt").write_text(content)
    with pytest.raises(InputError) as caught:
        read_labelmap(tmp_path / "labelmap.txt")
    assert message in str(caught.value)
