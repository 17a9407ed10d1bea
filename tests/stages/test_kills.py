"""A kill at any file operation loses nothing: the same command, with --resume if asked, ends as without the kill."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("command", "least"), [("predict", 20), ("synth", 20)])
def test_a_command_killed_at_any_file_operation_is_resumed(
    trained,
    tmp_path: Path,
    command: str,
    least: int,
) -> None:
    data, run = trained
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((data / "train_images").iterdir())[:3]:
        (images / path.name).write_bytes(path.read_bytes())
    (tmp_path / "folder").mkdir()
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killed.py"), command, images, run, tmp_path / "folder"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    kills = [line for line in lines if line.startswith("kill ")]
    assert [line for line in kills if not re.fullmatch(r"kill .+: code 0, the same", line)] == []
    assert len(kills) == int(lines[-1].removeprefix("done ")) >= least
    kinds = [line.removeprefix("kill ").split() for line in kills]
    assert {kind[0] for kind in kinds} == {"os.mkdir", "open", "os.rename", "os.remove", "os.rmdir"}
    failures = [line for line in lines if line.startswith(("refused", "traceback"))]
    assert [line for line in failures if "Give --resume to continue it" not in line] == []
