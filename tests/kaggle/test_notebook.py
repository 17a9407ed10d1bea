"""The notebook's script: offline it predicts what a local `predict` does, and reports a fault in one line."""

import ast
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from severstal_cli.config import PredictConfig
from severstal_cli.kaggle import bundle, notebook, wheels
from severstal_cli.learning.networks import registry
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.stages import prediction
from severstal_cli.steel.masks.postprocess import ClassPostprocess

OFFLINE = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--net", "--user", "--map-root-user"]
COMPETITION = "competitions/severstal-steel-defect-detection"
DATASET = "datasets/somebody/severstal-x"

NO_NETWORK = """
import socket, sys
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    sys.exit(0 if "unreachable" in str(error) else str(error))
"""


@pytest.fixture
def inputs(tmp_path: Path, trained: tuple[Path, Path]) -> Path:
    """The competition's inputs of a notebook: images and a sample in the current layout."""
    folder = tmp_path / "inputs" / COMPETITION
    (folder / "test_images").mkdir(parents=True)
    images = sorted((trained[0] / "train_images").iterdir())[:6]
    for image in images:
        shutil.copy(image, folder / "test_images")
    rows = "".join(f"{image.name},1 2,1\n" for image in reversed(images))
    (folder / "sample_submission.csv").write_text(f"ImageId,EncodedPixels,ClassId\n{rows}")
    return tmp_path / "inputs"


@pytest.fixture
def attached(inputs: Path, tmp_path: Path, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The dataset among the inputs, without wheels; its script is tmp_path/bundle/kernel/script.py."""
    monkeypatch.setattr(wheels, "missing_wheels", list)
    made = bundle.build(tmp_path / "bundle", runs=[trained[1]])
    return Path(shutil.copytree(made.dataset, inputs / DATASET))


def image_packages(name: str, found: dict[str, set[str]]) -> None:
    """Fill `found`: {distribution: its files and folders in site-packages}, with what it requires."""
    if name in found:
        return
    try:
        here = distribution(name)
    except PackageNotFoundError:  # an optional one of another machine
        return
    found[name] = {file.parts[0] for file in here.files or () if file.parts[0] not in ("..", "__pycache__")}
    for line in here.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            image_packages(requirement.name, found)


def make_image(folder: Path) -> Path:
    """A Python with the known packages of the notebook image only, in the local versions."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    here = Path(torch.__file__).parents[1]
    found: dict[str, set[str]] = {}
    for name in wheels.IN_IMAGE:
        image_packages(name, found)
    for top in set().union(*found.values()):
        (site / top).symlink_to(here / top)
    for bundled in wheels.missing_distributions():  # some are required by what the image has
        for top in {file.parts[0] for file in bundled.files or ()} - {".."}:
            (site / top).unlink(missing_ok=True)
    return folder / "bin/python"


def digests(folder: Path) -> dict[Path, str]:
    return {path: notebook.digest_of(path) for path in folder.rglob("*") if path.is_file()}


def can_unshare() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*OFFLINE, "true"], check=False).returncode == 0


def make_linknet(folder: Path, like: Path) -> Path:
    """An untrained run of a library's network: its requirements must work, too."""
    torch.manual_seed(0)
    network = registry.build("linknet", encoder="resnet18", classes=2, classifier=True)
    fields = {**vars(model_card.read_card(like)), "arch": "linknet", "encoder": "resnet18"}
    run_folder.write_model(folder, network, model_card.card_from(fields))
    return folder


