"""The runs in a folder: which are trained, which are damaged, and which one validated best."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from severstal_cli import files, typed
from severstal_cli.errors import RunError, SeverstalError
from severstal_cli.learning.networks import names
from severstal_cli.learning.runs.model_card import CARD, ModelCard, read_card
from severstal_cli.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The runs in a folder."""

    trained: tuple[tuple[Path, ModelCard], ...]
    """Sorted by `validation_rank`, the best first."""
    damaged: tuple[tuple[Path, SeverstalError], ...]
    """Runs whose card cannot be read, with the error."""


def find_runs(models: Path) -> Runs:
    """The runs in a folder. Folders without a card, e.g. of a training in its first epoch, are skipped."""
    trained: list[tuple[Path, ModelCard]] = []
    damaged: list[tuple[Path, SeverstalError]] = []
    for folder in sorted(path for path in models.glob("*") if path.is_dir()):
        try:
            (folder / CARD).lstat()  # a broken link counts as a damaged card
        except FileNotFoundError:
            continue
        except OSError as error:
            damaged.append((folder, files.unreadable(folder / CARD, error, RunError)))
            continue
        try:
            trained.append((folder, read_card(folder)))
        except RunError as error:
            damaged.append((folder, error))
    trained.sort(key=lambda run: validation_rank(run[1]), reverse=True)
    return Runs(trained=tuple(trained), damaged=tuple(damaged))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a list of runs shows beside the card."""

    has_thresholds: bool
    holdout_dice: float | None
    """Mean Dice of `score.json`; None: the run was not scored with these weights and thresholds."""
    size_bytes: int
    """All files of the folder."""
    age_s: float
    """Time since the card was written."""


def facts_of(folder: Path) -> Facts:
    """The facts of a run that has a card. A damaged score counts as none."""
    holdout_dice = None
    with suppress(OSError, ValueError):
        score = typed.read_table(folder / names.SCORE_FILE).get("mean_dice")
        holdout_dice = score if isinstance(score, float) else None
    return Facts(
        has_thresholds=(folder / names.THRESHOLDS_FILE).exists(),
        holdout_dice=holdout_dice,
        size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        age_s=max(0.0, time.time() - (folder / CARD).stat().st_mtime),
    )


def validation_rank(card: ModelCard) -> tuple[bool, float]:
    """Sort key of runs: the validation Dice; -1 without a validation.

    A run in int8 comes before all others, as it may lead the run that it was exported from by chance alone.
    """
    return card.int8 is None, -1.0 if card.validation_dice is None else card.validation_dice


def best_run(models: Path, progress: Progress = SILENT) -> Path:
    """The run in `models` that `validation_rank` puts last. Raises RunError if there is none.

    A warning names each damaged run, as it may have been the best.
    """
    names.check_any_run(models)
    runs = find_runs(models)
    for folder, error in runs.damaged:
        progress.log(f"warning: {folder} is skipped: {error}")
    if not runs.trained:
        damaged = f"{len(runs.damaged)} damaged" if runs.damaged else ""
        raise RunError(f"no trained run in {models}", damaged, "Train one: severstal train --arch unet --data DATA")
    return runs.trained[0][0]
