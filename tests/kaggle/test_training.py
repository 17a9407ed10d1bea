"""`train --on kaggle` against a local Kaggle whose notebooks really run, without network, with read-only inputs.

A real session takes seconds of imports, so most tests replay the session of the default settings, and each real session
checks several things.
"""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from account import SECRET, USER, Account, drop, failing
from server import TOKEN, Said, Server, local_kaggle
from sessions import Played, Sessions, can_unshare

from severstal_cli import files
from severstal_cli.config import Competition, RemoteConfig, SplitConfig, ThresholdsConfig, TrainConfig
from severstal_cli.config.training import settings_with
from severstal_cli.errors import InputError, MachineError, OutputError, RunError
from severstal_cli.kaggle import (
    client,
    fetching,
    kernel,
    local_runs,
    notebook,
    output,
    polling,
    state,
    training,
    watching,
    wheels,
)
from severstal_cli.kaggle.job import Task
from severstal_cli.kaggle.output import WrongFileError
from severstal_cli.kaggle.polling import RemoteError
from severstal_cli.kaggle.state import JobState, TrainingState
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import history
from severstal_cli.stages import remote_training, threshold_search
from severstal_cli.stages import training as here
from severstal_cli.steel.dataset import data_folder, origin, splits

pytestmark = pytest.mark.skipif(not can_unshare(), reason="this machine allows no network namespaces")

NAME = "unet-small-fold0"
NOTEBOOK = f"severstal-train-{NAME}-notebook"
KAGGLE = Competition(slug="steel", train_images=45, test_images=0, masks=0)


