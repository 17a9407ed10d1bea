"""Fetched runs and the local runs of the same names: which of them stay, and the move to the models folder."""

import filecmp
import itertools
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from severstal_cli import files, typed
from severstal_cli.errors import MachineError, RunError
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import checkpoint
from severstal_cli.progress import Progress
from severstal_cli.steel.dataset import splits

READY, OLD = "ready", "old"
"""Folders of verified runs, which only have to be moved, and of the local runs that they replace."""


@dataclass(frozen=True, kw_only=True)
class RemoteResult:
    """A run from Kaggle."""

    folder: Path
    finished: bool
    """False: --resume continues it in another session."""
    epochs: int
    best_epoch: int | None
    validation_dice: float | None
    nothing_dice: float | None
    """The Dice of predicting nothing on the same images."""
    seconds: float


def epochs(folder: Path) -> list[float] | None:
    """The loss of each epoch of a run; []: there is no run; None: unknown, as it has no whole checkpoint."""
    try:
        return checkpoint.losses(folder)
    except RunError:
        of_a_run = (model_card.CARD, run_folder.CHECKPOINT, run_folder.WEIGHTS)
        return None if any((folder / name).exists() for name in of_a_run) else []


def leads_to(earlier: list[float] | None, later: list[float]) -> bool:
    """Whether `later` are the epochs `earlier`, and maybe more of them."""
    return earlier is not None and later[: len(earlier)] == earlier


def place_for(local: Path, later: list[float]) -> Path:
    """The first of `local`, local-kaggle, local-kaggle-2, ... that a run of these epochs may replace."""
    others = (local.with_name(f"{local.name}-kaggle{'' if n == 1 else f'-{n}'}") for n in itertools.count(1))
    return next(each for each in itertools.chain([local], others) if leads_to(epochs(each), later))


def take_weights(local: Path, folder: Path) -> None:
    """Copy the weights to an unfinished run that came without them."""
    names = (model_card.CARD, run_folder.WEIGHTS)
    with files.writing(folder):
        if not all((folder / name).exists() for name in names) and all((local / name).exists() for name in names):
            for name in names:
                shutil.copyfile(local / name, folder / name)


def _take_thresholds(local: Path, folder: Path) -> None:
    """Copy the thresholds of the same weights that the fetched run lacks."""
    ours, theirs = local / run_folder.WEIGHTS, folder / run_folder.WEIGHTS
    if ours.exists() and theirs.exists() and filecmp.cmp(ours, theirs, shallow=False):
        for name in run_folder.OF_THRESHOLDS:
            if (local / name).exists() and not (folder / name).exists():
                shutil.copyfile(local / name, folder / name)


def put(work: Path, models: Path) -> None:
    """Move the verified runs to `models`, replacing those that were resumed. After a kill, call it again.

    Raises MachineError: another process trains one of them. OutputError.
    """
    ready, old = work / READY, work / OLD
    for path in sorted(ready.iterdir()) if ready.exists() else ():
        folder = models / path.name
        with files.writing(folder):
            if folder.exists():
                with files.locked(folder, f"another process is training {folder}"):
                    if not leads_to(epochs(folder), epochs(path) or []):
                        raise MachineError(f"{folder} was trained on meanwhile", "", "The same command fetches again")
                    _take_thresholds(folder, path)  # now: they may have been searched during the downloads
                    old.mkdir(exist_ok=True)
                    folder.rename(old / path.name)
            path.rename(folder)
    shutil.rmtree(ready, ignore_errors=True)
    _remove(old)


def put_back(work: Path, models: Path) -> None:
    """Move a local run back that a kill of `put` left between two renames. Raises OutputError.

    If another run has its name by now, it becomes NAME-before, NAME-before-2, ...
    """
    old = work / OLD
    with files.writing(models):
        for path in old.iterdir() if old.exists() else ():
            if leads_to(epochs(path), epochs(models / path.name) or []):
                continue  # the kill came after both renames
            numbered = (f"{path.name}-before{'' if n == 1 else f'-{n}'}" for n in itertools.count(1))
            name = next(each for each in itertools.chain([path.name], numbered) if not (models / each).exists())
            path.rename(models / name)
    _remove(old)


def _remove(old: Path) -> None:
    """Remove the replaced runs. A kill leaves them whole, or under a name that `put_back` does not read."""
    replaced = old.with_name("replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    with suppress(OSError):
        old.rename(replaced)
    shutil.rmtree(replaced, ignore_errors=True)


def put_split(made: Path, data: Path, progress: Progress) -> None:
    """Copy the split that the notebook made to `data`, if it has none: the next training uses the same split."""
    with files.writing(data):
        data.mkdir(parents=True, exist_ok=True)
    path = splits.splits_path(data, new=True)
    if not path.exists():
        files.write_text(path, made.read_text(encoding="utf-8"))
        progress.log(f"{path}: the split, made in the notebook")


def result_of(folder: Path, finished: bool) -> RemoteResult:
    """Describe a run that lies in the models folder."""
    rows = run_folder.read_checkpoint(folder)["history"]
    card = model_card.read_card(folder) if (folder / model_card.CARD).exists() else None
    nothing_dice: Any = None
    with suppress(OSError, ValueError):  # missing, or damaged
        nothing_dice = typed.read_table(folder / run_folder.THRESHOLDS).get("mean_dice_never")
    return RemoteResult(
        folder=folder,
        finished=finished,
        epochs=len(rows),
        best_epoch=card.epoch if card else None,
        validation_dice=card.validation_dice if card else None,
        nothing_dice=nothing_dice if isinstance(nothing_dice, float) else None,
        seconds=float(rows[-1]["elapsed_s"]) if rows else 0.0,
    )
