"""Run the bundle's script as the Kaggle notebook would; its submission must equal that of a local `severstal predict`.
What `train --on kaggle` sends must train in that environment, too. If the local torch is of another version, rounding
differs: then the differing pixels are counted, and all of them should be close to a threshold.

    python bench/offline_notebook.py [--python PYTHON] [--image FOLDER] [--model RUN]... [--images FOLDER --sample FILE]
                                     [--thresholds FILE] [--tta hflip]

- FOLDER holds an environment with the packages and versions of the notebook image that this program needs, from the
  list of Google Colab's image of August 2026, on which Kaggle's is built. It is created by PYTHON, which should be
  3.13, unless it exists; packages that the bundle brings are uninstalled. It takes about 6 GB and some minutes, and is
  the only step that needs a network.
- The script runs under `unshare`: without network except loopback, with the inputs mounted read-only at another path,
  and with a read-only home. This needs root or user namespaces.
- Without --model, two networks are trained on synthetic steel in a minute: one from scratch, one with an encoder of
  segmentation-models-pytorch. They are poor, so a threshold of 0.5 gives many masks to compare.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from severstal_cli.config import RemoteConfig, TrainConfig
from severstal_cli.kaggle import bundle, notebook, training, wheels
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.progress import SILENT
from severstal_cli.steel.masks.postprocess import ClassPostprocess
from severstal_cli.steel.masks.rle import RLE
from severstal_cli.steel.tables import mask_table

IMAGE = [
    "torch==2.11.0", "torchvision==0.26.0", "numpy==2.1.3", "numba==0.61.2", "llvmlite==0.44.0",
    "opencv-python-headless==5.0.0.93", "pillow==11.3.0", "safetensors==0.8.0", "huggingface-hub==1.27.0",
    "fsspec==2025.3.0", "pyyaml==6.0.3", "tqdm==4.67.3", "packaging==26.3", "typing-extensions==4.16.0",
    "pydantic==2.13.4", "matplotlib==3.10.0",
]  # fmt: skip
"""https://github.com/googlecolab/backend-info, pip-freeze.gpu.txt, August 2026: the first one for Python 3.13."""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--python", default=sys.executable)
    options.add_argument("--image", type=Path)
    options.add_argument("--model", type=Path, action="append")
    options.add_argument("--images", type=Path)
    options.add_argument("--sample", type=Path)
    options.add_argument("--thresholds", type=Path)
    options.add_argument("--tta", default="hflip")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="offline-notebook-") as folder:
        place = Path(folder)
        image = given.image or place / "image"
        make_image(given.python, image)
        runs = given.model or train(place)
        images = given.images or place / "data/test_images"
        sample = given.sample or place / "data/sample_submission.csv"
        rules = given.thresholds or write_rules(place / "half.json", runs)

        own = place / "here/submission.csv"
        models = [f"--model={folder}" for folder in runs]
        severstal(
            "predict",
            images,
            *models,
            f"--thresholds={rules}",
            f"--tta={given.tta}",
            f"--sample={sample}",
            "--layout=original",
            f"--out={own}",
        )

        made = bundle.build(place / "bundle", runs=runs, thresholds=rules, tta=given.tta)
        inputs = place / "inputs"
        competition = inputs / "competitions/severstal-steel-defect-detection"
        shutil.copytree(images, competition / "test_images")
        shutil.copy(sample, competition)
        shutil.copytree(made.dataset, inputs / "datasets/somebody" / made.slug)

        working = place / "working"
        working.mkdir()
        began = time.monotonic()
        run_offline(image / "bin/python", made.kernel / "script.py", inputs, working)
        seconds = time.monotonic() - began

        trained = train_in_image(image / "bin/python", place, images.parent) if not given.images else ""

        theirs = working / "submission.csv"
        left = sorted(path.name for path in working.iterdir())
        same = theirs.read_bytes() == own.read_bytes()
        rows = theirs.read_bytes().count(b"\n") - 1
        masks = sum(not line.endswith(",") for line in theirs.read_text().splitlines()[1:])
        print(f"the notebook's environment has {', '.join(IMAGE)}")
        print(f"in its folder: {', '.join(left)}; {rows} rows, {masks} masks, {seconds:.0f} s")
        print(f"bundled {', '.join(path.name for path in sorted((made.dataset / 'wheels').iterdir()))}")
        print(
            "submission.csv is the same, byte for byte" if same else f"submission.csv DIFFERS: {differing(own, theirs)}"
        )
        print(trained)
        wanted = ["submission.csv", "submission.json", "submission.scores.csv"]
        sys.exit(0 if same and masks and left == wanted else 1)


