"""The script of a Kaggle notebook: it runs `predict` or `train` of severstal with the attached bundle.

It needs only Python and the notebook image, and searches for the mounted inputs, as Kaggle has changed their paths over
the years. It writes to the current folder, whose files Kaggle keeps, and to a temporary folder. A failure is one line.
`predict` writes submission.csv, and its metadata beside it. `train` writes a folder for each run, whose checkpoint a
later session resumes from, and after each run severstal-output.json with the SHA-256 of each file.
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
"""SHA-256 of the severstal-bundle.json that belongs to this script; filled in when the bundle is made."""

INPUT = os.environ.get("SEVERSTAL_INPUT", "/kaggle/input")
NEEDS_GPU = "SEVERSTAL_CPU" not in os.environ
CONTENTS, OUTPUT = "severstal-bundle.json", "severstal-output.json"
UPLOAD_AGAIN, NO_WEIGHTS = "upload the dataset again", "send the encoder weights in the bundle"
"""Remedies for a faulty dataset and for a notebook without internet; the command searches the log for them."""
DEPTH = 5  # levels of folders to search below INPUT
Folders = dict[Path, set[str]]  # the names in each folder

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
"""Exits with 75 if this torch cannot use a GPU (new builds drop old GPUs), else with 80 plus the number of GPUs."""

HUB = "from huggingface_hub import constants, get_session; get_session().head(constants.ENDPOINT, timeout=20)"
"""Fails if the notebook cannot reach the model hub."""


def main() -> None:
    """Find and unpack the bundle, then run its command."""
    began = time.monotonic()
    say(f"Python {sys.version.split()[0]}")
    # a session is cancelled by its number, which no call of Kaggle's public API returns
    if found := re.search(r"\d{6,}", os.environ.get("KAGGLE_CONTAINER_NAME", "")):
        say(f"session {found[0]}")
    if sys.version_info < (3, 11):  # noqa: UP036 (the notebook image chooses the Python)
        raise failure("this Python is too old, severstal needs 3.11", "choose a newer environment for the notebook")
    folders = walk(Path(INPUT), DEPTH)
    root = find_bundle(folders)
    bundle = json.loads((root / CONTENTS).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="severstal-") as temporary:
        work = Path(temporary)
        collect(root, bundle["files"], work)
        for wheel in sorted(work.glob("wheels/*.whl")):
            zipfile.ZipFile(wheel).extractall(work / "site")  # a pure-Python wheel is installed by unpacking it
        environment = environment_in(work, internet=bundle.get("internet", False))
        if bundle.get("command") == "train":
            train(bundle, work, folders, environment, began)
        else:
            predict(bundle, work, folders, environment)


def predict(bundle: dict[str, Any], work: Path, folders: Folders, environment: dict[str, str]) -> None:
    """Predict the test images: submission.csv."""
    submission = Path.cwd() / "submission.csv"
    submission.unlink(missing_ok=True)
    data = find_folder(folders, {"test_images", "sample_submission.csv"})
    gpus = count_gpus(environment)
    command = ["predict", str(data / "test_images"), "--out", str(submission)]
    (work / "named").mkdir()
    for run in bundle["runs"]:  # the bundle numbers its folders, as a run's name may have letters that Kaggle refuses
        command += ["--model", str((work / run["folder"]).rename(work / "named" / run["name"]))]
    command += ["--thresholds", str(work / bundle["thresholds"]), "--tta", bundle["tta"]]
    command += ["--sample", str(data / "sample_submission.csv"), "--layout", bundle["layout"]]
    command += ["--devices", str(gpus)] if gpus > 1 else []
    code = severstal(command, environment)
    if code or not submission.is_file():
        raise failure(f"the prediction failed with code {code}", "see the lines above")
    say(f"wrote {submission.name}, {submission.stat().st_size:,} bytes")


def train(bundle: dict[str, Any], work: Path, folders: Folders, environment: dict[str, str], began: float) -> None:
    """Train the runs in order, each with its thresholds, until the session's time is up."""
    working, finished = Path.cwd(), dict[str, bool]()
    (working / OUTPUT).unlink(missing_ok=True)
    data = data_folder(bundle, work, folders)
    gpus = count_gpus(environment)
    if bundle["internet"] and ends_with(HUB, environment):
        raise failure("the notebook has no internet to download the encoder weights", NO_WEIGHTS)
    devices = min(bundle["devices"], gpus) if gpus else bundle["devices"]
    options = ["train", "--config", str(work / "settings.json"), *bundle["options"]]
    for option, path in bundle["paths"].items():
        options += [option, str(data / "test_images" if path == "test_images" else work / path)]
    options += ["--data", str(data), "--models", str(working), "--devices", str(devices)]
    for run in bundle["runs"]:
        name, fold = run["name"], run["fold"]
        left_s = bundle["session_s"] - (time.monotonic() - began)
        code: int | None = None
        what = "training"
        if left_s > 0:
            say(f"training {name} on {devices} {'GPU' if gpus else 'CPU process'}{'' if devices == 1 else 's'}")
            own = ["--name", name, "--fold", "none" if fold is None else str(fold)]
            if run["resume"]:
                shutil.copytree(work / run["resume"], working / name, dirs_exist_ok=True)
                own += ["--resume"]
            code = severstal([*options, *own], environment, limit_s=left_s)
            if code == 0 and fold is not None:
                what = "threshold search"
                code = severstal(["thresholds", str(working / name), "--data", str(data)], environment)
            finished[name] = code == 0
        write_manifest(bundle, working, data, finished)
        if code is None:
            say("the session's time is used up: --resume resumes in another one")
            return
        if code:
            raise failure(f"the {what} of {name} failed with code {code}", "see the lines above")


