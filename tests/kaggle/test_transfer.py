"""The archive arrives completely or not at all, resumes, and every wait has a limit."""

import json
import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from server import TOKEN, Reply, Request, Said, Server
from storage import CALL, SIGNATURE, Storage, breaks, stalls, status

from severstal_cli.errors import MachineError, OutputError, SeverstalError
from severstal_cli.kaggle import client, transfer

CONTENT = b"PK\x03\x04" + random.Random(0).randbytes(300_000)


@pytest.fixture
def storage(server: Server) -> Iterator[Storage]:
    made = Storage(kaggle=server, content=CONTENT)
    yield made
    made.server.close()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work/archive.zip"


Fetch = Callable[..., list[str]]


@pytest.fixture
def fetch(archive: Path) -> Fetch:
    """`fetch()` downloads to `archive` without pauses. Returns the printed lines."""

    def run(stall_s: float = 10.0) -> list[str]:
        said = Said()
        transfer.fetch(client.connect("steel", said, answer_s=stall_s, pause_s=0), archive, stall_s=stall_s)
        return said.lines

    return run


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def keep_half(storage: Storage, fetch: Fetch) -> int:
    """End a download at half; how many bytes are there."""
    storage.faults += [breaks, *[status(500)] * transfer.FAILURES]
    with pytest.raises(MachineError, match="answers 500"):
        fetch()
    storage.server.requests.clear()
    return len(CONTENT) // 2


def test_it_is_downloaded_unchanged(storage: Storage, fetch: Fetch, archive: Path) -> None:
    assert fetch() == []
    assert archive.read_bytes() == CONTENT
    assert files_in(archive.parent) == ["archive.zip"]
    assert storage.kaggle.requests[0].json == {"competitionName": "steel"}
    assert storage.ranges() == [None]
    assert "Authorization" not in storage.server.requests[0].headers


def test_no_password_of_netrc_goes_to_the_storage(storage: Storage, fetch: Fetch) -> None:
    netrc = Path.home() / ".netrc"
    netrc.parent.mkdir()
    netrc.write_text("default login ann password secret\n")
    fetch()
    assert "Authorization" not in storage.server.requests[0].headers


def test_a_broken_connection_resumes_at_the_next_byte(storage: Storage, fetch: Fetch, archive: Path) -> None:
    storage.faults += [breaks, breaks]
    half, quarter = len(CONTENT) // 2, len(CONTENT) - len(CONTENT) // 4
    said = fetch()
    assert archive.read_bytes() == CONTENT
    assert storage.ranges() == [None, f"bytes={half}-", f"bytes={quarter}-"]
    assert storage.server.requests[1].headers["If-Range"] == '"one"'
    assert said[0] == "the connection to 127.0.0.1 broke; 0.2 of 0.3 MB are kept: resuming in 0 s"
    assert len(said) == 2
    assert storage.kaggle.paths() == [CALL], "the address is still valid"


def test_a_connection_that_breaks_repeatedly_is_given_up(storage: Storage, fetch: Fetch, archive: Path) -> None:
    storage.faults += [breaks] * 99
    with pytest.raises(
        MachineError, match=r"the connection to 127\.0\.0\.1 broke; 0\.3 of 0\.3 MB are kept\. .*resumes"
    ):
        fetch()
    assert len(storage.server.requests) == transfer.FAILURES + 1
    kept = archive.with_name("archive.zip.part").read_bytes()
    assert CONTENT.startswith(kept)
    storage.faults.clear()
    fetch()
    assert storage.ranges()[-1] == f"bytes={len(kept)}-"
    assert archive.read_bytes() == CONTENT


def test_failures_count_only_without_progress_between(
    storage: Storage, fetch: Fetch, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "BLOCK", 1000)
    storage.faults += [breaks] * (transfer.FAILURES + 2)
    fetch()
    assert archive.read_bytes() == CONTENT


@pytest.mark.parametrize("code", [400, 403, 404, 410])
def test_an_expired_address_is_renewed(storage: Storage, fetch: Fetch, archive: Path, code: int) -> None:
    storage.faults += [breaks, status(code)]
    said = fetch()
    assert archive.read_bytes() == CONTENT
    assert storage.kaggle.paths() == [CALL, CALL]
    assert said[1] == f"127.0.0.1 answers {code}; 0.2 of 0.3 MB are kept: resuming in 0 s"
    assert storage.ranges()[1:] == [f"bytes={len(CONTENT) // 2}-"] * 2, "the page touched the file"


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_storage_is_retried(storage: Storage, fetch: Fetch, archive: Path, code: int) -> None:
    storage.faults += [status(code), status(code)]
    assert len(fetch()) == 2
    assert archive.read_bytes() == CONTENT
    assert storage.kaggle.paths() == [CALL]


