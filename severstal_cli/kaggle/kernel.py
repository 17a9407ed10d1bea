"""A notebook on Kaggle: push, state, stop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests
from kagglesdk.kaggle_client import KaggleClient
from kagglesdk.kernels.types.kernels_api_service import (
    ApiCancelKernelSessionRequest,
    ApiDeleteKernelRequest,
    ApiGetKernelRequest,
    ApiGetKernelSessionStatusRequest,
    ApiSaveKernelRequest,
)
from kagglesdk.kernels.types.kernels_enums import KernelExecutionType, KernelWorkerStatus

from severstal_cli.errors import InputError, MachineError
from severstal_cli.kaggle import output
from severstal_cli.kaggle.answers import status_of
from severstal_cli.kaggle.client import Kaggle, NotThereError, RefusedError
from severstal_cli.kaggle.dataset import ABSENT, IN_USE, NameTakenError
from severstal_cli.kaggle.notebook import CONTENTS, NO_WEIGHTS, UPLOAD_AGAIN
from severstal_cli.kaggle.polling import SAME_COMMAND, RemoteError, request

MACHINE = "NvidiaTeslaT4"
"""Two GPUs. The default may be a P100, which new builds of torch do not support."""
LOG_LINES = 15
TOO_MANY, NO_QUOTA, STUCK = "session count", "quota", "not found"
"""Parts of Kaggle's messages: two notebooks run already; the week's quota is used up; the name is unusable."""


class DatasetError(RemoteError):
    """The notebook has no dataset, or another version of it."""


class WeightsError(RemoteError):
    """The notebook could not download the encoder weights."""


class CancelledError(RemoteError):
    """The notebook was cancelled."""


class NoPlaceError(MachineError):
    """The account runs as many notebooks as Kaggle allows."""


class NoQuotaError(RefusedError):
    """The account's GPU hours of this week are used up."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A notebook on Kaggle."""

    version: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Script:
    """A notebook to push."""

    text: str
    datasets: tuple[str, ...]
    """Slugs of the account's datasets."""
    competition: bool
    """Mount the competition's data."""
    internet: bool = False
    limit_s: int | None = None
    """Kaggle's time limit for the session."""


def page(user: str, slug: str) -> str:
    return f"https://www.kaggle.com/code/{user}/{slug}"


def find(kaggle: Kaggle, user: str, slug: str) -> Kernel | None:
    """The latest version of a notebook; None: there is no notebook. Raises SeverstalError."""

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
    """Raises InputError: another program made the notebook of this name."""
    if found.source and CONTENTS not in found.source:
        raise InputError(
            f"the notebook {user}/{slug} is not one of severstal",
            f"it does not name {CONTENTS}",
            "Rename it on Kaggle, or rename the run",
        )


def push(kaggle: Kaggle, user: str, slug: str, script: Script) -> int:
    """Push a private script with a GPU, and run it. Returns its version.

    Raises:
        DatasetError: Kaggle does not know a dataset.
        NameTakenError: the name is taken or unusable.
        NoPlaceError: too many notebooks run.
        NoQuotaError: no GPU time is left this week.
        SeverstalError: Kaggle refuses, or does not know the competition.
    """
    message = request(
        ApiSaveKernelRequest,
        slug=f"{user}/{slug}",
        new_title=slug,  # Kaggle derives the address from the title
        text=script.text,
        language="python",
        kernel_type="script",
        is_private=True,
        enable_gpu=True,
        machine_shape=MACHINE,
        enable_internet=script.internet,
        dataset_data_sources=[f"{user}/{dataset}" for dataset in script.datasets],
        competition_data_sources=[kaggle.competition] if script.competition else [],
        kernel_execution_type=KernelExecutionType.SAVE_AND_RUN_ALL,
    )
    if script.limit_s is not None:
        message.session_timeout_seconds = script.limit_s
    what = f"push the notebook {user}/{slug}"
    try:
        answer = kaggle.call(what, lambda sdk: sdk.kernels.kernels_api_client.save_kernel(message), repeat=False)
    except RefusedError as error:
        _check_reason(f"cannot {what}", error.message)
        raise
    if answer.invalid_dataset_sources:
        raise DatasetError(f"cannot {what}", "its dataset is missing on Kaggle", "The same command uploads it again")
    if answer.error or answer.invalid_competition_sources:
        found = answer.error or f"Kaggle does not know {', '.join(answer.invalid_competition_sources)}"
        found = kaggle.without_secrets(found).rstrip(". ")
        _check_reason(f"cannot {what}", found)
        rules = f"https://www.kaggle.com/competitions/{kaggle.competition}/rules"
        raise RefusedError(
            f"cannot {what}", found, f"Accept {rules}, verify your phone, check the GPU time left", message=found
        )
    if not answer.version_number:
        raise MachineError(f"cannot {what}", "Kaggle returned no version", "The same command looks for it")
    return int(answer.version_number)


