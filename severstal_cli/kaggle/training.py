"""The bundle for a training on Kaggle.

    severstal-bundle.json     the runs to train, and the SHA-256 of every file below
    settings.json             the training settings, without local paths
    splits.csv                the split, if the data folder has one
    annotations/              what lies beside train.csv: the class names, and where audited annotations came from
    wheels/*.whl              this program, and the packages that the notebook image lacks
    encoder/, init/, pseudo/  encoder weights, the run of --init, pseudo-labels
    resume/1/training.ckpt    the checkpoint of the first run, if it is resumed

Kaggle mounts the competition's data. Other data becomes a dataset of its own with one file: a zip archive of train.csv
and train_images/, whose suffix is not .zip, so that Kaggle does not unpack it.
"""

import dataclasses
import hashlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import severstal_cli
from severstal_cli import files
from severstal_cli.config import RemoteConfig, SplitConfig, TrainConfig
from severstal_cli.config.training import settings_with
from severstal_cli.errors import InputError, RunError
from severstal_cli.kaggle import names, notebook, wheels
from severstal_cli.kaggle.bundle import script_for, write_json
from severstal_cli.kaggle.job import Source, Task
from severstal_cli.kaggle.notebook import CONTENTS, OUTPUT
from severstal_cli.learning.networks import encoder_file, pretrained, registry
from severstal_cli.learning.networks.names import folder_for
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import Progress
from severstal_cli.steel import class_names
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.images import image_files
from severstal_cli.steel.tables import mask_table
from severstal_cli.steel.tables.table_files import metadata_path

FORMAT = 2
DATA = "data.severstal"


@dataclass(frozen=True, kw_only=True)
class Data:
    """The training data."""

    is_own: bool
    """Other data than the competition's: it is uploaded as a dataset of its own."""
    annotations: str = ""
    """SHA-256 of the local train.csv, if that is the competition's."""
    is_here: bool = False
    """The images are on this machine."""


def data_of(config: RemoteConfig) -> Data:
    """Decide whether the data folder holds the competition's data or other data. Raises InputError: unreadable."""
    folder, competition = config.train.data, config.competition
    table, images = folder / "train.csv", folder / "train_images"
    if not table.exists() and not images.exists():
        return Data(is_own=False)
    masks = len(mask_table.read_table(table).masks)
    count = len(image_files.find_images([images])) if images.exists() else competition.train_images
    if (count, masks) != (competition.train_images, competition.masks):
        return Data(is_own=True, is_here=True)
    return Data(is_own=False, annotations=notebook.digest_of(table), is_here=images.exists())


def name_of(config: RemoteConfig) -> str:
    """The name that dataset, notebook and state are called after: the run's, or ARCH-ENCODER-folds for every fold."""
    if not config.every_fold:
        return folder_for(config.train).name
    return f"{config.train.name or folder_for(config.train).name.removesuffix('-nofold')}-folds"


def folds_of(config: RemoteConfig) -> tuple[int, ...]:
    """The folds of the local split, or of the split that will be made; () if one run is trained. Raises InputError."""
    if not config.every_fold:
        return ()
    found = splits.split_in(config.train.data)
    if found is None:
        return tuple(range(SplitConfig.folds))
    return tuple(sorted(int(part) for part in set(found.parts.values()) - {splits.HOLDOUT}))


def runs_of(config: RemoteConfig, folds: Sequence[int]) -> tuple[TrainConfig, ...]:
    """The settings of each run, named as a local `--fold all` names them."""
    train = config.train
    if not config.every_fold:
        return (train,)
    return tuple(
        dataclasses.replace(train, fold=fold, name=train.name and f"{train.name}-fold{fold}") for fold in folds
    )


def is_finished(config: TrainConfig) -> bool:
    """Whether a run needs no further session: it has its thresholds, and all of its epochs. Raises RunError."""
    folder = folder_for(config)
    if not (folder / model_card.CARD).exists() or not (folder / run_folder.CHECKPOINT).exists():
        return (folder / model_card.CARD).exists()  # without a checkpoint nothing can be resumed
    return (folder / run_folder.THRESHOLDS).exists() and len(
        run_folder.read_checkpoint(folder)["history"]
    ) >= config.epochs


def is_left(config: TrainConfig) -> bool:
    """Whether a run is to be trained; a damaged one, too, so that it does not keep others from being fetched."""
    try:
        return not is_finished(config)
    except RunError:
        return True


def local_paths(config: TrainConfig) -> dict[str, Any]:
    """The settings that are paths or names on this machine."""
    local = settings_with(is_local=True)
    return {name: value for name, value in config.as_json().items() if name in local} | {"resume": False}