def test_a_storage_that_refuses_for_good_is_not_taken_for_kaggle(storage: Storage, fetch: Fetch, archive: Path) -> None:
    storage.faults += [status(403)] * 99
    with pytest.raises(MachineError, match=r"127\.0\.0\.1 answers 403; nothing is kept\. Try again later"):
        fetch()
    assert files_in(archive.parent) == []


def sends_page(request: Request, reply: Reply, storage: Storage) -> None:
    reply.bytes(b"<html>sign in</html>", **{"Content-Type": "text/html"})


def sends_another_range(request: Request, reply: Reply, storage: Storage) -> None:
    reply.bytes(CONTENT[1:], 206, **{"Content-Range": f"bytes 1-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"one"'})


def sends_too_little(request: Request, reply: Reply, storage: Storage) -> None:
    first = storage.first(request)
    reply.bytes(CONTENT[first:-9], 206, **{"Content-Range": f"bytes {first}-{len(CONTENT) - 10}/{len(CONTENT)}"})


def sends_no_size(request: Request, reply: Reply, storage: Storage) -> None:
    reply.send_response(200)
    reply.end_headers()
    reply.wfile.write(CONTENT)
    reply.close_connection = True


@pytest.mark.parametrize("fault", [sends_page, sends_another_range, sends_too_little, sends_no_size])
def test_a_wrong_response_does_not_change_the_received_bytes(
    storage: Storage, fetch: Fetch, archive: Path, fault: Callable[..., None]
) -> None:
    half = keep_half(storage, fetch)
    storage.faults += [fault] * 99
    with pytest.raises(MachineError, match=r"0\.2 of 0\.3 MB are kept"):
        fetch()
    assert archive.with_name("archive.zip.part").read_bytes() == CONTENT[:half]
    storage.faults.clear()
    fetch()
    assert archive.read_bytes() == CONTENT
    assert storage.ranges()[-1] == f"bytes={half}-"


@pytest.mark.parametrize("etag", ['"two"', 'W/"two"', '"one"'])
def test_a_new_archive_does_not_resume_the_old_one(storage: Storage, fetch: Fetch, archive: Path, etag: str) -> None:
    """In the last case the ETag stays, and only the MD5 differs."""
    keep_half(storage, fetch)
    storage.content, storage.etag = CONTENT[:4] + CONTENT[4:][::-1], etag
    fetch()
    assert archive.read_bytes() == storage.content


def test_an_archive_without_etag_and_md5_is_not_resumed(storage: Storage, fetch: Fetch, archive: Path) -> None:
    storage.etag = ""
    keep_half(storage, fetch)
    storage.content, storage.md5 = CONTENT[:4] + CONTENT[4:][::-1], ""
    fetch()
    assert archive.read_bytes() == storage.content


def test_a_new_archive_that_is_shorter_than_what_is_there(storage: Storage, fetch: Fetch, archive: Path) -> None:
    storage.etag = ""
    keep_half(storage, fetch)
    storage.content = CONTENT[:9]
    assert fetch() == ["Kaggle has a new archive: starting again; nothing is kept: resuming in 0 s"]
    assert archive.read_bytes() == storage.content


def test_more_bytes_than_announced_are_not_written(storage: Storage, fetch: Fetch, archive: Path) -> None:
    half = keep_half(storage, fetch)
    headers = {"Content-Range": f"bytes {half}-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"one"'}
    storage.faults += [lambda request, reply, storage: reply.bytes(CONTENT[half:] + b"more", 206, **headers)]
    assert fetch() == []
    assert archive.read_bytes() == CONTENT


def test_without_etag_and_md5_nothing_is_resumed(storage: Storage, fetch: Fetch, archive: Path) -> None:
    storage.etag, storage.md5 = 'W/"one"', ""
    keep_half(storage, fetch)
    fetch()
    assert storage.ranges() == [None]
    assert archive.read_bytes() == CONTENT


def test_without_etag_the_md5_says_that_it_is_the_same(storage: Storage, fetch: Fetch, archive: Path) -> None:
    storage.etag = ""
    half = keep_half(storage, fetch)
    fetch()
    assert storage.ranges() == [f"bytes={half}-"]
    assert archive.read_bytes() == CONTENT


@pytest.mark.parametrize("note", ["", "[]", '{"size": 300004}', '{"size": "x", "etag": "", "md5": ""}'])
def test_a_damaged_note_means_to_start_again(storage: Storage, fetch: Fetch, archive: Path, note: str) -> None:
    keep_half(storage, fetch)
    archive.with_suffix(".json").write_text(note)
    fetch()
    assert storage.ranges() == [None]
    assert archive.read_bytes() == CONTENT


def test_a_wrong_md5_removes_the_download(storage: Storage, fetch: Fetch, archive: Path) -> None:
    storage.md5 = "AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(MachineError, match=r"the MD5 of the download is wrong\. It was removed: .* starts again"):
        fetch()
    assert files_in(archive.parent) == []


def test_a_stall_ends_in_the_stated_time_and_goes_on_later(storage: Storage, fetch: Fetch, archive: Path) -> None:
    storage.faults += [stalls]
    began = time.monotonic()
    words = r"127\.0\.0\.1 sent nothing for 1 s; 0\.2 of 0\.3 MB are kept\. .*the same command resumes"
    with pytest.raises(MachineError, match=words):
        fetch(stall_s=1)
    assert time.monotonic() - began >= 1
    fetch()
    assert storage.ranges() == [None, f"bytes={len(CONTENT) // 2}-"]
    assert archive.read_bytes() == CONTENT


def test_a_trickle_is_a_stall(storage: Storage, fetch: Fetch) -> None:
    def trickles(request: Request, reply: Reply, storage: Storage) -> None:
        reply.send_response(200)
        for name, value in {**storage.headers(), "Content-Length": str(len(CONTENT))}.items():
            reply.send_header(name, value)
        reply.end_headers()
        for at in range(10_000):
            reply.wfile.write(CONTENT[at : at + 1])
            time.sleep(0.02)

    storage.faults += [trickles]
    began = time.monotonic()
    with pytest.raises(MachineError, match="sends almost nothing"):
        fetch(stall_s=1)
    assert 1 <= time.monotonic() - began < 120


@pytest.mark.parametrize("who", ["kaggle", "storage"])
def test_who_never_answers_is_left_in_the_stated_time(storage: Storage, fetch: Fetch, who: str) -> None:
    left = threading.Event()
    if who == "kaggle":
        storage.kaggle.handlers[CALL] = lambda request, reply: left.wait(120)
    else:
        storage.faults += [lambda request, reply, storage: left.wait(120)]
    began = time.monotonic()
    with pytest.raises(MachineError, match="does not answer"):
        fetch(stall_s=1)
    assert time.monotonic() - began < 60
    left.set()


@pytest.mark.parametrize("code", [403, 429])
def test_kaggle_refuses(storage: Storage, fetch: Fetch, archive: Path, code: int) -> None:
    storage.kaggle.handlers[CALL] = lambda request, reply: reply.json(
        {"code": code, "message": f"no {TOKEN}"}, code, **{"Retry-After": "3600"}
    )
    with pytest.raises(SeverstalError, match=f"cannot download the data: Kaggle answers {code}") as raised:
        fetch()
    assert TOKEN not in str(raised.value)
    assert storage.server.requests == []
    assert files_in(archive.parent) == []


def test_a_short_pause_that_kaggle_asks_for_is_kept(storage: Storage, fetch: Fetch, archive: Path) -> None:
    usual, count = storage.kaggle.handlers[CALL], iter(range(9))
    storage.kaggle.handlers[CALL] = lambda request, reply: (
        reply.json({"code": 429}, 429, **{"Retry-After": "1"}) if not next(count) else usual(request, reply)
    )
    began = time.monotonic()
    assert fetch() == ["Kaggle is busy (429): asking again in 1 s"]
    assert time.monotonic() - began >= 1
    assert archive.read_bytes() == CONTENT


def test_an_answer_without_an_address(storage: Storage, fetch: Fetch) -> None:
    storage.kaggle.handlers[CALL] = lambda request, reply: reply.json({})
    with pytest.raises(MachineError, match="unknown format"):
        fetch()


def test_room_is_looked_for_before_the_first_byte(
    storage: Storage, fetch: Fetch, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = keep_half(storage, fetch)
    usual = shutil.disk_usage(archive.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usual._replace(free=2 * len(CONTENT) - half - 1))
    with pytest.raises(OutputError, match=r"not enough space in .*0\.00 GB needed.*another folder"):
        fetch()
    assert archive.with_name("archive.zip.part").read_bytes() == CONTENT[:half]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usual._replace(free=2 * len(CONTENT) - half))
    fetch()
    assert archive.read_bytes() == CONTENT


def test_a_full_disk(storage: Storage, fetch: Fetch, archive: Path) -> None:
    archive.with_name("archive.zip.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"archive\.zip\.part: No space left on device\. Free some space"):
        fetch()


def test_the_address_is_shown_and_written_nowhere(
    storage: Storage,
    fetch: Fetch,
    archive: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    logging.getLogger("urllib3").setLevel(logging.NOTSET)  # as in a new process
    with caplog.at_level(logging.DEBUG):
        storage.faults += [breaks, status(403), *[breaks] * 99]
        with pytest.raises(MachineError) as raised:
            fetch()
        kept = "".join(path.read_text(errors="replace") for path in archive.parent.iterdir())
        assert json.loads(archive.with_suffix(".json").read_text())["size"] == len(CONTENT)
        storage.faults.clear()
        said = fetch()
    out, err = capfd.readouterr()
    assert len(caplog.records) > 0, "nothing was logged, so nothing was tested"
    for secret in (TOKEN, SIGNATURE):
        assert secret not in f"{raised.value}{kept}{said}{out}{err}{caplog.text}"
