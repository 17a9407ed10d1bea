"""Fetched runs and local runs of the same names, as folders of small checkpoints."""

import dataclasses
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from severstal_cli.config import RemoteConfig, TrainConfig
from severstal_cli.errors import InputError, MachineError
from severstal_cli.kaggle import local_runs
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import history
from severstal_cli.stages import remote_training

NAME = "unet-small-fold0"


def write_run(folder: Path, *losses: float) -> dict[str, bytes]:
    """A checkpoint with an epoch for each loss. Returns its content."""
    folder.mkdir(parents=True, exist_ok=True)
    rest = {"dice": None, "dice_present": None, "learning_rate": 0.1, "images_per_s": 9.0, "validation_s": 0.0}
    rows = [history.Row(epoch=n, loss=loss, elapsed_s=60.0 * n, **rest) for n, loss in enumerate(losses, 1)]
    run_folder.write_checkpoint(folder, {"history": [dataclasses.asdict(row) for row in rows]})
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("losses", [(0.5, 0.4, 0.3, 0.2), (0.5, 0.4, 0.35)], ids=["more epochs", "other epochs"])
def test_a_run_that_is_trained_on_before_the_move_stays(tmp_path: Path, losses: tuple[float, ...]) -> None:
    work, models = tmp_path / "work", tmp_path / "models"
    fetched = write_run(work / local_runs.READY / "run", 0.5, 0.4, 0.3)
    local = write_run(models / "run", *losses)
    with pytest.raises(MachineError, match=rf"^{models / 'run'} was trained on meanwhile\. The same command fetches"):
        local_runs.put(work, models)
    assert contents(models / "run") == local
    assert contents(work / local_runs.READY / "run") == fetched


def test_a_run_with_fewer_of_the_same_epochs_is_replaced(tmp_path: Path) -> None:
    work, models = tmp_path / "work", tmp_path / "models"
    fetched = write_run(work / local_runs.READY / "run", 0.5, 0.4, 0.3)
    write_run(models / "run", 0.5, 0.4)
    local_runs.put(work, models)
    assert contents(models / "run") == fetched
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("command", [remote_training.train, remote_training.cancel])
def test_a_local_run_between_the_moves_is_moved_back_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[RemoteConfig], object]
) -> None:
    """A kill came after the first rename. The command itself is refused: the run is there, and no notebook runs."""
    config = RemoteConfig(train=TrainConfig(data=tmp_path, models=tmp_path / "models", arch="unet-small"))
    work, folder = config.work / NAME, config.train.models / NAME
    write_run(work / local_runs.READY / NAME, 0.5, 0.4, 0.3)
    write_run(folder, 0.5, 0.4)
    (folder / model_card.CARD).write_text("{}")
    local = contents(folder)
    rename = Path.rename

    def kill(path: Path, target: Path) -> Path:
        if path.parent.name == local_runs.READY:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", kill)
        with pytest.raises(KeyboardInterrupt):
            local_runs.put(work, folder.parent)
    assert not folder.exists()
    with pytest.raises(InputError, match=r"no notebook trains|exists"):
        command(config)
    assert contents(folder) == local
    assert not (work / local_runs.OLD).exists()


@pytest.mark.parametrize("kill", [0, 1, 2, 9])
def test_a_kill_between_the_moves_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: int) -> None:
    work, models = tmp_path / "work", tmp_path / "models"
    fetched = write_run(work / local_runs.READY / "run", 0.5, 0.4)
    write_run(models / "run", 0.5)
    moves = iter(range(9))
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if next(moves) == kill:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt) if kill < 9 else nullcontext():
            local_runs.put(work, models)
    local_runs.put(work, models)
    assert contents(models / "run") == fetched
    assert list(work.iterdir()) == []


