"""The bundle that a notebook trains with.

    severstal-bundle.json   how to train, and the SHA-256 of every file below
    settings.json           the settings, without paths of this machine
    splits.csv              which image is in which fold, where that is known here
    wheels/*.whl            this program, and what it needs that the notebook image lacks
    encoder/..., init/..., resume/training.ckpt, pseudo/...   what the training starts from, where it does

The data is the competition's, mounted there, or a dataset of its own: one file, a zip archive under a name that nobody
unpacks, with train.csv and train_images/.
"""

import dataclasses
import hashlib
import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import severstal_cli
from severstal_cli import files
from severstal_cli.config import RemoteConfig, TrainConfig
from severstal_cli.errors import InputError
from severstal_cli.kaggle import names, notebook, wheels
from severstal_cli.kaggle.bundle import script_for, write_json
from severstal_cli.kaggle.job import Source, Task
from severstal_cli.kaggle.notebook import CONTENTS, OUTPUT
from severstal_cli.learning.networks import encoder_file, pretrained, registry
from severstal_cli.learning.networks.names import folder_for
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import Progress
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.images import image_files
from severstal_cli.steel.tables import mask_table

FORMAT = 1
DATA = "data.severstal"
_AWAY = ("name", "models", "resume", "data", "devices", "encoder_weights", "init", "pseudo", "pseudo_images", "compile")
"""Settings that are paths of this machine, or given as options."""
_PATHS = ("data", "models", "name", "resume", "encoder_weights", "init", "pseudo", "pseudo_images")


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on."""

    is_own: bool
    """A dataset of its own, not the competition's."""
    annotations: str = ""
    """SHA-256 of the train.csv here, if it is the competition's and here at all."""
    is_here: bool = False


def data_of(config: RemoteConfig) -> Data:
    """Whether the folder of data holds the competition's, or other data. Raises InputError: it cannot be read."""
    folder, competition = config.train.data, config.competition
    table, data_folder = folder / "train.csv", folder / "train_images"
    if not table.exists() and not data_folder.exists():
        return Data(is_own=False)
    masks = len(mask_table.read_table(table).masks)
    count = len(image_files.find_images([data_folder])) if data_folder.exists() else competition.train_images
    if (count, masks) != (competition.train_images, competition.masks):
        return Data(is_own=True, is_here=True)
    return Data(is_own=False, annotations=notebook.digest_of(table), is_here=data_folder.exists())