def write_manifest(bundle: dict[str, Any], working: Path, data: Path, finished: dict[str, bool]) -> None:
    """Write severstal-output.json: which runs are finished, thresholds included, and the SHA-256 of their files."""
    paths = (path for name in finished for path in sorted((working / name).rglob("*")))
    kept = [path for path in paths if path.is_file() and not path.name.startswith(".")]
    if bundle["splits"] and (data / "splits.csv").exists():
        kept.append(Path(shutil.copyfile(data / "splits.csv", working / "splits.csv")))
    files = {path.relative_to(working).as_posix(): digest_of(path) for path in kept}
    content = {"bundle": BUNDLE, "folder": str(working), "finished": finished, "files": files}
    temporary = working / f".{OUTPUT}"
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(working / OUTPUT)


def data_folder(bundle: dict[str, Any], work: Path, folders: Folders) -> Path:
    """Make a writable data folder: the annotations, the images and the split."""
    data = work / "data"
    data.mkdir()
    names = {"train.csv", "train_images"}
    if bundle["data"]:  # a dataset of its own, with a suffix that Kaggle does not unpack
        file = bundle["data"]["file"]
        packed = [folder / file for folder, inside in folders.items() if file in inside]
        packed = [path for path in packed if digest_of(path) == bundle["data"]["sha256"]]
        if not packed:
            raise failure("the data is missing or damaged", UPLOAD_AGAIN)
        zipfile.ZipFile(packed[0]).extractall(data)
    else:
        source = find_folder(folders, names)
        for name in {*names, "test_images", "sample_submission.csv"} & folders[source]:
            (data / name).symlink_to(source / name)
        wanted = bundle["annotations"]
        if wanted and digest_of(data / "train.csv") != wanted:
            raise failure(
                "the competition's train.csv differs from yours",
                "keep your data in another folder, with all of its images",
            )
    for path in (work / "splits.csv", *work.glob("annotations/*")):
        if path.exists():
            shutil.copyfile(path, data / path.name)
    return data


def count_gpus(environment: dict[str, str]) -> int:
    """Count the usable GPUs. Ends the script if there is none."""
    code = ends_with(VERSIONS, environment)
    if NEEDS_GPU and code == 75:
        raise failure("this torch cannot use the GPU", "choose GPU T4 x2 in the notebook's settings")
    if NEEDS_GPU and code == 80:
        raise failure("the notebook has no GPU", "check the GPU time left and your phone's verification; choose T4 x2")
    if code == 75:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return max(code - 80, 0)


