"""The history of submissions, and its table."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from severstal_cli.errors import InputError, OutputError
from severstal_cli.kaggle import submission_log

ROW = {
    "date": "2026-11-23T04:55:00Z",
    "name": "severstal-unet-small-fold0",
    "runs": "unet-small-fold0",
    "validation_dice": 0.912345,
    "status": "complete",
    "public": 0.88123,
    "private": 0.87,
    "private_place": 1043,
}


def test_a_row_is_added_and_then_updated(tmp_path: Path) -> None:
    submission_log.record(tmp_path, 7, {"status": "pending", "name": "a"})
    submission_log.record(tmp_path, 8, ROW)
    submission_log.record(tmp_path, 7, {"status": "complete", "public": 0.5, "private": None})
    rows = submission_log.read(tmp_path)
    assert [(row["ref"], row["name"], row["status"], row["public"], row["private"]) for row in rows] == [
        ("7", "a", "complete", "0.5", ""),
        ("8", ROW["name"], "complete", "0.88123", "0.87"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_manual_edits_are_kept(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_bytes(
        b'\xef\xbb\xbfname,ref,note,\r\na,7,"good,\r\nI think",\r\n\r\nb\r\nc,9,gr\xc3\xbc\xc3\x9fe,,,\r\n'
    )
    rows = submission_log.read(tmp_path)
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    assert all(set(submission_log.COLUMNS) <= set(row) for row in rows)
    submission_log.record(tmp_path, 7, {"public": 0.5})
    after = submission_log.read(tmp_path)
    assert [row["note"] for row in after] == ["good,\r\nI think", "", "grüße"]
    assert (after[0]["public"], len(after)) == ("0.5", 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name,ref\ngr\xfc\xdfe,7\n", r"cannot read .*history.csv: byte 11 is not UTF-8\. Save it as UTF-8"),
        (b"name,ref\na,7\nb,8,why\n", r"history.csv, line 3: a cell without a column name\. Name its column"),
        (b"name,ref,,x\na,7,why,\n", r"line 2: a cell without a column name"),
        (b"name,ref,note,note\n", r"two columns of one name"),
    ],
    ids=["latin-1", "too many cells", "no name", "two names"],
)
def test_a_file_that_would_lose_cells_is_refused_and_kept(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(InputError, match=words) as raised:
        submission_log.record(tmp_path, 7, {"public": 0.5})
    assert "\n" not in str(raised.value)
    assert (tmp_path / "history.csv").read_bytes() == content


def test_no_history_and_one_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    assert submission_log.read(tmp_path / "none") == []
    (tmp_path / "history.csv").mkdir()
    with pytest.raises(InputError, match="cannot read"):
        submission_log.read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises((InputError, OutputError)):
        submission_log.record(tmp_path / "file", 7, {})


def test_the_table_fits_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, severstal: Callable[..., Any]
) -> None:
    submission_log.record(tmp_path, 7, ROW)
    submission_log.record(
        tmp_path, 8, {**ROW, "status": "pending", "public": None, "private": None, "private_place": None}
    )
    monkeypatch.setenv("COLUMNS", "80")
    lines = severstal("submissions", tmp_path).out.splitlines()
    assert max(map(len, lines)) <= 80
    table = [line for line in lines if "2026-11-23" in line]
    assert re.fullmatch(r" *2026-11-23 +unet-small-fold0 +0\.9123 +0\.8812 +0\.8700 +1043 *", table[0])
    assert re.fullmatch(r" *2026-11-23 +unet-small-fold0 +0\.9123 +pending *", table[1])


def test_the_history_as_json_and_an_empty_one(tmp_path: Path, severstal: Callable[..., Any]) -> None:
    nothing = f"nothing was submitted yet: no rows in {tmp_path / 'history.csv'}\n"
    assert severstal("submissions", tmp_path) == (0, nothing, "")
    submission_log.record(tmp_path, 7, ROW)
    assert json.loads(severstal("submissions", tmp_path, "--json").out)[0]["public"] == "0.88123"
