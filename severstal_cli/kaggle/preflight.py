"""What Kaggle tells before anything is sent: may this account take part, and how much is left to it.

Each is told in a line. What is certain to be refused ends here; what Kaggle does not tell is not waited for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kagglesdk.competitions.types.competition_api_service import (
    ApiGetCompetitionRequest,
    ApiGetSubmissionLimitsRequest,
)
from kagglesdk.kaggle_client import KaggleClient
from kagglesdk.kernels.types.kernels_api_service import ApiGetAcceleratorQuotaStatisticsRequest

from severstal_cli.errors import InputError, SeverstalError
from severstal_cli.kaggle.client import Kaggle, RefusedError
from severstal_cli.kaggle.polling import SAME_COMMAND, request


@dataclass(frozen=True, kw_only=True)
class Quota:
    """The GPU time of an account in this week."""

    used_s: float
    reserved_s: float
    """By notebooks that run."""
    allowed_s: float
    renewed: datetime | None
    """When the week begins anew, UTC."""
    may_buy: bool

    @property
    def when(self) -> str:
        return f"the week begins anew at {self.renewed:%Y-%m-%d %H:%M} UTC" if self.renewed else ""


def check(kaggle: Kaggle, *, submits: bool, needs_gpu: bool) -> None:
    """Tell what the account may do. Raises InputError: it cannot go well, or the credentials are wrong."""
    _check_competition(kaggle, submits=submits)
    if submits:
        _tell_submissions(kaggle)
    if needs_gpu:
        _check_gpu(kaggle)


def _check_competition(kaggle: Kaggle, *, submits: bool) -> None:
    message = request(ApiGetCompetitionRequest, competition_name=kaggle.competition)
    found = _ask(
        kaggle, "ask for the competition", lambda sdk: sdk.competitions.competition_api_client.get_competition(message)
    )
    if found is None:
        return
    page = f"https://www.kaggle.com/competitions/{kaggle.competition}"
    if submits and found.submissions_disabled:
        raise InputError(f"{kaggle.competition} takes no submissions", "Kaggle has disabled them", f"See {page}")
    daily = f", {found.max_daily_submissions} submissions a day" if found.max_daily_submissions else ""
    entered = "entered" if found.user_has_entered else f"not entered, as Kaggle tells: accept the rules on {page}/rules"
    kaggle.progress.log(f"competition {kaggle.competition}: {entered}{daily}")


def _tell_submissions(kaggle: Kaggle) -> None:
    """How many are left today; whether one more may be made Kaggle decides."""
    message = request(ApiGetSubmissionLimitsRequest, competition_name=kaggle.competition)
    limits = _ask(
        kaggle,
        "ask how many submissions are left",
        lambda sdk: sdk.competitions.competition_api_client.get_submission_limits(message),
    )
    if limits is None:
        return
    if limits.num_allowed_now > 0:
        kaggle.progress.log(f"submissions left today: {limits.num_allowed_now}")
    # all zero is also what an account without a team is told, and its first submission makes the team
    elif limits.limited_by_total:
        kaggle.progress.log(f"no submission is left: {limits.num_total} were made, the competition may allow no more")
    elif limits.num_today:
        kaggle.progress.log(f"no submission is left today: {limits.num_today} were made; the day begins at 00:00 UTC")


def _check_gpu(kaggle: Kaggle) -> None:
    quota = gpu_quota(kaggle)
    if quota is None:
        return
    allowed_h, when = quota.allowed_s / 3600, f"; {quota.when}" if quota.when else ""
    if quota.used_s >= quota.allowed_s and not quota.may_buy:
        raise InputError(f"no GPU time is left on Kaggle: {quota.used_s / 3600:.1f} of {allowed_h:.1f} hours are used",
                         f"nothing was sent{when}", SAME_COMMAND)  # fmt: skip
    left_h = (quota.allowed_s - quota.used_s - quota.reserved_s) / 3600
    kaggle.progress.log(f"GPU time left this week: {left_h:.1f} of {allowed_h:.1f} h{when}")


def gpu_quota(kaggle: Kaggle) -> Quota | None:
    """None where Kaggle does not tell. Raises InputError: wrong credentials."""
    found = _ask(
        kaggle,
        "ask for the GPU time that is left",
        lambda sdk: sdk.kernels.kernels_api_client.get_accelerator_quota_statistics(
            ApiGetAcceleratorQuotaStatisticsRequest()
        ),
    )
    quota = found and found.gpu_quota
    if not quota or not quota.total_time_allowed:
        return None
    return Quota(
        used_s=(quota.time_used or timedelta()).total_seconds(),
        reserved_s=(quota.time_reserved or timedelta()).total_seconds(),
        allowed_s=quota.total_time_allowed.total_seconds(),
        renewed=found.quota_refresh_time,
        may_buy=bool(quota.is_pay_to_scale_enabled),
    )


def _ask(kaggle: Kaggle, what: str, ask: Callable[[KaggleClient], Any]) -> Any:
    """The answer; None where Kaggle does not tell, which is said. Raises InputError: wrong credentials."""
    try:
        return kaggle.call(what, ask)
    except RefusedError as error:
        if error.code == 401:
            raise
        kaggle.progress.log(f"{error}")
    except SeverstalError as error:
        kaggle.progress.log(f"{error}")
    return None