def local_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings as a card has them."""
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(config).items()
    }


def paths_here(config: TrainConfig) -> dict[str, Any]:
    """Those of the settings that are paths of this machine."""
    return {name: value for name, value in local_settings(config).items() if name in _PATHS} | {"resume": False}


def settings_digest(config: TrainConfig) -> str:
    """Stands for what is trained; whether it is resumed does not matter."""
    content = {name: value for name, value in local_settings(config).items() if name not in ("resume", "models")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def build(
    folder: Path, config: RemoteConfig, data: Data, split: Path | None, *, sends_weights: bool, progress: Progress
) -> Task:
    """Write `folder`/dataset, and `folder`/data where the data is no competition's; what a notebook does with them.

    Raises InputError: something to start from is missing or wrong; RunError; MachineError; OutputError.
    """
    train, dataset = config.train, folder / "dataset"
    name = folder_for(train).name
    shutil.rmtree(dataset, ignore_errors=True)
    with files.writing(folder):
        (dataset / "wheels").mkdir(parents=True)
        for wheel in wheels.missing_wheels():
            (dataset / "wheels" / wheel.name).write_bytes(wheel.content)
        kept = {each: value for each, value in local_settings(train).items() if each not in _AWAY}
        write_json(dataset / "settings.json", kept)
        if split is not None:
            shutil.copyfile(split, dataset / "splits.csv")
        options, paths, internet = _starts_from(dataset, config, data, sends_weights, progress)
        source = _pack_data(folder / "data", config, progress) if data.is_own else None
        written = sorted(path for path in dataset.rglob("*") if path.is_file())
        digest = hashlib.sha256(write_json(dataset / CONTENTS, {
            "format": FORMAT,
            "severstal": severstal_cli.__version__,
            "command": "train",
            "name": name,
            "options": options,
            "paths": paths,
            "devices": train.devices,
            "resume": train.resume,
            "internet": internet,
            "thresholds": train.fold is not None,
            "splits": split is None,
            "session_s": config.session_s,
            "annotations": data.annotations,
            "data": None if source is None else {"file": DATA, "sha256": source.contents},
            "files": {path.relative_to(dataset).as_posix(): notebook.digest_of(path) for path in written},
        }).encode()).hexdigest()  # fmt: skip
    slug = names.slug_of(["train", name])
    bundle = Source(folder=dataset, slug=slug, contents=digest)
    return Task(
        sources=(bundle,) if source is None else (bundle, source),
        kernel=names.notebook_of(slug),
        script=script_for(digest),
        competition=not data.is_own,
        internet=internet,
        limit_s=int(config.session_s + 35 * 60),
        outputs=(OUTPUT,),
        notes=name,
    )


def _starts_from(
    dataset: Path, config: RemoteConfig, data: Data, sends_weights: bool, progress: Progress
) -> tuple[list[str], dict[str, str], bool]:
    """Copy what a training starts from; the options, those with a path in the bundle, and whether it needs internet."""
    train = config.train
    options: list[str] = []
    paths: dict[str, str] = {}
    internet = False
    if train.resume:
        _copy(folder_for(train) / run_folder.CHECKPOINT, dataset / "resume" / run_folder.CHECKPOINT)
    elif train.init is not None:
        model_card.read_card(train.init)
        for name in (model_card.CARD, run_folder.WEIGHTS):
            _copy(train.init / name, dataset / "init" / name)
        paths["--init"] = "init"
    if train.pseudo is not None and train.pseudo_images is not None:
        if train.pseudo_images.resolve() != (train.data / "test_images").resolve() and data.is_here:
            raise InputError("these images of pseudo labels are not on Kaggle", str(train.pseudo_images),
                             f"Put them into {train.data / 'test_images'}")  # fmt: skip
        for path in (train.pseudo, train.pseudo.with_suffix(".json"), train.pseudo.with_suffix(".scores.csv")):
            if path == train.pseudo or path.exists():
                _copy(path, dataset / "pseudo" / f"pseudo{path.name.removeprefix(train.pseudo.stem)}")
        paths |= {"--pseudo": "pseudo/pseudo.csv", "--pseudo-images": "test_images"}
    if not registry.entry(train.arch).has_encoder or train.resume or train.init is not None:
        return [*options, "--encoder-weights", "none"], paths, internet
    weights = None if train.encoder_weights in ("imagenet", "none") else Path(train.encoder_weights)
    if train.encoder_weights == "imagenet":
        weights = pretrained.find_file(train.models / "encoders", train.encoder)
        if weights is None and sends_weights:
            progress.log(f"fetching the ImageNet weights of {train.encoder} here: the notebook has no internet")
            weights = encoder_file.fetch(train.encoder, dataset.parent / "fetched.safetensors")
        internet = weights is None
    if weights is None:
        return [*options, "--encoder-weights", train.encoder_weights], paths, internet
    _copy(weights, dataset / "encoder" / f"weights{weights.suffix}")
    return options, paths | {"--encoder-weights": f"encoder/weights{weights.suffix}"}, internet


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise InputError("no such file", str(source), "Check the path")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _pack_data(folder: Path, config: RemoteConfig, progress: Progress) -> Source:
    """The data in one file: thousands of small ones take an hour to upload. The same data gives the same bytes."""
    data = config.train.data
    parts = ["train_images", *(["test_images"] if config.train.pseudo is not None else [])]
    paths = [data / "train.csv", *(path for part in parts for path in image_files.find_images([data / part]))]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with (
        zipfile.ZipFile(folder / DATA, "w", zipfile.ZIP_STORED) as archive,
        progress.bar("packing the data", len(paths), "files") as bar,
    ):
        for path in paths:
            member = zipfile.ZipInfo(path.relative_to(data).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            with path.open("rb") as source, archive.open(member, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)
            bar.advance()
    digest = notebook.digest_of(folder / DATA)
    write_json(folder / CONTENTS, {"data": digest})
    return Source(folder=folder, slug=f"severstal-data-{digest[:16]}", contents=digest, named_by_contents=True)


def split_of(config: RemoteConfig, data: Data, progress: Progress) -> Path | None:
    """The split that goes along, made now where the images are here; None: the notebook makes it.

    Raises InputError as `splits.ensure_splits` does.
    """
    path = splits.splits_path(config.train.data)
    if path.exists():
        splits.read_splits(path)
        return path
    if not data.is_here:
        return None
    return splits.ensure_splits(open_data_folder(config.train.data, progress), progress).path