def test_offline_it_writes_the_same_as_a_local_predict(
    inputs: Path, tmp_path: Path, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_unshare():
        pytest.skip("this machine allows no network namespaces")
    runs = [trained[1], make_linknet(tmp_path / "linknet", trained[1])]
    rules = tmp_path / "rules.json"
    run_folder.write_thresholds(
        rules,
        Thresholds(
            rules=(ClassPostprocess(pixel_threshold=40, min_component_px=4),) * 2,
            exclusive=True,
            tta="none",
            runs=tuple(map(str, runs)),
            weights=(3.0, 1.0),
        ),
        {},
    )
    made = bundle.build(tmp_path / "bundle", runs=runs, thresholds=rules, tta="hflip")
    shutil.copytree(made.dataset, inputs / DATASET)
    before = digests(inputs)
    working = tmp_path / "working"
    working.mkdir()
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    python = make_image(tmp_path / "image")
    environment = {
        "HOME": str(home),
        "PATH": os.defpath,
        "SEVERSTAL_INPUT": str(inputs),
        "OMP_NUM_THREADS": "1",
        "SEVERSTAL_CPU": "1",
        "KAGGLE_CONTAINER_NAME": "kaggle_Ab1_251234567-webtier",
    }
    subprocess.run([*OFFLINE, python, "-c", NO_NETWORK], env=environment, check=True)
    done = subprocess.run(
        [*OFFLINE, python, made.kernel / "script.py"],
        cwd=working,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data = inputs / COMPETITION
    result = prediction.predict(PredictConfig(
        images=(data / "test_images",), runs=tuple(runs), thresholds=rules, tta="hflip", layout="original",
        sample=data / "sample_submission.csv", out=tmp_path / "here/submission.csv",
    ))  # fmt: skip
    assert sum(result.masks_by_class) > 3
    for place in (working, result.path.parent):
        assert json.loads((place / "submission.json").read_text())["weights"] == [3.0, 1.0]
    assert (working / "submission.csv").read_bytes() == result.path.read_bytes()
    with result.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), set(rows[0])) == (2 * 6, {"ImageId_ClassId", "EncodedPixels"})
    names = ["submission.csv", "submission.json", "submission.scores.csv"]
    assert sorted(path.name for path in working.iterdir()) == names
    assert digests(inputs) == before
    assert list(home.iterdir()) == []
    assert re.search(r"torch \S+, numpy \S+, numba \S+, opencv \S+, GPU ", done.stdout)
    assert "severstal: session 251234567\n" in done.stdout


def run_script(tmp_path: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    working = tmp_path / "working"
    working.mkdir(exist_ok=True)
    environment = {"PATH": os.defpath, "SEVERSTAL_INPUT": str(tmp_path / "inputs"), "SEVERSTAL_CPU": "1"}
    return subprocess.run(
        [python, tmp_path / "bundle/kernel/script.py"],
        cwd=working,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def damage(attached: Path) -> None:
    (weights,) = attached.glob("runs/*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def change_version(attached: Path) -> None:
    (attached / "severstal-bundle.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (damage, "model.safetensors of the bundle is missing or damaged: upload the dataset again"),
        (lambda attached: (attached / "thresholds.json").unlink(), "thresholds.json of the bundle is missing"),
        (change_version, "the attached bundle belongs to another version of this script"),
        (shutil.rmtree, "no severstal-bundle.json under"),
        (lambda attached: shutil.rmtree(attached.parents[2] / COMPETITION / "test_images"), "no test_images beside"),
        (lambda attached: shutil.rmtree(attached.parents[2]), "there is no"),
    ],
)
def test_a_fault_of_the_inputs_is_reported_in_one_line(
    attached: Path, tmp_path: Path, spoil: Callable[[Path], None], line: str
) -> None:
    spoil(attached)
    (tmp_path / "working").mkdir()
    done = run_script(tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(rf"severstal: .*{line}.*\n", done.stderr)
    assert list((tmp_path / "working").iterdir()) == []


def test_a_failed_prediction_fails_the_notebook(attached: Path, tmp_path: Path) -> None:
    """Without wheels, in an empty environment."""
    venv.create(tmp_path / "bare", symlinks=True)
    (tmp_path / "working").mkdir()
    (tmp_path / "working/submission.csv").write_text("of an earlier time")
    done = run_script(tmp_path, str(tmp_path / "bare/bin/python"))
    assert done.returncode == 1
    assert "No module named severstal_cli" in done.stderr
    assert done.stderr.endswith("severstal: the prediction failed with code 1: see the lines above\n")
    assert list((tmp_path / "working").iterdir()) == []


@pytest.fixture
def called(
    attached: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], list[list[str]]]]:
    """`called(code)`: the commands that `notebook.main` would run if the GPU check exits with `code`."""

    def main(code: int) -> list[list[str]]:
        commands: list[list[str]] = []

        def severstal(arguments: list[str], environment: dict[str, str]) -> int:
            commands.append(arguments)
            Path("submission.csv").write_text("x")
            return 0

        monkeypatch.setattr(notebook, "severstal", severstal)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=code))
        notebook.main()
        return commands

    digest = hashlib.sha256((attached / "severstal-bundle.json").read_bytes()).hexdigest()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(notebook, "BUNDLE", digest)
    monkeypatch.setattr(notebook, "INPUT", str(inputs))
    yield main
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("code", "line"), [(75, "this torch cannot use the GPU: choose GPU T4 x2"), (80, "the notebook has no GPU")]
)
def test_without_a_gpu_it_ends_with_one_line(called: Callable[[int], list[list[str]]], code: int, line: str) -> None:
    with pytest.raises(SystemExit, match=f"severstal: {line}"):
        called(code)


