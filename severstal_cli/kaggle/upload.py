"""Resumable uploads of files to Kaggle's storage.

`kagglehub.dataset_upload` is not used: it forgets its state at the end of a process, and sends a file in one request,
whose time-out would have to cover the whole file. Here a file goes in chunks, and the storage acknowledges each (Google
Cloud Storage's resumable uploads: `Content-Range: bytes 0-99/1000`, answered by 308 and the stored `Range`).

The state is a file that only its owner may read, because it contains the upload's signed address and its token.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import requests
from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest

from severstal_cli import files, typed
from severstal_cli.errors import MachineError
from severstal_cli.kaggle.answers import host_of
from severstal_cli.kaggle.client import Kaggle
from severstal_cli.kaggle.polling import SAME_COMMAND, request
from severstal_cli.kaggle.wire import ANSWER_S, CONNECT_S
from severstal_cli.progress import BYTES

CHUNK_BYTES = 4 * 2**20
"""The storage requires a multiple of 256 KiB."""
FAULTS = 5
"""Failures in a row without a new chunk after which an upload is given up."""
MEMORY_S = 24 * 3600.0
"""An older upload starts again: addresses expire after a week, tokens after an unknown time."""


@dataclass(frozen=True, kw_only=True)
class _Upload:
    """The upload of a file."""

    sha256: str
    token: str
    address: str
    began_s: float
    done: bool = False


class Memory:
    """The uploads by path in the folder, in a file of mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._uploads: dict[str, _Upload] = {}
        with suppress(OSError, ValueError):  # a missing or damaged file: everything is uploaded again
            self._uploads = {name: typed.make(_Upload, fields) for name, fields in typed.read_table(path).items()}

    def find(self, name: str, sha256: str) -> _Upload | None:
        found = self._uploads.get(name)
        usable = found and found.sha256 == sha256 and 0 <= time.time() - found.began_s < MEMORY_S
        return found if usable else None

    def keep(self, name: str, upload: _Upload) -> None:
        """Raises OutputError."""
        self._uploads[name] = upload
        content = json.dumps({name: asdict(upload) for name, upload in self._uploads.items()})
        with files.replacing(self._path, mode=0o600) as temporary:
            temporary.write_text(content, encoding="utf-8")

    def forget(self) -> None:
        self._uploads = {}
        self._path.unlink(missing_ok=True)


def upload_folder(kaggle: Kaggle, folder: Path, memory: Memory, *, leave_out: Sequence[str] = ()) -> dict[str, str]:
    """Upload every file under `folder`, except names in `leave_out`. Returns the tokens by path, for a dataset.

    Files that `memory` has are not sent again.

    Raises SeverstalError: a call or the storage fails repeatedly; the next call resumes.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in leave_out)
    tokens, before = {}, 0
    total = sum(path.stat().st_size for path in paths)
    with requests.Session() as storage, kaggle.progress.bar("uploading", total, BYTES) as bar:
        storage.auth = lambda request: request  # a signed address: send no password of ~/.netrc
        shown = 0
        for path in paths:
            name = path.relative_to(folder).as_posix()

            def reach(held: int, name: str = name, before: int = before) -> None:
                nonlocal shown  # a new address starts the file again: the bar waits for it
                if before + held > shown:
                    bar.advance(before + held - shown, name)
                    shown = before + held

            tokens[name] = _upload_file(kaggle, storage, path, name, memory, reach)
            before += path.stat().st_size
    return tokens


def _upload_file(
    kaggle: Kaggle, storage: requests.Session, path: Path, name: str, memory: Memory, reach: Callable[[int], None]
) -> str:
    """Upload a file completely; its token."""
    with path.open("rb") as stream:
        sha256, size = hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size
        upload = memory.find(name, sha256)
        if upload is not None and upload.done:
            reach(size)
            return upload.token
        held = None if upload else 0
        """Bytes that the storage has; None: ask it."""
        best, faults = 0, 0
        while True:
            if upload is None:
                upload, held, best = _begin(kaggle, path, sha256, size), 0, 0
                memory.keep(name, upload)
            host, asked = host_of(upload.address), held is None
            try:
                answer = _put(storage, upload.address, stream, held, size)
                code, fault = answer.status_code, f"{host} answers {answer.status_code}"
            except requests.RequestException:  # its text contains the address
                code, fault = 0, f"{host} does not answer"
            if code in (200, 201):
                memory.keep(name, replace(upload, done=True))
                reach(size)
                return upload.token
            held = _held(answer) if code == 308 else None
            if held is not None and held < size and (asked or held > best):
                faults = faults if held <= best else 0
                best = max(best, held)
                reach(held)
                continue
            if 400 <= code < 500 and code != 429:
                upload = None  # this address is used up: ask for another one
            faults += 1
            if faults == FAULTS:
                raise MachineError(f"cannot upload {name}", fault, SAME_COMMAND)
            kaggle.progress.log(f"{name}: {fault}; trying again")
            time.sleep(kaggle.pause_s * 2 ** (faults - 1))


def _begin(kaggle: Kaggle, path: Path, sha256: str, size: int) -> _Upload:
    message = request(
        ApiStartBlobUploadRequest,
        type=ApiBlobType.DATASET,
        name=path.name,
        content_length=size,
        last_modified_epoch_seconds=int(path.stat().st_mtime),
    )
    answer = kaggle.call(f"upload {path.name}", lambda sdk: sdk.blobs.blob_api_client.start_blob_upload(message))
    if not answer.create_url or not answer.token:
        raise MachineError(f"cannot upload {path.name}", "Kaggle returned no address for it", "Try again later")
    return _Upload(sha256=sha256, token=answer.token, address=answer.create_url, began_s=time.time())


def _put(storage: requests.Session, address: str, stream: BinaryIO, held: int | None, size: int) -> requests.Response:
    """Send the chunk after the `held` bytes; None: ask how many bytes the storage has."""
    chunk = b""
    headers = {"Content-Type": "application/octet-stream"}
    if held is None:
        headers["Content-Range"] = f"bytes */{size}"
    elif size:
        stream.seek(held)
        chunk = stream.read(CHUNK_BYTES)
        headers["Content-Range"] = f"bytes {held}-{held + len(chunk) - 1}/{size}"
    # requests sends a stream in blocks, each with its own time-out, but bytes all at once
    body = io.BytesIO(chunk) if chunk else b""
    return storage.put(address, data=body, headers=headers, timeout=(CONNECT_S, ANSWER_S), allow_redirects=False)


def _held(answer: requests.Response) -> int:
    """The bytes that the storage has: 100 for "bytes=0-99", 0 without the header."""
    last = answer.headers.get("Range", "").rpartition("-")[2]
    return int(last) + 1 if last.isascii() and last.isdecimal() else 0
