"""The private dataset that carries a bundle to Kaggle."""

from dataclasses import replace
from typing import Any

import requests
from kagglesdk.datasets.types.dataset_api_service import (
    ApiCreateDatasetRequest,
    ApiCreateDatasetVersionRequest,
    ApiCreateDatasetVersionRequestBody,
    ApiDatasetNewFile,
    ApiGetDatasetRequest,
    ApiGetDatasetStatusRequest,
    ApiListDatasetFilesRequest,
    ApiUploadDirectoryInfo,
)
from kagglesdk.datasets.types.dataset_enums import DatabundleVersionStatus as Status
from kagglesdk.kaggle_client import KaggleClient

from severstal_cli.errors import InputError
from severstal_cli.kaggle.answers import status_of
from severstal_cli.kaggle.client import Kaggle, NotThereError, RefusedError
from severstal_cli.kaggle.notebook import CONTENTS
from severstal_cli.kaggle.polling import SAME_COMMAND, RemoteError, request, wait_for


class NameTakenError(RefusedError):
    """The name is taken: datasets, notebooks and models of an account share one name space."""


IN_USE = "already in use"
"""A part of Kaggle's message for a name that is taken."""

ABSENT = (403, 404)
"""Kaggle's codes for a missing object: 403 hides whether another account has it."""


def version_of(kaggle: Kaggle, user: str, slug: str) -> int | None:
    """The current version of a dataset, 0 if Kaggle does not return it; None: no dataset. Raises SeverstalError."""

    def ask(sdk: KaggleClient) -> int | None:
        message = request(ApiGetDatasetRequest, owner_slug=user, dataset_slug=slug)
        try:
            return int(sdk.datasets.dataset_api_client.get_dataset(message).current_version_number)
        except requests.HTTPError as error:
            if status_of(error) in ABSENT:
                return None
            raise

    return kaggle.call(f"look for the dataset {user}/{slug}", ask)


def check_ours(kaggle: Kaggle, user: str, slug: str) -> None:
    """Raises InputError: the dataset of this name is not a bundle."""
    message = request(ApiListDatasetFilesRequest, owner_slug=user, dataset_slug=slug, page_size=200)
    answer = kaggle.call(
        f"list the dataset {user}/{slug}", lambda sdk: sdk.datasets.dataset_api_client.list_dataset_files(message)
    )
    names = {file.name for file in answer.dataset_files or []}
    if names and not any(name.endswith(CONTENTS) for name in names):
        raise InputError(
            f"the dataset {user}/{slug} is not one of severstal",
            f"it has no {CONTENTS}",
            "Rename it on Kaggle, or rename the run",
        )


def publish(kaggle: Kaggle, user: str, slug: str, tokens: dict[str, str], *, exists: bool, notes: str) -> None:
    """Create the private dataset, or a new version of it, from uploaded files. `tokens`: by path.

    Raises SeverstalError: Kaggle refuses. It may be repeated: a second version of the same files does no harm.
    """
    kaggle = replace(kaggle, secrets=(*kaggle.secrets, *tokens.values()))  # an answer may name them
    content = _folder("", tokens)
    parts = {"files": content.files, "directories": content.directories}
    if exists:
        body = request(ApiCreateDatasetVersionRequestBody, version_notes=notes, **parts)
        version = request(ApiCreateDatasetVersionRequest, owner_slug=user, dataset_slug=slug, body=body)
        answer = kaggle.call(
            f"make a new version of the dataset {user}/{slug}",
            lambda sdk: sdk.datasets.dataset_api_client.create_dataset_version(version),
            repeat=False,
        )
    else:
        new = request(ApiCreateDatasetRequest, owner_slug=user, slug=slug, title=slug, is_private=True, **parts)
        try:
            answer = kaggle.call(
                f"make the dataset {user}/{slug}",
                lambda sdk: sdk.datasets.dataset_api_client.create_dataset(new),
                repeat=False,
            )
        except RefusedError as error:
            if IN_USE in error.message:
                raise NameTakenError(error.what, error.found, error.remedy, code=error.code) from None
            raise
    if answer.error or (answer.status or "").lower() == "error":
        kind = NameTakenError if IN_USE in (answer.error or "") and not exists else RefusedError
        raise kind(
            f"cannot make the dataset {user}/{slug}",
            kaggle.without_secrets(answer.error or "no reason"),
            "Fix that on Kaggle, or rename the run. The same command resumes",
        )


def wait_until_ready(kaggle: Kaggle, user: str, slug: str, *, after: int, poll_s: float, limit_s: float) -> None:
    """Wait until Kaggle has unpacked a version later than `after`; 0: the first version.

    Raises:
        RemoteError: Kaggle could not unpack it.
        SeverstalError: a call fails, or it takes longer than `limit_s` seconds.
    """
    message = request(ApiGetDatasetStatusRequest, owner_slug=user, dataset_slug=slug)

    def ask(sdk: KaggleClient) -> Any:
        try:
            return sdk.datasets.dataset_api_client.get_dataset_status(message)
        except requests.HTTPError as error:
            if status_of(error) in ABSENT:  # or it is too new
                raise NotThereError(
                    f"Kaggle does not know the dataset {user}/{slug}", f"it answers {status_of(error)}", SAME_COMMAND
                ) from None
            raise

    def look() -> tuple[str, bool | None]:
        answer = kaggle.call(f"ask for the dataset {user}/{slug}", ask)
        state = answer.status.name.lower().replace("_", " ")
        if answer.status in (Status.FAILED, Status.DELETED):
            raise RemoteError(
                f"Kaggle could not process the dataset {user}/{slug}", state, "The same command tries again"
            )
        if answer.status is not Status.READY:
            return state, None
        # a new version appears late: until then the status is that of the previous version
        version = version_of(kaggle, user, slug)
        is_new = version == 0 or (version is not None and version > after)
        return ("ready", True) if is_new else ("the previous version is ready", None)

    wait_for("dataset", look, kaggle.progress, poll_s=poll_s, limit_s=limit_s)


def _folder(name: str, tokens: dict[str, str]) -> ApiUploadDirectoryInfo:
    """The folder tree of {"a": token, "d/b": token}."""
    below: dict[str, dict[str, str]] = {}
    own = []
    for path, token in tokens.items():
        first, _, rest = path.partition("/")
        if rest:
            below.setdefault(first, {})[rest] = token
        else:
            own.append(request(ApiDatasetNewFile, token=token))
    folders = [_folder(inside, paths) for inside, paths in below.items()]
    return request(ApiUploadDirectoryInfo, name=name, files=own, directories=folders)
