"""Checks before an upload: is the account entered, and how many submissions and GPU hours are left.

Each check prints a line. The command ends if Kaggle is certain to refuse. A check without an answer is skipped.
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
    """The account's GPU time of this week."""

    used_s: float
    reserved_s: float
    """By running notebooks."""
    allowed_s: float
    renewed: datetime | None
    """Start of the next week, UTC."""
    may_buy: bool

    @property
    def when(self) -> str:
        return f"the next week begins at {self.renewed:%Y-%m-%d %H:%M} UTC" if self.renewed else ""


def check(kaggle: Kaggle, *, submits: bool, needs_gpu: bool) -> None:
    """Print what the account may do. Raises InputError: Kaggle would refuse, or the credentials are wrong."""
    _check_competition(kaggle, submits=submits)
    if submits:
        _report_submissions(kaggle)
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
    entered = "entered" if found.user_has_entered else f"not entered: accept the rules on {page}/rules"
    kaggle.progress.log(f"competition {kaggle.competition}: {entered}{daily}")


def _report_submissions(kaggle: Kaggle) -> None:
    """Print how many are left. Kaggle decides whether it accepts one more."""
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
    # an account without a team gets all zeros, too; its first submission creates the team
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
        raise InputError(
            f"no GPU time is left on Kaggle: {quota.used_s / 3600:.1f} of {allowed_h:.1f} hours are used",
            f"nothing was sent{when}",
            SAME_COMMAND,
        )
    left_h = (quota.allowed_s - quota.used_s - quota.reserved_s) / 3600
    kaggle.progress.log(f"GPU time left this week: {left_h:.1f} of {allowed_h:.1f} h{when}")


def gpu_quota(kaggle: Kaggle) -> Quota | None:
    """The GPU time; None if Kaggle does not return it. Raises InputError: wrong credentials."""
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
    """The answer; None after an error, which is printed. Raises InputError: wrong credentials."""
    try:
        return kaggle.call(what, ask)
    except RefusedError as error:
        if error.code == 401:
            raise
        kaggle.progress.log(f"{error}")
    except SeverstalError as error:
        kaggle.progress.log(f"{error}")
    return None
