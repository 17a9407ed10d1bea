"""`train --resume`: the settings come from the run, so that no option has to be given again."""

import dataclasses
from pathlib import Path
from typing import Any

from severstal_cli import config as configs
from severstal_cli.cli import runs
from severstal_cli.config.training import resumed_settings
from severstal_cli.errors import RunError, UsageError
from severstal_cli.learning.networks import names


def place_of(run: Path, models: Path, name: str | None, *, resume: bool) -> tuple[Path, str]:
    """The models folder and the name of the run that `train` got as an argument.

    Raises UsageError: there is no --resume, or --name is another one.
    """
    if not resume:
        raise UsageError("train takes options only", str(run), "Give --arch NETWORK to train, --resume RUN to resume")
    folder = runs.find(run, models)
    if folder.name == str(folder) and not folder.exists():
        folder = models / folder
    if name is not None and name != folder.name:
        raise UsageError("two runs to resume", f"{run} and --name {name}", "Give one of them")
    return folder.parent, folder.name


def settings_of(settings: dict[str, Any], *, every_fold: bool, is_here: bool) -> dict[str, Any]:
    """The settings of the run that `settings` resumes; those of its first fold for `every_fold`.

    Empty if no checkpoint is there, as on Kaggle a fold may not have begun, or if it lacks the settings, which the
    stage reports. Raises RunError: the run does not exist, or its checkpoint is damaged.
    """
    config = configs.TrainConfig(**settings)
    folder = names.folder_for(config)
    if every_fold:
        start = config.name or folder.name.removesuffix("-nofold")
        of_folds = sorted(config.models.glob(f"{start}-fold*/{names.CHECKPOINT}"))
        return _read(of_folds[0].parent) if of_folds else {}
    if is_here and not folder.is_dir():
        raise RunError(
            "nothing to resume",
            f"{folder / names.CHECKPOINT} does not exist",
            f"{names.near_run(folder, config.models)}Train without --resume",
        )
    if not (folder / names.CHECKPOINT).is_file():
        return {}
    saved = _read(folder)
    is_default = names.folder_for(dataclasses.replace(config, **saved)) == folder
    return saved if is_default else saved | {"name": folder.name}


def _read(folder: Path) -> dict[str, Any]:
    from severstal_cli.learning.runs import run_folder

    card = run_folder.read_checkpoint(folder).get("card")
    config = card.get("config") if isinstance(card, dict) else None
    try:
        return resumed_settings(config) if isinstance(config, dict) else {}
    except ValueError as error:
        raise RunError(
            f"{folder / names.CHECKPOINT} is damaged", f"settings: {error}", f"Remove {folder}, and train again"
        ) from error
