"""A notebook on Kaggle: pushed, its state, and its end."""

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
"""Two of them. The default may be a P100, which new builds of torch leave out."""
LOG_LINES = 15
NO_PLACE, NO_QUOTA, STUCK = "session count", "quota", "not found"
"""In what Kaggle says: two notebooks run already; the week's hours are used up; a name that it can no longer use."""


class DatasetError(RemoteError):
    """The notebook lacks its dataset, or has one that does not go with it."""


class WeightsError(RemoteError):
    """The notebook could not fetch the weights of its encoder."""


class CancelledError(RemoteError):
    """Somebody cancelled the notebook."""


class NoPlaceError(MachineError):
    """As many notebooks of this account run as may."""


class NoQuotaError(RefusedError):
    """The account's hours of this week are used up."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A notebook that is on Kaggle."""

    version: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is pushed."""

    text: str
    datasets: tuple[str, ...]
    """Slugs, of the same account."""
    competition: bool
    """Whether the competition's data is mounted."""
    internet: bool = False
    limit_s: int | None = None
    """After which Kaggle ends it."""


def page(user: str, slug: str) -> str:
    return f"https://www.kaggle.com/code/{user}/{slug}"


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


def push(kaggle: Kaggle, user: str, slug: str, script: Script) -> int:
    """Save a private script with a GPU, and run it; its version.

    Raises:
        DatasetError: Kaggle does not know a dataset.
        NameTakenError: something else has the name, or Kaggle can no longer use it.
        NoPlaceError, NoQuotaError: no GPU now, or none this week.
        SeverstalError: Kaggle refuses, or does not know the competition.
    """
    message = request(
        ApiSaveKernelRequest,
        slug=f"{user}/{slug}",
        new_title=slug,  # Kaggle makes the address of a kernel from its title: they must agree
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
        raise DatasetError(f"cannot {what}", "its dataset is gone from Kaggle", "The same command uploads it again")
    if answer.error or answer.invalid_competition_sources:
        found = answer.error or f"Kaggle does not know {', '.join(answer.invalid_competition_sources)}"
        found = kaggle.without_secrets(found).rstrip(". ")
        _check_reason(f"cannot {what}", found)
        rules = f"https://www.kaggle.com/competitions/{kaggle.competition}/rules"
        raise RefusedError(f"cannot {what}", found,
                           f"Accept {rules}, verify your phone, see that GPU time is left", message=found)  # fmt: skip
    if not answer.version_number:
        raise MachineError(f"cannot {what}", "Kaggle told no version", "The same command looks for it")
    return int(answer.version_number)


def _check_reason(what: str, reason: str) -> None:
    """Raises what a refusal for this reason is, where it is known."""
    if NO_PLACE in reason:
        raise NoPlaceError(what, reason, SAME_COMMAND)
    if NO_QUOTA in reason.lower():
        raise NoQuotaError(what, reason, SAME_COMMAND)
    if IN_USE in reason or reason.endswith(STUCK):
        raise NameTakenError(what, reason, "Delete what has this name on Kaggle, or rename the run", message=reason)


def look_at(kaggle: Kaggle, user: str, slug: str, version: int) -> Callable[[], tuple[str, str | None]]:
    """A function that asks for the state of a version, and at its end for the failure, "" for none.

    It raises:
        NotThereError: Kaggle does not know it, which it may not for a while after the push.
        CancelledError: it was cancelled.
        SeverstalError: a call fails.
    """
    # without a version the answer may be that of the session before
    labelled = {"user_name": user, "kernel_slug": slug, "version_label": output.label(version)}

    def ask(sdk: KaggleClient) -> Any:
        try:
            return sdk.kernels.kernels_api_client.get_kernel_session_status(
                request(ApiGetKernelSessionStatusRequest, **labelled)
            )
        except requests.HTTPError as error:
            code = status_of(error)
            if code == 400 and labelled.pop("version_label", ""):  # as one project was answered in September 2026
                return ask(sdk)
            if code == 403:
                raise _not_there(user, slug, code) from None
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


def _not_there(user: str, slug: str, code: int) -> NotThereError:
    return NotThereError(f"Kaggle does not know the notebook {user}/{slug}", f"it answers {code}", SAME_COMMAND,
                         code=code)  # fmt: skip


def failure(kaggle: Kaggle, user: str, slug: str, reason: str, log: list[str]) -> RemoteError:
    """What a notebook's bad end is; the end of its log is shown."""
    for line in log[-LOG_LINES:]:
        kaggle.progress.log(f"  {line}")
    kinds = {UPLOAD_AGAIN: DatasetError, NO_WEIGHTS: WeightsError}
    kind = next((kind for mark, kind in kinds.items() if any(mark in line for line in log)), RemoteError)
    return kind(f"the notebook {user}/{slug} failed", kaggle.without_secrets(reason),
                f"Its log is on {page(user, slug)}. The same command runs it again")  # fmt: skip


def cancel(kaggle: Kaggle, user: str, slug: str, session: int) -> None:
    """Ask Kaggle to end the session of this number. Raises SeverstalError."""
    message = request(ApiCancelKernelSessionRequest, kernel_session_id=session)
    what = f"cancel the notebook {user}/{slug}"
    answer = kaggle.call(what, lambda sdk: sdk.kernels.kernels_api_client.cancel_kernel_session(message))
    if answer.error_message:
        found = kaggle.without_secrets(answer.error_message)
        raise RefusedError(f"cannot {what}", found, f"Stop it on {page(user, slug)}", message=found)


def delete(kaggle: Kaggle, user: str, slug: str) -> None:
    """Delete a notebook with all that it left, which ends its session. Raises SeverstalError."""
    message = request(ApiDeleteKernelRequest, user_name=user, kernel_slug=slug)
    what = f"delete the notebook {user}/{slug}"
    answer = kaggle.call(what, lambda sdk: sdk.kernels.kernels_api_client.delete_kernel(message))
    if answer.error_message:
        found = kaggle.without_secrets(answer.error_message)
        raise RefusedError(f"cannot {what}", found, f"Delete it on {page(user, slug)}", message=found)
