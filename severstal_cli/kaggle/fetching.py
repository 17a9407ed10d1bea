"""The runs that a notebook trained: downloaded, and verified beside the local ones."""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from severstal_cli import files
from severstal_cli.config import TrainConfig
from severstal_cli.errors import MachineError, RunError, SeverstalError
from severstal_cli.kaggle import local_runs, output, training
from severstal_cli.kaggle.client import Kaggle
from severstal_cli.kaggle.notebook import OUTPUT
from severstal_cli.kaggle.output import WrongFileError
from severstal_cli.learning.networks.names import folder_for
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import checkpoint
from severstal_cli.progress import Bar, Progress

SPLITS = "splits.csv"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """The outcome of a session."""

    finished: Mapping[str, bool]
    """By the name of its local folder. An unfinished run has a checkpoint to resume from."""
    splits: Path | None
    """The split, if the notebook made it."""
    damaged: tuple[SeverstalError, ...]
    """An error for each run that could not be fetched: a RunError, or a WrongFileError, which may pass."""


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """severstal-output.json."""

    files: Mapping[str, str]
    """SHA-256 by path; "" if it is unknown."""
    finished: Mapping[str, bool]
    folder: str
    """The folder of the runs in the notebook."""


def fetch(
    kaggle: Kaggle, user: str, slug: str, version: int, work: Path, runs: Sequence[TrainConfig]
) -> Fetched | None:
    """Download and verify what a version left of `runs`, to `work`/ready/NAME; None: neither a run nor a checkpoint.

    A damaged run does not keep the others from being fetched. A local run that was trained on meanwhile stays, and the
    fetched one becomes NAME-kaggle.

    Raises:
        MachineError: the network or the storage fails; the same command fetches the missing files.
        RunError: the notebook lists files outside its folder.
    """
    addresses = output.read(kaggle, user, slug, version).addresses
    target = work / "fetched"
    manifest = _read_manifest(kaggle, addresses, target)
    hashes = dict(manifest.files)
    for name in (folder_for(each).name for each in runs):
        if name not in manifest.finished:  # cancelled, or ended by Kaggle: the checkpoint is enough to resume
            checkpoint = f"{name}/{run_folder.CHECKPOINT}"
            listed = [path for path in addresses if path == checkpoint or len(runs) == 1]
            if any(Path(path).name == run_folder.CHECKPOINT for path in listed):
                hashes[checkpoint] = ""
    if any(".." in Path(path).parts or Path(path).is_absolute() for path in hashes):
        raise RunError("the notebook lists files outside its folder", OUTPUT, "Train again")
    usable = {Path(path).parts[0] for path in hashes if Path(path).name in (run_folder.CHECKPOINT, run_folder.WEIGHTS)}
    left = [each for each in runs if folder_for(each).name in usable]
    if not left:
        return None
    finished: dict[str, bool] = {}
    moved: dict[Path, Path] = {}
    damaged: list[SeverstalError] = []
    with kaggle.progress.bar("downloading", len(hashes), "files") as bar:
        if SPLITS in hashes:
            _fetch_one(kaggle, addresses, SPLITS, target / SPLITS, bar, hashes[SPLITS])
        for each in left:
            name = folder_for(each).name
            try:
                for path, digest in hashes.items():
                    if Path(path).parts[0] == name:
                        _fetch_one(kaggle, addresses, path, target / path, bar, digest)
                folder, is_finished = _check_in(target / name, each, manifest, kaggle.progress)
                finished[folder.name] = is_finished
                moved[target / name] = work / local_runs.READY / folder.name
            except (RunError, WrongFileError) as error:
                found = ", ".join(filter(None, (error.what.replace(f"{target / name}/", ""), error.found)))
                again = "--resume trains it again" if len(runs) > 1 else "The same command trains it again"
                if isinstance(error, WrongFileError):
                    again = "The same command downloads it again; --cancel --discard gives it up"
                damaged.append(type(error)(f"{name} of the notebook is damaged", found, again))
    shutil.rmtree(work / local_runs.READY, ignore_errors=True)
    (work / local_runs.READY).mkdir()
    for fetched, ready in moved.items():
        if fetched.exists():
            fetched.rename(ready)
    return Fetched(
        finished=finished,
        splits=target / SPLITS if SPLITS in hashes else None,
        damaged=tuple(sorted(damaged, key=lambda error: isinstance(error, WrongFileError))),
    )


