"""What a terminal, a pipe and a shell see: the pipeline, completion, colours, narrow windows, readers that go away."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from severstal_cli import cli
from severstal_cli.cli.app import PIPELINE
from severstal_cli.learning.networks import registry

PROGRAM = Path(sys.executable).with_name("severstal")
COMMANDS = typer.main.get_command(cli.app).commands


def severstal(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The program as it is started at a prompt."""
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return subprocess.run([PROGRAM, *arguments], capture_output=True, check=False, cwd=cwd, env=clean | environment)


def test_without_a_command_the_pipeline_is_told_in_order() -> None:
    done = severstal()
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert max(map(len, lines)) <= 80
    printed = [
        line.split()[-len(example.split()) :] for line in lines for _, example in PIPELINE if line.endswith(example)
    ]
    assert [" ".join(words) for words in printed] == [example for _, example in PIPELINE]


@pytest.mark.parametrize("example", [example for _, example in PIPELINE])
def test_every_example_is_a_command_line(example: str) -> None:
    program, name, *arguments = example.split()
    assert program == "severstal"
    with COMMANDS[name].make_context(name, arguments, resilient_parsing=False) as context:
        assert context.params


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("severstal comp", ["compare"]),
        ("severstal train --arch l", ["linknet", "linknet-small", "linknet-wide"]),
        ("severstal thresholds ", ["one", "two"]),
        ("severstal score --model models/t", ["models/two"]),
        ("severstal compare unet-", ["unet-small"]),
        ("severstal compare ", [*registry.REGISTRY, "one", "two"]),
        ("severstal export elsewhere/", ["elsewhere/three"]),
        ("severstal export models/", ["models/one", "models/two"]),
    ],
)
def test_the_shell_completes_commands_networks_and_runs(tmp_path: Path, words: str, offered: list[str]) -> None:
    for folder in ("models/one", "models/two", "elsewhere/three"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.json").touch()
    (tmp_path / "models" / "no run").mkdir()
    place = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_SEVERSTAL_COMPLETE": "complete_bash"}
    done = severstal(cwd=tmp_path, **place)
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(done.stdout.decode().split()) == sorted(offered)


@pytest.mark.parametrize("arguments", [["models"], ["--help"], ["train", "--help"]], ids=" ".join)
@pytest.mark.parametrize("columns", ["60", "80"])
def test_nothing_is_wider_than_the_window(arguments: list[str], columns: str) -> None:
    done = severstal(*arguments, COLUMNS=columns)
    assert max(map(len, done.stdout.decode().splitlines())) <= int(columns)


def test_colours_are_left_off_where_they_are_not_wanted() -> None:
    colour = re.compile(rb"\x1b\[[\d;]*3\d")  # bold and italic are no colours
    assert colour.search(severstal("--help", FORCE_COLOR="1").stdout)
    assert not colour.search(severstal("--help", FORCE_COLOR="1", NO_COLOR="1").stdout)
    assert b"\x1b" not in severstal("--help").stdout
    assert b"\x1b" not in severstal("models").stdout


def test_a_terminal_without_unicode_gets_plain_tables() -> None:
    done = severstal("models", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert b"linknet-small" in done.stdout


def test_a_reader_that_goes_away_is_no_fault() -> None:
    done = subprocess.run(f"{PROGRAM} models | head -1", shell=True, capture_output=True, check=False)
    assert done.stdout.startswith(b"networks")
    assert b"Traceback" not in done.stderr
