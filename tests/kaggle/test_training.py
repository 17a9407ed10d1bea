"""`train --on kaggle` against a local Kaggle whose notebooks really run, without a network, their inputs read-only."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from account import SECRET, USER, drop
from server import TOKEN, Said, Server
from sessions import Played, Sessions, can_unshare

from severstal_cli import files
from severstal_cli.config import Competition, RemoteConfig, ThresholdsConfig, TrainConfig
from severstal_cli.errors import InputError, MachineError, RunError
from severstal_cli.kaggle import fetching, log, polling, training, wheels
from severstal_cli.kaggle.polling import RemoteError
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.stages import remote_training, threshold_search
from severstal_cli.stages import training as here
from severstal_cli.steel.dataset import splits

pytestmark = pytest.mark.skipif(not can_unshare(), reason="this machine lets nobody take the network away")

NAME = "unet-small-fold0"
NOTEBOOK = f"severstal-train-{NAME}-notebook"
KAGGLE = Competition(slug="steel", train_images=45, test_images=0, masks=0)


@pytest.fixture(scope="session")
def drawn(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder without a split; not to be changed."""
    folder = tmp_path_factory.mktemp("drawn") / "data"
    folder.mkdir()
    shutil.copytree(trained[0] / "train_images", folder / "train_images")
    shutil.copy(trained[0] / "train.csv", folder)
    return folder


@pytest.fixture(scope="session")
def competition(drawn: Path) -> Competition:
    """As which the drawn data counts."""
    return dataclasses.replace(KAGGLE, masks=len((drawn / "train.csv").read_text().splitlines()) - 1)


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "data"))


@pytest.fixture(scope="session")
def played() -> Played:
    """A session takes half a minute; those that would do the same again are played from here."""
    return {}


@pytest.fixture
def account(
    server: Server, tmp_path: Path, drawn: Path, played: Played, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sessions]:
    monkeypatch.setattr(wheels, "missing_wheels", list)  # the process has this checkout
    monkeypatch.setattr(polling, "SILENCE_S", 0.5)
    monkeypatch.setattr(log, "AGAIN_S", 0.05)
    found = Sessions(
        server=server, root=tmp_path / "sessions", played=played, slug=f"severstal-train-{NAME}",
        competition_data=drawn, sizes_are_secret=True, environment={"PYTHONPATH": str(Path(here.__file__).parents[2])},
    )  # fmt: skip
    found.stream(NOTEBOOK)
    yield found
    found.end_all()


def settings(data: Path, **options: Any) -> TrainConfig:
    models = data.parent / "models"
    fields = {"data": data, "models": models, "arch": "unet-small", "epochs": 2, "average_decay": 0.5, **options}
    return TrainConfig(**fields)


