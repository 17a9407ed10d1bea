"""The bundle for predictions in an offline notebook, made without network or credentials.

    dataset/severstal-bundle.json   how to predict, and the SHA-256 of every file below
    dataset/runs/1/                 model.safetensors, model.json of the first run
    dataset/thresholds.json         the post-processing, one set for all runs
    dataset/wheels/*.whl            this program, and the packages that the notebook image lacks
    dataset/dataset-metadata.json   for `kaggle datasets create`
    kernel/script.py                `notebook.py`, with the hash of the severstal-bundle.json it belongs to
    kernel/kernel-metadata.json     private, without internet, with a GPU; for `kaggle kernels push`
    README.md                       the commands of Kaggle's own tool for the next steps

The same runs give the same bytes. The bundle has no local path, and no user name except the Kaggle account's.
"""

import dataclasses
import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import severstal_cli
from severstal_cli import files
from severstal_cli.config import COMPETITION
from severstal_cli.errors import InputError
from severstal_cli.kaggle import by_hand, notebook, wheels
from severstal_cli.kaggle import names as slugs
from severstal_cli.kaggle.by_hand import NOBODY
from severstal_cli.kaggle.kernel import MACHINE
from severstal_cli.kaggle.notebook import CONTENTS
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import engines, ensemble, level_maps
from severstal_cli.learning.inference.ensemble import Ensemble
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import SILENT, Progress

FORMAT = 1
"""Format of severstal-bundle.json."""

README = "README.md"
DATASET_CARD = "dataset-metadata.json"
"""For Kaggle's own tool; not part of the dataset."""
_KERNEL_CARD = "kernel-metadata.json"
_UNFINISHED = ".severstal-bundle-"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A written bundle."""

    dataset: Path
    """The folder to upload."""
    kernel: Path
    """The folder with script.py and kernel-metadata.json."""
    slug: str
    """The name of the dataset; `names.notebook_of` derives the notebook's name."""
    fingerprint: str
    """SHA-256 of everything that determines the masks: weights, model cards, post-processing, TTA views, layout and
    competition; not the wheels or the script, so a newer version of this program makes no new submission."""
    contents: str
    """SHA-256 of severstal-bundle.json, which covers every file of the dataset; the script contains it."""
    runs: tuple[str, ...]
    """The names of the runs."""
    validation_dice: float | None
    """The validation Dice of a single run."""


def build(
    folder: Path,
    *,
    runs: Sequence[Path],
    thresholds: Path | None = None,
    tta: str | None = None,
    user: str | None = None,
    competition: str = COMPETITION.slug,
    progress: Progress = SILENT,
) -> Bundle:
    """Write `folder`/dataset and `folder`/kernel, replacing an earlier bundle.

    Args:
        folder: created if it is missing; its other files stay.
        runs: folders of trained models, averaged.
        thresholds: a thresholds.json; by default that of the best validated run.
        tta: TTA views to average; by default those of the threshold search.
        user: the Kaggle account that dataset and kernel will belong to.

    Raises:
        InputError: incompatible runs, a wrong name, or `folder` has other files of these names.
        RunError: no run, an incomplete or damaged one, or one without thresholds.
        MachineError: a required package cannot be bundled.
        OutputError: the bundle cannot be written.
    """
    if user is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", user):
        raise InputError("wrong name of a Kaggle account", user, "Give the name in the address of your profile")
    _check_place(folder)
    how = _read(runs, thresholds, tta)
    for note in how.notes():
        progress.log(note)
    names = tuple(_distinct([path.resolve().name for path in how.folders]))
    slug = slug_of(names)
    packed = wheels.missing_wheels()
    staging = None
    made = [above for above in (folder, *folder.parents) if not above.exists()]
    try:
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(f"{_UNFINISHED}*"):  # by a process that was killed
                shutil.rmtree(left)
            staging = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
            contents = _write_dataset(staging / "dataset", how, names, packed, competition)
            digest = hashlib.sha256(write_json(staging / "dataset" / CONTENTS, contents).encode()).hexdigest()
            write_json(staging / "dataset" / DATASET_CARD, _dataset_card(slug, user or NOBODY))
            (staging / "kernel").mkdir()
            (staging / "kernel/script.py").write_text(script_for(digest), encoding="utf-8", newline="\n")
            write_json(staging / "kernel" / _KERNEL_CARD, _kernel_card(slug, user or NOBODY, competition))
            for name in ("dataset", "kernel"):
                if (folder / name).exists():
                    (folder / name).rename(staging / f"old-{name}")
                (staging / name).rename(folder / name)
            by_hand.write_readme(folder / README, slug, user, competition)
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):  # refused: they are empty
            for path in made:
                path.rmdir()
    size = sum(path.stat().st_size for path in (folder / "dataset").rglob("*") if path.is_file())
    progress.log(f"bundled {', '.join(names)} and {len(packed)} wheels: {size / 2**20:.1f} MiB")
    return Bundle(
        dataset=folder / "dataset",
        kernel=folder / "kernel",
        slug=slug,
        fingerprint=_fingerprint(contents),
        contents=digest,
        runs=names,
        validation_dice=how.cards[0].validation_dice if len(names) == 1 else None,
    )