def _check_reason(what: str, reason: str) -> None:
    """Raises the error for a known reason."""
    if TOO_MANY in reason:
        raise NoPlaceError(what, reason, SAME_COMMAND)
    if NO_QUOTA in reason.lower():
        raise NoQuotaError(what, reason, SAME_COMMAND)
    if IN_USE in reason or reason.endswith(STUCK):
        raise NameTakenError(what, reason, "Delete what has this name on Kaggle, or rename the run", message=reason)


def look_at(
    kaggle: Kaggle, user: str, slug: str, version: int, *, remedy: str = SAME_COMMAND
) -> Callable[[], tuple[str, str | None]]:
    """Make a function that returns the state of a version, and after its end the failure, "" for none.

    It raises:
        NotThereError: Kaggle does not know the version, as happens shortly after the push, or if the notebook was
            deleted; with `remedy`.
        CancelledError: the version was cancelled.
        SeverstalError: a call fails.
    """
    # without a version, Kaggle may return the state of the previous session
    labelled = {"user_name": user, "kernel_slug": slug, "version_label": output.label(version)}

    def ask(sdk: KaggleClient) -> Any:
        try:
            return sdk.kernels.kernels_api_client.get_kernel_session_status(
                request(ApiGetKernelSessionStatusRequest, **labelled)
            )
        except requests.HTTPError as error:
            code = status_of(error)
            if code == 400 and labelled.pop("version_label", ""):  # seen by one project in September 2026
                return ask(sdk)
            if code in ABSENT:
                what = f"Kaggle does not know the notebook {user}/{slug}"
                raise NotThereError(what, f"it answers {code}", remedy, code=code) from None
            raise

    def look() -> tuple[str, str | None]:
        answer = kaggle.call(f"ask for the notebook {user}/{slug}", ask)
        state = answer.status.name.lower().replace("_", " ")
        if answer.status is KernelWorkerStatus.CANCEL_ACKNOWLEDGED:
            raise CancelledError(
                f"the notebook {user}/{slug} was cancelled", page(user, slug), "The same command runs it again"
            )
        if answer.status is KernelWorkerStatus.ERROR:
            return state, answer.failure_message or state
        if answer.status is KernelWorkerStatus.COMPLETE:
            return state, ""
        return state, None

    return look


def failure(kaggle: Kaggle, user: str, slug: str, reason: str, log: list[str]) -> RemoteError:
    """The error for a failed notebook. Prints the end of its log."""
    for line in log[-LOG_LINES:]:
        kaggle.progress.log(f"  {line}")
    kinds = {UPLOAD_AGAIN: DatasetError, NO_WEIGHTS: WeightsError}
    kind = next((kind for mark, kind in kinds.items() if any(mark in line for line in log)), RemoteError)
    return kind(
        f"the notebook {user}/{slug} failed",
        kaggle.without_secrets(reason),
        f"Its log is on {page(user, slug)}. The same command runs it again",
    )


def cancel(kaggle: Kaggle, user: str, slug: str, session: int) -> None:
    """Stop the session of this number. Raises SeverstalError."""
    message = request(ApiCancelKernelSessionRequest, kernel_session_id=session)
    what = f"cancel the notebook {user}/{slug}"
    answer = kaggle.call(what, lambda sdk: sdk.kernels.kernels_api_client.cancel_kernel_session(message))
    if answer.error_message:
        found = kaggle.without_secrets(answer.error_message)
        raise RefusedError(f"cannot {what}", found, f"Stop it on {page(user, slug)}", message=found)


def delete(kaggle: Kaggle, user: str, slug: str, missing_ok: bool = False) -> None:
    """Delete a notebook with its output, which also stops its session. Raises SeverstalError."""
    message = request(ApiDeleteKernelRequest, user_name=user, kernel_slug=slug)
    what = f"delete the notebook {user}/{slug}"
    try:
        answer = kaggle.call(what, lambda sdk: sdk.kernels.kernels_api_client.delete_kernel(message))
    except RefusedError:
        if missing_ok:
            return
        raise
    if answer.error_message:
        found = kaggle.without_secrets(answer.error_message)
        raise RefusedError(f"cannot {what}", found, f"Delete it on {page(user, slug)}", message=found)