def test_a_replaced_run_is_not_moved_back(tmp_path: Path) -> None:
    """A kill came after the second rename."""
    work, models = tmp_path / "work", tmp_path / "models"
    write_run(work / local_runs.OLD / "run", 0.5, 0.4)
    fetched = write_run(models / "run", 0.5, 0.4, 0.3)
    local_runs.put_back(work, models)
    assert contents(models / "run") == fetched
    assert list(work.iterdir()) == []


def test_a_run_whose_name_was_given_again_is_moved_back_under_another(tmp_path: Path) -> None:
    """After a kill between the renames, a training on this machine took the free name, twice."""
    work, models = tmp_path / "work", tmp_path / "models"
    for before in ("run-before", "run-before-2"):
        local = write_run(work / local_runs.OLD / "run", 0.5, 0.4)
        new = write_run(models / "run", 0.6)
        local_runs.put_back(work, models)
        assert (contents(models / "run"), contents(models / before)) == (new, local)
        assert list(work.iterdir()) == []


@pytest.mark.parametrize("name", [run_folder.CHECKPOINT, run_folder.WEIGHTS, model_card.CARD])
def test_a_damaged_local_run_is_not_replaced(tmp_path: Path, name: str) -> None:
    models = tmp_path / "models"
    write_run(tmp_path / "work" / local_runs.READY / "run", 0.9)
    (models / "run").mkdir(parents=True)
    (models / "run" / name).write_bytes(b"cut")
    assert local_runs.place_for(models / "run", [0.9]) == models / "run-kaggle"
    with pytest.raises(MachineError, match=r"was trained on meanwhile"):
        local_runs.put(tmp_path / "work", models)
    assert contents(models / "run") == {name: b"cut"}


@pytest.mark.parametrize(("weights", "kept"), [(b"same", True), (b"other", False)])
def test_thresholds_that_are_searched_before_the_move_stay_with_their_weights(
    tmp_path: Path, weights: bytes, kept: bool
) -> None:
    work, local = tmp_path / "work", tmp_path / "models" / "run"
    fetched = work / local_runs.READY / "run"
    write_run(fetched, 0.5, 0.4)
    write_run(local, 0.5)
    (fetched / run_folder.WEIGHTS).write_bytes(b"same")
    (local / run_folder.WEIGHTS).write_bytes(weights)
    for name in run_folder.OF_THRESHOLDS:
        (local / name).write_bytes(b"searched here")
    local_runs.put(work, local.parent)
    after = contents(local)
    assert {name: after.get(name) for name in run_folder.OF_THRESHOLDS} == dict.fromkeys(
        run_folder.OF_THRESHOLDS, b"searched here" if kept else None
    )


def test_a_kill_while_replaced_runs_are_removed_brings_no_part_of_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, models = tmp_path / "work", tmp_path / "models"
    fetched = write_run(work / local_runs.READY / "run", 0.5, 0.4)
    write_run(models / "run", 0.5)
    (models / "run" / model_card.CARD).write_text("{}")
    rmtree = shutil.rmtree

    def kill(path: Path, **settings: bool) -> None:
        for checkpoint in path.rglob(run_folder.CHECKPOINT):
            checkpoint.unlink()
            raise KeyboardInterrupt
        rmtree(path, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", kill)
        with pytest.raises(KeyboardInterrupt):
            local_runs.put(work, models)
    local_runs.put_back(work, models)
    assert list(models.iterdir()) == [models / "run"]
    assert contents(models / "run") == fetched
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "\xff", '{"mean_dice_never": "0.8"}', '{"mean_dice_never": 0.8}']
)
def test_a_run_with_damaged_thresholds_is_described_without_them(tmp_path: Path, text: str | None) -> None:
    write_run(tmp_path, 0.5, 0.4)
    if text is not None:
        (tmp_path / run_folder.THRESHOLDS).write_bytes(text.encode("latin-1"))
    result = local_runs.result_of(tmp_path, finished=False)
    assert (result.epochs, result.seconds) == (2, 120.0)
    assert result.nothing_dice == (0.8 if text == '{"mean_dice_never": 0.8}' else None)
