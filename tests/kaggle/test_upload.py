"""Uploads: complete, in chunks, resumed, without printing secrets."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from account import SECRET, Account, drop
from server import Reply, Request, Said, Server

from severstal_cli.errors import MachineError
from severstal_cli.kaggle import client, upload

KIB = 1024


@pytest.fixture
def account(server: Server, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setattr(upload, "CHUNK_BYTES", 256 * KIB)
    return Account(server=server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """1000 KiB are four chunks, the last not whole."""
    folder = tmp_path / "dataset"
    (folder / "runs/a").mkdir(parents=True)
    (folder / "runs/a/model").write_bytes(bytes(number % 251 for number in range(1000 * KIB)))
    (folder / "bundle.json").write_text("{}")
    (folder / "empty").touch()
    (folder / "stays-here").write_text("x")
    return folder


@pytest.fixture
def send(account: Account, folder: Path, tmp_path: Path) -> Callable[[], dict[str, str]]:
    """Upload `folder` as a new process would."""

    def upload_all() -> dict[str, str]:
        kaggle = client.connect("steel", Said(), pause_s=0)
        return upload.upload_folder(kaggle, folder, upload.Memory(tmp_path / "uploads.json"), leave_out=("stays-here",))

    return upload_all


Send = Callable[[], dict[str, str]]


def answer(status: int) -> Callable[[Request, Reply], None]:
    return lambda request, reply: reply.bytes(b"<html>" + SECRET.encode(), status)


def contents(account: Account, tokens: dict[str, str]) -> dict[str, bytes]:
    return {name: bytes(account.blobs[int(token.rpartition("-")[2])].content) for name, token in tokens.items()}


def there(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("bundle.json", "empty", "runs/a/model")}


def test_every_file_arrives_in_chunks_without_the_accounts_token(account: Account, send: Send, folder: Path) -> None:
    assert contents(account, send()) == there(folder)
    lengths = [len(request.body) for request in account.puts()]
    assert lengths == [2, 0, 256 * KIB, 256 * KIB, 256 * KIB, 232 * KIB]
    assert all("Authorization" not in request.headers for request in account.puts())


def test_no_password_of_netrc_goes_to_the_storage(account: Account, send: Send) -> None:
    netrc = Path.home() / ".netrc"
    netrc.parent.mkdir()
    netrc.write_text("default login ann password secret\n")
    send()
    assert account.puts()
    assert all("Authorization" not in request.headers for request in account.puts())


def test_a_broken_connection_resumes_after_the_stored_bytes(account: Account, send: Send, folder: Path) -> None:
    (folder / "bundle.json").unlink()
    (folder / "empty").unlink()
    account.after["PUT"] = [None, drop]  # the second chunk arrives, its answer does not
    account.before["PUT"] = [None, None, None, drop]  # the third chunk does not arrive
    tokens = send()
    assert contents(account, tokens) == {"runs/a/model": (folder / "runs/a/model").read_bytes()}
    assert [request.headers["Content-Range"].removeprefix("bytes ") for request in account.puts()] == [
        "0-262143/1024000",
        "262144-524287/1024000",
        "*/1024000",
        "524288-786431/1024000",
        "*/1024000",
        "524288-786431/1024000",
        "786432-1023999/1024000",
    ]
    assert len(account.calls("StartBlobUpload")) == 1


def test_a_second_process_resumes(account: Account, send: Send, folder: Path) -> None:
    account.before["PUT"] = [None] * 4 + [drop] * upload.FAULTS  # two small files and two chunks arrive
    with pytest.raises(MachineError, match=r"cannot upload runs/a/model: 127.0.0.1 does not answer\. The same command"):
        send()
    before = len(account.puts())
    assert contents(account, send()) == there(folder)
    later = [request.headers["Content-Range"] for request in account.puts()[before:]]
    assert later == ["bytes */1024000", "bytes 524288-786431/1024000", "bytes 786432-1023999/1024000"]
    assert len(account.calls("StartBlobUpload")) == 3
    assert contents(account, send()) == there(folder)
    assert len(account.puts()) == before + 3, "stored files are not sent again"


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_used_up_address_is_replaced(account: Account, send: Send, folder: Path, status: int) -> None:
    account.before["PUT"] = [answer(status)]
    assert contents(account, send()) == there(folder)
    assert len(account.calls("StartBlobUpload")) == 4


def test_a_changed_file_and_an_old_upload_start_again(
    account: Account, send: Send, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send()
    (folder / "bundle.json").write_text("[]")
    assert contents(account, send()) == there(folder)
    assert len(account.calls("StartBlobUpload")) == 4
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + upload.MEMORY_S)
    send()
    assert len(account.calls("StartBlobUpload")) == 7


@pytest.mark.parametrize("content", ["", "[]", "{", '{"bundle.json": {"sha256": 1}}'])
def test_a_damaged_state_is_ignored(account: Account, send: Send, folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "uploads.json").write_text(content)
    assert contents(account, send()) == there(folder)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (answer(503), "127.0.0.1 answers 503"),
        (answer(429), "127.0.0.1 answers 429"),
        (answer(403), "127.0.0.1 answers 403"),
        (drop, "127.0.0.1 does not answer"),
        (lambda request, reply: reply.bytes(b"", 308), "127.0.0.1 answers 308"),
    ],
    ids=["503", "429", "403", "drop", "takes nothing"],
)
def test_a_failing_storage_is_given_up_without_printing_its_address(
    account: Account,
    send: Send,
    tmp_path: Path,
    fault: Callable[[Request, Reply], None],
    words: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    account.before["PUT"] = [fault] * 99
    logging.getLogger("urllib3").setLevel(logging.NOTSET)  # as in a new process
    with caplog.at_level(logging.DEBUG), pytest.raises(MachineError, match=words) as raised:
        send()
    assert len(account.puts()) <= 2 * upload.FAULTS
    out, err = capfd.readouterr()
    assert SECRET not in str(raised.value) + out + err + caplog.text
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert (tmp_path / "uploads.json").stat().st_mode & 0o777 == 0o600


def test_a_silent_storage_times_out(account: Account, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "ANSWER_S", 0.2)
    left = threading.Event()
    account.before["PUT"] = [lambda request, reply: left.wait(120)] * 99
    began = time.monotonic()
    with pytest.raises(MachineError, match="does not answer"):
        send()
    assert time.monotonic() - began < 60
    left.set()
