"""The output of a notebook: its files, which Kaggle may list minutes after its end, and its log.

Kaggle keeps the log as JSON: [{"stream_name": "stderr", "time": 1.5, "data": "..."}, ...].
"""

import json
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
from kagglesdk.kernels.types.kernels_api_service import (
    ApiListKernelFilesRequest,
    ApiListKernelSessionOutputRequest,
)

from severstal_cli import files
from severstal_cli.errors import MachineError, SeverstalError
from severstal_cli.kaggle.answers import host_of, open_address
from severstal_cli.kaggle.client import Kaggle, RefusedError
from severstal_cli.kaggle.notebook import digest_of
from severstal_cli.kaggle.polling import SAME_COMMAND, pages, request
from severstal_cli.kaggle.wire import ANSWER_S, CONNECT_S
from severstal_cli.progress import Bar

FAULTS = 5
"""Failures in a row after which a download is given up."""
BLOCK = 1 << 20


class WrongFileError(MachineError):
    """A file is not the one that the notebook wrote, or is not listed."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The files and the log of a notebook's version."""

    addresses: dict[str, str]
    """The signed address of each file, by its path: {"unet/model.json": ...}. Each is a secret."""
    log: list[str]


def label(version: int) -> str:
    """The API's name of a version. It answers 404 to the bare number."""
    return f"v{version}"


def read(kaggle: Kaggle, user: str, slug: str, version: int) -> Output:
    """List the files of a version, and read its log. Raises SeverstalError."""
    message = request(
        ApiListKernelSessionOutputRequest,
        user_name=user,
        kernel_slug=slug,
        version_label=label(version),
        page_size=200,
    )
    found = pages(
        kaggle,
        f"list the output of the notebook {user}/{slug}",
        message,
        lambda sdk, message: sdk.kernels.kernels_api_client.list_kernel_session_output(message),
    )
    addresses: dict[str, str] = {}
    log = ""
    for page in found:
        addresses |= {file.file_name: file.url for file in page.files or []}
        log = log or page.log or ""
    return Output(addresses=addresses, log=log_lines(kaggle.without_secrets(log)))


def wait_until_listed(
    kaggle: Kaggle, user: str, slug: str, version: int, wanted: Collection[str], *, poll_s: float, late_s: float
) -> list[str]:
    """Wait until Kaggle lists each of `wanted` with a size, at most `late_s` seconds. Returns the missing ones.

    Kaggle lists files up to minutes after the notebook's end. A submission before that fails, and counts against the
    allowance. Raises SeverstalError.
    """
    began, reported = time.monotonic(), False
    while True:
        sizes, listed = _sizes(kaggle, user, slug, version), _names(kaggle, user, slug, version)
        is_over = time.monotonic() - began >= late_s
        missing = [name for name in wanted if name not in listed]
        if not missing and (is_over or all(sizes.get(name) for name in wanted)):
            return []
        if is_over:
            return missing
        if not reported:
            kaggle.progress.log(f"waiting until Kaggle lists {', '.join(wanted)} of the notebook")
            reported = True
        time.sleep(max(poll_s, 0.001))


def _names(kaggle: Kaggle, user: str, slug: str, version: int) -> Collection[str]:
    try:
        return read(kaggle, user, slug, version).addresses
    except RefusedError as error:
        if error.code in (403, 404):  # not yet
            return ()
        raise


def _sizes(kaggle: Kaggle, user: str, slug: str, version: int) -> dict[str, int]:
    """The sizes of the files; {} if Kaggle does not return them."""
    message = request(
        ApiListKernelFilesRequest, user_name=user, kernel_slug=slug, version_label=label(version), page_size=200
    )
    found = pages(
        kaggle,
        f"list the files of the notebook {user}/{slug}",
        message,
        lambda sdk, message: sdk.kernels.kernels_api_client.list_kernel_files(message),
    )
    try:
        return {file.name: int(file.size) for page in found for file in page.files or []}
    except SeverstalError as error:
        if isinstance(error, RefusedError) and error.code == 401:
            raise
        return {}


def fetch_file(kaggle: Kaggle, address: str, path: Path, bar: Bar, *, sha256: str = "") -> None:
    """Download a file completely or not at all, and resume after a break. A file with this hash is kept.

    Raises WrongFileError: the storage sends another file. MachineError: it refuses or breaks off. OutputError.
    """
    if sha256 and path.is_file() and digest_of(path) == sha256:
        return
    part = path.with_name(f"{path.name}.part")
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not sha256:  # an earlier process may have left a part of another file
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
                raise MachineError(f"cannot download {path.name}", found, SAME_COMMAND) from None
            time.sleep(kaggle.pause_s * 2 ** (faults - 1))
    with files.writing(path):
        if sha256 and digest_of(part) != sha256:
            part.unlink()
            raise WrongFileError(
                f"cannot download {path.name}", "its SHA-256 is wrong", "The same command downloads it again"
            )
        part.replace(path)
    bar.advance(note=path.name)


def _transfer(address: str, part: Path) -> None:
    """Download the rest of a file. Raises requests.RequestException."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with requests.Session() as session:
        session.auth = lambda request: request  # a signed address: send no password of ~/.netrc
        with session.get(address, headers=headers, stream=True, timeout=(CONNECT_S, ANSWER_S)) as answer:
            if answer.status_code == 416:  # nothing is missing
                return
            answer.raise_for_status()
            resumes = answer.status_code == 206
            length = answer.headers.get("Content-Length", "")
            size = int(length) + (have if resumes else 0) if length.isdecimal() else None
            with files.writing(part), part.open("ab" if resumes else "wb") as file:
                for block in answer.iter_content(BLOCK):
                    file.write(block)
    if size is not None and part.stat().st_size < size:
        raise requests.ConnectionError("it ended early")


def log_lines(log: str) -> list[str]:
    """The lines of a stored log, without blank lines, control characters and signatures of addresses."""
    try:
        text = "".join(str(event["data"]) for event in json.loads(log))
    except (ValueError, TypeError, KeyError):
        text = log
    return list(clean(text.splitlines()))


def clean(lines: list[str]) -> Iterator[str]:
    """Lines that may be printed."""
    for line in lines:
        shown = open_address(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line))
        shown = "".join(letter for letter in shown if letter.isprintable()).rstrip()
        if shown:
            yield shown