def _read_manifest(kaggle: Kaggle, addresses: dict[str, str], folder: Path) -> _Manifest:
    """Download severstal-output.json; an empty manifest if the notebook left none. Raises MachineError."""
    if OUTPUT not in addresses:
        return _Manifest(files={}, finished={}, folder="")
    path = folder / OUTPUT
    path.unlink(missing_ok=True)
    output.fetch_file(kaggle, addresses[OUTPUT], path, Bar())
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return _Manifest(
            files={str(name): str(digest) for name, digest in content["files"].items()},
            finished={str(name): bool(done) for name, done in content["finished"].items()},
            folder=str(content["folder"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError(f"{OUTPUT} of the notebook is damaged", type(error).__name__, "Try again later") from None


def _fetch_one(kaggle: Kaggle, addresses: dict[str, str], name: str, path: Path, bar: Bar, digest: str) -> None:
    address = addresses.get(name)
    if address is None:  # Kaggle lists it without its folder, or not at all
        same_name = [listed for listed in addresses if Path(listed).name == Path(name).name]
        if len(same_name) != 1:
            raise WrongFileError(f"Kaggle does not list {name} of the notebook", "", "The same command looks again")
        address = addresses[same_name[0]]
    output.fetch_file(kaggle, address, path, bar, sha256=digest)


def _check_in(folder: Path, config: TrainConfig, manifest: _Manifest, progress: Progress) -> tuple[Path, bool]:
    """Verify a downloaded run, and reconcile it with the local one. Raises RunError.

    Returns its local folder, and whether it is finished. `folder` is removed if the local run has all of its epochs.
    """
    local, epochs = folder_for(config), local_runs.epochs(folder) or []
    here = local_runs.epochs(local)
    finished = manifest.finished.get(folder.name, False) and _verify(folder, config, True, progress)
    if not finished:
        if local_runs.leads_to(here, epochs):
            local_runs.take_weights(local, folder)
        _verify(folder, config, False, progress)
    is_equal = finished and here == epochs and (local / run_folder.THRESHOLDS).exists()
    if here and (is_equal or (not finished and local_runs.leads_to(epochs, here))):
        progress.log(f"{local} has every epoch of the notebook's run, and is left as it is")
        shutil.rmtree(folder)
        return local, finished or not training.is_left(config)
    place = local_runs.place_for(local, epochs)
    if place != local:
        progress.log(f"{local} has other epochs than the notebook's run, and is left as it is: see {place}")
        config = dataclasses.replace(config, name=place.name)
    _localise(folder, config, manifest.folder and f"{manifest.folder}/{folder.name}")
    return place, finished


def _verify(folder: Path, config: TrainConfig, finished: bool, progress: Progress) -> bool:
    """Check a run, and write from its checkpoint what it lacks. Raises RunError.

    Returns whether it is finished; one that is not can be resumed.
    """
    resumes = not finished or (folder / run_folder.CHECKPOINT).exists()
    if resumes:
        checkpoint.complete(folder)
    if not finished:
        return False
    try:
        card = model_card.read_card(folder)
        run_folder.load_network(folder, card)
        if config.fold is not None:
            run_folder.thresholds_of(folder, card)
    except RunError as error:
        if not resumes:
            raise
        run_folder.remove_thresholds(folder)  # of other weights, or damaged
        progress.log(f"{folder.name} is fetched up to its checkpoint, and --resume finishes it: {error.what}")
        return False
    return True


def _localise(folder: Path, config: TrainConfig, remote: str) -> None:
    """Replace the notebook's paths by local paths in the model card, the checkpoint and the thresholds.

    `remote`: the run's folder in the notebook, "" if it is unknown.
    """
    paths = training.local_paths(config)
    if (folder / model_card.CARD).exists():
        card = model_card.read_card(folder)
        data = str(config.data.resolve())
        model_card.write_card(folder, dataclasses.replace(card, data=data, config=card.config | paths))
    if (folder / run_folder.CHECKPOINT).exists():
        saved = run_folder.read_checkpoint(folder)
        saved["card"] |= {"data": str(config.data.resolve()), "config": saved["card"]["config"] | paths}
        run_folder.write_checkpoint(folder, {name: value for name, value in saved.items() if name != "format"})
    path = folder / run_folder.THRESHOLDS
    if remote and path.exists():
        text = path.read_text(encoding="utf-8").replace(json.dumps(remote), json.dumps(str(folder_for(config))))
        files.write_text(path, text)