def settings_digest(config: RemoteConfig) -> str:
    """Fingerprint of the settings, the same for a resumed training."""
    of_run = settings_with(names_run=True)  # the state already lies in a folder of that name
    content = {name: value for name, value in config.train.as_json().items() if name not in of_run}
    if config.every_fold:
        content["fold"] = "all"
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def build(
    folder: Path,
    config: RemoteConfig,
    data: Data,
    split: Path | None,
    *,
    runs: Sequence[TrainConfig],
    sends_weights: bool,
    progress: Progress,
) -> Task:
    """Write `folder`/dataset, and `folder`/data if the data is not the competition's. Returns the notebook's task.

    Raises InputError: something to start from is missing or wrong; RunError; MachineError; OutputError.
    """
    train, dataset = config.train, folder / "dataset"
    name = name_of(config)
    shutil.rmtree(dataset, ignore_errors=True)
    with files.writing(folder):
        (dataset / "wheels").mkdir(parents=True)
        for wheel in wheels.missing_wheels():
            (dataset / "wheels" / wheel.name).write_bytes(wheel.content)
        sent = settings_with(is_local=False, is_of_machine=False)
        settings = {each: value for each, value in train.as_json().items() if each in sent}
        write_json(dataset / "settings.json", settings)
        if split is not None:
            shutil.copyfile(split, dataset / "splits.csv")
        for path in (train.data / class_names.FILE, metadata_path(train.data / "train.csv")):
            if path.exists():
                _copy(path, dataset / "annotations" / path.name)
        described = [_describe(dataset, number, each) for number, each in enumerate(runs, start=1)]
        options, paths, internet = _starts_from(
            dataset, config, data, sends_weights, progress, resumes=all(each["resume"] for each in described)
        )
        source = _pack_data(folder / "data", config, progress) if data.is_own else None
        written = sorted(path for path in dataset.rglob("*") if path.is_file())
        digest = hashlib.sha256(
            write_json(
                dataset / CONTENTS,
                {
                    "format": FORMAT,
                    "severstal": severstal_cli.__version__,
                    "command": "train",
                    "runs": described,
                    "options": options,
                    "paths": paths,
                    "devices": train.devices,
                    "internet": internet,
                    "splits": split is None,
                    "session_s": config.session_s,
                    "annotations": data.annotations,
                    "data": None if source is None else {"file": DATA, "sha256": source.contents},
                    "files": {path.relative_to(dataset).as_posix(): notebook.digest_of(path) for path in written},
                },
            ).encode()
        ).hexdigest()
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


def _describe(dataset: Path, number: int, config: TrainConfig) -> dict[str, Any]:
    """A run in severstal-bundle.json. Its checkpoint is copied to a numbered folder: Kaggle refuses & and @."""
    folder, resume = folder_for(config), ""
    if config.resume and (folder / run_folder.CHECKPOINT).exists():
        resume, names = f"resume/{number}", [run_folder.CHECKPOINT]
        if "kept" not in run_folder.read_checkpoint(folder).get("state", {}):  # of an earlier version: without weights
            names += [name for name in (model_card.CARD, run_folder.WEIGHTS) if (folder / name).exists()]
        for name in names:
            _copy(folder / name, dataset / resume / name)
    return {"name": folder.name, "fold": config.fold, "resume": resume}


def _starts_from(
    dataset: Path, config: RemoteConfig, data: Data, sends_weights: bool, progress: Progress, *, resumes: bool
) -> tuple[list[str], dict[str, str], bool]:
    """Copy the initial weights and the pseudo-labels. `resumes`: every run has a checkpoint.

    Returns the options, the options whose value is a path in the bundle, and whether the notebook needs the internet.
    """
    train = config.train
    options: list[str] = []
    paths: dict[str, str] = {}
    internet = False
    if train.init is not None and not resumes:
        model_card.read_card(train.init)
        for name in (model_card.CARD, run_folder.WEIGHTS):
            _copy(train.init / name, dataset / "init" / name)
        paths["--init"] = "init"
    if train.pseudo is not None and train.pseudo_images is not None:
        if train.pseudo_images.resolve() != (train.data / "test_images").resolve() and data.is_here:
            raise InputError(
                "these images of pseudo-labels are not on Kaggle",
                str(train.pseudo_images),
                f"Put them into {train.data / 'test_images'}",
            )
        for path in (train.pseudo, train.pseudo.with_suffix(".json"), train.pseudo.with_suffix(".scores.csv")):
            if path == train.pseudo or path.exists():
                _copy(path, dataset / "pseudo" / f"pseudo{path.name.removeprefix(train.pseudo.stem)}")
        paths |= {"--pseudo": "pseudo/pseudo.csv", "--pseudo-images": "test_images"}
    if not registry.entry(train.arch).has_encoder or resumes or train.init is not None:
        return [*options, "--encoder-weights", "none"], paths, internet
    weights = None if train.encoder_weights in ("imagenet", "none") else Path(train.encoder_weights)
    if train.encoder_weights == "imagenet":
        weights = pretrained.find_file(train.models / "encoders", train.encoder)
        if weights is None and sends_weights:
            progress.log(f"downloading the ImageNet weights of {train.encoder} here: the notebook has no internet")
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
    """Pack the data into one file: thousands of small ones take an hour to upload. Same data, same bytes."""
    data = config.train.data
    folders = ["train_images", *(["test_images"] if config.train.pseudo is not None else [])]
    paths = [data / "train.csv", *(path for name in folders for path in image_files.find_images([data / name]))]
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
    """The split to send, made now if the images are on this machine; None: the notebook makes it.

    Raises InputError as `splits.ensure_splits` does.
    """
    path = splits.splits_path(config.train.data)
    if path.exists():
        splits.read_splits(path)
        return path
    if not data.is_here:
        return None
    return splits.ensure_splits(open_data_folder(config.train.data, progress), progress).path
