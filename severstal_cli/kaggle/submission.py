"""Submissions of a code competition: submit once, wait for the scores, and rank a score on the leaderboard."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests
from kagglesdk.competitions.types.competition_api_service import (
    ApiCreateCodeSubmissionRequest,
    ApiGetLeaderboardRequest,
    ApiGetSubmissionRequest,
    ApiListSubmissionsRequest,
)
from kagglesdk.kaggle_client import KaggleClient

from severstal_cli.kaggle import kernel
from severstal_cli.kaggle.answers import status_of
from severstal_cli.kaggle.client import Kaggle, NotThereError, RefusedError
from severstal_cli.kaggle.polling import SAME_COMMAND, pages, request, wait_for

OUTPUT = "submission.csv"
DENIED = "kernelSessions.get"
PAGE = 200


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Kaggle's entry of a submission."""

    ref: int
    status: str
    """ "pending", "complete" or "error"."""
    date: datetime | None = None
    """UTC."""
    public: float | None = None
    private: float | None = None
    error: str = ""


def find(kaggle: Kaggle, description: str) -> Submission | None:
    """The account's submission with this description; None: there is none. Raises SeverstalError."""
    message = request(ApiListSubmissionsRequest, competition_name=kaggle.competition, page_size=PAGE)
    found = pages(
        kaggle,
        "list your submissions",
        message,
        lambda sdk, message: sdk.competitions.competition_api_client.list_submissions(message),
    )
    rows = (row for page in found for row in page.submissions)
    return next((_read(row) for row in rows if row.description == description), None)


def create(kaggle: Kaggle, user: str, slug: str, version: int, description: str) -> int:
    """Submit the output of a notebook's version. Returns the number of the submission, 0 if Kaggle returns none.

    It is not retried. Raises SeverstalError: Kaggle refuses, or its answer was lost.
    """
    message = request(
        ApiCreateCodeSubmissionRequest,
        competition_name=kaggle.competition,
        kernel_owner=user,
        kernel_slug=slug,
        kernel_version=version,
        file_name=OUTPUT,
        submission_description=description,
    )
    what = f"submit version {version} of the notebook {user}/{slug}"
    try:
        answer = kaggle.call(
            what,
            lambda sdk: sdk.competitions.competition_api_client.create_code_submission(message),
            repeat=False,
            remedy=f"Join the competition, check that the notebook wrote {OUTPUT}, and that a submission is left today",
        )
    except RefusedError as error:
        if error.code != 403 or DENIED not in error.message:
            raise
        # the message is misleading: the token has the permission as long as a submission is left
        raise RefusedError(
            f"cannot {what}",
            error.found,
            "The day's allowance of submissions is probably used up: the same command submits tomorrow "
            f"(the day begins at 00:00 UTC). Or press Submit to Competition on {kernel.page(user, slug)}",
            code=error.code,
            message=error.message,
        ) from None
    return int(answer.ref)


def wait_until_scored(kaggle: Kaggle, ref: int, *, poll_s: float, limit_s: float) -> Submission:
    """Wait until a submission is scored or has failed. Raises SeverstalError, also after `limit_s` seconds."""
    message = request(ApiGetSubmissionRequest, ref=ref)

    def ask(sdk: KaggleClient) -> Any:
        try:
            return sdk.competitions.competition_api_client.get_submission(message)
        except requests.HTTPError as error:
            code = status_of(error)
            if code == 403:  # a new submission may be unknown
                raise NotThereError(
                    f"Kaggle does not know submission {ref}", f"it answers {code}", SAME_COMMAND, code=code
                ) from None
            raise

    def look() -> tuple[str, Submission | None]:
        found = _read(kaggle.call(f"ask for submission {ref}", ask))
        return found.status, None if found.status == "pending" else found

    return wait_for("submission", look, kaggle.progress, poll_s=poll_s, limit_s=limit_s)


def rank(kaggle: Kaggle, score: float, *, public: bool) -> int | None:
    """The rank of `score` on the public or the private leaderboard: 1 plus the number of better teams.

    None if the leaderboard is unusable. Raises SeverstalError.
    """
    message = request(
        ApiGetLeaderboardRequest, competition_name=kaggle.competition, override_public=public, page_size=PAGE
    )
    found = pages(
        kaggle,
        "fetch the leaderboard",
        message,
        lambda sdk, message: sdk.competitions.competition_api_client.get_leaderboard(message),
    )
    scores: list[float] = []
    for page in found:
        scores += [value for row in page.submissions if (value := _figure(row.score)) is not None]
        if scores and scores[-1] < score:
            break  # it is sorted
    # Kaggle has returned leaderboards with one score for everyone (Kaggle/kaggle-cli issue 584), and a leaderboard that
    # ends above our score may be incomplete
    if not scores or (len(scores) > 1 and scores[0] == scores[-1]) or scores[-1] > score:
        return None
    return 1 + sum(other > score for other in scores)


def _read(answer: Any) -> Submission:
    return Submission(
        ref=int(answer.ref),
        status=answer.status.name.lower(),
        date=answer.date,
        public=_figure(answer.public_score),
        private=_figure(answer.private_score),
        error=str(answer.error_description or ""),
    )


def _figure(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
