"""The folder of a report: replaced by a complete report, or left as it was."""

import errno
import json
from pathlib import Path

import pytest

from severstal_cli.errors import InputError, MachineError, OutputError
from severstal_cli.report import folder


def make(out: Path, text: str) -> None:
    with folder.replacing(out) as site:
        (site / folder.METADATA).write_text(json.dumps({"severstal_report": text}))


def metadata(out: Path) -> str:
    found: str = json.loads((out / folder.METADATA).read_text())["severstal_report"]
    return found


def test_a_report_replaces_an_earlier_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    make(out, "one")
    (out / "more").write_text("left by the first")
    make(out, "two")
    assert metadata(out) == "two"
    assert list(out.parent.iterdir()) == [out]
    assert list(out.iterdir()) == [out / folder.METADATA]


def test_a_report_replaces_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    make(tmp_path / "report", "one")
    assert metadata(tmp_path / "report") == "one"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("wrong")])
def test_an_error_leaves_the_earlier_report(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "report"
    make(out, "one")

    def break_off() -> None:
        with folder.replacing(out) as site:
            (site / "half").write_text("half")
            raise error

    with pytest.raises(type(error)):
        break_off()
    assert metadata(out) == "one"
    assert list(tmp_path.iterdir()) == [out]


def test_a_full_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    message = r"cannot write .*report: No space left on device\. Free some space"
    with pytest.raises(OutputError, match=message), folder.replacing(tmp_path / "report"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_the_remains_of_a_killed_report_are_removed(tmp_path: Path) -> None:
    left = tmp_path / ".report.part" / "new" / "images"
    left.mkdir(parents=True)
    (left / "1.jpg").write_text("half")
    make(tmp_path / "report", "one")
    assert list(tmp_path.iterdir()) == [tmp_path / "report"]


def test_an_earlier_report_is_restored_after_a_kill(tmp_path: Path) -> None:
    make(tmp_path / "report", "one")
    (tmp_path / ".report.part").mkdir()
    (tmp_path / "report").rename(tmp_path / ".report.part" / "old")

    def break_off() -> None:
        with folder.replacing(tmp_path / "report"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert metadata(tmp_path / "report") == "one"
    assert list(tmp_path.iterdir()) == [tmp_path / "report"]


def test_the_current_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"\. is the current folder\. Name another one"):
        make(Path(), "one")


def test_concurrent_reports_are_refused(tmp_path: Path) -> None:
    with folder.replacing(tmp_path / "report"), pytest.raises(MachineError, match="another report is being written"):
        make(tmp_path / "report", "two")
    assert list((tmp_path / "report").iterdir()) == []


@pytest.mark.parametrize("content", ["{}", "[1]", "rubbish", '{"severstal": 1}'])
def test_a_folder_that_is_not_a_report_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    (tmp_path / folder.METADATA).write_text(content)
    with pytest.raises(InputError, match="exists and is not a report"):
        make(tmp_path, "one")
    assert (tmp_path / folder.METADATA).read_text() == content
