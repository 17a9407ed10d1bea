"""The folder of a report: there whole, or as it was before."""

import errno
import json
from pathlib import Path

import pytest

from severstal_cli.errors import InputError, MachineError, OutputError
from severstal_cli.report import folder


def make(out: Path, text: str) -> None:
    with folder.making(out) as place:
        (place / folder.STORY).write_text(json.dumps({"severstal_report": text}))


def story(out: Path) -> str:
    found: str = json.loads((out / folder.STORY).read_text())["severstal_report"]
    return found


def test_a_report_takes_the_place_of_an_earlier_one_and_leaves_nothing_beside(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    make(out, "one")
    (out / "more").write_text("left by the first")
    make(out, "two")
    assert story(out) == "two"
    assert list(out.parent.iterdir()) == [out]
    assert list(out.iterdir()) == [out / folder.STORY]


def test_an_empty_folder_may_become_one(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    make(tmp_path / "report", "one")
    assert story(tmp_path / "report") == "one"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("wrong")])
def test_what_breaks_off_leaves_the_earlier_one(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "report"
    make(out, "one")

    def break_off() -> None:
        with folder.making(out) as place:
            (place / "half").write_text("half")
            raise error

    with pytest.raises(type(error)):
        break_off()
    assert story(out) == "one"
    assert list(tmp_path.iterdir()) == [out]


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    told = r"cannot write .*report: No space left on device\. Free some space"
    with pytest.raises(OutputError, match=told), folder.making(tmp_path / "report"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".report.part" / "new" / "images"
    left.mkdir(parents=True)
    (left / "1.jpg").write_text("half")
    make(tmp_path / "report", "one")
    assert list(tmp_path.iterdir()) == [tmp_path / "report"]


def test_an_earlier_one_that_a_kill_took_away_comes_back(tmp_path: Path) -> None:
    make(tmp_path / "report", "one")
    (tmp_path / ".report.part").mkdir()
    (tmp_path / "report").rename(tmp_path / ".report.part" / "old")

    def break_off() -> None:
        with folder.making(tmp_path / "report"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert story(tmp_path / "report") == "one"
    assert list(tmp_path.iterdir()) == [tmp_path / "report"]


def test_the_current_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"\. is the current folder\. Name another one"):
        make(Path(), "one")


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    with folder.making(tmp_path / "report"), pytest.raises(MachineError, match="another report is being written"):
        make(tmp_path / "report", "two")
    assert list((tmp_path / "report").iterdir()) == []


@pytest.mark.parametrize("content", ["{}", "[1]", "rubbish", '{"severstal": 1}'])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / folder.STORY).write_text(content)
    with pytest.raises(InputError, match="is there, and is no report"):
        make(tmp_path, "one")
    assert (tmp_path / folder.STORY).read_text() == content
