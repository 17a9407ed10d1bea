"""A command that is printed can be pasted: names with blanks are quoted."""

import dataclasses
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from severstal_cli.errors import RunError, UsageError
from severstal_cli.learning.inference import engines, ensemble
from severstal_cli.learning.runs import run_folder
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.printing import lines
from severstal_cli.stages.exporting import ExportResult
from severstal_cli.stages.training import TrainResult
from severstal_cli.steel.masks.postprocess import ClassPostprocess

FOLDER = Path("my models/first run")


def quoted(line: str) -> list[str]:
    """The words of the command in a line."""
    return shlex.split(line[line.index("severstal ") :].split(". ")[0].split("`")[0])


def test_the_next_command_of_a_training_or_an_export_can_be_pasted() -> None:
    result = TrainResult(
        folder=FOLDER, epochs=1, best_epoch=1, averaged=(), validation_dice=0.5, nothing_dice=0.4, seconds=1.0
    )
    assert quoted(list(lines.training_lines([result]))[-1]) == ["severstal", "thresholds", str(FOLDER)]
    exported = ExportResult(folder=FOLDER, file=FOLDER / "model.onnx", image=Path("a.png"), largest_difference=0)
    assert quoted(lines.export_line(exported)) == ["severstal", "predict", "IMAGES", "--model", str(FOLDER)]


def test_a_remedy_that_is_a_command_can_be_pasted(trained: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        run_folder.read_thresholds(tmp_path / "a run" / run_folder.THRESHOLDS)
    assert quoted(str(caught.value)) == ["severstal", "thresholds", f"{tmp_path}/a run"]
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / run_folder.WEIGHTS).write_bytes(b"")
    with pytest.raises(UsageError) as refused:
        engines.engine_for(folder, "onnxruntime", "cpu")
    assert quoted(str(refused.value)) == ["severstal", "export", str(folder), "--format", "onnx"]


def test_a_note_that_is_a_command_can_be_pasted() -> None:
    card: Any = SimpleNamespace(class_names=())
    folders = (FOLDER, Path("other"))
    how = ensemble.Ensemble(
        folders=folders,
        cards=(card, card),
        weights=(),
        views="none",
        thresholds_path=FOLDER / run_folder.THRESHOLDS,
        thresholds=Thresholds(rules=(ClassPostprocess(),), exclusive=False, tta="none"),
    )
    [note] = dataclasses.replace(how).notes()
    assert quoted(note[note.index("`") :]) == ["severstal", "thresholds", *map(str, folders), "--out", "FILE"]
