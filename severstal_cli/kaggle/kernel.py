"""The notebook that predicts on Kaggle: pushed, watched, and its log where it fails."""

import json
import re
from dataclasses import dataclass
from typing import Any

import requests
from kagglesdk.kaggle_client import KaggleClient
from kagglesdk.kernels.types.kernels_api_service import (
    ApiGetKernelRequest,
    ApiGetKernelSessionStatusRequest,
    ApiListKernelSessionOutputRequest,
    ApiSaveKernelRequest,
)
from kagglesdk.kernels.types.kernels_enums import KernelExecutionType, KernelWorkerStatus

from severstal_cli.errors import InputError, MachineError
from severstal_cli.kaggle.client import Kaggle, status_of
from severstal_cli.kaggle.dataset import ABSENT
from severstal_cli.kaggle.notebook import CONTENTS, UPLOAD_AGAIN
from severstal_cli.kaggle.polling import RemoteError, pages, request, wait_for

MACHINE = "NvidiaTeslaT4"
"""The default may be a P100, which new builds of torch leave out."""
OUTPUT = "submission.csv"
LOG_LINES = 15


class DatasetError(RemoteError):
    """The notebook lacks its dataset, or has one that does not go with it."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A notebook that is on Kaggle."""

    version: int
    source: str


def find(kaggle: Kaggle, user: str, slug: str) -> Kernel | None:
    """The notebook of this name in its latest version; None: there is none. Raises SeverstalError."""

    def ask(sdk: KaggleClient) -> Kernel | None:
        message = request(ApiGetKernelRequest, user_name=user, kernel_slug=slug)
        try:
            answer = sdk.kernels.kernels_api_client.get_kernel(message)
        except requests.HTTPError as error:
            if status_of(error) in ABSENT:
                return None
            raise
        return Kernel(version=int(answer.metadata.current_version_number), source=str(answer.blob.source))

    return kaggle.call(f"look for the notebook {user}/{slug}", ask)


def check_ours(found: Kernel, user: str, slug: str) -> None:
    """Raises InputError: the notebook of this name is something else."""
    if found.source and CONTENTS not in found.source:
        raise InputError(f"the notebook {user}/{slug} is not one of severstal", f"it does not name {CONTENTS}",
                         "Rename it on Kaggle, or rename the run")  # fmt: skip


def push(kaggle: Kaggle, user: str, slug: str, script: str) -> int:
    """Save a private script that has a GPU, no internet and the dataset of the same name, and run it; its version.

    Raises:
        DatasetError: Kaggle does not know the dataset.
        SeverstalError: Kaggle refuses, or does not know the competition.
    """
    message = request(
        ApiSaveKernelRequest,
        slug=f"{user}/{slug}",
        new_title=slug,
        text=script,
        language="python",
        kernel_type="script",
        is_private=True,
        enable_gpu=True,
        machine_shape=MACHINE,
        enable_internet=False,
        dataset_data_sources=[f"{user}/{slug}"],
        competition_data_sources=[kaggle.competition],
        kernel_execution_type=KernelExecutionType.SAVE_AND_RUN_ALL,
    )
    what = f"push the notebook {user}/{slug}"
    answer = kaggle.call(what, lambda sdk: sdk.kernels.kernels_api_client.save_kernel(message), repeat=False)
    if answer.invalid_dataset_sources:
        raise DatasetError(f"cannot {what}", "its dataset is gone from Kaggle", "The same command uploads it again")
    if answer.error or answer.invalid_competition_sources:
        found = answer.error or f"Kaggle does not know {', '.join(answer.invalid_competition_sources)}"
        rules = f"https://www.kaggle.com/competitions/{kaggle.competition}/rules"
        raise InputError(f"cannot {what}", kaggle.without_secrets(found),
                         f"Accept {rules}, verify your phone, see that GPU time is left")  # fmt: skip
    if not answer.version_number:
        raise MachineError(f"cannot {what}", "Kaggle told no version", "The same command looks for it")
    return int(answer.version_number)


def wait_until_run(kaggle: Kaggle, user: str, slug: str, version: int, *, poll_s: float, limit_s: float) -> None:
    """Wait until `version` of the notebook has run and left its submission.

    Raises:
        DatasetError: it failed, for its dataset.
        RemoteError: it failed, was cancelled, or left no submission.
        SeverstalError: a call fails, or it takes longer than `limit_s` seconds.

    Where it failed the end of its log is shown before.
    """
    # without a version the answer may be that of the session before
    message = request(ApiGetKernelSessionStatusRequest, user_name=user, kernel_slug=slug, version_label=_label(version))
    page = f"https://www.kaggle.com/code/{user}/{slug}"

    def look() -> tuple[str, str | None]:
        """The state, and at the end the failure, "" for none."""
        answer = kaggle.call(
            f"ask for the notebook {user}/{slug}",
            lambda sdk: sdk.kernels.kernels_api_client.get_kernel_session_status(message),
        )
        state = answer.status.name.lower().replace("_", " ")
        if answer.status is KernelWorkerStatus.CANCEL_ACKNOWLEDGED:
            raise RemoteError(f"the notebook {user}/{slug} was cancelled", page, "The same command runs it again")
        if answer.status is KernelWorkerStatus.ERROR:
            return state, answer.failure_message or state
        if answer.status is KernelWorkerStatus.COMPLETE:
            return state, ""
        return state, None

    failure = wait_for("notebook", look, kaggle.progress, poll_s=poll_s, limit_s=limit_s)
    names, log = _output(kaggle, user, slug, version)
    if not failure and OUTPUT not in names:
        failure = f"it left no {OUTPUT}"
    if failure:
        for line in log[-LOG_LINES:]:
            kaggle.progress.say(f"  {line}")
        kind = DatasetError if any(UPLOAD_AGAIN in line for line in log) else RemoteError
        raise kind(f"the notebook {user}/{slug} failed", kaggle.without_secrets(failure),
                   f"Its log is on {page}. The same command runs it again")  # fmt: skip


def _label(version: int) -> str:
    """The bare number would be taken for a label of that name, and answered by 404."""
    return f"v{version}"


def _output(kaggle: Kaggle, user: str, slug: str, version: int) -> tuple[set[str], list[str]]:
    """The names of the files that a version left, and the lines of its log, without secrets."""

    def fetch(token: str) -> Any:
        message = request(
            ApiListKernelSessionOutputRequest,
            user_name=user, kernel_slug=slug, version_label=_label(version), page_size=200,
        )  # fmt: skip
        if token:
            message.page_token = token
        return kaggle.call(
            f"list what the notebook {user}/{slug} left",
            lambda sdk: sdk.kernels.kernels_api_client.list_kernel_session_output(message),
        )

    names, log = set(), ""
    for page in pages(fetch):
        names |= {file.file_name for file in page.files}
        log = log or page.log or ""
    return names, log_lines(kaggle.without_secrets(log))


def log_lines(log: str) -> list[str]:
    """The lines of a log as Kaggle keeps it: JSON, [{"stream_name": "stderr", "data": "..."}, ...]. No blank lines,
    no control characters, and of an address nothing after its question mark: that is where signatures stand."""
    try:
        text = "".join(str(part["data"]) for part in json.loads(log))
    except (ValueError, TypeError, KeyError):
        text = log
    text = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1?...", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text))
    lines = ("".join(letter for letter in line if letter.isprintable()).rstrip() for line in text.splitlines())
    return [line for line in lines if line]
