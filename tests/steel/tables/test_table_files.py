"""Files of tables: packed or not, in other encodings, with other separators; and what is refused without being read."""

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from severstal_cli.errors import InputError
from severstal_cli.steel.tables import confidence, csv_rows, table_files
from severstal_cli.steel.tables.mask_table import read_image_list, read_table

TABLE = "ImageId,ClassId,EncodedPixels\na.jpg,1,1 10\n"


def zipped(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", gzip.compress(TABLE.encode())),
        ("t.csv.gz", gzip.compress(TABLE[:30].encode()) + gzip.compress(TABLE[30:].encode())),
        ("t.csv", gzip.compress(TABLE.encode())),
        ("t.csv.zip", zipped(**{"t.csv": TABLE})),
        ("t.zip", zipped(**{"folder/": "", "folder/T.CSV": TABLE, "__MACOSX/folder/._T.csv": "x", "read.me": "x"})),
        ("t.txt", TABLE.encode()),
        ("t.CSV", b"\xef\xbb\xbf" + TABLE.encode().replace(b"\n", b"\r\n")),
        ("t.csv", TABLE.replace(",", ";").encode()),
        ("t.tsv", TABLE.replace(",", "\t").encode()),
        ("t.csv", b"sep=;\r\n" + TABLE.replace(",", ";").encode()),
        ("t.csv", TABLE.replace(",", " , ").replace("a.jpg ,", "a.jpg,").encode()),
    ],
)
def test_one_table_in_many_files(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert csv_rows.is_table(path)
    table = read_table(path)
    assert {key: runs.tolist() for key, runs in table.masks.items()} == {("a.jpg", 0): [[0, 10]]}
    assert read_image_list(path).image_ids == ("a.jpg",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(TABLE.encode())[:-9], " cannot be unpacked: it is damaged or cut short. Unpack it yourself, or"),
        (zipped(**{"t.csv": TABLE})[:-9], " cannot be unpacked: it is damaged or cut short"),
        (
            zipped(**{"t.csv": TABLE, "u.csv": TABLE}),
            ": an archive with 2 tables. Name a table, or an archive with one",
        ),
        (zipped(**{"t.png": ""}), ": an archive with 0 tables"),
        (zipped(**{"[Content_Types].xml": "", "xl/a.csv": ""}), ": it is an Excel workbook. Save the table as CSV"),
        (b"PAR1 and so on", ", line 1: it is a Parquet file"),
        (b"BZh91AY", ", line 1: it is packed by bzip2"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}{said}")


def test_an_encrypted_archive_is_reported(tmp_path: Path) -> None:
    data = bytearray(zipped(**{"t.csv": TABLE}))
    data[6] |= 1  # the flags of the file's own header, and of the list of files
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "t.zip").write_bytes(data)
    with pytest.raises(
        InputError, match=r"t\.zip cannot be unpacked: it has a password, or is packed in an unusual way"
    ):
        read_table(tmp_path / "t.zip")


@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_unpacking_ends_at_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(table_files, "FREE", 1 << 20)
    bomb = "0" * (1 << 26)
    path = tmp_path / f"t.csv.{kind}"
    path.write_bytes(gzip.compress(bomb.encode()) if kind == "gz" else zipped(**{"t.csv": bomb}))
    read = []
    real = gzip.GzipFile.read if kind == "gz" else zipfile.ZipExtFile.read

    def count(stream: object, size: int) -> bytes:
        read.append(size)
        return real(stream, size)

    monkeypatch.setattr(gzip.GzipFile if kind == "gz" else zipfile.ZipExtFile, "read", count)
    with pytest.raises(InputError, match=rf"t\.csv\.{kind} unpacks to more than \d+,\d{{3}},\d{{3}} bytes: from \d\d"):
        read_table(path)
    assert sum(read) < len(bomb) / 2  # the rest was not unpacked


def test_a_compressed_table_of_the_same_name_is_reported(tmp_path: Path) -> None:
    (tmp_path / "train.csv.zip").write_bytes(zipped(**{"t.csv": TABLE}))
    with pytest.raises(InputError, match=r"train\.csv: no such file\. train\.csv\.zip is there: unpack it"):
        read_table(tmp_path / "train.csv")


@pytest.mark.parametrize(
    ("name", "bare"),
    [("s.csv", "s"), ("a/s.csv.gz", "s"), ("s.CSV", "s"), ("s.txt.zip", "s"), ("s.parts", "s.parts"), ("s.v2", "s.v2"),
     (".csv", ".csv"), (".zip", ".zip")],
)  # fmt: skip
def test_names_without_their_endings(name: str, bare: str) -> None:
    assert table_files.bare_name(Path(name)) == bare


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz", "s.csv.zip"])
def test_the_files_beside_a_submission_are_named_without_its_compression(name: str) -> None:
    assert table_files.metadata_path(Path("a") / name) == Path("a/s.json")
    assert confidence.scores_path(Path("a") / name) == Path("a/s.scores.csv")


def test_what_counts_as_a_table(tmp_path: Path) -> None:
    for name in ("s", "thresholds.json"):
        (tmp_path / name).touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run.v2").mkdir()
    tables = {
        name: csv_rows.is_table(tmp_path / name)
        for name in ("s", "thresholds.json", "run", "run.v2", "gone.csv", "gone.TXT", "gone.csv.gz", "unet")
    }
    assert [name for name, found in tables.items() if found] == ["s", "gone.csv", "gone.TXT", "gone.csv.gz"]


def test_a_table_without_line_ends_is_reported_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(",".join(["ImageId_ClassId", "EncodedPixels"] + ["a.jpg_1", "1 10"] * 500))
    for read in (read_table, read_image_list):
        with pytest.raises(
            InputError, match=r"t\.csv, line 1: it has 1,002 columns\. The table may have lost its line"
        ):
            read(path)


def test_a_folder_is_not_a_table(tmp_path: Path) -> None:
    (tmp_path / "part-00001.csv").write_text(TABLE)
    (tmp_path / "plan.json").write_text('{"parts": 1}')
    assert not csv_rows.is_table(tmp_path)
    for read in (read_table, read_image_list):
        with pytest.raises(InputError, match=r"it is a folder\. Name a CSV file$"):
            read(tmp_path)
