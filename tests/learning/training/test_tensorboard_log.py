"""What TensorBoard is given: every epoch once, also after a resume; nothing where it is not installed."""

import dataclasses
import json
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from severstal_cli.learning.training import tensorboard_log
from severstal_cli.learning.training.history import Row

FILES = count()


class _Writer:
    """A file of lines [name, value, epoch, time] for every writer, whose name TensorBoard would know."""

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir(exist_ok=True)
        self.path, self.lines = Path(folder) / f"events.out.tfevents.{next(FILES)}", ""

    def add_scalar(self, *line: Any, walltime: float) -> None:
        self.lines += json.dumps([*line, walltime]) + "\n"

    def flush(self) -> None:
        self.path.write_text(self.lines)

    def close(self) -> None:
        self.lines = ""


def _row(epoch: int, **changes: Any) -> Row:
    row = Row(
        epoch=epoch,
        loss=1 / epoch,
        dice=0.5,
        dice_present=None,
        learning_rate=0.1,
        images_per_s=3.0,
        validation_s=2.0,
        elapsed_s=10.0 * epoch,
    )
    return dataclasses.replace(row, **changes)


def test_every_epoch_is_shown_once_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=_Writer))
    with tensorboard_log.open_scalars(tmp_path, []) as add:
        add(_row(1))
        add(_row(2, loss=7.0))  # an epoch that no checkpoint holds
    place = tmp_path / "tensorboard"
    (place / "notes.txt").write_text("mine")
    with tensorboard_log.open_scalars(tmp_path, [_row(1)]) as add:
        add(_row(2))
        add(_row(3, dice=None))
    (path,) = place.glob("events*")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shown = {(name, epoch): value for name, value, epoch, _ in lines}
    assert len(shown) == len(lines)
    rows = [_row(1), _row(2), _row(3, dice=None)]
    columns = ("loss", "dice", "learning_rate", "images_per_s", "validation_s", "elapsed_s")
    assert shown == {
        (name, row.epoch): getattr(row, name) for row in rows for name in columns if getattr(row, name) is not None
    }
    times = [time for name, _, _, time in lines if name == "loss"]
    assert [time - times[0] for time in times] == pytest.approx([0, 10, 20], abs=1e-3)
    assert (place / "notes.txt").read_text() == "mine"


def test_without_tensorboard_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with tensorboard_log.open_scalars(tmp_path, [_row(1)]) as add:
        add(_row(2))
    assert not list(tmp_path.iterdir())