@pytest.mark.parametrize(("gpus", "devices"), [(1, []), (2, ["--devices", "2"])])
def test_both_gpus_are_used(called: Callable[[int], list[list[str]]], gpus: int, devices: list[str]) -> None:
    (command,) = called(80 + gpus)
    assert command[len(command) - len(devices) :] == devices
    assert ("--devices" in command) == bool(devices)


def test_the_gpu_check_returns_their_number() -> None:
    done = subprocess.run([sys.executable, "-c", notebook.VERSIONS], check=False, capture_output=True, text=True)
    assert done.returncode == 80 + min(torch.cuda.device_count(), 8), done.stderr


def test_an_older_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    with pytest.raises(SystemExit, match=r"severstal: this Python is too old, severstal needs 3\.11"):
        notebook.main()
    source = Path(notebook.__file__).read_text()
    ast.parse(source, feature_version=(3, 10))  # it parses, so it can report the version
    names = [name.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for name in node.names]
    assert set(names) <= set(sys.stdlib_module_names)


def test_our_packages_come_first_and_caches_go_to_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/the/image")
    environment = notebook.environment_in(tmp_path)
    assert environment["PYTHONPATH"] == f"{tmp_path}/site{os.pathsep}/of/the/image"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["NUMBA_CACHE_DIR"].startswith(str(tmp_path))
    monkeypatch.delenv("PYTHONPATH")
    assert notebook.environment_in(tmp_path)["PYTHONPATH"] == f"{tmp_path}/site"


def test_a_dataset_with_another_layout_is_accepted(attached: Path, tmp_path: Path) -> None:
    """Names and hashes identify the files: all in one folder, or one folder deeper."""
    files = json.loads((attached / "severstal-bundle.json").read_text())["files"]
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in files:
        shutil.copy(attached / path, flat)
    (flat / "deeper").mkdir()
    (flat / "thresholds.json").rename(flat / "deeper/thresholds.json")
    (flat / "thresholds.json").write_text("another file of this name")
    notebook.collect(flat, files, tmp_path / "work")
    for path in files:
        assert (tmp_path / "work" / path).read_bytes() == (attached / path).read_bytes()


def test_folders_that_stayed_zip_archives_are_unpacked(attached: Path, tmp_path: Path) -> None:
    """Kaggle's own tool uploads each folder as an archive; Kaggle may leave it packed."""
    files = json.loads((attached / "severstal-bundle.json").read_text())["files"]
    contents = {path: (attached / path).read_bytes() for path in files}
    shutil.make_archive(str(attached / "runs"), "zip", attached / "runs")
    shutil.rmtree(attached / "runs")
    notebook.collect(attached, files, tmp_path / "work")
    assert any(path.startswith("runs/") for path in files)
    for path, content in contents.items():
        assert (tmp_path / "work" / path).read_bytes() == content


RUNS = [{"name": "a-fold0", "fold": 0, "resume": "resume/1"}, {"name": "a-fold1", "fold": 1, "resume": ""}]