@pytest.fixture(scope="session")
def drawn(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder without a split; read-only."""
    folder = tmp_path_factory.mktemp("drawn") / "data"
    folder.mkdir()
    shutil.copytree(trained[0] / "train_images", folder / "train_images")
    shutil.copy(trained[0] / "train.csv", folder)
    return folder


@pytest.fixture(scope="session")
def competition(drawn: Path) -> Competition:
    """The competition of the drawn data."""
    return dataclasses.replace(KAGGLE, masks=len((drawn / "train.csv").read_text().splitlines()) - 1)


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "data"))


SITE = """
import importlib.util, os, sys
if "torch.cuda.device_count" in sys.orig_argv[-1]:
    os._exit(80)
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: None if name == "openvino" else find_spec(name, *package)
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every Python of a session imports first, and a cache for numba.

    It answers the GPU check, which has a test of its own, and hides OpenVINO, which Kaggle's image lacks, too.
    """
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(SITE)
    return folder


@contextmanager
def opened(
    server: Server, root: Path, drawn: Path, played: Played, site: Path, patch: pytest.MonkeyPatch
) -> Iterator[Sessions]:
    """An account whose notebooks run."""
    patch.setattr(wheels, "missing_wheels", list)  # the session's process imports this checkout
    patch.setattr(polling, "SILENCE_S", 0.5)
    patch.setattr(watching, "AGAIN_S", 0.05)
    found = Sessions(
        server=server,
        root=root,
        played=played,
        slug=f"severstal-train-{NAME}",
        competition_data=drawn,
        sizes_are_secret=True,
        environment={
            "PYTHONPATH": f"{site}{os.pathsep}{Path(here.__file__).parents[2]}",
            "NUMBA_CACHE_DIR": str(site / "numba"),
        },
    )
    found.stream(NOTEBOOK)
    try:
        yield found
    finally:
        found.end_all()


@pytest.fixture(scope="session")
def played(drawn: Path, competition: Competition, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The session of the default settings, which tests replay: it really ran, once."""
    root, found = tmp_path_factory.mktemp("played"), Played()
    data = Path(shutil.copytree(drawn, root / "data"))
    with (
        pytest.MonkeyPatch.context() as patch,
        local_kaggle(root / "home", patch) as server,
        opened(server, root / "sessions", drawn, found, site, patch) as account,
    ):
        remote_training.train(RemoteConfig(train=settings(data), competition=competition, poll_s=0.05, late_s=0.05))
        assert account.real == 1
    return found


@pytest.fixture
def account(
    server: Server, tmp_path: Path, drawn: Path, played: Played, site: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sessions]:
    with opened(server, tmp_path / "sessions", drawn, played, site, monkeypatch) as found:
        yield found


def settings(data: Path, **options: Any) -> TrainConfig:
    models = data.parent / "models"
    fields = {"data": data, "models": models, "arch": "unet-small", "epochs": 2, "average_decay": 0.5, **options}
    return TrainConfig(**fields)


@pytest.fixture
def remote(competition: Competition, data: Path) -> Callable[..., RemoteConfig]:
    """`remote(epochs=..., remote={"cancel": True})`: the settings of a training on Kaggle."""

    def make(*, remote: dict[str, Any] | None = None, **options: Any) -> RemoteConfig:
        return RemoteConfig(
            **{
                "train": settings(data, **options),
                "competition": competition,
                "poll_s": 0.05,
                "late_s": 0.05,
                **(remote or {}),
            }
        )

    return make


@pytest.fixture
def train(remote: Callable[..., RemoteConfig], said: Said) -> Callable[..., local_runs.RemoteResult]:
    def call(**options: Any) -> local_runs.RemoteResult:
        (result,) = remote_training.train(remote(**options), said)
        return result

    return call


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture(scope="session")
def locally(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local run with the same settings."""
    data = Path(shutil.copytree(drawn, tmp_path_factory.mktemp("locally") / "data"))
    folder = here.train(settings(data)).folder
    threshold_search.search(ThresholdsConfig(runs=(folder,)))
    return folder


def assert_same_run(there: Path, locally: Path) -> None:
    """Same weights, thresholds and files; same model cards except for paths."""
    assert (there / run_folder.WEIGHTS).read_bytes() == (locally / run_folder.WEIGHTS).read_bytes()
    ours, theirs = model_card.read_card(there), model_card.read_card(locally)
    paths = dict.fromkeys(settings_with(is_local=True), "")
    assert dataclasses.replace(ours, data="", config=ours.config | paths) == dataclasses.replace(
        theirs, data="", config=theirs.config | paths
    )
    rules, expected = (json.loads((folder / run_folder.THRESHOLDS).read_bytes()) for folder in (there, locally))
    assert rules | {"runs": [], "folds": []} == expected | {"runs": [], "folds": []}
    assert {path.name for path in there.iterdir()} >= {path.name for path in locally.iterdir()}


def test_the_run_equals_a_local_run(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path, said: Said
) -> None:
    result = train()
    folder = data.parent / "models" / NAME
    assert result.folder == folder
    assert result.finished
    assert_same_run(folder, locally)
    card = model_card.read_card(folder)
    assert card.data == str(data.resolve())
    assert (card.config["data"], card.config["models"]) == (str(data), str(folder.parent))
    assert json.loads((folder / run_folder.THRESHOLDS).read_bytes())["runs"] == [str(folder)]
    for path in folder.rglob("*"):
        assert not path.is_file() or b"/sessions/" not in path.read_bytes(), path
    pushed = account.kernels[0]
    assert (pushed["slug"], pushed["isPrivate"], pushed["enableInternet"], pushed["machineShape"]) == (
        f"{USER}/{NOTEBOOK}",
        True,
        False,
        "NvidiaTeslaT4",
    )
    assert pushed["competitionDataSources"] == ["steel"]
    assert pushed["sessionTimeoutSeconds"] < 12 * 3600
    assert (result.epochs, result.best_epoch, result.validation_dice) == (2, card.epoch, card.validation_dice)
    assert 0 < result.nothing_dice < 1
    epochs = [line for line in said.lines if re.match(r"epoch \d/2: loss .*Dice .* images/s, ", line)]
    assert len(epochs) == 2, "the log is shown like that of a local training"
    assert not list((folder.parent / ".kaggle").glob("*/*"))
    with pytest.raises(InputError, match="a run of this name exists"):
        train()


def test_a_split_made_in_the_notebook_is_fetched(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path
) -> None:
    """Without local data."""
    shutil.rmtree(data)
    train()
    assert_same_run(data.parent / "models" / NAME, locally)
    made = splits.read_splits(data / "splits.csv")
    assert made.fingerprint == model_card.read_card(locally).split_fingerprint
    assert [path.name for path in data.iterdir()] == ["splits.csv"]
    assert account.versions[-1].keys() & {"splits.csv"} == set()
    account.refusals = ["GPU quota"]
    with pytest.raises(InputError, match="GPU quota"):
        train(name="again", epochs=1)
    assert "splits.csv" in account.datasets["severstal-train-again"][-1], "the next training uses the same split"


def test_own_data_is_uploaded_once_with_the_initial_run(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path, tmp_path: Path
) -> None:
    """Its class names and the origin of its annotations, which an audit changed, go with it."""
    other = dataclasses.replace(KAGGLE, train_images=12_568, masks=7_095)
    (data / "classes.txt").write_text("bright\ndark\n")
    fingerprint = data_folder.open_data_folder(data).fingerprint
    origin.write(data / "train.csv", data=fingerprint, origin="77c0e1", decisions="decisions.csv", accepted={})
    account.slug = "severstal-train-unet-small-nofold"
    account.stream(f"{account.slug}-notebook")
    train(fold=None, init=locally, epochs=1, remote={"competition": other})
    folder = data.parent / "models/unet-small-nofold"
    card = model_card.read_card(folder)
    assert (card.config["init"], card.class_names, card.data_origin) == (str(locally), ("bright", "dark"), "77c0e1")
    assert {"init/model.json", "init/model.safetensors"} <= set(account.versions[-1])
    copy = Path(shutil.copytree(data, tmp_path / "local/data"))
    expected = here.train(settings(copy, fold=None, init=locally, epochs=1)).folder
    assert (folder / run_folder.WEIGHTS).read_bytes() == (expected / run_folder.WEIGHTS).read_bytes()
    (slug,) = set(account.datasets) - {account.slug}
    assert slug.startswith("severstal-data-")
    assert "competitionDataSources" not in account.kernels[0]
    uploads = len(account.calls("StartBlobUpload"))
    account.refusals = ["GPU quota"]
    with pytest.raises(InputError, match="GPU quota"):
        train(name="another", epochs=1, remote={"competition": other})
    assert account.calls("CreateDataset") == ["CreateDataset"] * 3
    assert len(account.datasets[slug]) == 1
    names = [request.json["name"] for request in account.server.requests if request.path.endswith("StartBlobUpload")]
    assert training.DATA not in names[uploads:]


def test_another_train_csv_among_the_competitions_images_is_refused(
    account: Sessions, train: Callable[..., Any], data: Path, said: Said
) -> None:
    lines = (data / "train.csv").read_text().splitlines()
    lines[1] = re.sub(r"\d+ \d+", "1 1", lines[1], count=1)
    (data / "train.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="failed"):
        train()
    assert any(
        "the competition's train.csv differs from yours: keep your data in another" in line for line in said.lines
    )


def test_a_session_respects_its_time_limit_and_the_next_one_resumes(
    account: Sessions, train: Callable[..., Any], data: Path, said: Said
) -> None:
    """The epochs of the second session are not better than the best one of the first."""
    for session_s in (12.0, 60.0, 240.0, 960.0):  # the machine may be busy
        with suppress(RemoteError):
            result = train(epochs=9999, remote={"session_s": session_s})
            break
    folder = data.parent / "models" / NAME
    assert not result.finished
    assert 0 < result.epochs < 9999
    assert not (folder / run_folder.THRESHOLDS).exists()
    saved = run_folder.read_checkpoint(folder)
    before = saved["history"]
    saved["card"] |= {"epoch": 1, "averaged": (), "validation_dice": 1.5}
    average = saved["state"]["average"]
    kept = {name: value / 2 if value.is_floating_point() else value for name, value in average.items()}
    saved["state"]["kept"] = kept
    run_folder.write_checkpoint(folder, saved)
    assert "severstal: the session's time is used up: --resume resumes in another one" in said.lines
    result = train(epochs=len(before) + 2, resume=True)
    assert (result.finished, result.epochs, result.best_epoch) == (True, len(before) + 2, 1), said.lines[-60:]
    weights = run_folder.load_network(folder, model_card.read_card(folder)).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in weights.items())
    assert run_folder.read_checkpoint(folder)["history"][: len(before)] == before
    assert (folder / run_folder.THRESHOLDS).exists()
    assert "resume/1/training.ckpt" in account.versions[-1]
    here.train(settings(data, epochs=len(before) + 3, resume=True))  # a local training resumes it, too


def test_every_fold_is_trained_and_a_second_session_trains_the_rest(
    account: Sessions,
    remote: Callable[..., RemoteConfig],
    data: Path,
    tmp_path: Path,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the old mount layout. The first session ends in fold 1."""
    splits.split_data(SplitConfig(data=data, folds=2))
    copy = Path(shutil.copytree(data, tmp_path / "local/data"))
    account.layout, account.slug = "old", "severstal-train-unet-small-folds"
    account.stream(f"{account.slug}-notebook")
    show = watching.Screen.show

    def cancel_in_fold_1(screen: watching.Screen, line: str) -> None:
        show(screen, line)
        if line.startswith("severstal: training unet-small-fold1 "):
            account.CancelKernelSession({"kernelSessionId": account.sessions[f"{account.slug}-notebook", 1].number})

    every: dict[str, Any] = {"fold": None, "epochs": 1, "remote": {"every_fold": True}}
    with monkeypatch.context() as patched:
        patched.setattr(watching.Screen, "show", cancel_in_fold_1)
        with pytest.raises(InputError, match=r"was cancelled.*--resume resumes after the last whole epoch"):
            remote_training.train(remote(**every), said)
    models = data.parent / "models"
    assert (models / "unet-small-fold0" / run_folder.THRESHOLDS).exists()
    assert not (models / "unet-small-fold1").exists()
    assert "1 of 2 folds are left: --resume trains them in another session" in said.lines
    with pytest.raises(InputError, match=r"a run of this name exists: .*unet-small-fold0"):
        remote_training.train(remote(**every), said)
    (result,) = remote_training.train(remote(**every, resume=True), said)
    assert (result.folder, result.finished) == (models / "unet-small-fold1", True)
    sent = json.loads(account.versions[-1]["severstal-bundle.json"])
    assert [each["name"] for each in sent["runs"]] == ["unet-small-fold1"], "fold 0 is finished"
    for expected in here.train_folds(settings(copy, epochs=1)):
        threshold_search.search(ThresholdsConfig(runs=(expected.folder,)))
        assert_same_run(models / expected.folder.name, expected.folder)
    with pytest.raises(InputError, match="every fold of unet-small-folds is trained"):
        remote_training.train(remote(**every, resume=True), said)


def test_a_session_that_ends_early_is_asked_for_the_first_fold_that_it_trained(
    remote: Callable[..., RemoteConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fold 0 is finished, so the notebook does not have it: waiting for its checkpoint takes minutes for nothing."""
    asked: list[object] = []
    monkeypatch.setattr(training, "is_finished", lambda config: config.fold == 0)
    monkeypatch.setattr(output, "wait_until_listed", lambda *given, **_: asked.append(given[-1]))
    monkeypatch.setattr(fetching, "fetch", lambda *_: None)
    config = remote(fold=None, resume=True, remote={"every_fold": True})
    session = remote_training._Session(config, config.work / "unet-small-folds", Said())
    assert session._keep_what_is_left(None, "", SimpleNamespace(slug=""), 1) == []
    assert asked == [("unet-small-fold1/training.ckpt",)]


Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def drop_card(folder: Path) -> None:
    saved = run_folder.read_checkpoint(folder)
    del saved["card"]
    run_folder.write_checkpoint(folder, saved)


def rename_network(folder: Path) -> None:
    saved = run_folder.read_checkpoint(folder)
    saved["card"]["arch"] = "another"
    run_folder.write_checkpoint(folder, saved)
    (folder / model_card.CARD).unlink()


@pytest.fixture
def two_folds(
    remote: Callable[..., RemoteConfig], locally: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> Callable[..., list[local_runs.RemoteResult]]:
    """`two_folds(in_notebook, on_the_way)`: fetch fold 0 and fold 1, which is damaged before its hash or after it."""
    there = tmp_path / "output"
    for fold in (0, 1):
        shutil.copytree(locally, there / f"unet-small-fold{fold}")
    with (there / "unet-small-fold1" / run_folder.THRESHOLDS).open("a") as file:
        file.write(" ")  # another file than that of fold 0

    def call(in_notebook: Damage | None, on_the_way: Damage | None = None, **options: Any) -> Any:
        config = remote(fold=None, remote={"every_fold": True, **options})
        work = config.work / "unet-small-folds"
        if in_notebook:
            in_notebook(there / "unet-small-fold1")
        monkeypatch.chdir(there)
        bundle = {"splits": False}
        notebook.write_manifest(bundle, there, there, {"unet-small-fold0": True, "unet-small-fold1": True})
        if on_the_way:
            on_the_way(there / "unet-small-fold1")
        listed = {path.relative_to(there).as_posix(): str(path) for path in there.rglob("*") if path.is_file()}
        monkeypatch.setattr(output, "read", lambda *_: output.Output(addresses=listed, log=[]))
        monkeypatch.setattr(output, "_transfer", shutil.copyfile)
        job = JobState(kernel="k", kernel_version=1, kernel_done=True)
        state.save(work, TrainingState(user=USER, settings="", folds=(0, 1), job=job))
        session = remote_training._Session(config, work, said)
        kaggle = SimpleNamespace(progress=said, pause_s=0)
        return session._take(kaggle, USER, SimpleNamespace(slug="k", page="p", push=lambda: 1))

    return call


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda folder: cut(folder / run_folder.CHECKPOINT), "training.ckpt is damaged"),
        (drop_card, "training.ckpt is damaged, card is missing"),
        (rename_network, "training.ckpt is damaged, unknown architecture: another"),
    ],
    ids=["cut", "without a card", "unknown network"],
)
def test_a_damaged_fold_does_not_block_the_others(
    two_folds: Callable[..., Any], data: Path, said: Said, damage: Damage, found: str
) -> None:
    with pytest.raises(RunError, match=rf"^unet-small-fold1 of the notebook is damaged: {found}.*--resume trains it"):
        two_folds(damage)
    models = data.parent / "models"
    run_folder.thresholds_of(models / "unet-small-fold0", model_card.read_card(models / "unet-small-fold0"))
    assert not (models / "unet-small-fold1").exists()
    assert "1 of 2 folds are left: --resume trains them in another session" in said.lines
    assert not (models / ".kaggle/unet-small-folds/state.json").exists(), "the notebook has nothing else"


@pytest.mark.parametrize("name", [run_folder.WEIGHTS, run_folder.THRESHOLDS, model_card.CARD])
def test_a_fold_whose_checkpoint_alone_is_intact_is_fetched_from_it(
    two_folds: Callable[..., Any], data: Path, locally: Path, said: Said, name: str
) -> None:
    results = two_folds(lambda folder: cut(folder / name))
    assert [(result.folder.name, result.finished) for result in results] == [
        ("unet-small-fold0", True),
        ("unet-small-fold1", False),
    ]
    folder = data.parent / "models/unet-small-fold1"
    assert (folder / run_folder.WEIGHTS).read_bytes() == (locally / run_folder.WEIGHTS).read_bytes()
    run_folder.load_network(folder, model_card.read_card(folder))
    assert any("unet-small-fold1 is fetched up to its checkpoint, and --resume" in line for line in said.lines)
    assert "1 of 2 folds are left: --resume trains them in another session" in said.lines


@pytest.mark.parametrize("damage", [cut, Path.unlink], ids=["damaged", "not listed"])
def test_a_fold_that_arrives_damaged_can_be_fetched_again_and_does_not_block_the_others(
    two_folds: Callable[..., Any], data: Path, damage: Damage
) -> None:
    models = data.parent / "models"
    kept = (data.parent / "output/unet-small-fold1" / run_folder.THRESHOLDS).read_bytes()
    line = r"^unet-small-fold1 of the notebook is damaged.*The same command downloads it again; --cancel --discard"
    with pytest.raises(WrongFileError, match=line):
        two_folds(None, lambda folder: damage(folder / run_folder.THRESHOLDS))
    assert (models / "unet-small-fold0" / run_folder.THRESHOLDS).exists()
    assert not (models / "unet-small-fold1").exists()
    assert (models / ".kaggle/unet-small-folds/state.json").exists()
    results = two_folds(lambda folder: (folder / run_folder.THRESHOLDS).write_bytes(kept))
    assert [result.folder.name for result in results] == ["unet-small-fold0", "unet-small-fold1"]


def test_a_fold_that_arrives_damaged_can_be_given_up(two_folds: Callable[..., Any], data: Path) -> None:
    with pytest.raises(WrongFileError, match=r"^unet-small-fold1 of the notebook is damaged.*It is given up$"):
        two_folds(None, lambda folder: cut(folder / run_folder.THRESHOLDS), cancel=True, discard=True)
    assert (data.parent / "models/unet-small-fold0" / run_folder.THRESHOLDS).exists()
    assert not (data.parent / "models/.kaggle/unet-small-folds/state.json").exists()


def test_a_damaged_local_fold_does_not_keep_the_others_from_being_fetched(
    two_folds: Callable[..., Any], data: Path, said: Said
) -> None:
    folder = data.parent / "models/unet-small-fold1"
    folder.mkdir(parents=True)
    (folder / run_folder.CHECKPOINT).write_text("x")
    (folder / model_card.CARD).write_text("x")
    with pytest.raises(RunError, match=r"^unet-small-fold1 of the notebook is damaged"):
        two_folds(lambda folder: cut(folder / run_folder.CHECKPOINT))
    assert (folder.parent / "unet-small-fold0" / run_folder.THRESHOLDS).exists()


@pytest.fixture
def fetch(
    remote: Callable[..., RemoteConfig], locally: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> Callable[..., fetching.Fetched | None]:
    """`fetch(finished)`: fetch the run in tmp_path/output to the models folder, which has a local run of this name.

    None: the notebook was stopped before it wrote a manifest.
    """
    there, config = tmp_path / "output", remote(epochs=3, resume=True)
    work = config.work / NAME
    for folder in (there / NAME, config.train.models / NAME):
        shutil.copytree(locally, folder)
    (config.train.models / NAME / run_folder.SCORE).write_text("{}")

    def call(finished: bool | None = None) -> fetching.Fetched | None:
        if finished is not None:
            monkeypatch.chdir(there)
            notebook.write_manifest({"splits": False}, there, there, {NAME: finished})
        listed = {path.relative_to(there).as_posix(): str(path) for path in there.rglob("*") if path.is_file()}
        monkeypatch.setattr(output, "read", lambda *_: output.Output(addresses=listed, log=[]))
        monkeypatch.setattr(output, "_transfer", shutil.copyfile)
        work.mkdir(parents=True, exist_ok=True)
        kaggle: Any = SimpleNamespace(progress=said, pause_s=0)
        fetched = fetching.fetch(kaggle, USER, "k", 1, work, (config.train,))
        local_runs.put(work, config.train.models)
        return fetched

    return call


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def add_epoch(folder: Path, loss: float, better: bool = False) -> None:
    """Add epoch 3 to a checkpoint of two epochs, worse than the best epoch or better."""
    saved, card = run_folder.read_checkpoint(folder), model_card.read_card(folder)
    kept = run_folder.load_network(folder, card).state_dict()
    saved["history"].append({**saved["history"][-1], "epoch": 3, "loss": loss})
    saved["state"]["kept"] = {} if better else kept
    saved["state"]["average"] = {
        name: value / 2 if value.is_floating_point() else value for name, value in kept.items()
    }
    saved["card"] |= {"epoch": 3, "averaged": ()} if better else {}
    run_folder.write_checkpoint(folder, saved)


@pytest.mark.parametrize("is_older", [False, True], ids=["this version", "an earlier version"])
def test_a_session_without_a_new_epoch_leaves_the_local_run_as_it_is(
    fetch: Callable[..., Any], data: Path, said: Said, is_older: bool
) -> None:
    """A checkpoint of an earlier version came without its weights, so these are on this machine alone."""
    folder, there = data.parent / "models" / NAME, data.parent / "output" / NAME
    if is_older:
        saved = run_folder.read_checkpoint(there)
        del saved["state"]["kept"]
        saved["card"]["epoch"] = 1
        for each in (there, folder):
            run_folder.write_checkpoint(each, saved)
            model_card.write_card(each, dataclasses.replace(model_card.read_card(each), epoch=1))
    before = contents(folder)
    assert fetch().finished == {NAME: False}
    assert contents(folder) == before
    assert f"{folder} has every epoch of the notebook's run, and is left as it is" in said.lines


@pytest.mark.parametrize("better", [False, True], ids=["worse", "better"])
@pytest.mark.parametrize("listed", [False, True], ids=["checkpoint alone", "with a manifest"])
def test_thresholds_stay_with_the_weights_that_no_later_epoch_beats(
    fetch: Callable[..., Any], data: Path, listed: bool, better: bool
) -> None:
    folder, there = data.parent / "models" / NAME, data.parent / "output" / NAME
    add_epoch(there, loss=0.25, better=better)
    for name in run_folder.OF_THRESHOLDS:
        (there / name).unlink(missing_ok=True)
    before = contents(folder)
    assert fetch(False if listed else None).finished == {NAME: False}
    after = contents(folder)
    kept = {name: after.get(name) == before[name] for name in (run_folder.WEIGHTS, *run_folder.OF_THRESHOLDS)}
    assert kept == dict.fromkeys(kept, not better)
    assert (run_folder.THRESHOLDS in after) != better, "those of other weights are wrong"
    assert model_card.read_card(folder).epoch == run_folder.read_checkpoint(folder)["card"]["epoch"]
    assert len(history.read(folder)) == len(run_folder.read_checkpoint(folder)["history"]) == 3


@pytest.mark.parametrize("finished", [None, True], ids=["stopped", "finished"])
def test_a_run_that_was_trained_on_here_meanwhile_stays(
    fetch: Callable[..., Any], data: Path, said: Said, finished: bool | None
) -> None:
    """The notebook's run gets a name of its own, once."""
    folder, there = data.parent / "models" / NAME, data.parent / "output" / NAME
    add_epoch(folder, loss=0.5)
    add_epoch(there, loss=0.25)
    before = contents(folder)
    for _ in range(2):
        assert fetch(finished).finished == {f"{NAME}-kaggle": bool(finished)}
        assert contents(folder) == before
    other = folder.with_name(f"{NAME}-kaggle")
    assert sorted(folder.parent.iterdir()) == [folder.parent / ".kaggle", folder, other]
    assert [row["loss"] for row in run_folder.read_checkpoint(other)["history"]][2:] == [0.25]
    assert contents(other)[run_folder.WEIGHTS] == before[run_folder.WEIGHTS]
    assert model_card.read_card(other).config["name"] == other.name
    assert f"{folder} has other epochs than the notebook's run, and is left as it is: see {other}" in said.lines


def test_a_run_that_a_finished_one_lacks_epochs_of_stays(fetch: Callable[..., Any], data: Path) -> None:
    folder = data.parent / "models" / NAME
    there = data.parent / "output" / NAME
    add_epoch(folder, loss=0.5)
    before = contents(folder)
    rules = json.loads(before[run_folder.THRESHOLDS])
    (there / run_folder.THRESHOLDS).write_text(json.dumps(rules | {"runs": [str(there)]}))
    assert fetch(True).finished == {f"{NAME}-kaggle": True}
    assert contents(folder) == before
    other = folder.with_name(f"{NAME}-kaggle")
    assert json.loads((other / run_folder.THRESHOLDS).read_bytes()) == rules | {"runs": [str(other)]}


def test_a_run_without_a_checkpoint_stays(fetch: Callable[..., Any], data: Path) -> None:
    """It was trained anew meanwhile, or put there."""
    folder = data.parent / "models" / NAME
    (folder / run_folder.CHECKPOINT).unlink()
    before = contents(folder)
    assert fetch(True).finished == {f"{NAME}-kaggle": True}
    assert contents(folder) == before


def test_local_thresholds_of_the_same_weights_stay_if_those_of_a_finished_run_are_damaged(
    fetch: Callable[..., Any], data: Path
) -> None:
    folder, there = data.parent / "models" / NAME, data.parent / "output" / NAME
    add_epoch(there, loss=0.25)
    (there / run_folder.THRESHOLDS).write_text("{")
    before = contents(folder)
    assert fetch(True).finished == {NAME: False}
    after = contents(folder)
    kept = (run_folder.WEIGHTS, run_folder.THRESHOLDS, run_folder.SCORE)
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}
    assert len(run_folder.read_checkpoint(folder)["history"]) == 3


def test_a_finished_run_that_is_fetched_again_leaves_the_local_one_as_it_is(
    fetch: Callable[..., Any], data: Path, said: Said
) -> None:
    folder = data.parent / "models" / NAME
    rules = folder / run_folder.THRESHOLDS
    rules.write_text(rules.read_text() + "\n")  # newer ones
    before = contents(folder)
    assert fetch(True).finished == {NAME: True}
    assert contents(folder) == before
    assert f"{folder} has every epoch of the notebook's run, and is left as it is" in said.lines


def test_a_run_that_is_trained_here_is_not_replaced(fetch: Callable[..., Any], data: Path) -> None:
    folder = data.parent / "models" / NAME
    add_epoch(data.parent / "output" / NAME, loss=0.25)
    before = contents(folder)
    with files.locked(folder, ""), pytest.raises(MachineError, match=f"another process is training {folder}"):
        fetch()
    assert contents(folder) == before
    fetch()
    assert len(run_folder.read_checkpoint(folder)["history"]) == 3


@pytest.fixture
def failed(
    remote: Callable[..., RemoteConfig], monkeypatch: pytest.MonkeyPatch, said: Said
) -> Callable[..., JobState | None]:
    """`failed(outcome)`: the state after a notebook that failed, whose output is fetched with this outcome."""
    config = remote()
    work = config.work / NAME

    def call(outcome: Any) -> JobState | None:
        saved: list[JobState] = []

        def save(folder: Path, known: Any) -> None:
            saved.append(known.job)
            write(folder, known)

        def fetch(*_: Any) -> Any:
            assert {job.kernel_version for job in saved} == {7}  # also after a kill between two saves
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        error = RemoteError("the notebook k failed", "error", "The same command runs it again")
        monkeypatch.setattr(watching, "watch", lambda *_, **__: "error")
        monkeypatch.setattr(output, "read", lambda *_: SimpleNamespace(log=""))
        monkeypatch.setattr(kernel, "failure", lambda *_: error)
        monkeypatch.setattr(output, "wait_until_listed", lambda *_, **__: [])
        monkeypatch.setattr(fetching, "fetch", fetch)
        write = state.save
        monkeypatch.setattr(state, "save", save)
        pushed = JobState(kernel="k", kernel_version=7, kernel_before=6)
        state.save(work, TrainingState(user=USER, settings="", job=pushed))
        session: Any = remote_training._Session(config, work, said)
        kaggle: Any = SimpleNamespace(progress=said)
        job = session._job(kaggle, USER, Task(sources=(), kernel="", script=""))
        expected = type(outcome) if isinstance(outcome, BaseException) else RemoteError
        if getattr(outcome, "damaged", ()):
            expected = WrongFileError
        if isinstance(outcome, RunError | client.NotThereError):
            expected = RemoteError
        with pytest.raises(expected):
            session._follow(kaggle, USER, job)
        known = state.load(TrainingState, work)
        return known and known.job

    return call


@pytest.mark.parametrize(
    "outcome",
    [
        MachineError("no network"),
        OutputError("the disk is full"),
        client.RefusedError("cannot list the output", code=401),
        KeyboardInterrupt(),
        fetching.Fetched(finished={}, splits=None, damaged=(WrongFileError("its SHA-256 is wrong"),)),
    ],
    ids=["network", "disk", "credentials", "Ctrl-C", "damaged on the way"],
)
def test_the_output_of_a_failed_notebook_is_fetched_by_the_next_command_if_this_one_cannot(
    failed: Callable[..., JobState | None], said: Said, outcome: Any
) -> None:
    known = failed(outcome)
    assert known is not None
    assert (known.kernel_version, known.kernel_done) == (7, False)
    line = "the notebook k failed: error. The same command fetches what it left; --cancel --discard gives it up"
    assert (line in said.lines) != isinstance(outcome, KeyboardInterrupt)


@pytest.mark.parametrize(
    "outcome",
    [None, client.NotThereError("cannot list the output", code=404), RunError("a file outside its folder")],
    ids=["no epoch", "deleted", "wrong paths"],
)
def test_a_failed_notebook_that_left_nothing_is_not_asked_again(
    failed: Callable[..., JobState | None], outcome: Any
) -> None:
    assert failed(outcome) == JobState(kernel="k")


def test_the_session_of_a_forgotten_version_is_forgotten(remote: Callable[..., RemoteConfig], said: Said) -> None:
    """Else `--cancel` would stop the ended session, and the next version would keep running."""
    config = remote()
    work = config.work / NAME
    pushed = JobState(kernel="k", kernel_version=7, kernel_before=6)
    state.save(work, TrainingState(user=USER, settings="", job=pushed, session=5))
    session: Any = remote_training._Session(config, work, said)
    kaggle: Any = SimpleNamespace(progress=said)
    session._job(kaggle, USER, Task(sources=(), kernel="", script="")).forget_version()
    assert state.load(TrainingState, work) == TrainingState(user=USER, settings="", job=JobState(kernel="k"))


def test_a_stopped_notebook_is_not_forgotten_before_its_output_is_fetched_or_given_up(
    remote: Callable[..., RemoteConfig], monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    config = remote(remote={"cancel": True})
    work = config.work / NAME
    state.save(work, state.TrainingState(user=USER, settings="", job=state.JobState(kernel="k", kernel_version=1)))
    kaggle = SimpleNamespace(user=lambda: USER, progress=Said())
    monkeypatch.setattr(client, "connect", lambda *_, **__: kaggle)
    monkeypatch.setattr(kernel, "look_at", lambda *_, **__: lambda: (None, "it was cancelled"))
    monkeypatch.setattr(output, "wait_until_listed", lambda *_, **__: [])
    monkeypatch.setattr(fetching, "fetch", lambda *_: (_ for _ in ()).throw(MachineError("no network")))
    with pytest.raises(MachineError, match="no network"):
        remote_training.cancel(config)
    assert state.load(state.TrainingState, work) is not None
    assert remote_training.cancel(remote(remote={"cancel": True, "discard": True}), said) == []
    assert "the notebook's output cannot be fetched: no network" in said.lines
    assert state.load(state.TrainingState, work) is None


@pytest.mark.parametrize(("code", "too_new"), [(403, False), (404, False), (404, True)])
def test_a_notebook_that_kaggle_does_not_know_can_be_given_up(
    server: Server, remote: Callable[..., RemoteConfig], said: Said, code: int, too_new: bool
) -> None:
    """It was deleted there, or is too new to be known; then it is deleted, or it would keep running."""
    account = Account(server=server)
    for name in ("GetKernelSessionStatus", "ListKernelSessionOutput", "ListKernelFiles"):
        account.before[name] = failing(code, times=99)
    config = remote(remote={"cancel": True})
    work = config.work / NAME
    job = JobState(kernel=NOTEBOOK, kernel_version=1)
    state.save(work, TrainingState(user=USER, settings="", job=job))
    line = f"Kaggle does not know the notebook {USER}/{NOTEBOOK}: it answers {code}. .*; --cancel --discard gives it up"
    with pytest.raises(client.NotThereError, match=line):
        remote_training.cancel(config, said)
    assert state.load(TrainingState, work) is not None
    deleted: list[str] = []
    if too_new:
        delete = account._handler("DeleteKernel", lambda asked: deleted.append(asked["kernelSlug"]) or {})
        server.handlers["kernels.KernelsApiService/DeleteKernel"] = delete
    assert remote_training.cancel(remote(remote={"cancel": True, "discard": True}), said) == []
    assert not work.exists()
    assert deleted == [NOTEBOOK] * too_new


STEPS = (
    "StartBlobUpload",
    "PUT",
    "CreateDataset",
    "GetDatasetStatus",
    "SaveKernel",
    "GetKernelSessionStatus",
    "ListKernelSessionOutput",
    "ListKernelFiles",
    "GET",
    "Hello",
    "GetKernel",
    "GetDataset",
)


@pytest.mark.parametrize("name", STEPS)
def test_the_same_command_resumes_after_a_break_at_any_call(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path, name: str
) -> None:
    faults = [drop] * (5 if name in ("PUT", "GET") else 1)
    (account.before if name in ("PUT", "GET") else account.after)[name] = list(faults)
    try:
        train()
    except MachineError:
        train()
    assert_same_run(data.parent / "models" / NAME, locally)
    assert (len(account.kernels), len(account.versions)) == (1, 1)


SPAWNER = """
import json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from kagglesdk import kaggle_env
from severstal_cli.config import Competition, RemoteConfig, TrainConfig
from severstal_cli.kaggle import wheels
from severstal_cli.progress import TerminalProgress
from severstal_cli.stages import remote_training
wheels.missing_wheels = list
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        try:
            os.environ |= asked["environment"]
            kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = asked["url"]
            remote_training.train(RemoteConfig(train=TrainConfig(data=Path(asked["data"]),
                models=Path(asked["models"]), arch="unet-small", epochs=2, average_decay=0.5),
                competition=Competition(**asked["competition"]), poll_s=0.05, late_s=0.05), TerminalProgress())
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Imports once, then forks a process for each line of stdin: a training to kill. Prints its id and its exit code."""


@pytest.fixture(scope="module")
def spawner() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SPAWNER, str(Path(here.__file__).parents[2])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize("point", ["PUT", "CreateDataset", "SaveKernel", "GetKernelSessionStatus", "GET"])
def test_a_killed_process_is_resumed(
    account: Sessions,
    train: Callable[..., Any],
    data: Path,
    locally: Path,
    competition: Competition,
    spawner: subprocess.Popen[str],
    point: str,
) -> None:
    """SIGKILL after Kaggle has processed the request, before its answer; and in the middle of a download."""
    child: list[int] = []

    def kill(request: Any, reply: Any) -> None:
        os.kill(child[0], signal.SIGKILL)
        drop(request, reply)

    skip = {"PUT": 1, "GET": 3}.get(point, 0)
    (account.before if point == "GET" else account.after)[point] = [None] * skip + [kill]
    asked = {
        "url": account.server.url,
        "data": str(data),
        "models": str(data.parent / "models"),
        "competition": dataclasses.asdict(competition),
        "environment": {name: os.environ[name] for name in ("HOME", "KAGGLE_API_TOKEN")},
    }
    assert spawner.stdin is not None
    assert spawner.stdout is not None
    spawner.stdin.write(json.dumps(asked) + "\n")
    spawner.stdin.flush()
    child.append(int(spawner.stdout.readline()))
    assert int(spawner.stdout.readline()) == -9
    train()
    assert_same_run(data.parent / "models" / NAME, locally)
    assert (len(account.kernels), len(account.versions)) == (1, 1)


def interrupt_after_an_epoch(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Ctrl-C while the notebook runs."""

    def show(screen: Any, line: str) -> None:
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(watching.Screen, "show", show)
        with pytest.raises(KeyboardInterrupt):
            train(**options)


def test_ctrl_c_leaves_the_notebook_running_and_cancel_fetches_its_last_epoch(
    account: Sessions,
    train: Callable[..., Any],
    remote: Callable[..., RemoteConfig],
    data: Path,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt_after_an_epoch(train, monkeypatch, epochs=500)
    (session,) = account.sessions.values()
    assert not session.ended.is_set()
    config = remote(epochs=500, remote={"cancel": True})
    with pytest.raises(InputError, match=r"trained on Kaggle with other settings.*--cancel"):
        train(epochs=499)
    account.may_cancel = False
    page = f"https://www.kaggle.com/code/{USER}/{NOTEBOOK}"
    with pytest.raises(InputError, match=f"kernelSessions.cancel' was denied. Press Stop on {page}.*--discard"):
        remote_training.cancel(config, said)
    assert not session.ended.is_set()
    account.may_cancel = True
    (result,) = remote_training.cancel(config, said)
    assert session.ended.is_set()
    assert result.epochs >= 1
    assert not result.finished
    here.train(settings(data, epochs=result.epochs + 1, resume=True))
    with pytest.raises(InputError, match="no notebook trains unet-small-fold0"):
        remote_training.cancel(config, said)


def test_a_notebook_that_cannot_be_stopped_can_be_deleted(
    account: Sessions,
    train: Callable[..., Any],
    remote: Callable[..., RemoteConfig],
    locally: Path,
    data: Path,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account.holds = lambda: True
    interrupt_after_an_epoch(train, monkeypatch)
    account.may_cancel = False
    assert remote_training.cancel(remote(remote={"cancel": True, "discard": True}), said) == []
    assert account.deleted == [NOTEBOOK]
    assert not (data.parent / "models" / NAME).exists()


def test_a_failed_training_shows_why(account: Sessions, train: Callable[..., Any], data: Path, said: Said) -> None:
    with pytest.raises(InputError, match=r"failed: error.*Its log is on"):
        train(learning_rate=1e30)
    assert any("ower the learning rate" in line for line in said.lines)
    assert not (data.parent / "models" / NAME).exists()
    train()
    assert len(account.kernels) == 2, "other settings are accepted, as nothing is left of the first training"


def test_a_notebook_cancelled_on_kaggle_leaves_its_checkpoint_and_the_best_weights(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    account.holds = lambda: True
    interrupt_after_an_epoch(train, monkeypatch)
    account.CancelKernelSession({"kernelSessionId": next(iter(account.sessions.values())).number})
    with pytest.raises(InputError, match=r"was cancelled.*--resume resumes after the last whole epoch"):
        train()
    folder = data.parent / "models" / NAME
    assert not (folder / run_folder.THRESHOLDS).exists(), "the rest is not in a manifest"
    assert (folder / run_folder.WEIGHTS).read_bytes() == (locally / run_folder.WEIGHTS).read_bytes()
    assert model_card.read_card(folder).epoch == model_card.read_card(locally).epoch
    assert len(run_folder.read_checkpoint(folder)["history"]) == 2


def test_after_a_break_the_same_command_fetches_the_output_of_a_cancelled_notebook(
    account: Sessions, train: Callable[..., Any], data: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    account.holds = lambda: True
    interrupt_after_an_epoch(train, monkeypatch)
    account.CancelKernelSession({"kernelSessionId": next(iter(account.sessions.values())).number})
    account.before["GET"] = [drop] * output.FAULTS
    with pytest.raises(MachineError, match=r"cannot download training\.ckpt"):
        train()
    assert any("was cancelled" in line and "The same command fetches what it left" in line for line in said.lines)
    with pytest.raises(RemoteError, match=r"was cancelled.*--resume resumes after the last whole epoch"):
        train()
    assert len(run_folder.read_checkpoint(data.parent / "models" / NAME)["history"]) == 2
    assert (len(account.kernels), account.before["GET"]) == (1, [])


@pytest.mark.parametrize("how", ["cut", "refused"])
def test_a_broken_log_stream_loses_no_line(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path, said: Said, how: str
) -> None:
    account.cuts = 4 if how == "cut" else 0
    account.streams = how == "cut"
    refused = "the log cannot be followed (Kaggle answers 403)"
    account.holds = lambda: account.cuts > 0 or (how == "refused" and not any(refused in line for line in said.lines))
    train()
    assert_same_run(data.parent / "models" / NAME, locally)
    epochs = [line for line in said.lines if re.match(r"epoch \d/2: ", line)]
    assert [line[:9] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert any(refused in line for line in said.lines) == (how == "refused")
    assert account.cuts == 0


def test_the_gpu_quota_is_used_up(account: Sessions, train: Callable[..., Any]) -> None:
    account.quota["gpuQuota"]["timeUsed"] = "108000s"
    with pytest.raises(InputError, match=r"no GPU time is left on Kaggle: 30\.0 of 30\.0.*2026-11-28 00:00 UTC"):
        train()
    assert account.puts() == []
    account.quota["gpuQuota"]["timeUsed"] = "0s"
    account.refusals = ["Maximum weekly GPU quota of 30.00 hours reached."]
    with pytest.raises(InputError, match="next week begins at 2026-11-28 00:00 UTC: The same command resumes"):
        train()
    uploads = len(account.puts())
    train()
    assert len(account.puts()) == uploads


def test_a_damaged_file_is_downloaded_again(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path
) -> None:
    def spoil(request: Any, reply: Any) -> None:
        reply.bytes(b"x" * 10)

    account.before["GET"] = [None, None, spoil]
    with pytest.raises(MachineError, match="its SHA-256 is wrong"):
        train()
    train()
    assert_same_run(data.parent / "models" / NAME, locally)
    assert len(account.kernels) == 1


def test_the_bundle_includes_the_encoder_weights_if_the_notebook_has_no_internet(
    account: Sessions, train: Callable[..., Any], data: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    import torch
    from safetensors.torch import save_file

    from severstal_cli.learning.networks import encoder_file, registry

    fetched: list[str] = []

    def fetch(encoder: str, path: Path) -> Path:
        torch.manual_seed(7)
        network = registry.build("linknet", encoder=encoder, in_channels=3, classes=1)
        save_file(dict(network.encoder.state_dict()), path)
        fetched.append(encoder)
        return path

    monkeypatch.setattr(encoder_file, "fetch", fetch)
    account.stream("severstal-train-linknet-resnet18-nofold-notebook")
    train(arch="linknet", encoder="resnet18", epochs=1, fold=None)
    assert fetched == ["resnet18"]
    assert [pushed["enableInternet"] for pushed in account.kernels] == [True, False]
    assert (data.parent / "models/linknet-resnet18-nofold" / run_folder.WEIGHTS).exists()
    assert model_card.read_card(data.parent / "models/linknet-resnet18-nofold").config["encoder_weights"] == "imagenet"


def test_two_processes_do_not_train_the_same_run(account: Sessions, train: Callable[..., Any], data: Path) -> None:
    alone = pytest.raises(MachineError, match=f"another process trains {NAME} on Kaggle")
    with files.locked(data.parent / "models/.kaggle" / NAME, ""), alone:
        train()
    assert account.server.requests == []


def test_a_missing_checkpoint_is_reported_before_any_request(account: Sessions, train: Callable[..., Any]) -> None:
    with pytest.raises(RunError, match="nothing to resume"):
        train(resume=True)
    assert account.server.requests == []


def test_no_secret_is_written_or_printed(
    account: Sessions, train: Callable[..., Any], data: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.before["GET"] = [None, *[drop] * 5]
    with pytest.raises(MachineError) as raised:
        train()
    kept = b"".join(path.read_bytes() for path in (data.parent / "models").rglob("*") if path.is_file())
    printed = "\n".join([*said.lines, str(raised.value)])
    assert not re.search(f"{TOKEN}|{SECRET}", printed + kept.decode("latin1"))


def test_the_command(
    account: Sessions,
    data: Path,
    competition: Competition,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from severstal_cli import config as configs
    from severstal_cli.cli import main

    monkeypatch.chdir(data.parent)
    monkeypatch.setattr(
        configs,
        "RemoteConfig",
        lambda **options: RemoteConfig(**options, competition=competition, poll_s=0.05, late_s=0.05),
    )
    (data.parent / "settings.json").write_text('{"average_decay": 0.5}')
    base = [
        "severstal",
        "train",
        "--on",
        "kaggle",
        "--arch",
        "unet-small",
        "--epochs",
        "2",
        "--config",
        "settings.json",
    ]
    monkeypatch.setattr(sys, "argv", [*base, "--devices", "1"])
    main_ends(main, 0)
    out = capsys.readouterr().out
    assert re.search(
        rf"models/{NAME}: 2 epochs in 0\.\d min on Kaggle, best epoch \d with validation Dice 0\.\d+ \(pred", out
    )
    assert f"next: severstal submit models/{NAME}\n" in out
    for more, code, words in (
        (["--on", "moon"], 2, "here or kaggle"),
        (["--cancel", "--on", "here"], 2, "Give --on kaggle"),
        (["--discard"], 2, "given with --cancel"),
        (["--cancel"], 1, f"no notebook trains {NAME}"),
    ):
        monkeypatch.setattr(sys, "argv", [*base, *more])
        main_ends(main, code)
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("is_older", [False, True], ids=["this version", "an earlier version"])
def test_a_resumed_run_is_sent_as_its_checkpoint_which_had_no_weights_in_earlier_versions(
    remote: Callable[..., RemoteConfig],
    data: Path,
    locally: Path,
    tmp_path: Path,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
    is_older: bool,
) -> None:
    monkeypatch.setattr(wheels, "missing_wheels", list)
    config = remote(resume=True, epochs=3)
    folder = Path(shutil.copytree(locally, data.parent / "models" / NAME))
    if is_older:
        saved = run_folder.read_checkpoint(folder)
        del saved["state"]["kept"]
        run_folder.write_checkpoint(folder, saved)
    training.build(
        tmp_path / "made",
        config,
        training.data_of(config),
        None,
        runs=(config.train,),
        sends_weights=False,
        progress=said,
    )
    sent = {path.name for path in (tmp_path / "made/dataset/resume/1").iterdir()}
    assert sent == {run_folder.CHECKPOINT, *([model_card.CARD, run_folder.WEIGHTS] if is_older else [])}


def test_the_settings_of_the_command_reach_the_notebook(
    data: Path, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    from severstal_cli.cli import main

    given: list[RemoteConfig] = []
    monkeypatch.chdir(data.parent)
    monkeypatch.setattr(wheels, "missing_wheels", list)
    monkeypatch.setattr(remote_training, "train", lambda config, *_: given.append(config) or [])
    options = ["--arch", "unet-small", "--time-limit", "25m", "--epochs", "7", "--seed", "3", "--fold", "all"]
    monkeypatch.setattr(sys, "argv", ["severstal", "train", "--on", "kaggle", *options])
    main_ends(main, 0)
    (config,) = given
    assert config.every_fold
    runs = training.runs_of(config, (0, 1))
    training.build(
        tmp_path / "made", config, training.data_of(config), None, runs=runs, sends_weights=False, progress=said
    )
    sent = json.loads((tmp_path / "made/dataset/settings.json").read_text())
    assert sent == sent | {"arch": "unet-small", "time_limit_s": 1500.0, "epochs": 7, "seed": 3}
    contents = json.loads((tmp_path / "made/dataset/severstal-bundle.json").read_text())
    assert (contents["devices"], contents["command"]) == (2, "train"), "both GPUs, without an option"
    assert [(run["name"], run["fold"]) for run in contents["runs"]] == [
        ("unet-small-fold0", 0),
        ("unet-small-fold1", 1),
    ]


def main_ends(main: Callable[[], None], code: int) -> None:
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code or 0) == code
