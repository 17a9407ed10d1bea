"""What a notebook left: listed minutes after its end at times, and fetched file by file."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from kagglesdk.kernels.types.kernels_api_service import (
    ApiListKernelFilesRequest,
    ApiListKernelSessionOutputRequest,
)

from severstal_cli import files
from severstal_cli.errors import MachineError, SeverstalError
from severstal_cli.kaggle.answers import host_of
from severstal_cli.kaggle.client import Kaggle, RefusedError
from severstal_cli.kaggle.log import log_lines
from severstal_cli.kaggle.notebook import digest_of
from severstal_cli.kaggle.polling import SAME_COMMAND, pages, request
from severstal_cli.kaggle.wire import ANSWER_S, CONNECT_S
from severstal_cli.progress import Bar

FAULTS = 5
"""Failures in a row after which a file is given up."""
BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a version of a notebook left."""

    addresses: dict[str, str]
    """By the file's name, as "unet/model.json"; an address is a key to its file."""
    log: list[str]


def label(version: int) -> str:
    """The bare number would be taken for a label of that name, and answered by 404."""
    return f"v{version}"


def read(kaggle: Kaggle, user: str, slug: str, version: int) -> Output:
    """The files and the log of a version. Raises SeverstalError."""

    def fetch(token: str) -> Any:
        message = request(
            ApiListKernelSessionOutputRequest,
            user_name=user, kernel_slug=slug, version_label=label(version), page_size=200,
        )  # fmt: skip
        if token:
            message.page_token = token
        return kaggle.call(
            f"list what the notebook {user}/{slug} left",
            lambda sdk: sdk.kernels.kernels_api_client.list_kernel_session_output(message),
        )

    addresses: dict[str, str] = {}
    log = ""
    for page in pages(fetch):
        addresses |= {file.file_name: file.url for file in page.files or []}
        log = log or page.log or ""
    return Output(addresses=addresses, log=log_lines(kaggle.without_secrets(log)))


def wait_until_listed(
    kaggle: Kaggle, user: str, slug: str, version: int, wanted: Collection[str], *, poll_s: float, late_s: float
) -> list[str]:
    """Wait until each of `wanted` is listed with a size, at most `late_s` seconds; those that are not there then.

    Kaggle lists them up to minutes after the notebook's end. A submission that is made before that is refused or fails,
    and counts. Raises SeverstalError.
    """
    began, told = time.monotonic(), False
    while True:
        sizes, listed = _sizes(kaggle, user, slug, version), _names(kaggle, user, slug, version)
        is_over = time.monotonic() - began >= late_s
        missing = [name for name in wanted if name not in listed]
        if not missing and (is_over or all(sizes.get(name) for name in wanted)):
            return []
        if is_over:
            return missing
        if not told:
            kaggle.progress.log(f"waiting until Kaggle lists {', '.join(wanted)} of the notebook")
            told = True
        time.sleep(max(poll_s, 0.001))


def _names(kaggle: Kaggle, user: str, slug: str, version: int) -> Collection[str]:
    try:
        return read(kaggle, user, slug, version).addresses
    except RefusedError as error:
        if error.code in (403, 404):  # not yet
            return ()
        raise


def _sizes(kaggle: Kaggle, user: str, slug: str, version: int) -> dict[str, int]:
    """The sizes of the files; none where Kaggle does not tell them."""

    def fetch(token: str) -> Any:
        message = request(
            ApiListKernelFilesRequest, user_name=user, kernel_slug=slug, version_label=label(version), page_size=200
        )
        if token:
            message.page_token = token
        return kaggle.call(
            f"list the files of the notebook {user}/{slug}",
            lambda sdk: sdk.kernels.kernels_api_client.list_kernel_files(message),
        )

    try:
        return {file.name: int(file.size) for page in pages(fetch) for file in page.files or []}
    except SeverstalError as error:
        if isinstance(error, RefusedError) and error.code == 401:
            raise
        return {}


def fetch_file(kaggle: Kaggle, address: str, path: Path, bar: Bar, *, sha256: str = "") -> None:
    """Download a file, whole or not at all, resumed where it broke off; what is there with this hash is kept.

    Raises MachineError: the storage refuses, breaks off too often, or sends something else. OutputError.
    """
    if sha256 and path.is_file() and digest_of(path) == sha256:
        return
    part = path.with_name(f"{path.name}.part")
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not sha256:  # nothing would tell that what an earlier process left is of another file
            part.unlink(missing_ok=True)
    faults = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _transfer(address, part)
            break
        except requests.RequestException as error:  # its text holds the address
            code = error.response.status_code if error.response is not None else 0
            faults = 1 if part.exists() and part.stat().st_size > before else faults + 1
            if faults == FAULTS or 400 <= code < 500:
                found = f"{host_of(address)} answers {code}" if code else f"the connection to {host_of(address)} broke"
                raise MachineError(f"cannot fetch {path.name}", found, SAME_COMMAND) from None
            time.sleep(kaggle.pause_s * 2 ** (faults - 1))
    with files.writing(path):
        if sha256 and digest_of(part) != sha256:
            part.unlink()
            raise MachineError(f"cannot fetch {path.name}", "its SHA-256 is wrong", "The same command fetches it again")
        part.replace(path)
    bar.advance(note=path.name)


def _transfer(address: str, part: Path) -> None:
    """Fetch what is missing of a file. Raises requests.RequestException."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with requests.Session() as session:
        session.auth = lambda request: request  # the address is the key: nothing of ~/.netrc with it
        with session.get(address, headers=headers, stream=True, timeout=(CONNECT_S, ANSWER_S)) as answer:
            if answer.status_code == 416:  # all of it is here
                return
            answer.raise_for_status()
            goes_on = answer.status_code == 206
            length = answer.headers.get("Content-Length", "")
            size = int(length) + (have if goes_on else 0) if length.isdecimal() else None
            with files.writing(part), part.open("ab" if goes_on else "wb") as file:
                for block in answer.iter_content(BLOCK):
                    file.write(block)
    if size is not None and part.stat().st_size < size:
        raise requests.ConnectionError("it ended early")
