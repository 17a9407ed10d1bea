"""Paths of runs from what was typed: a path, a file inside a run, or the name of a run in the models folder."""

from collections.abc import Iterable
from pathlib import Path

from severstal_cli.config import TrainConfig
from severstal_cli.errors import UsageError
from severstal_cli.learning.networks import names
from severstal_cli.progress import TerminalProgress

FILES = {
    names.CARD,
    names.WEIGHTS_FILE,
    names.CHECKPOINT,
    names.THRESHOLDS_FILE,
    names.SCORE_FILE,
    "model.onnx",
    "model.xml",
    "model.bin",
    "model.pt2",
}
"""Files that stand for the run that they are in."""


def find(typed: Path, models: Path = TrainConfig.models) -> Path:
    """The run that `typed` means; `typed` itself if there is no such run.

    An existing path comes first: a file of a run stands for its run. A name without a folder is one in `models`.
    """
    if typed.is_file() and typed.name in FILES and (typed.parent / names.CARD).is_file():
        return typed.parent
    if not typed.exists() and typed.name == str(typed) and (models / typed).is_dir():
        return models / typed
    return typed


def find_all(typed: Iterable[Path] | None, models: Path = TrainConfig.models) -> tuple[Path, ...]:
    """`find` for each of several runs."""
    return tuple(find(each, models) for each in typed or ())


def find_card(typed: Path, models: Path = TrainConfig.models) -> Path:
    """A file of settings: a run stands for its model.json."""
    run = find(typed, models)
    return run / names.CARD if run.is_dir() else typed


def find_thresholds(typed: Path | None, models: Path = TrainConfig.models) -> Path | None:
    """A thresholds.json: a run stands for its own."""
    if typed is None:
        return None
    run = find(typed, models)
    is_run = run.is_dir() and typed.name != names.THRESHOLDS_FILE
    return run / names.THRESHOLDS_FILE if is_run else typed


def sort_out(typed: Iterable[Path], models: Path) -> tuple[list[Path], list[Path]]:
    """Folders of runs, and runs; a name without a folder is a run in one of these folders or in `models`.

    Raises UsageError: several of the folders have a run of this name.
    """
    paths = list(typed)
    folders = [path for path in paths if path.is_dir() and not (path / names.CARD).exists()]
    places = {place.resolve(): place for place in (models, *folders)}.values()
    found = []
    for path in paths:
        if path in folders:
            continue
        matches = list(dict.fromkeys(run for place in places if (run := find(path, place)).is_dir()))
        if len(matches) > 1:
            raise UsageError("several runs have this name", str(path), f"Give one of {', '.join(map(str, matches))}")
        found.append(matches[0] if matches else path)
    return folders, found


def find_candidate(typed: str, models: Path = TrainConfig.models) -> str:
    """A candidate of `compare`: the name of a network comes before that of a run."""
    if typed in names.networks():
        if (models / typed / names.CARD).exists():
            TerminalProgress().log(f"{typed} means the network; give {models / typed} for the run of this name")
        return typed
    return str(find(Path(typed), models))
