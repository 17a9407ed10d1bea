"""The script of the Kaggle notebook: it predicts the test images with the runs of the attached bundle.

It is copied out of severstal, and needs nothing but Python and what the notebook image brings. No network, no writing
but to the current folder (submission.csv and, beside it, .json and .scores.csv) and to a temporary one. Where the
inputs are mounted is found, not known: the places have changed over the years. A failure ends with one line and a code
other than 0.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

BUNDLE = ""
"""SHA-256 of the severstal-bundle.json that belongs to this script, put in when the bundle is made."""

INPUT = os.environ.get("SEVERSTAL_INPUT", "/kaggle/input")
CONTENTS = "severstal-bundle.json"
UPLOAD_AGAIN = "upload the dataset again"
"""The remedy where the dataset is at fault; `submit` looks for it in the notebook's log."""
DEPTH = 5
"""How far below INPUT is looked."""

VERSIONS = """
import sys, cv2, numba, numpy, torch
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
print(f"torch {torch.__version__}, numpy {numpy.__version__}, numba {numba.__version__}, opencv {cv2.__version__},"
      f" GPU {gpu}", flush=True)
try:
    torch.ones(8, device="cuda" if gpu != "none" else "cpu").sum().item()
except RuntimeError:
    sys.exit(75)
"""
"""Ends with 75 where there is a GPU that this torch cannot use: new builds leave old GPUs out."""


def main() -> None:
    """Find, unpack, predict."""
    say(f"Python {sys.version.split()[0]}")
    if sys.version_info < (3, 11):  # noqa: UP036 (the notebook image chooses the Python)
        raise failure("this Python is too old, severstal needs 3.11", "choose a newer environment for the notebook")
    folders = walk(Path(INPUT), DEPTH)
    root = find_bundle(folders)
    data = find_test_images(folders)
    bundle = json.loads((root / CONTENTS).read_text(encoding="utf-8"))
    say(f"bundle {root}, images {data / 'test_images'}")
    submission = Path.cwd() / "submission.csv"
    submission.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="severstal-") as temporary:
        place = Path(temporary)
        collect(root, bundle["files"], place)
        for wheel in sorted(place.glob("wheels/*.whl")):
            with zipfile.ZipFile(wheel) as archive:  # a pure-Python wheel is installed by unpacking it
                archive.extractall(place / "site")
        environment = environment_in(place)
        done = subprocess.run([sys.executable, "-P", "-c", VERSIONS], env=environment, check=False)
        if done.returncode == 75:
            say("this GPU cannot be used by this torch: predicting on the CPU")
            environment["CUDA_VISIBLE_DEVICES"] = ""
        predict = [sys.executable, "-P", "-m", "severstal_cli", "predict", str(data / "test_images")]
        for run in bundle["runs"]:
            predict += ["--model", str(place / run["folder"])]
        predict += ["--thresholds", str(place / bundle["thresholds"]), "--tta", bundle["tta"]]
        predict += ["--sample", str(data / "sample_submission.csv"), "--layout", bundle["layout"]]
        done = subprocess.run([*predict, "--out", str(submission)], env=environment, check=False)
    if done.returncode or not submission.is_file():
        raise failure(f"the prediction failed with code {done.returncode}", "the lines above say why")
    say(f"wrote {submission.name}, {submission.stat().st_size:,} bytes")


def walk(top: Path, depth: int) -> dict[Path, set[str]]:
    """{folder: names in it} for `top` and the folders below it, without the photographs."""
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


def find_test_images(folders: dict[Path, set[str]]) -> Path:
    """The folder of the competition's data."""
    for folder, names in folders.items():
        if {"test_images", "sample_submission.csv"} <= names:
            return folder
    raise failure(f"no test_images beside a sample_submission.csv under {INPUT}", "attach the competition's data")


def collect(root: Path, files: dict[str, str], place: Path) -> None:
    """Link each file of the bundle to where it belongs below `place`, however the dataset is laid out; check it."""
    by_name: dict[str, list[Path]] = {}
    for folder, names in walk(root, DEPTH).items():
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


def environment_in(place: Path) -> dict[str, str]:
    """That of the prediction: our packages before the image's, every cache in `place`, nothing fetched."""
    behind = os.environ.get("PYTHONPATH", "")
    caches = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "TRITON_CACHE_DIR", "MPLCONFIGDIR")
    return {
        **os.environ,
        "PYTHONPATH": str(place / "site") + (os.pathsep + behind if behind else ""),
        "HF_HUB_OFFLINE": "1",
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