def ends_with(code: str, environment: dict[str, str]) -> int:
    """Run Python code in a process; its exit code."""
    return subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=False).returncode


def severstal(arguments: list[str], environment: dict[str, str], limit_s: float | None = None) -> int | None:
    """Run a severstal command; its exit code, or None if it was interrupted after `limit_s` seconds."""
    with subprocess.Popen([sys.executable, "-P", "-m", "severstal_cli", *arguments], env=environment) as process:
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(120.0)
        except subprocess.TimeoutExpired:
            process.kill()
        return None


def walk(top: Path, depth: int) -> dict[Path, set[str]]:
    """{folder: names in it} for `top` and the folders below it; image folders are not entered."""
    found: dict[Path, set[str]] = {}
    for path, folders, files in os.walk(top, followlinks=True):
        folder = Path(path)
        found[folder] = {*folders, *files}
        deeper = set(folders) - {"train_images", "test_images"} if len(folder.relative_to(top).parts) < depth else ()
        folders[:] = sorted(deeper)
    if not found:
        raise failure(f"there is no {top}", "run this as a Kaggle notebook")
    return found


def find_bundle(folders: Folders) -> Path:
    """The folder of this script's bundle."""
    found = {digest_of(folder / CONTENTS): folder for folder, names in folders.items() if CONTENTS in names}
    if BUNDLE in found:
        return found[BUNDLE]
    if found:
        raise failure(
            "the attached bundle belongs to another version of this script",
            f"attach the newest version of the dataset, or {UPLOAD_AGAIN}",
        )
    raise failure(f"no {CONTENTS} under {INPUT}", f"attach the dataset to the notebook, or {UPLOAD_AGAIN}")


def find_folder(folders: Folders, wanted: set[str]) -> Path:
    """The folder of the competition's data, which contains these names."""
    for folder, names in folders.items():
        if wanted <= names:
            return folder
    raise failure(f"no {' beside '.join(sorted(wanted, reverse=True))} under {INPUT}", "attach the competition's data")


def collect(root: Path, files: dict[str, str], work: Path) -> None:
    """Link each file of the bundle to its path below `work`. Names and hashes identify the files."""
    by_name: dict[str, list[Path]] = {}
    for packed in root.glob("*.zip"):  # Kaggle's own tool uploads folders so, and Kaggle may not unpack them
        zipfile.ZipFile(packed).extractall(work / "unpacked" / packed.stem)
    for top in (root, work / "unpacked"):
        for folder, names in walk(top, DEPTH).items() if top.exists() else ():
            for name in names:
                by_name.setdefault(name, []).append(folder / name)
    for path, digest in files.items():
        for source in by_name.get(Path(path).name, ()):
            if source.is_file() and digest_of(source) == digest:
                link = work / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source.resolve())
                break
        else:
            raise failure(f"{path} of the bundle is missing or damaged", UPLOAD_AGAIN)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def environment_in(work: Path, *, internet: bool = False) -> dict[str, str]:
    """The command's environment: our packages before the image's, every cache in `work`, no downloads by default."""
    caches = ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "TRITON_CACHE_DIR", "MPLCONFIGDIR")
    return {
        "NUMBA_CACHE_DIR": str(work / "cache/numba"),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(work / "site"), os.environ.get("PYTHONPATH")])),
        **({} if internet else {"HF_HUB_OFFLINE": "1"}),
        **{name: str(work / "cache" / name.lower()) for name in caches},
    }


def say(line: str) -> None:
    """Print a line to the notebook's log, unbuffered."""
    sys.stdout.write(f"severstal: {line}\n")
    sys.stdout.flush()


def failure(what: str, remedy: str) -> SystemExit:
    """The exception that ends the script: one line on stderr, exit code 1."""
    return SystemExit(f"severstal: {what}: {remedy}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise failure(f"{type(error).__name__}: {error}", "see the lines above") from error
