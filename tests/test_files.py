"""Files appear whole or not at all, whatever goes wrong while they are written."""

import errno
import shutil
from pathlib import Path

import pytest

from severstal_cli import files
from severstal_cli.errors import MachineError, OutputError


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_its_folder_and_nothing_else(tmp_path: Path) -> None:
    files.write_text(tmp_path / "new" / "a.txt", "one\r\ntwo")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"one\r\ntwo"
    assert _names(tmp_path / "new") == ["a.txt"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def _write_half(path: Path, error: BaseException) -> None:
    with files.replacing(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_whatever_ends_the_writing_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)):
        _write_half(path, error)
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["a.txt"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OutputError, match=r"cannot write .*a\.txt: No space left on device\. Free some space"):
        _write_half(tmp_path / "a.txt", full)
    assert _names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"cannot write .*file/below/a\.txt: "):
        files.write_text(tmp_path / "file" / "below" / "a.txt", "text")


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        files.write_text(tmp_path / "a.txt", "text")
    assert _names(tmp_path) == ["a.txt"]


def test_what_belongs_to_read_only_data_goes_to_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert files.beside(data, "splits.csv") == data / "splits.csv"
    monkeypatch.setattr(files, "is_writable", lambda _: False)
    beside = files.beside(data, "splits.csv")
    assert beside.is_relative_to(tmp_path / "cache" / "severstal")
    assert beside == files.beside(data, "splits.csv")
    assert beside != files.beside(tmp_path, "splits.csv")
    (data / "splits.csv").write_text("came with the data")
    assert files.beside(data, "splits.csv") == data / "splits.csv"
    assert files.beside(data, "splits.csv", new=True) == beside
    files.write_text(beside, "the user's own")
    assert files.beside(data, "splits.csv") == beside


def test_a_lock_keeps_others_out_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data" / ".download"
    with files.locked(folder, "it is taken"):
        with pytest.raises(MachineError, match=r"it is taken. Wait for it"), files.locked(folder, "it is taken"):
            raise AssertionError("two at once")
        assert folder.is_dir()
    assert _names(tmp_path) == []
    (tmp_path / "data").mkdir()
    with files.locked(folder, ""):
        pass
    assert _names(tmp_path) == ["data"], "a folder of the user stays"
    with files.locked(folder, ""):
        (folder / "work").touch()
    assert _names(folder) == ["work"]


def test_a_file_system_without_locks_keeps_nothing_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(number: int) -> None:
        def flock(*_: object) -> None:
            raise OSError(number, "it fails")

        monkeypatch.setattr("fcntl.flock", flock)

    folder, done = tmp_path / "a", []
    fails(errno.ENOLCK)
    with files.locked(folder, "it is taken"):
        (folder / "one").touch()
        with files.locked(folder, "it is taken"):
            done.append("two")
    assert done == ["two"]
    assert _names(folder) == ["one"]
    fails(errno.EIO)
    with pytest.raises(OSError, match="it fails"), files.locked(folder, "it is taken"):
        done.append("three")
    assert done == ["two"]


LEFT = f".{'0123456789abcdef'}.part"


def test_what_a_killed_writer_left_goes_with_the_next_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / LEFT).write_text("half")
    (tmp_path / "b" / LEFT).mkdir()
    (tmp_path / "b" / LEFT / "half").write_text("half")
    (tmp_path / "a" / ".other.part").write_text("not ours")
    for name in ("a", "b"):
        files.write_text(tmp_path / name / "new.txt", "new")
    assert _names(tmp_path / "a") == [".other.part", "new.txt"]
    assert _names(tmp_path / "b") == ["new.txt"]


def test_what_a_living_writer_holds_stays(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "a.txt") as one, files.replacing_folder(tmp_path / "b") as two:
        one.write_text("a")
        (two / "in").write_text("b")
        files.remove_temporaries(tmp_path)
        assert one.exists()
        assert two.exists()
    assert _names(tmp_path) == ["a.txt", "b"]


def test_a_link_in_place_of_a_part_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").touch()
    (tmp_path / LEFT).symlink_to(tmp_path / "mine")
    files.remove_temporaries(tmp_path)
    assert _names(tmp_path / "mine") == ["kept"]


def test_a_name_as_long_as_a_disk_takes_is_written(tmp_path: Path) -> None:
    files.write_text(tmp_path / ("y" * 255), "text")
    assert _names(tmp_path) == ["y" * 255]


def test_a_list_of_faults_is_reported_as_its_first(tmp_path: Path) -> None:
    full = shutil.Error([("from", "to", "[Errno 28] No space left on device: 'to'"), ("more", "to", "more")])
    with pytest.raises(OutputError) as caught, files.writing(tmp_path / "report"):
        raise full
    assert str(caught.value) == (
        f"cannot write {tmp_path}/report: [Errno 28] No space left on device: 'to'. "
        "Free some space or name another folder"
    )
    with pytest.raises(OutputError), files.writing(tmp_path / "report"):
        raise shutil.Error([])
