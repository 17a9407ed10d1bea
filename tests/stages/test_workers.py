"""Several workers train what one process would; only the first one logs and writes, and none outlives the others."""

import json
import multiprocessing
import multiprocessing.synchronize
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers take over the path, and find the file by its name there
import in_workers

from severstal_cli import cli
from severstal_cli.config import PredictConfig, TrainConfig
from severstal_cli.errors import InputError, SeverstalError
from severstal_cli.learning import launching
from severstal_cli.learning.device import open_device
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training.validation import Validation
from severstal_cli.stages import prediction, training
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.dataset.splits import read_splits
from severstal_cli.steel.tables.shards import shard_path

ROOT = Path(__file__).resolve().parents[2]
RESUME = launching.REMEDY


def _options(config: TrainConfig) -> list[str]:
    """The command line of `config`, without the number of devices."""
    return [
        "train",
        "--data",
        str(config.data),
        "--models",
        str(config.models),
        "--arch",
        config.arch,
        "--epochs",
        str(config.epochs),
        "--batch-size",
        str(config.batch_size),
    ]


def _run(*command: str, **settings: str) -> "subprocess.Popen[str]":
    """Start Python as from a terminal: it and its children are a session, and Ctrl-C goes to all of them."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"} | settings
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _alive(session: int) -> dict[int, str]:
    """The command lines of the processes of a session, by their ids."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _all_end(session: int) -> bool:
    """Whether all processes of a session end: a process that has closed its files may need a moment more."""
    until = time.monotonic() + 120
    while _alive(session) and time.monotonic() < until:
        time.sleep(0.1)
    return not _alive(session)


def _listening(session: int) -> set[str]:
    """The addresses at which the processes of a session listen, in the kernel's notation."""
    own: set[str] = set()
    for pid in _alive(session):
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                own.add(str(handle.readlink()))
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.add(fields[1].partition(":")[0])
    return found


LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


def _another_interface() -> str:
    """A network interface other than the loopback, if there is one: Gloo must not listen at it."""
    return next((name for _, name in socket.if_nameindex() if name not in ("lo", "lo0")), "lo")


def test_devices_of_one_machine_that_predict_listen_at_the_loopback_only(trained, tmp_path: Path) -> None:
    data, folder = trained
    predicts = ["predict", str(data / "train_images"), "--model", str(folder), "--out", str(tmp_path / "s.csv")]
    process = _run("-m", "severstal_cli", *predicts, "--devices", "2", GLOO_SOCKET_IFNAME=_another_interface())
    addresses: set[str] = set()
    while process.poll() is None:
        addresses |= _listening(process.pid)
        time.sleep(0.02)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert addresses, "no listening socket was seen"
    assert addresses <= LOOPBACK


def test_devices_that_train_listen_at_the_loopback_only_and_do_not_outlive_the_command(trained, tmp_path: Path) -> None:
    """The folder where they meet is removed, too, though the process that would remove it was killed."""
    (tmp_path / "temporary").mkdir()
    config = TrainConfig(data=trained[0], models=tmp_path, arch="unet-small", epochs=10_000)
    process = _run(
        "-m",
        "severstal_cli",
        *_options(config),
        "--devices",
        "2",
        TMPDIR=str(tmp_path / "temporary"),
        GLOO_SOCKET_IFNAME=_another_interface(),
    )
    assert process.stderr is not None
    addresses: set[str] = set()
    for _ in range(2):  # lines: the start and the first epoch
        while not select.select([process.stderr], [], [], 0.02)[0]:
            addresses |= _listening(process.pid)
        process.stderr.readline()
    addresses |= _listening(process.pid)
    assert addresses, "no listening socket was seen"
    assert addresses <= LOOPBACK
    assert len(_alive(process.pid)) > 2
    assert list((tmp_path / "temporary").glob("severstal-*"))
    process.kill()
    process.communicate()  # ends when no process holds the other end of the pipes
    assert _all_end(process.pid)
    assert not list((tmp_path / "temporary").glob("severstal-*"))


def _weights(folder: Path) -> dict[str, bytes]:
    state = run_folder.read_checkpoint(folder)["state"]
    tensors = state["network"] | {f"average {name}": value for name, value in state["average"].items()}
    return {name: value.numpy().tobytes() for name, value in tensors.items()} | {
        run_folder.WEIGHTS: (folder / run_folder.WEIGHTS).read_bytes()
    }


