"""A run that a notebook trained: fetched, verified, and put in its place as if it had been trained here."""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from severstal_cli import files
from severstal_cli.config import TrainConfig
from severstal_cli.errors import MachineError, RunError
from severstal_cli.kaggle import output, training
from severstal_cli.kaggle.client import Kaggle
from severstal_cli.kaggle.notebook import OUTPUT
from severstal_cli.learning.networks.names import folder_for
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import Bar

SPLITS = "splits.csv"
READY = "ready"
"""The folder with a run that is verified: only to be moved."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came of a session."""

    finished: bool
    splits: Path | None
    """The split, where the notebook made it."""


def fetch(kaggle: Kaggle, user: str, slug: str, version: int, work: Path, config: TrainConfig) -> Fetched | None:
    """Fetch and verify what a version left, to `work`/ready; None: neither a run nor a checkpoint.

    Raises:
        MachineError: the network or the storage fails; the same command fetches what is missing.
        RunError: what came is no run of this kind.
    """
    folder = folder_for(config)
    addresses = output.read(kaggle, user, slug, version).addresses
    place = work / "fetched"
    manifest = _manifest(kaggle, addresses, place)
    if manifest is None:  # it was cancelled, or ended by Kaggle: the checkpoint is all that is needed
        names = [name for name in addresses if Path(name).name == run_folder.CHECKPOINT]
        hashes = {f"{folder.name}/{run_folder.CHECKPOINT}": ""} if names else {}
    else:
        hashes = {str(name): str(digest) for name, digest in manifest["files"].items()}
    wanted = {name: digest for name, digest in hashes.items() if Path(name).parts[0] == folder.name}
    splits = place / SPLITS if SPLITS in hashes else None
    if not any(Path(name).name in (run_folder.CHECKPOINT, run_folder.WEIGHTS) for name in wanted):
        return None
    if any(".." in Path(name).parts or Path(name).is_absolute() for name in hashes):
        raise RunError("the notebook names files outside its folder", OUTPUT, "Train again")
    with kaggle.progress.bar("fetching", len(hashes), "files") as bar:
        for name, digest in hashes.items():
            _fetch_one(kaggle, addresses, name, place / name, bar, digest)
    finished = bool(manifest and manifest["finished"])
    _verify(place / folder.name, config, finished)
    _localise(place / folder.name, config, str(manifest["folder"]) if manifest else "")
    shutil.rmtree(work / READY, ignore_errors=True)
    (place / folder.name).rename(work / READY)
    return Fetched(finished=finished, splits=splits)


def _manifest(kaggle: Kaggle, addresses: dict[str, str], place: Path) -> dict[str, Any] | None:
    if OUTPUT not in addresses:
        return None
    path = place / OUTPUT
    path.unlink(missing_ok=True)
    output.fetch_file(kaggle, addresses[OUTPUT], path, Bar())
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return {"files": dict(content["files"]), "finished": content["finished"], "folder": content["folder"]}
    except (ValueError, KeyError, TypeError) as error:
        raise MachineError(f"{OUTPUT} of the notebook is damaged", type(error).__name__, "Try again later") from None


def _fetch_one(kaggle: Kaggle, addresses: dict[str, str], name: str, path: Path, bar: Bar, digest: str) -> None:
    address = addresses.get(name)
    if address is None:  # listed without its folder, or not at all
        alike = [found for found in addresses if Path(found).name == Path(name).name]
        if len(alike) != 1:
            raise MachineError(f"Kaggle does not list {name} of the notebook", "", "The same command looks again")
        address = addresses[alike[0]]
    output.fetch_file(kaggle, address, path, bar, sha256=digest)


def _verify(folder: Path, config: TrainConfig, finished: bool) -> None:
    """See that a run can be used, or a checkpoint resumed. Raises RunError."""
    if not finished:
        run_folder.read_checkpoint(folder)
        return
    card = model_card.read_card(folder)
    run_folder.load_network(folder, card)
    if config.fold is not None:
        run_folder.thresholds_of(folder, card)


def _localise(folder: Path, config: TrainConfig, there: str) -> None:
    """Put the paths of this machine in place of the notebook's: in the card, the checkpoint and the thresholds."""
    here = training.paths_here(config)
    if (folder / model_card.CARD).exists():
        card = model_card.read_card(folder)
        data = str(config.data.resolve())
        model_card.write_card(folder, dataclasses.replace(card, data=data, config=card.config | here))
    if (folder / run_folder.CHECKPOINT).exists():
        saved = run_folder.read_checkpoint(folder)
        saved["card"] |= {"data": str(config.data.resolve()), "config": saved["card"]["config"] | here}
        run_folder.write_checkpoint(folder, {name: value for name, value in saved.items() if name != "format"})
    path = folder / run_folder.THRESHOLDS
    if there and path.exists():
        text = path.read_text(encoding="utf-8").replace(json.dumps(there), json.dumps(str(folder_for(config))))
        files.write_text(path, text)


def put(work: Path, folder: Path) -> None:
    """Move the verified run to `folder`, in place of what is resumed. What a kill leaves is done by the next call."""
    ready, old = work / READY, work / "old"
    if not ready.exists():
        return
    with files.writing(folder):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        ready.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
