"""The runs that a notebook trained: downloaded, verified, and moved to the models folder."""

import dataclasses
import filecmp
import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from severstal_cli import files
from severstal_cli.config import TrainConfig
from severstal_cli.errors import MachineError, RunError, SeverstalError
from severstal_cli.kaggle import output, training
from severstal_cli.kaggle.client import Kaggle
from severstal_cli.kaggle.notebook import OUTPUT
from severstal_cli.kaggle.output import WrongFileError
from severstal_cli.learning.networks.names import folder_for
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import checkpoint
from severstal_cli.progress import Bar, Progress
from severstal_cli.steel.dataset import splits

SPLITS = "splits.csv"
READY = "ready"
"""The folder of verified runs, which only have to be moved."""


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
                moved[target / name] = work / READY / folder.name
            except (RunError, WrongFileError) as error:
                found = ", ".join(filter(None, (error.what.replace(f"{target / name}/", ""), error.found)))
                again = "--resume trains it again" if len(runs) > 1 else "The same command trains it again"
                if isinstance(error, WrongFileError):
                    again = "The same command downloads it again; --cancel --discard gives it up"
                damaged.append(type(error)(f"{name} of the notebook is damaged", found, again))
    shutil.rmtree(work / READY, ignore_errors=True)
    (work / READY).mkdir()
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
    local, epochs = folder_for(config), _epochs(folder) or []
    finished = manifest.finished.get(folder.name, False)
    if not finished and _leads_to(_epochs(local), epochs):
        _take_along(local, folder)
    finished = _verify(folder, config, finished, progress)
    here = _epochs(local)
    if here and not finished and _leads_to(epochs, here):
        progress.log(f"{local} has every epoch of the notebook's run, and is left as it is")
        shutil.rmtree(folder)
        return local, not training.is_left(config)
    # as local, local-kaggle, local-kaggle-2, ...
    others = (local.with_name(f"{local.name}-kaggle{'' if n == 1 else f'-{n}'}") for n in itertools.count(1))
    place = next(each for each in itertools.chain([local], others) if _leads_to(_epochs(each), epochs))
    if place != local:
        progress.log(f"{local} has other epochs than the notebook's run, and is left as it is: see {place}")
        config = dataclasses.replace(config, name=place.name)
    _localise(folder, config, manifest.folder and f"{manifest.folder}/{folder.name}")
    return place, finished


def _epochs(folder: Path) -> list[float] | None:
    """The loss of each epoch of a run; []: there is no run; None: unknown, as it has no whole checkpoint."""
    try:
        return checkpoint.losses(folder)
    except RunError:
        return None if (folder / model_card.CARD).exists() else []


def _leads_to(earlier: list[float] | None, later: list[float]) -> bool:
    """Whether `later` are the epochs `earlier`, and maybe more of them."""
    return earlier is not None and later[: len(earlier)] == earlier


def _take_along(local: Path, folder: Path) -> None:
    """Copy the weights to an unfinished run that came without them, and the thresholds of the same weights."""
    names = (model_card.CARD, run_folder.WEIGHTS)
    with files.writing(folder):
        if not all((folder / name).exists() for name in names) and all((local / name).exists() for name in names):
            for name in names:
                shutil.copyfile(local / name, folder / name)
        ours, theirs = local / run_folder.WEIGHTS, folder / run_folder.WEIGHTS
        if ours.exists() and theirs.exists() and filecmp.cmp(ours, theirs, shallow=False):
            for name in run_folder.OF_THRESHOLDS:
                if (local / name).exists() and not (folder / name).exists():
                    shutil.copyfile(local / name, folder / name)


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


def put(work: Path, models: Path) -> None:
    """Move the verified runs to `models`, replacing those that were resumed. After a kill, call it again.

    Raises MachineError: another process trains one of them. OutputError.
    """
    ready, old = work / READY, work / "old"
    for path in sorted(ready.iterdir()) if ready.exists() else ():
        folder = models / path.name
        with files.writing(folder):
            if folder.exists():
                with files.locked(folder, f"another process is training {folder}"):
                    shutil.rmtree(old, ignore_errors=True)
                    folder.rename(old)
            path.rename(folder)
    shutil.rmtree(ready, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


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
    thresholds = folder / run_folder.THRESHOLDS
    return RemoteResult(
        folder=folder,
        finished=finished,
        epochs=len(rows),
        best_epoch=card.epoch if card else None,
        validation_dice=card.validation_dice if card else None,
        nothing_dice=json.loads(thresholds.read_bytes()).get("mean_dice_never") if thresholds.exists() else None,
        seconds=float(rows[-1]["elapsed_s"]) if rows else 0.0,
    )