@pytest.fixture(scope="module")
def configs(trained, tmp_path_factory: pytest.TempPathFactory) -> list[TrainConfig]:
    """Four finished trainings by two workers, without shared memory.

    The first one is whole, the second one trains a plain network with an uneven last step, the third one ends by its
    time limit, and in the fourth one the half precision of the second worker is wrong.
    """
    data, _ = trained
    whole = TrainConfig(
        data=data,
        models=tmp_path_factory.mktemp("models"),
        arch="unet-small",
        epochs=3,
        batch_size=4,
        devices=2,
        name="whole",
    )
    plain = replace(
        whole,
        name="plain",
        epochs=2,
        batch_size=3,
        step_images=6,
        warmup_share=0.0,
        dice_weight=0.0,
        precision="32-true",
    )
    timed = replace(whole, name="timed", epochs=10_000, time_limit_s=1.5)
    half = replace(whole, name="half", epochs=1, crop_widths_px=(32,), precision="bf16-mixed")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing.synchronize.SemLock, "__init__", full)
        ranks, results = launching.run(in_workers.train_four, 2, whole, plain, timed, half)
    assert ranks == [0, 1]
    assert [result.folder.name for result in results] == ["whole", "plain", "timed", "half"]
    assert not multiprocessing.active_children()
    return [whole, plain, timed, half]


def test_validation_by_two_is_that_by_one(configs: list[TrainConfig]) -> None:
    folder = configs[0].models / "whole"
    card = model_card.read_card(folder)
    data_folder = open_data_folder(configs[0].data)
    fold = read_splits(configs[0].data / "splits.csv").ids_of("0")
    scores = Validation(data_folder, fold, card, 4).score(run_folder.load_network(folder, card), open_device())
    assert scores is not None
    rows = run_folder.read_checkpoint(folder)["history"]
    assert len(rows) == 3
    best = rows[card.epoch - 1]
    assert (best["dice"], best["dice_present"]) == pytest.approx(scores, abs=1e-6)


def test_two_workers_take_the_same_steps_as_one(configs: list[TrainConfig], tmp_path: Path) -> None:
    two = configs[1]
    one = replace(two, devices=1, models=tmp_path, batch_size=6, step_images=12)
    with in_workers.plain_network():
        training.train(one)
    states = [run_folder.read_checkpoint(config.models / "plain") for config in (two, one)]
    last_step = states[0]["card"]["train_images"] % 12
    assert last_step % 6 == 1, "the last batch has an image for one of the two workers only"
    for part in ("network", "average"):
        for name, value in states[0]["state"][part].items():
            assert (value - states[1]["state"][part][name]).abs().max() < 1e-6, name
    losses = [state["history"][-1]["loss"] for state in states]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_all_workers_stop_by_the_clock_of_the_first(configs: list[TrainConfig]) -> None:
    rows = run_folder.read_checkpoint(configs[2].models / "timed")["history"]
    assert 1 <= len(rows) < 10_000
    assert rows[-1]["elapsed_s"] > 1.0


