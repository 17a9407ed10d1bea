"""The script of a Kaggle notebook: it runs one command of severstal, `predict` or `train`, with the attached bundle.

It is copied out of severstal, and needs nothing but Python and what the notebook image brings. It writes to the current
folder alone, which Kaggle keeps, and to a temporary one. Where the inputs are mounted is found, not known: the places
have changed over the years. A failure ends with one line and a code other than 0.

`predict` leaves submission.csv and, beside it, .json and .scores.csv. `train` leaves the folder of the run, whose
checkpoint a later session resumes from, and at its end severstal-output.json with the SHA-256 of each file.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

BUNDLE = ""
"""SHA-256 of the severstal-bundle.json that belongs to this script, put in when the bundle is made."""

INPUT = os.environ.get("SEVERSTAL_INPUT", "/kaggle/input")
NEEDS_GPU = "SEVERSTAL_CPU" not in os.environ
CONTENTS = "severstal-bundle.json"
OUTPUT = "severstal-output.json"
UPLOAD_AGAIN = "upload the dataset again"
"""The remedy where the dataset is at fault; it is looked for in the notebook's log."""
NO_WEIGHTS = "send the weights of the encoder along"
"""Likewise where the notebook cannot reach the internet."""
DEPTH = 5
"""How far below INPUT is looked."""
GRACE_S = 120.0
"""How long a training that is told to end may take to."""

VERSIONS = """
import sys, cv2, numba, numpy, torch
gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(f"torch {torch.__version__}, numpy {numpy.__version__}, numba {numba.__version__}, opencv {cv2.__version__},"
      f" GPU {' and '.join(torch.cuda.get_device_name(number) for number in range(gpus)) or 'none'}", flush=True)
try:
    for number in range(gpus):
        torch.ones(8, device=f"cuda:{number}").sum().item()
except RuntimeError:
    sys.exit(75)
sys.exit(80 + min(gpus, 8))
"""
"""Ends with 75 where there is a GPU that this torch cannot use (new builds leave old GPUs out), else with 80 and the
number of GPUs."""

HUB = "from huggingface_hub import constants, get_session; get_session().head(constants.ENDPOINT, timeout=20)"
"""Fails where the hub of weights cannot be reached."""


def main() -> None:
    """Find and unpack the bundle, then run its command."""
    began = time.monotonic()
    say(f"Python {sys.version.split()[0]}")
    # the session's number, by which alone it can be cancelled; no call of Kaggle's public API gives it
    if found := re.search(r"\d{6,}", os.environ.get("KAGGLE_CONTAINER_NAME", "")):
        say(f"session {found[0]}")
    if sys.version_info < (3, 11):  # noqa: UP036 (the notebook image chooses the Python)
        raise failure("this Python is too old, severstal needs 3.11", "choose a newer environment for the notebook")
    folders = walk(Path(INPUT), DEPTH)
    root = find_bundle(folders)
    bundle = json.loads((root / CONTENTS).read_text(encoding="utf-8"))
    say(f"bundle {root}")
    with tempfile.TemporaryDirectory(prefix="severstal-") as temporary:
        place = Path(temporary)
        collect(root, bundle["files"], place)
        for wheel in sorted(place.glob("wheels/*.whl")):
            with zipfile.ZipFile(wheel) as archive:  # a pure-Python wheel is installed by unpacking it
                archive.extractall(place / "site")
        environment = environment_in(place, internet=bundle.get("internet", False))
        if bundle.get("command") == "train":
            train(bundle, place, folders, environment, began)
        else:
            predict(bundle, place, folders, environment)


def predict(bundle: dict[str, Any], place: Path, folders: dict[Path, set[str]], environment: dict[str, str]) -> None:
    """The submission of the test images."""
    submission = Path.cwd() / "submission.csv"
    submission.unlink(missing_ok=True)
    data = find_folder(folders, {"test_images", "sample_submission.csv"})
    say(f"images {data / 'test_images'}")
    gpus = count_gpus(environment)
    command = ["predict", str(data / "test_images")]
    (place / "named").mkdir()
    for run in bundle["runs"]:  # the folders of the bundle have numbers: a run's name may hold any letter
        command += ["--model", str((place / run["folder"]).rename(place / "named" / run["name"]))]
    command += ["--thresholds", str(place / bundle["thresholds"]), "--tta", bundle["tta"]]
    command += ["--sample", str(data / "sample_submission.csv"), "--layout", bundle["layout"]]
    if gpus > 1:
        command += ["--devices", str(gpus)]
    code = severstal([*command, "--out", str(submission)], environment)
    if code or not submission.is_file():
        raise failure(f"the prediction failed with code {code}", "the lines above say why")
    say(f"wrote {submission.name}, {submission.stat().st_size:,} bytes")


