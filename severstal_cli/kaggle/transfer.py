"""A resumable download of the competition's archive from Kaggle's storage.

`kagglehub.competition_download` is not used: its first request has no time-out, a resume appends an error page to the
file, a complete file is accepted without its MD5, and it unpacks any name without checking the disk space. kagglesdk
returns the signed address of the archive. It is a secret: it is not written to a file, and errors name its host only.

Two files are the state of an unfinished download. `archive.zip` exists only when it is complete and its MD5 is right:

    archive.zip.part   the bytes so far
    archive.json       which archive it is: {"size": 167, "etag": "\\"5d41\\"", "md5": "XUFAKrxLKna5cZ2REBfFkg=="}
"""

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
import urllib3
from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest
from kagglesdk.kaggle_client import KaggleClient

from severstal_cli import files, typed
from severstal_cli.errors import MachineError
from severstal_cli.files import check_room, writing
from severstal_cli.kaggle.answers import host_of
from severstal_cli.kaggle.client import Kaggle
from severstal_cli.kaggle.wire import CONNECT_S
from severstal_cli.progress import BYTES, Bar

FAILURES = 5
"""Failures in a row, with less than `BLOCK` received between them, after which a transfer is given up."""
SLOWEST = 1024
"""Bytes a second. A slower transfer counts as stalled."""
BLOCK = 1 << 20
MB = 1_000_000

WHAT = "download the data"


@dataclass(frozen=True, kw_only=True)
class _Archive:
    """The identity of an archive's version."""

    size: int
    etag: str
    """The strong ETag, or ""."""
    md5: str
    """In base64; "" if it is unknown."""

    def same(self, other: "_Archive") -> bool:
        if self.md5 and other.md5:
            return (self.size, self.md5) == (other.size, other.md5)
        return bool(self.etag) and (self.size, self.etag) == (other.size, other.etag)


class _BrokenError(Exception):
    """A transfer ended early. `again`: a retry may help; `renew`: with a new address."""

    def __init__(self, found: str, *, again: bool = True, renew: bool = False) -> None:
        super().__init__(found)
        self.again, self.renew = again, renew


@dataclass(frozen=True, kw_only=True)
class _State:
    """The files of a download."""

    part: Path
    note: Path

    def read(self) -> tuple[_Archive | None, int]:
        """The archive of the unfinished download, and its bytes to resume after."""
        try:
            archive = typed.make(_Archive, typed.read_table(self.note))
            kept = self.part.stat().st_size
            is_same = kept == archive.size or (kept < archive.size and bool(archive.etag or archive.md5))
        except (OSError, ValueError):
            return None, 0
        return archive, kept if is_same else 0

    def __str__(self) -> str:
        archive, kept = self.read()
        return f"{kept / MB:,.1f} of {archive.size / MB:,.1f} MB are kept" if archive and kept else "nothing is kept"

    def remove(self) -> None:
        self.note.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)


def fetch(kaggle: Kaggle, path: Path, *, stall_s: float) -> None:
    """Download the competition's archive to `path`, in a folder that only this process writes to.

    A broken transfer resumes automatically. A stalled one ends: no byte for `stall_s` seconds, or fewer than `SLOWEST`
    a second in that time. The next call resumes after the received bytes.

    Raises:
        SeverstalError: Kaggle or its storage refuses, breaks or stalls; the MD5 is wrong (the file is removed).
        OutputError: no space for the archive and its content, a full disk, no permission.
    """
    state = _State(part=path.with_name(f"{path.name}.part"), note=path.with_suffix(".json"))
    address, failures = "", 0
    while True:
        archive, kept = state.read()
        if archive is not None and kept == archive.size:
            break
        try:
            address = address or _address(kaggle)
            _transfer(kaggle, address, state, stall_s)
        except _BrokenError as broken:
            failures = 1 if state.read()[1] - kept >= BLOCK else failures + 1
            if not broken.again or failures > FAILURES:
                raise MachineError(
                    f"cannot {WHAT}", f"{broken}; {state}", "Try again later: the same command resumes"
                ) from None
            address = "" if broken.renew else address
            wait_s = kaggle.pause_s * 2 ** (failures - 1)
            kaggle.progress.log(f"{broken}; {state}: resuming in {wait_s:.0f} s")
            time.sleep(wait_s)
    with writing(path):
        _check_md5(state, archive)
        state.part.replace(path)
        state.note.unlink()


def _address(kaggle: Kaggle) -> str:
    """The signed address of the archive. Raises SeverstalError."""
    request = ApiDownloadDataFilesRequest()
    request.competition_name = kaggle.competition

    def ask(sdk: KaggleClient) -> str:
        session = sdk.http_client()._session
        session.max_redirects, usual = 0, session.max_redirects
        try:
            sdk.competitions.competition_api_client.download_data_files(request)
        except requests.TooManyRedirects as stop:  # kagglesdk would follow the redirect, and start the download
            if stop.response is not None:
                return urljoin(stop.response.url, stop.response.headers["Location"])
        finally:
            session.max_redirects = usual
        raise ValueError("the answer is no address")

    return kaggle.call(WHAT, ask)


