"""`history.csv` has one writer and one reader."""

from pathlib import Path

import pytest

from severstal_cli.errors import RunError
from severstal_cli.learning.training import history

ROWS = (
    history.Row(epoch=1, loss=0.1 + 0.2, dice=None, dice_present=None, learning_rate=1e-05, images_per_s=2.0,
                validation_s=0.0, elapsed_s=3.25),
    history.Row(epoch=2, loss=1 / 3, dice=0.5, dice_present=None, learning_rate=0.0, images_per_s=1e17,
                validation_s=1.5, elapsed_s=7.0),
)  # fmt: skip

TEXT = (
    b"epoch,loss,dice,dice_present,learning_rate,images_per_s,validation_s,elapsed_s\n"
    b"1,0.30000000000000004,,,1e-05,2.0,0.0,3.25\n"
    b"2,0.3333333333333333,0.5,,0.0,1e+17,1.5,7.0\n"
)


def test_what_is_written_is_read_to_the_bit(tmp_path: Path) -> None:
    history.write(tmp_path, ROWS)
    assert (tmp_path / history.NAME).read_bytes() == TEXT
    assert history.read(tmp_path) == ROWS


def test_a_run_without_a_history_has_no_epochs(tmp_path: Path) -> None:
    assert history.read(tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT.replace(b"2.0", b"nan"), "images_per_s is nan, not a finite number"),
        (TEXT.replace(b"2.0", b""), "images_per_s is None, not a number"),
        (TEXT.replace(b"\n1,", b"\n1.5,"), "invalid literal"),
        (TEXT.replace(b"3.25", b"3.25,9"), ""),
        (TEXT.replace(b",3.25", b""), ""),
        (TEXT.replace(b"loss", b"los"), "missing or unknown: los, loss"),
        (b"\xff" + TEXT, "codec can't decode"),
    ],
)
def test_a_damaged_history_is_an_error_in_one_line(tmp_path: Path, text: bytes, expected: str) -> None:
    (tmp_path / history.NAME).write_bytes(text)
    with pytest.raises(RunError, match=rf"history\.csv is damaged: .*{expected}.*\. Restore it, or remove it"):
        history.read(tmp_path)