@pytest.fixture
def trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """`trains([0, 0, None])`: `notebook.train` with these exit codes of its commands; the commands."""
    files = {"work/data/train.csv": "", "work/data/splits.csv": "", "work/resume/1/training.ckpt": "before"}
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "output").mkdir()
    monkeypatch.chdir(tmp_path / "output")

    def call(codes: list[int | None], **changes: object) -> list[list[str]]:
        commands: list[list[str]] = []

        def severstal(arguments: list[str], environment: dict[str, str], limit_s: float | None = None) -> int | None:
            commands.append(arguments)
            if arguments[0] == "train":
                folder = Path(arguments[arguments.index("--name") + 1])
                folder.mkdir(exist_ok=True)
                (folder / "model.json").write_text("x")
            else:
                (Path(arguments[1]) / "thresholds.json").write_text("y")
            return codes.pop(0)

        monkeypatch.setattr(notebook, "severstal", severstal)
        monkeypatch.setattr(notebook, "ends_with", lambda code, environment: 82)  # two GPUs
        monkeypatch.setattr(notebook, "data_folder", lambda bundle, work, folders: work / "data")
        content = {
            "runs": RUNS,
            "options": ["--encoder-weights", "none"],
            "paths": {},
            "devices": 2,
            "internet": False,
            "splits": True,
            "session_s": 99.0,
            **changes,
        }
        notebook.train(content, tmp_path / "work", {}, {}, time.monotonic())
        return commands

    return call


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(notebook.OUTPUT).read_text())
    assert all(notebook.digest_of(Path(path)) == digest for path, digest in found["files"].items())
    return found


def test_it_trains_the_folds_in_order_each_with_its_thresholds(trains: Callable[..., list[list[str]]]) -> None:
    commands = trains([0, 0, 0, 0])
    assert [command[0] for command in commands] == ["train", "thresholds"] * 2
    assert [command[-5:] for command in commands[::2]] == [
        ["--name", "a-fold0", "--fold", "0", "--resume"],
        ["2", "--name", "a-fold1", "--fold", "1"],
    ]
    assert Path("a-fold0/training.ckpt").read_text() == "before"
    found = manifest()
    assert found["finished"] == {"a-fold0": True, "a-fold1": True}
    assert set(found["files"]) == {
        "splits.csv",
        "a-fold0/training.ckpt",
        *(f"a-fold{fold}/{file}" for fold in (0, 1) for file in ("model.json", "thresholds.json")),
    }


def test_a_session_that_ends_in_a_fold_lists_what_is_finished(
    trains: Callable[..., list[list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(trains([0, 0, None])) == 3
    assert manifest()["finished"] == {"a-fold0": True, "a-fold1": False}
    assert "the session's time is used up: --resume resumes in another one" in capsys.readouterr().out
    assert trains([], session_s=-1.0) == [], "no fold begins after the end of the time"
    assert manifest()["finished"] == {}


def test_a_fold_that_fails_ends_the_session_and_keeps_the_folds_before(
    trains: Callable[..., list[list[str]]],
) -> None:
    with pytest.raises(SystemExit, match="severstal: the training of a-fold1 failed with code 3"):
        trains([0, 0, 3])
    assert manifest()["finished"] == {"a-fold0": True, "a-fold1": False}
    with pytest.raises(SystemExit, match="severstal: the threshold search of a-fold0 failed with code 4"):
        trains([0, 4])
    assert manifest()["finished"] == {"a-fold0": False}, "its weights are fetched all the same, and it can be resumed"


def test_what_lies_beside_the_annotations_goes_into_the_data_folder(tmp_path: Path) -> None:
    """Also beside the competition's, which Kaggle mounts."""
    source, work = tmp_path / "input/competition", tmp_path / "work"
    for path in (source / "train_images", work / "annotations"):
        path.mkdir(parents=True)
    (source / "train.csv").write_text("table")
    for name in ("classes.txt", "train.json"):
        (work / "annotations" / name).write_text(name)
    folders = {source: {"train.csv", "train_images"}}
    data = notebook.data_folder({"data": None, "annotations": ""}, work, folders)
    assert {path.name for path in data.iterdir()} == {"train.csv", "train_images", "classes.txt", "train.json"}
    assert (data / "train.json").read_text() == "train.json"