def _transfer(kaggle: Kaggle, address: str, state: _State, stall_s: float) -> None:
    """Download the rest, or everything if the archive has changed. Raises _BrokenError, OutputError."""
    archive, kept = state.read()
    headers = {"Accept-Encoding": "identity"}
    if archive is not None and kept:
        headers["Range"] = f"bytes={kept}-"
        if archive.etag:
            headers["If-Range"] = archive.etag
    with _answer(kaggle, address, headers, stall_s) as response:
        is_new = response.status_code == 416  # the archive ends before our offset
        first, offered = (kept, None) if is_new else _offer(response)
        if first not in (0, kept):
            raise _BrokenError(f"{host_of(address)} sends another range than the requested one")
        if offered is None or (first and not (archive is not None and offered.same(archive))):
            state.note.unlink(missing_ok=True)
            raise _BrokenError("Kaggle has a new archive: starting again")
        start = b"" if first else _read(response, stall_s, least=2)
        if not first and not start.startswith(b"PK"):  # a page with status 200 must not replace the received bytes
            raise _BrokenError(f"{host_of(address)} sends no zip archive", renew=True)
        received = state.part.stat().st_size if state.part.exists() else 0
        check_room(state.part.parent, 2 * offered.size - received)  # unpacked images are about as large as the archive
        with writing(state.part), state.part.open("ab" if first else "wb") as file:
            if not first:  # the old note belongs to the overwritten bytes
                files.write_text(state.note, json.dumps(asdict(offered)))
            with kaggle.progress.bar("downloading", offered.size, BYTES) as bar:
                bar.advance(first)
                _copy(response, start, (first, offered.size), file, stall_s, bar)


@contextmanager
def _answer(kaggle: Kaggle, address: str, headers: dict[str, str], stall_s: float) -> Iterator[requests.Response]:
    """The storage's response with the archive or a range of it. Raises _BrokenError, MachineError."""
    host = host_of(address)
    with requests.Session() as session:
        session.auth = lambda request: request  # a signed address: send no password of ~/.netrc
        try:
            response = session.get(address, headers=headers, stream=True, timeout=(min(CONNECT_S, stall_s), stall_s))
        except (requests.exceptions.ProxyError, requests.exceptions.SSLError) as error:
            raise kaggle.explain(WHAT, error) from None
        except requests.Timeout:
            raise _BrokenError(f"{host} does not answer", again=False) from None
        except (requests.RequestException, ValueError):
            raise _BrokenError(f"no connection to {host}") from None
        with response:
            status = response.status_code
            if status not in (200, 206, 416):
                raise _BrokenError(f"{host} answers {status}", renew=status < 500 and status != 429)
            yield response


def _offer(response: requests.Response) -> tuple[int, _Archive]:
    """The offset of the response in the archive, and the archive. Raises _BrokenError."""
    headers = response.headers
    if response.status_code == 206:
        part = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("Content-Range", ""), re.ASCII)
        first, last, size = map(int, part.groups()) if part else (0, 0, 0)
    else:
        length = re.fullmatch(r"\d+", headers.get("Content-Length", ""), re.ASCII)
        size = int(length[0]) if length else 0
        first, last = 0, size - 1
    if size <= 0 or last != size - 1:
        raise _BrokenError(f"{host_of(response.url)} does not send the size of the archive")
    etag = headers.get("ETag", "")
    md5 = re.search(r"\bmd5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", ""))
    return first, _Archive(size=size, etag="" if etag.startswith("W/") else etag, md5=md5[1] if md5 else "")


def _copy(
    response: requests.Response, block: bytes, part: tuple[int, int], file: Any, stall_s: float, bar: Bar
) -> None:
    """Write `block` and the rest of the response to `file`. `part`: (offset, size). Raises _BrokenError."""
    began, count = time.monotonic(), 0
    done, size = part
    while True:
        block = block[: size - done]
        file.write(block)
        done, count = done + len(block), count + len(block)
        bar.advance(len(block))
        if done == size:
            return
        window_s = time.monotonic() - began
        if window_s >= stall_s:
            if count < SLOWEST * window_s:
                raise _BrokenError(f"{host_of(response.url)} sends almost nothing", again=False)
            began, count = time.monotonic(), 0
        block = _read(response, stall_s)
        if not block:
            raise _BrokenError(f"the connection to {host_of(response.url)} broke")


def _read(response: requests.Response, stall_s: float, least: int = 1) -> bytes:
    """The next bytes, at least `least`; fewer at the end. Raises _BrokenError."""
    try:
        # read and iter_content wait for a whole block, which a slow transfer does not fill
        block = response.raw.read1(BLOCK, decode_content=False)
        while 0 < len(block) < least and (more := response.raw.read1(BLOCK, decode_content=False)):
            block += more
    except urllib3.exceptions.ReadTimeoutError:
        raise _BrokenError(f"{host_of(response.url)} sent nothing for {stall_s:.3g} s", again=False) from None
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        raise _BrokenError(f"the connection to {host_of(response.url)} broke") from None
    return bytes(block)


def _check_md5(state: _State, archive: _Archive) -> None:
    """Remove a file with a wrong MD5. Raises MachineError."""
    with state.part.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
    if archive.md5 and found != archive.md5:
        state.remove()
        raise MachineError(
            f"cannot {WHAT}", "the MD5 of the download is wrong", "It was removed: the same command starts again"
        )
