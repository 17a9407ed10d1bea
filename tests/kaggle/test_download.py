"""`severstal download`: a complete folder or none, after any failure."""

import functools
import io
import os
import re
import shutil
import signal as signals
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from server import TOKEN, Server
from storage import CALL, SIGNATURE, Storage, breaks, stalls

from severstal_cli import config, files
from severstal_cli.kaggle import archive, client
from severstal_cli.stages import downloading
from severstal_cli.steel.images import decoding

STEEL = config.Competition(slug="steel", train_images=6, test_images=3, masks=4)


Download = Callable[..., Any]


@pytest.fixture(autouse=True)
def small(severstal: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small competition, no pauses. `severstal` has imported the command line, which reads defaults, before that."""
    monkeypatch.setattr(config, "DownloadConfig", functools.partial(config.DownloadConfig, competition=STEEL))
    monkeypatch.setattr(client, "connect", functools.partial(client.connect, pause_s=0))
    monkeypatch.delenv("SEVERSTAL_DEBUG", raising=False)


@pytest.fixture
def source(make_data: Callable[..., Path]) -> Path:
    """The content of the archive."""
    folder = make_data("source", images=6, size=(64, 96))
    (folder / "test_images").mkdir()
    for path in sorted((folder / "train_images").iterdir())[:3]:
        shutil.copy(path, folder / "test_images" / f"t{path.name}")
    (folder / "sample_submission.csv").write_text("ImageId,EncodedPixels,ClassId\n")
    return folder


def pack(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                made.write(path, path.relative_to(folder))
    return packed.getvalue()


@pytest.fixture
def storage(server: Server, source: Path) -> Iterator[Storage]:
    made = Storage(kaggle=server, content=pack(source))
    yield made
    made.server.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def download(severstal: Download, data: Path) -> Download:
    """`download("--stall", "5s")` runs this command line."""
    return functools.partial(severstal, "download", "--data", data)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_data_is_downloaded_and_a_second_call_does_nothing(
    storage: Storage, download: Download, data: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = download()
    assert (outcome.code, tree(data)) == (0, tree(source))
    counts = "6 train images with 4 masks, 3 test images"
    assert outcome.out == f"{data}: downloaded; {counts}\nnext: severstal split --data {data}\n"
    assert not (data / ".download").exists()
    storage.server.requests.clear()
    storage.kaggle.requests.clear()
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (data / ".download/unpacked").mkdir(parents=True)
    outcome = download()
    assert not (data / ".download").exists(), "the files of a killed download are removed"
    assert outcome.out == (f"{data}: already complete, nothing to do; {counts}\nnext: severstal split --data {data}\n")
    assert (outcome.code, outcome.err, storage.server.requests, storage.kaggle.requests) == (0, "", [], [])


def test_a_break_at_half_is_resumed_to_the_same_bytes(
    storage: Storage, download: Download, data: Path, source: Path
) -> None:
    storage.faults += [breaks]
    assert download().code == 0
    assert tree(data) == tree(source)
    assert storage.ranges() == [None, f"bytes={len(storage.content) // 2}-"]


DRIVER = """
import functools, logging, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the children of a shell's background job
from kagglesdk import kaggle_env
from severstal_cli import cli, config
from severstal_cli.kaggle import client
url, *arguments = sys.argv[1:]
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = url
steel = config.Competition(slug="steel", train_images=6, test_images=3, masks=4)
config.DownloadConfig = functools.partial(config.DownloadConfig, competition=steel)
client.connect = functools.partial(client.connect, pause_s=0)
logging.basicConfig(level=logging.DEBUG)
sys.argv = ["severstal", "download", *arguments]
cli.main()
"""


def start(storage: Storage, data: Path, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own, with all loggers at DEBUG."""
    command = [sys.executable, "-c", DRIVER, storage.kaggle.url, "--data", str(data), "--stall", "20s"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGINT"])
def test_a_killed_download_resumes(storage: Storage, download: Download, data: Path, source: Path, signal: str) -> None:
    storage.faults += [stalls]
    part = data / ".download/archive.zip.part"
    with start(storage, data) as process:
        while process.poll() is None and not (part.exists() and part.stat().st_size):
            time.sleep(0.02)  # --stall ends the process at last
        process.send_signal(signals.Signals[signal])
        _, err = process.communicate()
    if signal == "SIGINT":
        assert process.returncode == 130
        assert f"{data}: the downloaded bytes are kept, the same command resumes" in err
    kept = part.stat().st_size
    assert 0 < kept <= len(storage.content) // 2
    assert download().code == 0
    assert tree(data) == tree(source)
    assert storage.ranges() == [None, f"bytes={kept}-"]


STEPS: dict[str, tuple[Any, str, int]] = {
    "unpacking": (archive, "_unpack", 4),
    "counting": (downloading, "read_table", 1),
    "opening": (decoding, "read_grey", 5),
    "making ready": (Path, "rename", 1),
    "moving the first": (Path, "rename", 2),
    "moving the third": (Path, "rename", 4),
    "clearing": (shutil, "rmtree", 2),
}


@pytest.mark.parametrize(("owner", "name", "call"), STEPS.values(), ids=STEPS)
def test_an_interruption_at_any_step_resumes_without_a_second_download(
    storage: Storage,
    download: Download,
    data: Path,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    call: int,
) -> None:
    """KeyboardInterrupt at the `call`th call of `owner.name`."""
    usual, count = getattr(owner, name), 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count >= call:
            raise KeyboardInterrupt
        return usual(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, interrupted)
        outcome = download()
    assert (outcome.code, count >= call) == (130, True)
    outcome = download()
    assert (outcome.code, outcome.err.count("Error")) == (0, 0)
    assert tree(data) == tree(source)
    assert not (data / ".download").exists()
    assert len(storage.server.requests) == 1


def test_other_data_is_kept(server: Server, download: Download, data: Path, source: Path) -> None:
    shutil.copytree(source, data)
    next((data / "train_images").iterdir()).unlink()
    before = tree(data)
    outcome = download()
    assert outcome.err == (
        f"severstal: {data} holds other data: 5 train images, 4 masks, 3 test images. "
        "Name another folder with --data, or clear this one\n"
    )
    assert (outcome.code, outcome.out, tree(data), server.requests) == (1, "", before, [])


def test_data_that_appears_during_a_download_is_not_overwritten(
    storage: Storage, download: Download, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*arguments: Any) -> None:
        (data / "train.csv").write_text("mine")

    monkeypatch.setattr(downloading, "_check", check)
    outcome = download()
    assert "the name exists. Move that file or folder away" in outcome.err
    assert (data / "train.csv").read_text() == "mine"
    (data / "train.csv").unlink()
    assert download().code == 0
    assert len(storage.server.requests) == 1


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_truncated_archive_is_removed(storage: Storage, download: Download, data: Path, share: float) -> None:
    whole = storage.content
    storage.content = whole[: int(len(whole) * share)]
    outcome = download()
    assert (outcome.code, outcome.err.count("severstal: ")) == (1, 1)
    assert "the archive is damaged" in outcome.err
    assert "It was removed: the same command downloads it again" in outcome.err
    assert tree(data) == {}
    storage.content, storage.etag = whole, '"two"'
    assert download().code == 0


def test_a_hostile_archive_leaves_nothing(storage: Storage, download: Download, data: Path, source: Path) -> None:
    packed = io.BytesIO(storage.content)
    with zipfile.ZipFile(packed, "a") as made:
        made.writestr("../../evil", "evil")
    storage.content = packed.getvalue()
    outcome = download()
    assert "the archive must not be unpacked: '../../evil': its path leaves the folder" in outcome.err
    assert outcome.code == 1
    assert not list(data.parent.rglob("evil"))
    assert tree(data) == {}


def cut_image(source: Path) -> None:
    path = source / "test_images/t000000001.png"
    path.write_bytes(path.read_bytes()[:-20])


def drop_image(source: Path) -> None:
    (source / "test_images/t000000001.png").unlink()


def drop_sample(source: Path) -> None:
    (source / "sample_submission.csv").unlink()


def spoil_table(source: Path) -> None:
    with (source / "train.csv").open("a") as file:
        file.write("a.png,1,5 0\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_image, "in the archive: test_images/t000000001.png: the image is cut short"),
        (drop_image, "other data: 6 train images, 4 masks, 2 test images; 6, 4 and 3 are expected"),
        (drop_sample, "3 test images, no sample_submission.csv; 6, 4 and 3"),
        (spoil_table, "in the archive: train.csv, line "),
    ],
)
def test_other_data_than_the_competitions_is_not_moved_to_the_folder(
    storage: Storage, download: Download, data: Path, source: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(source)
    storage.content = pack(source)
    outcome = download()
    assert (outcome.code, outcome.err.count("severstal: ")) == (1, 1)
    assert words in outcome.err
    assert f"Remove {data / '.download'} and run this again" in outcome.err
    assert sorted(path.name for path in data.iterdir()) == [".download"]


def test_a_refusal_leaves_no_trace(server: Server, download: Download, data: Path) -> None:
    server.handlers[CALL] = lambda request, reply: reply.json({"code": 403, "message": "no"}, 403)
    outcome = download()
    assert outcome.err.startswith("severstal: cannot download the data: Kaggle answers 403, no. Accept the rules")
    assert (outcome.code, outcome.err.count("\n"), outcome.out) == (1, 1, "")
    assert not data.exists()


def test_without_credentials(server: Server, download: Download, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    outcome = download()
    assert outcome.err.startswith("severstal: no Kaggle credentials: ")
    assert (outcome.code, server.requests) == (1, [])


def test_a_disk_too_small(storage: Storage, download: Download, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = shutil.disk_usage(data.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usual._replace(free=1000))
    outcome = download()
    assert re.fullmatch(r"severstal: not enough space in \S+: 0\.00 GB needed, .*another folder\n", outcome.err)
    assert (outcome.code, tree(data)) == (1, {})


def test_a_folder_that_cannot_be_made(
    server: Server, download: Download, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", mkdir)
    outcome = download()
    assert re.fullmatch(r"severstal: cannot write \S+: Permission denied\. Name another folder.*\n", outcome.err)
    assert (outcome.code, server.requests) == (1, [])


def test_two_at_once(storage: Storage, download: Download, data: Path) -> None:
    with files.locked(data / ".download", ""):
        outcome = download()
    assert f"another download fills {data}" in outcome.err
    assert (outcome.code, storage.kaggle.requests) == (1, [])


def test_no_secret_is_written_at_any_verbosity(storage: Storage, data: Path, source: Path) -> None:
    storage.faults += [breaks] * 99
    with start(storage, data, SEVERSTAL_DEBUG="1", KAGGLEHUB_VERBOSITY="debug") as process:
        out, err = process.communicate()
    assert process.returncode == 1
    assert "Traceback" in err
    assert "127.0.0.1 broke" in err
    storage.faults.clear()
    written = b"".join(tree(data).values())
    assert len(written) > len(storage.content) // 2
    with start(storage, data, SEVERSTAL_DEBUG="1", KAGGLEHUB_VERBOSITY="debug") as process:
        more = "".join(process.communicate())
    assert tree(data) == tree(source)
    for secret in (TOKEN, SIGNATURE):
        assert secret not in out + err + more
        assert secret.encode() not in written
