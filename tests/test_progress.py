"""Bars, where they reckon; and lines, which show what others wrote without obeying it."""

import pickle

import pytest

from severstal_cli.errors import LONGEST, InputError, shown
from severstal_cli.printing.table import print_table
from severstal_cli.progress import BYTES, TerminalProgress

CONTROL = "a\x1b[2J\x1b]0;owned\x07\r\u202eb\u2028\x9b\udcff\x00"
SHOWN = r"a\x1b[2J\x1b]0;owned\x07\r\u202eb\u2028\x9b\xff\x00"


def test_a_bar_of_bytes_shows_their_usual_units(capfd: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress().bar("downloading", 3_700_000, BYTES) as bar:
        bar.advance(1_200_000)
        bar.advance(2_500_000)
    assert capfd.readouterr().err.startswith("downloading: 3.7 MB of 3.7 MB, ")


def test_control_characters_are_shown_not_obeyed() -> None:
    assert shown(CONTROL) == SHOWN
    assert shown("Ångström 鋼 'é'") == "Ångström 鋼 'é'"
    assert shown("x" * LONGEST) == "x" * LONGEST
    assert len(shown(CONTROL * 10_000)) == LONGEST
    long = shown("first" + "x" * 100_000 + "last")
    assert len(long) == LONGEST
    assert (long[:5], long[-4:]) == ("first", "last")


def test_an_error_is_one_short_line_whatever_was_found_and_its_remedy_stays() -> None:
    error = InputError(CONTROL * 1000, "y" * 100_000, "Do this")
    assert str(error).isprintable()
    assert len(str(error)) < LONGEST + 150
    assert str(error).endswith(". Do this")
    assert str(InputError("what " + "w" * 200, "f" * 200, "r")) == f"what {'w' * 200}: {'f' * 200}. r"
    error.add_note("more")
    other = pickle.loads(pickle.dumps(error))
    assert (str(other), other.what, other.__notes__) == (str(error), error.what, ["more"])


def test_lines_bars_and_tables_show_what_cannot_be_obeyed(capfd: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress()
    progress.log(f"run {CONTROL}")
    with progress.bar(CONTROL, 1, "images") as bar:
        bar.advance(note=CONTROL)
    with progress.waiting(CONTROL) as show:
        show(CONTROL)
    print_table(CONTROL, ("run", CONTROL), [(CONTROL, "1")], f"one\n{CONTROL}")
    out, err = capfd.readouterr()
    assert err.splitlines()[0] == f"run {SHOWN}"
    for text in (out, err):
        assert "owned" in text
        assert all(line.isprintable() for line in text.split("\n"))
