"""Bars, where they reckon."""

import pytest

from severstal_cli.progress import Bar, MegabyteBar, megabytes


class Counted(Bar):
    """Adds up what it is advanced by."""

    steps = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        assert steps > 0
        self.steps += steps


@pytest.mark.parametrize("size", [1, 999_999, 1_000_000, 1_000_001, 3_700_000])
def test_bytes_fill_a_bar_of_megabytes(size: int) -> None:
    """Whatever the pieces, though a transfer falls back between, and not before the last byte."""
    counted = Counted()
    shown = MegabyteBar(counted)
    for done in (0, size // 3, size // 4, size // 2, size - 1, 0, size - 1):
        shown.reach(done)
        assert counted.steps <= megabytes(size)
    assert counted.steps == megabytes(size - 1)
    shown.reach(size)
    assert counted.steps == megabytes(size) == -(-size // 1_000_000)