def test_a_killed_worker_ends_all_with_one_line_and_torchrun_resumes_with_the_same_bits(
    configs: list[TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = replace(configs[0], models=tmp_path, name=None)
    monkeypatch.setattr(
        training, "train", lambda *arguments: launching.run(in_workers.train_until_killed, 2, *arguments)
    )
    monkeypatch.setattr(sys, "argv", ["severstal", *_options(config), "--devices", "2"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert not multiprocessing.active_children()
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.splitlines()[-1] == f"severstal: worker 2 of 2 was killed (signal 9). {RESUME}"
    assert [line.split(":")[0] for line in output.err.splitlines()] == [
        "unet-small-fold0",
        "note",
        "epoch 1/3",
        "severstal",
    ]

    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    process = _run(*torchrun, "-m", "severstal_cli", *_options(config), "--resume")
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert out.count("3 epochs in ") == 1
    assert err.count("resuming after epoch 1") == 1
    assert _weights(tmp_path / "unet-small-fold0") == _weights(configs[0].models / "whole")


def test_an_error_of_all_workers_is_reported_once(
    trained,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = TrainConfig(data=trained[0], models=tmp_path, arch="unet-small", fold=9, devices=2)
    with pytest.raises(InputError, match=r"^no such fold: 9\. The split has folds"):
        training.train(config)
    assert capfd.readouterr() == ("", "")


def test_an_error_of_one_worker_ends_all(
    trained,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = TrainConfig(data=trained[0], models=tmp_path, arch="unet-small", batch_size=4)
    with pytest.raises(SeverstalError) as caught:
        launching.run(in_workers.train_until_nan, 2, config)
    assert re.fullmatch(r"the loss is nan in epoch 1, batch 2: \w+\.png, .*is kept", str(caught.value))
    assert capfd.readouterr() == ("", "")
    assert not multiprocessing.active_children()


def test_ctrl_c_ends_all(trained, tmp_path: Path) -> None:
    config = TrainConfig(data=trained[0], models=tmp_path, arch="unet-small", epochs=10_000)
    process = _run("-m", "severstal_cli", *_options(config), "--devices", "2")
    assert process.stderr is not None
    lines = list(takewhile(lambda line: not line.startswith("epoch 1/"), process.stderr))
    assert len(lines) < 10
    os.killpg(process.pid, signal.SIGINT)
    for _ in range(20):  # the launcher may pass the signal on at any moment
        time.sleep(0.005)
        for pid in _alive(process.pid).keys() - {process.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert out == ""
    rest = [line for line in err.splitlines() if line and not re.match(r"epoch \d|unet-small-fold0: \d", line)]
    assert rest == [
        f"{tmp_path}/unet-small-fold0: give --resume to continue after the last complete epoch, if there is one",
        "severstal: interrupted",
    ]
    assert _all_end(process.pid)


def test_two_predict_the_bytes_of_one_also_after_a_kill(trained, heard, tmp_path: Path) -> None:
    data, folder = trained
    one = PredictConfig(images=(data / "train_images",), runs=(folder,), out=tmp_path / "one.csv", engine="torch")
    whole = prediction.predict(one)
    two = replace(one, out=tmp_path / "two.csv", devices=2)
    with pytest.raises(SeverstalError, match=r"^worker 2 of 2 was killed \(signal 9\)\. With --resume"):
        launching.run(in_workers.predict_until_killed, 2, two)
    assert not two.out.exists()
    result = prediction.predict(replace(two, resume=True), heard)
    for suffix in (".csv", ".scores.csv"):
        assert two.out.with_suffix(suffix).read_bytes() == one.out.with_suffix(suffix).read_bytes()
    assert (result.images, result.rows, result.masks_by_class) == (whole.images, whole.rows, whole.masks_by_class)
    assert json.loads(two.out.with_suffix(".json").read_text())["processes"] == 2


def test_machines_with_other_images_are_refused_and_with_other_file_times_they_resume(trained, tmp_path: Path) -> None:
    data, folder = trained
    other = Path(shutil.copytree(data / "train_images", tmp_path / "images"))
    for path in other.iterdir():
        os.utime(path, (1, 1))
    config = PredictConfig(images=(data / "train_images",), runs=(folder,), out=tmp_path / "s.csv", engine="torch")
    whole = prediction.predict(config)

    def predict_without_merging() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prediction, "_merge", lambda *_: whole)
            prediction.predict(config)

    predict_without_merging()
    submission = config.out.read_bytes()
    config = replace(config, resume=True)
    lost = [shard_path(tmp_path / "s.parts", number, suffix) for suffix in (".json", ".csv") for number in (2, 3)]
    for path in lost:
        path.unlink()
    result = launching.run(in_workers.predict_elsewhere, 2, config, replace(config, images=(other,)))
    assert (result.images, config.out.read_bytes()) == (45, submission)
    predict_without_merging()
    lost[0].unlink()
    next(other.iterdir()).unlink()
    with pytest.raises(InputError, match=r"the shards in .*s\.parts are of another prediction: other images"):
        launching.run(in_workers.predict_elsewhere, 2, config, replace(config, images=(other,)))


@pytest.mark.parametrize("fails", [False, True])
def test_a_semaphore_of_a_worker_is_removed_without_a_warning(*, fails: bool) -> None:
    """Python's tracker would report it on stderr when the command ends."""
    code = (
        f"import functools, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import in_workers; "
        "from severstal_cli.learning import launching; from severstal_cli.errors import MachineError\n"
        f"try: launching.run(functools.partial(in_workers.make_semaphore, fails={fails}), 2)\n"
        "except MachineError as error: print(error, file=sys.stderr)"
    )
    process = _run("-c", code)
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "no more memory\n" if fails else "")


def test_more_devices_than_gpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(SeverstalError, match=r"^too few GPUs: 2 asked for, 1 available\. Give --devices 1 at most$"):
        training.train(TrainConfig(data=tmp_path, models=tmp_path, devices=2))


def test_all_use_float32_where_half_precision_is_wrong_for_one(configs: list[TrainConfig]) -> None:
    saved = run_folder.read_checkpoint(configs[3].models / "half")["state"]
    assert saved["verdicts"]
    assert not any(agrees for *_, agrees in saved["verdicts"])
    assert all(agrees for *_, agrees in saved["validation_verdicts"]), "validation images have 96 columns"