@pytest.fixture
def train(competition: Competition, data: Path, said: Said) -> Callable[..., remote_training.RemoteResult]:
    def call(*, remote: dict[str, Any] | None = None, **options: Any) -> remote_training.RemoteResult:
        config = RemoteConfig(**{"train": settings(data, **options), "competition": competition, "poll_s": 0.05,
                                 "late_s": 0.05, **(remote or {})})  # fmt: skip
        return remote_training.train(config, said)

    return call


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture(scope="session")
def locally(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the same settings, trained here."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    root = tmp_path_factory.mktemp("locally")
    data = Path(shutil.copytree(drawn, root / "data"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "severstal_cli", "train", "--data", str(data), "--models", str(root / "models"),
               "--arch", "unet-small", "--epochs", "2", "--config", str(root / "settings.json")]  # fmt: skip
    (root / "settings.json").write_text('{"average_decay": 0.5}')
    subprocess.run(command, check=True, env=environment, capture_output=True)
    command[3:] = ["thresholds", str(root / "models" / NAME)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return root / "models" / NAME


def assert_same_run(there: Path, locally: Path) -> None:
    """The very weights and rules, the cards but for paths; both resume."""
    assert (there / run_folder.WEIGHTS).read_bytes() == (locally / run_folder.WEIGHTS).read_bytes()
    ours, theirs = model_card.read_card(there), model_card.read_card(locally)
    paths = dict.fromkeys(training._PATHS, "")
    assert dataclasses.replace(ours, data="", config=ours.config | paths) == dataclasses.replace(
        theirs, data="", config=theirs.config | paths
    )
    rules, expected = (json.loads((folder / run_folder.THRESHOLDS).read_bytes()) for folder in (there, locally))
    assert rules | {"runs": [], "folds": []} == expected | {"runs": [], "folds": []}
    assert {path.name for path in there.iterdir()} >= {path.name for path in locally.iterdir()}


@pytest.mark.parametrize("layout", ["old", "new"])
def test_the_run_is_the_one_that_a_training_here_gives(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path, said: Said, layout: str
) -> None:
    account.layout = layout
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
    assert account.real == 1
    pushed = account.kernels[0]
    assert (pushed["slug"], pushed["isPrivate"], pushed["enableInternet"], pushed["machineShape"]) == (
        f"{USER}/{NOTEBOOK}", True, False, "NvidiaTeslaT4"
    )  # fmt: skip
    assert pushed["competitionDataSources"] == ["steel"]
    assert pushed["sessionTimeoutSeconds"] < 12 * 3600
    assert (result.epochs, result.best_epoch, result.validation_dice) == (2, card.epoch, card.validation_dice)
    assert 0 < result.nothing_dice < 1
    epochs = [line for line in said.lines if re.match(r"epoch \d/2: loss .*Dice .* images/s, ", line)]
    assert len(epochs) == 2, "its log is shown as that of a training here"
    assert not list((folder.parent / ".kaggle").glob("*/*"))
    # it can be used, and is known, as any other
    threshold_search.search(ThresholdsConfig(runs=(folder,)))
    with pytest.raises(InputError, match="a run of this name exists"):
        train()


def test_without_data_here_the_split_of_the_notebook_comes_back(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path
) -> None:
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
    assert "splits.csv" in account.datasets["severstal-train-again"][-1], "made once, and sent along from then on"


def test_other_data_goes_to_a_dataset_of_its_own_once(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path
) -> None:
    other = dataclasses.replace(KAGGLE, train_images=12_568, masks=7_095)
    train(remote={"competition": other})
    assert_same_run(data.parent / "models" / NAME, locally)
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


def test_an_own_train_csv_in_the_folder_of_the_competition_is_told(
    account: Sessions, train: Callable[..., Any], data: Path
) -> None:
    lines = (data / "train.csv").read_text().splitlines()
    lines[1] = re.sub(r"\d+ \d+", "1 1", lines[1], count=1)
    (data / "train.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="failed"):
        train()


def test_the_time_of_a_session_is_respected_and_another_one_goes_on(
    account: Sessions, train: Callable[..., Any], data: Path, said: Said
) -> None:
    for session_s in (15.0, 60.0, 240.0, 960.0):  # the machine may be busy
        with suppress(RemoteError):
            result = train(epochs=9999, remote={"session_s": session_s})
            break
    folder = data.parent / "models" / NAME
    assert not result.finished
    assert 0 < result.epochs < 9999
    assert not (folder / run_folder.THRESHOLDS).exists()
    before = run_folder.read_checkpoint(folder)["history"]
    assert "severstal: the session's time is used up: --resume goes on in another one" in said.lines
    result = train(epochs=len(before) + 1, resume=True)
    assert (result.finished, result.epochs) == (True, len(before) + 1)
    assert run_folder.read_checkpoint(folder)["history"][: len(before)] == before
    assert (folder / run_folder.THRESHOLDS).exists()
    assert "resume/training.ckpt" in account.versions[-1]
    here.train(settings(data, epochs=len(before) + 2, resume=True))  # and here, too


STEPS = ("StartBlobUpload", "PUT", "CreateDataset", "GetDatasetStatus", "SaveKernel", "GetKernelSessionStatus",
         "ListKernelSessionOutput", "ListKernelFiles", "GET", "Hello", "GetKernel", "GetDataset")  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_a_break_at_any_call_is_taken_up_by_the_same_command(
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


DRIVER = """
import sys
sys.path[:0] = {paths!r}
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = {url!r}
from pathlib import Path
from severstal_cli.config import Competition, RemoteConfig, TrainConfig
from severstal_cli.kaggle import wheels
from severstal_cli.progress import TerminalProgress
from severstal_cli.stages import remote_training
wheels.missing_wheels = list
config = RemoteConfig(train=TrainConfig(data=Path({data!r}), models=Path({models!r}), arch="unet-small", epochs=2,
    average_decay=0.5), competition=Competition(**{competition!r}), poll_s=0.05, late_s=0.05)
remote_training.train(config, TerminalProgress())
"""


@pytest.mark.parametrize("point", ["PUT", "CreateDataset", "SaveKernel", "GetKernelSessionStatus", "GET"])
def test_a_killed_process_is_taken_up(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path, competition: Competition, point: str
) -> None:
    """SIGKILL when Kaggle has done what was asked, before the answer; in the middle of the fetching, too."""
    root = Path(here.__file__).parents[2]
    code = DRIVER.format(
        paths=[str(root)], url=account.server.url, data=str(data), models=str(data.parent / "models"),
        competition=dataclasses.asdict(competition),
    )  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []

    def kill(request: Any, reply: Any) -> None:
        os.kill(started[0].pid, signal.SIGKILL)
        drop(request, reply)

    skip = {"PUT": 1, "GET": 3}.get(point, 0)
    (account.before if point == "GET" else account.after)[point] = [None] * skip + [kill]
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        started.append(process)
        try:
            assert process.wait(300) == -9
        finally:
            process.kill()
    train()
    assert_same_run(data.parent / "models" / NAME, locally)
    assert (len(account.kernels), len(account.versions)) == (1, 1)


@pytest.mark.parametrize("kill", [0, 1, 2])
def test_a_kill_between_the_moves_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: int) -> None:
    work, folder = tmp_path / "work", tmp_path / "run"
    for name, place in (("new", work / fetching.READY), ("before", folder)):
        place.mkdir(parents=True)
        (place / run_folder.CHECKPOINT).write_text(name)
    moves = iter(range(9))
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if next(moves) == kill:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", interrupted)
        if kill < 2:
            with pytest.raises(KeyboardInterrupt):
                fetching.put(work, folder)
    fetching.put(work, folder)
    assert (folder / run_folder.CHECKPOINT).read_text() == "new"
    assert list(work.iterdir()) == []


def interrupt_after_an_epoch(train: Callable[..., Any], account: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the notebook runs."""

    def show(screen: Any, line: str) -> None:
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(remote_training.watching.Screen, "show", show)
        with pytest.raises(KeyboardInterrupt):
            train(epochs=500)


def test_ctrl_c_leaves_it_running_and_cancel_ends_it_with_its_last_epoch(
    account: Sessions, train: Callable[..., Any], data: Path, competition: Competition, said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    interrupt_after_an_epoch(train, account, monkeypatch)
    (session,) = account.sessions.values()
    assert not session.ended.is_set()
    config = RemoteConfig(
        train=settings(data, epochs=500), competition=competition, poll_s=0.05, late_s=0.05, cancel=True
    )
    with pytest.raises(InputError, match=r"trained on Kaggle with other settings.*--cancel"):
        train(epochs=499)
    account.may_cancel = False
    page = f"https://www.kaggle.com/code/{USER}/{NOTEBOOK}"
    with pytest.raises(InputError, match=f"kernelSessions.cancel' was denied. Press Stop on {page}.*--discard"):
        remote_training.cancel(config, said)
    assert not session.ended.is_set()
    account.may_cancel = True
    result = remote_training.cancel(config, said)
    assert session.ended.is_set()
    assert result is not None
    assert result.epochs >= 1
    assert not result.finished
    with pytest.raises(InputError, match="no notebook trains unet-small-fold0"):
        remote_training.cancel(config, said)


def test_a_notebook_that_cannot_be_ended_can_be_deleted(
    account: Sessions, train: Callable[..., Any], data: Path, competition: Competition, said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    interrupt_after_an_epoch(train, account, monkeypatch)
    account.may_cancel = False
    config = RemoteConfig(train=settings(data, epochs=500), competition=competition, poll_s=0.05, late_s=0.05,
                          cancel=True, discard=True)  # fmt: skip
    assert remote_training.cancel(config, said) is None
    assert account.deleted == [NOTEBOOK]
    assert not (data.parent / "models" / NAME).exists()


def test_a_training_that_fails_there_shows_why_and_leaves_its_checkpoint(
    account: Sessions, train: Callable[..., Any], data: Path, said: Said
) -> None:
    with pytest.raises(InputError, match=r"failed: error.*Its log is on"):
        train(learning_rate=1e30)
    assert any("ower the learning rate" in line for line in said.lines)
    assert not (data.parent / "models" / NAME).exists()
    train()
    assert len(account.kernels) == 2, "with other settings, as nothing is left of it"


def test_somebody_cancels_it_on_kaggle(
    account: Sessions, train: Callable[..., Any], data: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    interrupt_after_an_epoch(train, account, monkeypatch)
    account.CancelKernelSession({"kernelSessionId": next(iter(account.sessions.values())).number})
    with pytest.raises(InputError, match=r"was cancelled.*--resume goes on after its last whole epoch"):
        train(epochs=500)
    epochs = len(run_folder.read_checkpoint(data.parent / "models" / NAME)["history"])
    assert train(epochs=epochs + 1, resume=True).finished


@pytest.mark.parametrize("how", ["cut", "refused"])
def test_a_log_that_breaks_off_hides_nothing(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path, said: Said, how: str
) -> None:
    account.cuts = 4 if how == "cut" else 0
    account.streams = how == "cut"
    told = "its log cannot be followed (Kaggle answers 403)"
    account.holds = lambda: account.cuts > 0 or (how == "refused" and not any(told in line for line in said.lines))
    train()
    assert_same_run(data.parent / "models" / NAME, locally)
    epochs = [line for line in said.lines if re.match(r"epoch \d/2: ", line)]
    assert [line[:9] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert any(told in line for line in said.lines) == (how == "refused")
    assert account.cuts == 0


def test_no_hours_are_left(account: Sessions, train: Callable[..., Any]) -> None:
    account.quota["gpuQuota"]["timeUsed"] = "108000s"
    with pytest.raises(InputError, match=r"no GPU time is left on Kaggle: 30\.0 of 30\.0.*2026-11-28 00:00 UTC"):
        train()
    assert account.puts() == []
    account.quota["gpuQuota"]["timeUsed"] = "0s"
    account.refusals = ["Maximum weekly GPU quota of 30.00 hours reached."]
    with pytest.raises(InputError, match="begins anew at 2026-11-28 00:00 UTC: The same command goes on"):
        train(epochs=1)
    uploads = len(account.puts())
    train(epochs=1)
    assert len(account.puts()) == uploads


def test_a_damaged_file_is_fetched_again(
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


def test_what_it_starts_from_goes_along(
    account: Sessions, train: Callable[..., Any], data: Path, locally: Path
) -> None:
    account.stream("severstal-train-second-notebook")
    train(name="second", init=locally, epochs=1)
    card = model_card.read_card(data.parent / "models/second")
    assert card.config["init"] == str(locally)
    assert {"init/model.json", "init/model.safetensors"} <= set(account.datasets["severstal-train-second"][-1])


def test_weights_go_along_where_the_notebook_has_no_internet(
    account: Sessions, train: Callable[..., Any], data: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    import torch
    from safetensors.torch import save_file

    from severstal_cli.learning.networks import encoder_file, registry

    fetched: list[str] = []

    def fetch(encoder: str, path: Path) -> Path:
        torch.manual_seed(7)
        network = registry.build("linknet", encoder=encoder, in_channels=3, classes=1)
        save_file(dict(network.encoder.state_dict()), path)  # type: ignore[union-attr, arg-type]
        fetched.append(encoder)
        return path

    monkeypatch.setattr(encoder_file, "fetch", fetch)
    account.stream("severstal-train-linknet-resnet18-fold0-notebook")
    train(arch="linknet", encoder="resnet18", epochs=1)
    assert fetched == ["resnet18"]
    assert [pushed["enableInternet"] for pushed in account.kernels] == [True, False]
    assert (data.parent / "models/linknet-resnet18-fold0" / run_folder.WEIGHTS).exists()
    assert model_card.read_card(data.parent / "models/linknet-resnet18-fold0").config["encoder_weights"] == "imagenet"


def test_two_processes_do_not_train_the_same_run(account: Sessions, train: Callable[..., Any], data: Path) -> None:
    alone = pytest.raises(MachineError, match=f"another process trains {NAME} on Kaggle")
    with files.locked(data.parent / "models/.kaggle" / NAME, ""), alone:
        train()
    assert account.server.requests == []


def test_nothing_to_resume_is_told_before_anything_is_sent(account: Sessions, train: Callable[..., Any]) -> None:
    with pytest.raises(RunError, match="nothing to resume"):
        train(resume=True)
    assert account.server.requests == []


def test_nothing_secret_is_kept_or_told(
    account: Sessions, train: Callable[..., Any], data: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.before["GET"] = [None, *[drop] * 5]
    with pytest.raises(MachineError) as raised:
        train(epochs=1)
    kept = b"".join(path.read_bytes() for path in (data.parent / "models").rglob("*") if path.is_file())
    told = "\n".join([*said.lines, str(raised.value)])
    assert not re.search(f"{TOKEN}|{SECRET}", told + kept.decode("latin1"))


def test_the_command(
    account: Sessions, data: Path, competition: Competition, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from severstal_cli import config as configs
    from severstal_cli.cli import main

    monkeypatch.chdir(data.parent)
    monkeypatch.setattr(configs, "RemoteConfig", lambda **options: RemoteConfig(
        **options, competition=competition, poll_s=0.05, late_s=0.05))  # fmt: skip
    base = ["severstal", "train", "--on", "kaggle", "--arch", "unet-small", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", [*base, "--devices", "1"])
    main_ends(main, 0)
    out = capsys.readouterr().out
    assert re.search(
        rf"models/{NAME}: 1 epochs in 0\.\d min on Kaggle, best epoch 1 with validation Dice 0\.\d+ \(pred", out
    )
    assert f"next: severstal submit models/{NAME}\n" in out
    for more, code, words in (
        (["--on", "moon"], 2, "here or kaggle"),
        (["--cancel", "--on", "here"], 2, "Give --on kaggle"),
        (["--discard"], 2, "given with --cancel"),
        (["--fold", "all"], 2, "a notebook trains one fold"),
        (["--cancel"], 1, f"no notebook trains {NAME}"),
    ):
        monkeypatch.setattr(sys, "argv", [*base, *more])
        main_ends(main, code)
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1


def main_ends(main: Callable[[], None], code: int) -> None:
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code or 0) == code