def make_image(python: str, image: Path) -> None:
    """Create an environment like the notebook image, without the packages of the bundle."""
    if not image.exists():
        call([python, "-m", "venv", image])
        call([image / "bin/pip", "install", "--quiet", *IMAGE])
    bundled = [found.name for found in wheels.missing_distributions()]
    call([image / "bin/pip", "uninstall", "--quiet", "--yes", *bundled], stderr=subprocess.DEVNULL)


def differing(own: Path, theirs: Path) -> str:
    """The difference of two submissions, in one line."""
    masks = [mask_table.read_table(path).masks for path in (own, theirs)]
    pixels = [{key: covered(mask) for key, mask in each.items()} for each in masks]
    keys = pixels[0].keys() | pixels[1].keys()
    count = sum(len(pixels[0].get(key, set()) ^ pixels[1].get(key, set())) for key in keys)
    return f"{count:,} pixels of {sum(map(len, pixels[0].values())):,}; torch {version('torch')} here"


def covered(mask: RLE) -> set[int]:
    """The pixels of a mask."""
    return {int(start) + step for start, length in mask for step in range(length)}


def train_in_image(python: Path, place: Path, data: Path) -> str:
    """The result of a training in the environment of the notebook, in one line."""
    settings = TrainConfig(
        data=data, models=place / "there", arch="linknet", encoder="resnet18", epochs=2, encoder_weights="none"
    )
    # the number of images differs from the competition's, so the data counts as private and is sent along
    config = RemoteConfig(train=settings)
    found = training.data_of(config)
    split = training.split_of(config, found, SILENT)
    task = training.build(place / "task", config, found, split, runs=(settings,), sends_weights=False, progress=SILENT)
    for source in task.sources:
        shutil.copytree(source.folder, place / "inputs" / "datasets/somebody" / source.slug)
    script, working = place / "train.py", place / "training"
    script.write_text(task.script, encoding="utf-8")
    working.mkdir()
    shutil.rmtree(place / "home")
    shutil.rmtree(place / "mounted")
    run_offline(python, script, place / "inputs", working)
    left = json.loads((working / notebook.OUTPUT).read_bytes())
    ((name, finished),) = left["finished"].items()
    card = model_card.read_card(working / name)
    run_folder.load_network(working / name, card)
    assert finished
    assert f"{name}/{run_folder.THRESHOLDS}" in left["files"]
    return f"training in the image: Python {card.versions['python']}, validation Dice {card.validation_dice:.4f}"


def train(place: Path) -> list[Path]:
    """Train two runs on synthetic steel."""
    data = place / "data"
    severstal("synth", data, "--images=60", "--test-images=40", "--size=128x256")
    severstal("split", f"--data={data}")
    runs = []
    for name, *more in (["small", "--arch=unet-small"], ["linknet", "--arch=linknet", "--encoder=resnet18"]):
        severstal(
            "train",
            f"--data={data}",
            f"--models={place}",
            f"--name={name}",
            "--encoder-weights=none",
            "--epochs=6",
            *more,
        )
        runs.append(place / name)
    return runs


def write_rules(path: Path, runs: list[Path]) -> Path:
    """Write a threshold of 0.5 and a minimum component size for all classes."""
    rules = (ClassPostprocess(min_component_px=8),) * model_card.read_card(runs[0]).classes
    run_folder.write_thresholds(path, Thresholds(rules=rules, exclusive=True, tta="none"), {})
    return path


def run_offline(python: Path, script: Path, inputs: Path, working: Path) -> None:
    """Run the script without a network, with `inputs` read-only at another path."""
    home, mounted = working.parent / "home", working.parent / "mounted"
    home.mkdir()
    mounted.mkdir()
    script_of_mounts = f"""
        set -e
        ip link set lo up
        for folder in {mounted} {home}; do mount --bind {inputs} $folder; mount -o remount,ro,bind $folder; done
        ip -brief address
        for folder in {mounted} {home}; do if touch $folder/probe; then echo "$folder can be written"; exit 1; fi; done
        cd {working}; exec {shlex.join([str(python), str(script)])}
    """
    flags = ["--net", "--mount"] if os.getuid() == 0 else ["--net", "--mount", "--user", "--map-root-user"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "SEVERSTAL_INPUT": str(mounted), "SEVERSTAL_CPU": "1"}
    call(["unshare", *flags, "sh", "-c", script_of_mounts], env=environment)


def severstal(*arguments: object) -> None:
    call([sys.executable, "-m", "severstal_cli", *arguments])


def call(command: list[object], **options: object) -> None:
    subprocess.run([str(word) for word in command], check=True, **options)


if __name__ == "__main__":
    main()
