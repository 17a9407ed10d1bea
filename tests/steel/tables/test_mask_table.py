"""Tables: both layouts in every dress, every fault with file and line, and files that come back as they were."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from severstal_cli.config import LAYOUTS
from severstal_cli.errors import InputError, OutputError
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables.csv_rows import read_rows
from severstal_cli.steel.tables.headers import FORMS
from severstal_cli.steel.tables.mask_table import (
    Fault,
    Layout,
    log_gaps,
    log_merged,
    past_the_end,
    read_image_list,
    read_table,
    scan_table,
    unnamed_classes,
    write_table,
)

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
BOM = b"\xef\xbb\xbf"
HEADER = "ImageId_ClassId,EncodedPixels\n"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "train.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def runs(text: str) -> list[list[int]]:
    return rle.from_text(text).tolist()


# ---------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    "content",
    [
        b"ImageId_ClassId,EncodedPixels\na.jpg_1,1 3 10 5\na.jpg_2,\nb_c.jpg_1,\nb_c.jpg_2,4 2\n",
        b"EncodedPixels,ImageId_ClassId\n1 3 10 5,a.jpg_1\n,a.jpg_2\n,b_c.jpg_1\n4 2,b_c.jpg_2",
        BOM + b"ImageId_ClassId,EncodedPixels\r\na.jpg_1,1 3 10 5\r\na.jpg_2,nan\r\nb_c.jpg_1,  \r\nb_c.jpg_2,4 2\r\n",
        b'"ImageId_ClassId","EncodedPixels"\n"a.jpg_1","1 3\n10 5"\n"a.jpg_2",NaN\n\n"b_c.jpg_1",""\nb_c.jpg_2," 4 2 "',
    ],
)
def test_original_layout_in_every_dress(tmp_path: Path, content: bytes) -> None:
    table = read_table(write(tmp_path, content), pixels=20)
    assert table.layout is Layout.ORIGINAL
    assert sorted(table.columns) == ["EncodedPixels", "ImageId_ClassId"]
    assert table.image_ids == ("a.jpg", "b_c.jpg")
    assert table.classes == 2
    assert {key: value.tolist() for key, value in table.masks.items()} == {
        ("a.jpg", 0): [[0, 3], [9, 5]],
        ("b_c.jpg", 1): [[3, 2]],
    }
    assert set(table.lines) == {("a.jpg", 0), ("a.jpg", 1), ("b_c.jpg", 0), ("b_c.jpg", 1)}


@pytest.mark.parametrize(
    "content",
    [
        "ImageId,ClassId,EncodedPixels\nb.jpg,3,1 3\na.jpg,1,4 2\nb.jpg,1,nan\n",
        "ImageId,EncodedPixels,ClassId\nb.jpg,1 3,3\na.jpg,4 2,1\nb.jpg,,1\n",
        "EncodedPixels,ClassId,ImageId\n1 3,3,b.jpg\n4 2,1,a.jpg\n,1,b.jpg\n",
    ],
)
def test_current_layout_in_any_column_order(tmp_path: Path, content: str) -> None:
    table = read_table(write(tmp_path, content))
    assert table.layout is Layout.CURRENT
    assert table.columns == tuple(content.split("\n")[0].split(","))
    assert table.image_ids == ("b.jpg", "a.jpg")
    assert table.classes == 3
    assert {key: value.tolist() for key, value in table.masks.items()} == {
        ("b.jpg", 2): runs("1 3"),
        ("a.jpg", 0): runs("4 2"),
    }
    assert table.lines == {("b.jpg", 2): 2, ("a.jpg", 0): 3, ("b.jpg", 0): 4}


def test_lines_are_those_of_the_file_behind_blank_and_broken_ones(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, HEADER + '\na_1,"1 1\n3 1"\n\nb_1,\n'))
    assert table.lines == {("a", 0): 3, ("b", 0): 6}


def test_a_header_alone_says_that_all_images_are_clean(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "ImageId,ClassId,EncodedPixels\n"))
    assert (table.image_ids, dict(table.masks), table.classes, dict(table.lines)) == ((), {}, 0, {})


def test_touching_runs_and_fields_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    text = " ".join(f"{start} 2" for start in range(1, 200_001, 2))
    assert len(text) > 131_072
    table = read_table(write(tmp_path, f"{HEADER}a_1,{text}\n"), pixels=200_000)
    assert rle.area(table.masks["a", 0]) == 200_000
    assert rle.to_text(table.masks["a", 0]) == text


def test_the_end_of_each_image_may_differ(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "a_1,5 1\nb_1,5 1\nc_1,5 1\n")
    _, faults = scan_table(path, pixels={"a": 4, "b": 5})
    assert [(fault.line, fault.message) for fault in faults] == [
        (2, "a, class 1: run 1 (number 1): start 5 reaches past the end, pixel 4")
    ]


ROW_FAULTS = [
    ("a.jpg_1,1 3 0 1", "a.jpg, class 1: run 2 (number 3): start 0 is below 1"),
    ("a.jpg_1,1 2 3", "a.jpg, class 1: run 2 (number 3): start 3 has no length, the count of numbers is odd"),
    ("a.jpg_1,19 3", "a.jpg, class 1: run 1 (number 2): length 3 reaches past the end, pixel 20"),
    ("a.jpg_1,no", "a.jpg, class 1: run 1 (number 1): 'no' is not a number in plain digits"),
    (
        "a.jpg_1,1 10.0",
        "a.jpg, class 1: run 1 (number 2): '10.0' is not a number in plain digits; numbers are whole, "
        "without a decimal point",
    ),
    (
        "a.jpg_1,1.5E+05 3",
        "a.jpg, class 1: run 1 (number 1): '1.5E+05' is not a number in plain digits; a spreadsheet "
        "has rounded it, and its digits are lost",
    ),
    (
        "a.jpg_1,[1 10]",
        "a.jpg, class 1: run 1 (number 1): '[1' is not a number in plain digits; masks have no brackets",
    ),
    (
        'a.jpg_1,"1, 10"',
        "a.jpg, class 1: run 1 (number 1): '1,' is not a number in plain digits; blanks separate "
        "numbers, and nothing stands inside of them",
    ),
    (
        "a.jpg_0,1 20",
        "ClassId 0 is below 1 (where ids count from 0, add 1 to each; in a sample file it is a placeholder)",
    ),
    ("a.jpg_x,1 2", "ClassId 'x' is not a whole number from 1"),
    ("a.jpg_,1 2", "ClassId '' is not a whole number from 1"),
    ("a.jpg_-1,1 2", "ClassId '-1' is not a whole number from 1"),
    ("a.jpg_1.5,1 2", "ClassId '1.5' is not a whole number from 1"),
    ("a.jpg_.0,1 2", "ClassId '.0' is not a whole number from 1"),
    ("a.jpg_01,1 2", "ClassId '01' is not a whole number from 1"),
    ("a.jpg_\u0663,1 2", "ClassId '\u0663' is not a whole number from 1"),
    ("a.jpg_255,1 2", "ClassId '255' is above 254"),
    ("a.jpg_" + "9" * 5000 + ",1 2", "ClassId '" + "9" * 60 + "...' is above 254"),
    ("a.jpg,1 2", "ImageId_ClassId 'a.jpg' is not an image, an underscore and a class"),
    ("_1,1 2", "ImageId is empty"),
    (" a.jpg_1,1 2", "ImageId ' a.jpg' has blanks around it or characters that cannot be shown"),
    ("a\0.jpg_1,1 2", "ImageId 'a\\x00.jpg' has blanks around it or characters that cannot be shown"),
    ('"a\n.jpg_1",1 2', "ImageId 'a\\n.jpg' has blanks around it or characters that cannot be shown"),
    ("../a.jpg_1,1 2", "ImageId '../a.jpg' is a path, not the name of a file"),
    ("a" * 252 + ".jpg_1,1 2", "ImageId '" + "a" * 60 + "...' is longer than the 255 bytes of a file's name"),
    ("1.2E+10_1,1 2", "ImageId '1.2E+10' is a number that a spreadsheet has rounded: the name is lost"),
    ("a\u202eb.jpg_1,1 2", "ImageId 'a\\u202eb.jpg' has blanks around it or characters that cannot be shown"),
    ("a\x1b[31m.jpg_1,1 2", "ImageId 'a\\x1b[31m.jpg' has blanks around it or characters that cannot be shown"),
    ("a.jpg_1", "1 field where the header has 2"),
    ("a.jpg_1,1 2,", "3 fields where the header has 2"),
    ('a.jpg_1,"1 2', "not a row of a CSV file: unexpected end of data"),
    ('a.jpg_1,"1 2"3', "not a row of a CSV file: ',' expected after '\"'"),
]


@pytest.mark.parametrize(("row", "message"), ROW_FAULTS)
def test_a_faulty_row_is_named_by_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    path = write(tmp_path, f"{HEADER}ok.jpg_1,1 2\nok.jpg_2,\n{row}\nnext.jpg_1,0\n")
    with pytest.raises(InputError) as caught:
        read_table(path, pixels=20)
    assert str(caught.value) == f"{path}, line 4: {message}"


def test_scan_tells_all_faults_and_keeps_what_is_right(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "a_1,1 2\na_2,\nb_x,\nb_1,0 1\nb_2,4 4\nc\n")
    table, faults = scan_table(path)
    assert faults == [
        Fault(line=4, message="ClassId 'x' is not a whole number from 1"),
        Fault(line=5, message="b, class 1: run 1 (number 1): start 0 is below 1"),
        Fault(line=7, message="1 field where the header has 2"),
    ]
    assert {key: value.tolist() for key, value in table.masks.items()} == {("a", 0): runs("1 2"), ("b", 1): runs("4 4")}
    assert table.lines == {("a", 0): 2, ("a", 1): 3, ("b", 0): 5, ("b", 1): 6}  # the faulty mask has a row all the same


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b"", "", "it is empty"),
        (b"\n\n", "", "it is empty"),
        (BOM, "", "it is empty"),
        (b"ImageId,EncodedPixels\n", ", line 1", "the header is ImageId,EncodedPixels; missing: ClassId"),
        (
            b"ImageId_ClassId,EncodedPixels,EncodedPixels\n",
            ", line 1",
            "the header is ImageId_ClassId,EncodedPixels,EncodedPixels; doubled: EncodedPixels",
        ),
        (
            b"a.jpg_1,1 2\n",
            ", line 1",
            "the header is a.jpg_1,1 2; missing: ImageId,ClassId,EncodedPixels; unknown: a.jpg_1,1 2",
        ),
        (b'"ImageId', ", line 1", "not a row of a CSV file: unexpected end of data"),
        ("ImageId_ClassId,EncodedPixels\na_1,\n\xe4_1,\n".encode("latin-1"), ", line 3", "it is not UTF-8 text"),
        ("ImageId_ClassId,EncodedPixels\n".encode("utf-16"), ", line 1", "it is not UTF-8 text but UTF-16, as Excel's"),
        (
            "ImageId_ClassId,EncodedPixels\n".encode("utf-16-le"),
            ", line 1",
            "it holds null bytes: it is no text, or UTF",
        ),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", ", line 1", "it is an Excel workbook"),
        (b"PK\x03\x04\xff\xfe", " cannot be unpacked", "it is damaged or cut short"),
        (
            b"ImageId_ClassId,ImageId,ClassId,EncodedPixels\n",
            ", line 1",
            "the header is ImageId_ClassId,ImageId,ClassId,EncodedPixels; unknown: ImageId,ClassId; it has the columns",
        ),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, content: bytes, where: str, what: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        scan_table(path)
    assert str(caught.value).startswith(f"{path}{where}: {what}")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv: no such file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="it is a folder"):
        read_table(tmp_path)
    if os.geteuid() != 0:  # root may read all
        path = write(tmp_path, HEADER)
        path.chmod(0)
        with pytest.raises(InputError, match="Permission denied"):
            read_table(path)


# ------------------------------------------------------------------------------ as other programs write tables


@pytest.mark.parametrize(
    "content",
    [
        "Unnamed: 0,ImageId_ClassId,EncodedPixels\n0,a.jpg_1,1 3\n1,a.jpg_2,\n",
        ",ImageId_ClassId,EncodedPixels,fold\n0,a.jpg_1,1 3,x\n1,a.jpg_2,,y\n",
        "ImageId,ClassId,EncodedPixels,Usage\na.jpg,1,1 3,Public\na.jpg,2,,Private\n",
        " ImageId , ClassId,EncodedPixels \u00a0\na.jpg,1,1 3\na.jpg, 2,\n",
        "ImageId,ClassId,EncodedPixels\na.jpg,1.0,1 3\na.jpg,2.000,\n",
        "ImageId_ClassId,EncodedPixels\na.jpg_1.0,1 3\na.jpg_2.0,\n",
        "ImageId;ClassId;EncodedPixels\na.jpg;1,0;1 3\na.jpg;2,0;\n",
    ],
)
def test_what_is_beside_the_columns_is_not_looked_at(tmp_path: Path, content: str) -> None:
    table = read_table(write(tmp_path, content))
    assert {key: value.tolist() for key, value in table.masks.items()} == {("a.jpg", 0): [[0, 3]]}
    assert set(table.lines) == {("a.jpg", 0), ("a.jpg", 1)}


@pytest.mark.parametrize(
    "word", ["-1", "None", "NA", "nan", "NaN", "-nan", "NULL", "[]", '""""""', "<NA>", "#N/A", " -1 "]
)
def test_words_for_an_empty_mask(tmp_path: Path, word: str) -> None:
    table = read_table(write(tmp_path, f"{HEADER}a_1,1 3\na_2,{word}\nb_1,{word}\n"))
    assert set(table.masks) == {("a", 0)}
    assert set(table.lines) == {("a", 0), ("a", 1), ("b", 0)}
    assert set(table.words.values()) in (set(), {3})  # those that pandas does not know, once, with a line


def test_several_rows_of_an_image_and_class_are_one_mask(tmp_path: Path, heard) -> None:
    path = write(tmp_path, HEADER + "a_1,21 10\na_1,1 5\nb_1,\na_1,4 3 30 4\nb_1,2 1\nc_1,1 1\n")
    table = read_table(path)
    assert {key: value.tolist() for key, value in table.masks.items()} == {
        ("a", 0): [[0, 6], [20, 13]],
        ("b", 0): [[1, 1]],
        ("c", 0): [[0, 1]],
    }
    assert table.merged == {3: ("a", 0), 5: ("a", 0), 6: ("b", 0)}
    assert table.lines == {("a", 0): 2, ("b", 0): 4, ("c", 0): 7}
    log_merged(path, table, heard)
    assert heard.lines == [
        f"{path}: 3 rows merged with an earlier one of the same image and class: first line 3, a, class 1"
    ]


def test_names_are_the_same_in_either_form_of_unicode(tmp_path: Path) -> None:
    composed, apart = "\u00e4.jpg", "a\u0308.jpg"
    table = read_table(write(tmp_path, f"{HEADER}{apart}_1,1 3\n{composed}_2,\n{apart}_3,\n"), pixels={composed: 3})
    assert table.image_ids == (composed,)
    assert set(table.masks) == {(composed, 0)}
    assert read_image_list(write(tmp_path, f"ImageId\n{apart}\n{composed}\n")).image_ids == (composed,)


@pytest.mark.parametrize("name", ["a\u00a0b.jpg", "10.30\u202fAM.png", "a b.jpg", "\u3042\u3000.png"])
def test_names_may_hold_spaces_of_any_kind(tmp_path: Path, name: str) -> None:
    assert read_table(write(tmp_path, f"{HEADER}{name}_1,1 3\n")).image_ids == (name,)


def long_mask(characters: int, first: int = 1) -> str:
    """An even count of numbers in just so many characters."""
    text = " ".join(f"{start} 1" for start in range(first, first + 4 * characters, 3))[:characters]
    text = text[: text.rindex(" ")]
    if len(text.split()) % 2:
        text = text[: text.rindex(" ")]
    return f"{text[:-1]}{'1' * (characters - len(text) + 1)}"


@pytest.mark.parametrize(("characters", "who"), [(32_767, "Excel"), (50_000, "Google Sheets"), (65_535, "LibreOffice")])
def test_a_field_that_a_spreadsheet_cut_is_refused(tmp_path: Path, characters: int, who: str) -> None:
    text = long_mask(characters)
    assert len(text) == characters
    path = write(tmp_path, f"{HEADER}b_1,1 3\na_1,{text}\n")
    table, faults = scan_table(path)
    said = f"a, class 1: the field has {characters:,} characters, the most of all rows, and {who}"
    assert [(fault.line, fault.message[: len(said)]) for fault in faults] == [(3, said)]
    assert set(table.masks) == {("b", 0)}
    read_table(
        write(tmp_path, f"{HEADER}b_1,1 3\na_1,{text}\nc_1,{long_mask(characters + 2)}\n")
    )  # longer ones are there
    read_table(write(tmp_path, f"{HEADER}b_1,1 3\na_1,{long_mask(characters - 1)}\n"))
    # where half a run is left, the message has the reason, too
    path = write(tmp_path, f"{HEADER}a_1,{long_mask(characters - 2)} 9\n")
    with pytest.raises(InputError, match=rf"line 2: a, class 1: .*; {who}.* cuts fields at {characters:,} characters"):
        read_table(path)


def test_a_shorter_limit_shows_by_several_fields(tmp_path: Path) -> None:
    texts = [long_mask(4000, first) for first in (1, 4, 7)]
    assert {len(text) for text in texts} == {4000}
    rows = [f"{number}_1,{text}\n" for number, text in enumerate(texts)]
    _, faults = scan_table(write(tmp_path, HEADER + "".join(rows)))
    assert [fault.line for fault in faults] == [2, 3, 4]
    assert "a database cuts there" in faults[0].message
    read_table(write(tmp_path, HEADER + "".join(rows[:2])))  # by chance
    read_table(
        write(tmp_path, HEADER + "".join(rows[:1]) + "".join(f"x{row}" for row in rows[:1] * 9))
    )  # one mask, often


def test_the_classes_that_rows_name(tmp_path: Path, heard) -> None:
    path = write(tmp_path, "ImageId,ClassId,EncodedPixels\na,2,1 3\nb,7,\nc,18,1 1\n")
    table = read_table(path)
    assert (table.classes, table.class_ids) == (18, (2, 7, 18))
    log_gaps(path, table, heard)
    (line,) = heard.lines
    assert line.startswith(
        f"{path}: no row names classes 1, 3 to 6 and 8 to 17, so the mean Dice is over 2, 7 and 18 alone"
    )
    assert line.endswith("as a,1,")
    assert unnamed_classes((1, 2, 3)) == unnamed_classes(()) == []


def test_runs_past_the_end_have_one_message(tmp_path: Path) -> None:
    rows = "a_1,5 1\nb_1,1 1 3 9\nc_1,1 2 9 1 11 3\nd_1,4 2\ne_1,4 2\n"
    pixels = {"a": 4, "b": 10, "c": 8, "d": 5, "e": 4}
    path = write(tmp_path, HEADER + rows)
    faults = scan_table(path, pixels=pixels)[1]
    assert len(faults) == 4
    assert list(past_the_end(read_table(path), pixels)) == faults
    assert list(past_the_end(read_table(path), {"d": 5})) == []


# ------------------------------------------------------------------------------------------ lists and samples


def test_a_sample_with_other_columns_is_one(tmp_path: Path) -> None:
    sample = read_image_list(write(tmp_path, "i,ImageId,EncodedPixels,ClassId,Usage\n0,b.jpg,1 409600,0,Public\n"))
    assert (sample.layout, sample.columns) == (Layout.CURRENT, ("ImageId", "EncodedPixels", "ClassId"))
    sample = read_image_list(write(tmp_path, HEADER + "a.jpg_1,\na.jpg_1,1 1\na.jpg_2,\n"))
    assert sample.rows == (("a.jpg", 1), ("a.jpg", 2))


def test_the_sample_of_today_gives_images_in_order(tmp_path: Path) -> None:
    content = "ImageId,EncodedPixels,ClassId\nb.jpg,1 409600,0\na.jpg,1 409600,0\n"
    sample = read_image_list(write(tmp_path, content))
    assert sample.layout is Layout.CURRENT
    assert sample.columns == ("ImageId", "EncodedPixels", "ClassId")
    assert sample.image_ids == ("b.jpg", "a.jpg")
    assert sample.rows == ()


def test_the_sample_of_2019_gives_rows_in_order(tmp_path: Path) -> None:
    sample = read_image_list(write(tmp_path, HEADER + "b.jpg_2,\na.jpg_1,1 1\nb.jpg_1,\n"))
    assert sample.layout is Layout.ORIGINAL
    assert sample.image_ids == ("b.jpg", "a.jpg")
    assert sample.rows == (("b.jpg", 2), ("a.jpg", 1), ("b.jpg", 1))


def test_any_table_with_images_is_a_list(tmp_path: Path) -> None:
    sample = read_image_list(write(tmp_path, "ImageId,Part,Classes\nb.jpg,holdout,1 3\na.jpg,0,\nb.jpg,1,\n"))
    assert (sample.layout, sample.image_ids) == (None, ("b.jpg", "a.jpg"))
    assert read_image_list(write(tmp_path, "ImageId\nb.jpg\n")).image_ids == ("b.jpg",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Image,Part\na.jpg,0\n", ", line 1: the header is Image,Part"),
        ("ImageId,ImageId\na.jpg,0\n", ", line 1: the header is ImageId,ImageId"),
        ("ImageId\n", ": it names no image"),
        ("ImageId,Part\na.jpg\n", ", line 2: 1 field where the header has 2"),
        (HEADER + "a.jpg_0,\n", ", line 2: ClassId 0 is below 1"),
        ("ImageId\nx/a.jpg\n", ", line 2: ImageId 'x/a.jpg' is a path"),
        ('ImageId\na.jpg\n"b', ", line 3: not a row of a CSV file"),
    ],
)
def test_faulty_lists(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_image_list(path)
    assert str(caught.value).startswith(f"{path}{message}")


# ---------------------------------------------------------------------------------------------------- writing

MASKS = {("b.jpg", 1): rle.from_text("1 3 10 5"), ("a.jpg", 0): rle.from_text("2 2")}


@pytest.mark.parametrize(
    ("layout", "columns", "empty_rows", "content"),
    [
        (Layout.ORIGINAL, None, True, HEADER + "b.jpg_1,\nb.jpg_2,1 3 10 5\na.jpg_1,2 2\na.jpg_2,\n"),
        (Layout.ORIGINAL, None, False, HEADER + "b.jpg_2,1 3 10 5\na.jpg_1,2 2\n"),
        (Layout.CURRENT, None, False, "ImageId,ClassId,EncodedPixels\nb.jpg,2,1 3 10 5\na.jpg,1,2 2\n"),
        (
            Layout.CURRENT,
            ("ImageId", "EncodedPixels", "ClassId"),
            True,
            "ImageId,EncodedPixels,ClassId\nb.jpg,,1\nb.jpg,1 3 10 5,2\na.jpg,2 2,1\na.jpg,,2\n",
        ),
    ],
)
def test_what_is_written(
    tmp_path: Path, layout: Layout, columns: tuple[str, ...] | None, empty_rows: bool, content: str
) -> None:
    path = tmp_path / "new" / "out.csv"
    count = write_table(path, MASKS, ["b.jpg", "a.jpg"], 2, layout=layout, columns=columns, empty_rows=empty_rows)
    assert path.read_bytes() == content.encode()
    assert count == content.count("\n") - 1


def test_names_that_need_quotes_come_back(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    names = ['a,"b".jpg', "\u00e4.png"]
    for layout in Layout:
        write_table(path, {(names[0], 0): rle.from_text("1 1")}, names, 1, layout=layout)
        assert read_table(path).image_ids == tuple(names)


def test_wrong_arguments_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with pytest.raises(ValueError, match="class 2 has no row"):
        write_table(path, MASKS, ["a.jpg", "b.jpg"], 1, layout=Layout.ORIGINAL)
    with pytest.raises(ValueError, match=r"b\.jpg, class 2 has no row"):
        write_table(path, MASKS, ["a.jpg"], 2, layout=Layout.ORIGINAL)
    with pytest.raises(ValueError, match="twice"):
        write_table(path, {}, ["a.jpg", "a.jpg"], 2, layout=Layout.ORIGINAL)
    with pytest.raises(ValueError, match="not those of the current layout"):
        write_table(path, {}, [], 2, layout=Layout.CURRENT, columns=("ImageId", "EncodedPixels"))
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_path_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*out\.csv"):
        write_table(tmp_path / "out.csv", {}, [], 0, layout=Layout.CURRENT)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["a.jpg", "b_1.png", "c"]), st.integers(0, 3)),
        st.lists(st.integers(1, 9), min_size=2, max_size=8).filter(lambda steps: len(steps) % 2 == 0),
    ),
    st.sampled_from(list(Layout)),
    st.booleans(),
)
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    steps: dict[tuple[str, int], list[int]],
    layout: Layout,
    empty_rows: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.csv"
    masks = {}
    for key, values in steps.items():
        edges = np.cumsum(values)
        masks[key] = np.stack([edges[::2], edges[1::2] - edges[::2]], axis=1).astype(np.int32)
    names = ["c", "b_1.png", "a.jpg"]
    write_table(path, masks, names, 4, layout=layout, empty_rows=empty_rows)
    table = read_table(path, pixels=100)
    assert {key: value.tolist() for key, value in table.masks.items()} == {
        key: value.tolist() for key, value in masks.items()
    }
    assert table.layout is layout
    if empty_rows:
        assert list(table.lines) == [(name, channel) for name in names for channel in range(4)]


@pytest.mark.parametrize(
    ("name", "pixels", "empty_rows"),
    [
        ("severstal/train.csv", 256 * 1600, False),
        ("sd900/train.csv", 200 * 200, False),
        ("severstal/submissions/stage1-sorted.csv", 256 * 1600, True),
        ("severstal/submissions/stage1-unsorted.csv", 256 * 1600, True),
    ],
)
def test_real_tables_are_rewritten_byte_for_byte(tmp_path: Path, name: str, pixels: int, empty_rows: bool) -> None:
    if not (REAL / name).exists():
        pytest.skip("the real tables are not here")
    table = read_table(REAL / name, pixels=pixels)
    path = tmp_path / "out.csv"
    write_table(path, table.masks, table.image_ids, table.classes, layout=table.layout, empty_rows=empty_rows)
    assert path.read_bytes() == (REAL / name).read_bytes()


def test_the_official_sample_gives_its_rows_and_order() -> None:
    path = REAL / "severstal" / "sample_submission.csv"
    if not path.exists():
        pytest.skip("the official sample is not here")
    sample = read_image_list(path)
    assert sample.layout is Layout.CURRENT
    assert sample.columns == ("ImageId", "EncodedPixels", "ClassId")
    assert list(sample.image_ids) == [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
    assert len(sample.image_ids) == 5506


def test_a_table_is_not_in_memory_several_times_over(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    text = " ".join(f"{1000 + 10 * number} 5" for number in range(1000))
    path.write_text("ImageId_ClassId,EncodedPixels\n" + "".join(f"{row:05d}.jpg_1,{text}\n" for row in range(400)))
    tracemalloc.start()
    try:
        _, rows = read_rows(path)
        assert sum(1 for _ in rows) == 400
        assert tracemalloc.get_traced_memory()[1] < 2.2 * path.stat().st_size  # io.StringIO takes 4 bytes a character
    finally:
        tracemalloc.stop()


def test_each_layout_has_its_form_and_its_name_in_the_settings() -> None:
    assert set(LAYOUTS) == set(Layout) == set(FORMS)
    for layout, form in FORMS.items():
        assert form.columns[0] == LAYOUTS[layout].partition(",")[0]
        row = "a_b.jpg", 12, "1 2"
        for columns in (form.columns, form.columns[::-1]):
            assert form.reader(columns)(form.writer(columns)(*row)) == row