def estimate_s(
    *,
    runs: Sequence[Path],
    thresholds: Path | None = None,
    tta: str | None = None,
    images: int = COMPETITION.test_images,
) -> tuple[float, str]:
    """(seconds for `images` images on this machine, its device), measured with a few images of noise.

    It times the networks only: decoding and post-processing run in parallel. Raises as `build` does.
    """
    how = _read(runs, thresholds, tta)
    fabric = open_device()
    members = engines.load_members(how.folders, how.cards, fabric, engine="torch")  # as the notebook
    noise = np.random.default_rng(0).integers(0, 256, how.cards[0].image_size, np.uint8)
    batch = 1 if fabric.device.type == "cpu" else 8  # a CPU is not faster with more

    def predict() -> None:
        for _ in level_maps.predict_levels(members, [noise] * batch, fabric, views=how.views, batch_size=batch):
            pass

    predict()  # warm-up
    began, done, elapsed_s = time.monotonic(), 0, 0.0
    while elapsed_s < 1.0:
        predict()
        done, elapsed_s = done + batch, time.monotonic() - began
    return images * elapsed_s / done, fabric.device.type


def slug_of(names: Sequence[str]) -> str:
    """The name of the dataset of runs with these names."""
    return slugs.slug_of(_distinct(names))


def _read(runs: Sequence[Path], thresholds: Path | None, views: str | None) -> Ensemble:
    if not runs:
        raise InputError("no run to submit", "", "`severstal models` lists the trained runs")
    return ensemble.read(runs, thresholds=thresholds, views=views)


def _check_place(folder: Path) -> None:
    """Raises InputError: files that are not a bundle would be replaced."""
    for name, mark in (("dataset", CONTENTS), ("kernel", _KERNEL_CARD)):
        path = folder / name
        if path.exists() and not (path / mark).is_file():
            raise InputError(f"{path} exists and is not a bundle", f"it has no {mark}", "Name another folder")


def _distinct(names: Sequence[str]) -> list[str]:
    """`names`, with numbers on the duplicates: two folders may have the same name."""
    found: list[str] = []
    for name in names:
        number, other = 2, name
        while other in found:
            number, other = number + 1, f"{name}-{number}"
        found.append(other)
    return found


def _write_dataset(
    dataset: Path, how: Ensemble, names: Sequence[str], packed: Sequence[wheels.Wheel], competition: str
) -> dict[str, Any]:
    """Write all but the two JSON files. Returns the content of severstal-bundle.json."""
    described = []
    for number, (name, source, card) in enumerate(zip(names, how.folders, how.cards, strict=True), start=1):
        run_folder.load_network(source, card)  # damaged weights must be reported now, not in the notebook
        target = dataset / "runs" / str(number)  # Kaggle refuses & and @ in paths
        target.mkdir(parents=True)
        shutil.copyfile(source / run_folder.WEIGHTS, target / run_folder.WEIGHTS)
        # without local paths and training settings
        model_card.write_card(target, dataclasses.replace(card, data="", config={}))
        described.append(
            {
                "name": name,
                "folder": f"runs/{number}",
                "arch": card.arch,
                "encoder": card.encoder,
                "fold": card.fold,
                "validation_dice": card.validation_dice,
            }
        )
    # names instead of local paths: the ensemble weights refer to them
    thresholds = dataclasses.replace(how.thresholds, runs=tuple(names) if how.weights else (), weights=how.weights)
    run_folder.write_thresholds(dataset / run_folder.THRESHOLDS, thresholds, {})
    (dataset / "wheels").mkdir()
    for wheel in packed:
        (dataset / "wheels" / wheel.name).write_bytes(wheel.content)
    written = sorted(path for path in dataset.rglob("*") if path.is_file())
    return {
        "format": FORMAT,
        "severstal": severstal_cli.__version__,
        "competition": competition,
        "runs": described,
        "thresholds": run_folder.THRESHOLDS,
        "tta": how.views,
        "layout": "original",  # the layout that is known to score
        "files": {path.relative_to(dataset).as_posix(): notebook.digest_of(path) for path in written},
    }


def _fingerprint(contents: dict[str, Any]) -> str:
    """SHA-256 of everything that determines the masks: the hashes of the files, by the run's name, and the options."""
    names = {f"{each['folder']}/": f"runs/{each['name']}/" for each in contents["runs"]}

    def named(path: str) -> str:
        return next((path.replace(folder, name, 1) for folder, name in names.items() if path.startswith(folder)), path)

    hashes = {named(path): digest for path, digest in contents["files"].items() if not path.startswith("wheels/")}
    # the order of earlier versions, whose folders had the names of the runs
    hashes = dict(sorted(hashes.items(), key=lambda item: Path(item[0])))
    parts = [hashes, contents["tta"], contents["layout"], contents["competition"]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def script_for(digest: str) -> str:
    """The notebook's script for the severstal-bundle.json of this hash."""
    source = Path(notebook.__file__).read_text(encoding="utf-8")
    before, blank, after = source.partition('\nBUNDLE = ""\n')
    assert blank, "notebook.py has no line for the hash"
    return f'{before}\nBUNDLE = "{digest}"\n{after}'


def _dataset_card(slug: str, user: str) -> dict[str, Any]:
    # the wheels include their own licences
    return {"title": slug, "id": f"{user}/{slug}", "licenses": [{"name": "other"}]}


def _kernel_card(slug: str, user: str, competition: str) -> dict[str, Any]:
    name = slugs.notebook_of(slug)
    return {
        "id": f"{user}/{name}",
        "title": name,  # Kaggle derives the address from the title
        "code_file": "script.py",
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": True,
        "machine_shape": MACHINE,
        "enable_tpu": False,
        "enable_internet": False,
        "dataset_sources": [f"{user}/{slug}"],
        "competition_sources": [competition],
        "kernel_sources": [],
        "model_sources": [],
    }


def write_json(path: Path, content: dict[str, Any]) -> str:
    text = json.dumps(content, indent=2) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
    return text