def train(
    bundle: dict[str, Any], place: Path, folders: dict[Path, set[str]], environment: dict[str, str], began: float
) -> None:
    """A run, its thresholds where the training is finished, and what tells whether it is."""
    name, options = bundle["name"], list(bundle["options"])
    working = Path.cwd()
    (working / OUTPUT).unlink(missing_ok=True)
    data = data_folder(bundle, place, folders)
    gpus = count_gpus(environment)
    if (
        bundle["internet"]
        and subprocess.run([sys.executable, "-P", "-c", HUB], env=environment, check=False).returncode
    ):
        raise failure("the notebook cannot reach the internet, which has the weights of the encoder", NO_WEIGHTS)
    devices = min(bundle["devices"], gpus) if gpus else bundle["devices"]
    say(f"training {name} on {devices} {'GPU' if gpus else 'CPU process'}{'' if devices == 1 else 's'}")
    for option, path in bundle["paths"].items():
        options += [option, str(data / "test_images" if path == "test_images" else place / path)]
    if bundle["resume"]:
        shutil.copytree(place / "resume", working / name, dirs_exist_ok=True)
        options += ["--resume"]
    options += ["--data", str(data), "--models", str(working), "--name", name, "--devices", str(devices)]
    left_s = bundle["session_s"] - (time.monotonic() - began)
    code = severstal(["train", "--config", str(place / "settings.json"), *options], environment, limit_s=left_s)
    finished = code == 0
    if finished and bundle["thresholds"]:
        code = severstal(["thresholds", str(working / name), "--data", str(data)], environment)
    kept = sorted(path for path in (working / name).rglob("*") if path.is_file() and not path.name.startswith("."))
    if bundle["splits"]:
        shutil.copyfile(data / "splits.csv", working / "splits.csv")
        kept.append(working / "splits.csv")
    files = {path.relative_to(working).as_posix(): digest_of(path) for path in kept}
    content = {"bundle": BUNDLE, "name": name, "folder": str(working / name), "finished": finished, "files": files}
    (working / OUTPUT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if code is None:
        say("the session's time is used up: --resume goes on in another one")
    elif code:
        raise failure(f"{'the search of thresholds' if finished else 'the training'} failed with code {code}",
                      "the lines above say why")  # fmt: skip


def data_folder(bundle: dict[str, Any], place: Path, folders: dict[Path, set[str]]) -> Path:
    """A folder that can be written, with the annotations, the images and the split."""
    data = place / "data"
    data.mkdir()
    names = {"train.csv", "train_images"}
    if bundle["data"]:  # a dataset of its own, packed so that nobody unpacks it on the way
        file = bundle["data"]["file"]
        for source in (folder / file for folder, inside in folders.items() if file in inside):
            if digest_of(source) == bundle["data"]["sha256"]:
                with zipfile.ZipFile(source) as archive:
                    archive.extractall(data)
                break
        else:
            raise failure("the data is missing or damaged", UPLOAD_AGAIN)
    else:
        source = find_folder(folders, names)
        say(f"data {source}")
        for name in {*names, "test_images", "sample_submission.csv"} & folders[source]:
            (data / name).symlink_to(source / name)
        wanted = bundle["annotations"]
        if wanted and digest_of(data / "train.csv") != wanted:
            raise failure("the competition's train.csv is another one than yours",
                          "give your data another folder than the competition's, with all its images")  # fmt: skip
    if (place / "splits.csv").exists():
        shutil.copyfile(place / "splits.csv", data / "splits.csv")
    return data


def count_gpus(environment: dict[str, str]) -> int:
    """The GPUs that can be used. Ends the script where there is none."""
    code = subprocess.run([sys.executable, "-P", "-c", VERSIONS], env=environment, check=False).returncode
    if NEEDS_GPU and code == 75:
        raise failure("this torch cannot use the GPU", "choose GPU T4 x2 in the notebook's settings")
    if NEEDS_GPU and code == 80:
        raise failure("the notebook was given no GPU", "see that GPU time is left this week, and that your phone is "
                      "verified, and choose GPU T4 x2 in the notebook's settings")  # fmt: skip
    if code == 75:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return max(code - 80, 0)


def severstal(arguments: list[str], environment: dict[str, str], limit_s: float | None = None) -> int | None:
    """The exit code of a command of severstal; None: it was ended after `limit_s` seconds."""
    command = [sys.executable, "-P", "-m", "severstal_cli", *arguments]
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            return None


def walk(top: Path, depth: int) -> dict[Path, set[str]]:
    """{folder: names in it} for `top` and the folders below it, without the images."""
    found: dict[Path, set[str]] = {}
    for place, folders, files in os.walk(top, followlinks=True):
        here = Path(place)
        found[here] = {*folders, *files}
        deep = len(here.relative_to(top).parts) >= depth
        folders[:] = [] if deep else sorted(set(folders) - {"train_images", "test_images"})
    if not found:
        raise failure(f"there is no {top}", "run this as a Kaggle notebook")
    return found


def find_bundle(folders: dict[Path, set[str]]) -> Path:
    """The folder of the bundle that this script was made with."""
    found = [folder for folder, names in folders.items() if CONTENTS in names]
    for folder in found:
        if hashlib.sha256((folder / CONTENTS).read_bytes()).hexdigest() == BUNDLE:
            return folder
    if found:
        raise failure(
            "the attached bundle is of another version than this script",
            f"attach the newest version of the dataset, or {UPLOAD_AGAIN}",
        )
    raise failure(f"no {CONTENTS} under {INPUT}", f"attach the dataset to the notebook, or {UPLOAD_AGAIN}")


def find_folder(folders: dict[Path, set[str]], wanted: set[str]) -> Path:
    """The folder of the competition's data, which holds these names."""
    for folder, names in folders.items():
        if wanted <= names:
            return folder
    first, second = sorted(wanted, reverse=True)
    raise failure(f"no {first} beside a {second} under {INPUT}", "attach the competition's data")


def collect(root: Path, files: dict[str, str], place: Path) -> None:
    """Link each file of the bundle to where it belongs below `place`, however the dataset is laid out; check it."""
    by_name: dict[str, list[Path]] = {}
    for packed in root.glob("*.zip"):  # as Kaggle's own tool sends folders; Kaggle unpacks them, as far as is known
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(place / "unpacked" / packed.stem)
    for top in (root, place / "unpacked"):
        for folder, names in walk(top, DEPTH).items() if top.exists() else ():
            for name in names:
                by_name.setdefault(name, []).append(folder / name)
    for path, digest in files.items():
        for source in by_name.get(Path(path).name, ()):
            if source.is_file() and digest_of(source) == digest:
                link = place / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source.resolve())
                break
        else:
            raise failure(f"{path} of the bundle is missing or damaged", UPLOAD_AGAIN)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def environment_in(place: Path, *, internet: bool = False) -> dict[str, str]:
    """That of the command: our packages before the image's, every cache in `place`, nothing fetched but by request."""
    behind = os.environ.get("PYTHONPATH", "")
    caches = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "TRITON_CACHE_DIR", "MPLCONFIGDIR")
    return {
        **os.environ,
        "PYTHONPATH": str(place / "site") + (os.pathsep + behind if behind else ""),
        **({} if internet else {"HF_HUB_OFFLINE": "1"}),
        **{name: str(place / "cache" / name.lower()) for name in caches},
    }


def say(line: str) -> None:
    """A line for the notebook's log, at once."""
    sys.stdout.write(f"severstal: {line}\n")
    sys.stdout.flush()


def failure(what: str, remedy: str) -> SystemExit:
    """What ends the script: one line on stderr, and code 1."""
    return SystemExit(f"severstal: {what}: {remedy}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise failure(f"{type(error).__name__}: {error}", "see the lines above") from error
