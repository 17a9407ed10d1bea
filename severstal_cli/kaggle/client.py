"""Calls to Kaggle: credentials, time-outs, retries and errors.

kagglehub finds the credentials and kagglesdk makes the calls. This module adds time-outs, retries, and errors of one
line without secrets. urllib3's `Retry` cannot replace the retry loop: it does not see status codes in the body of a
200, which Kaggle sends, it cannot renew a login, and it sleeps silently for as long as `Retry-After` asks.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests
from kagglesdk.common.types.http_redirect import HttpRedirect
from kagglesdk.kaggle_client import KaggleClient
from kagglesdk.models.types.model_api_service import ApiGetModelRequest

from severstal_cli.errors import InputError, MachineError, SeverstalError
from severstal_cli.kaggle import answers, credentials
from severstal_cli.kaggle import wire as wires
from severstal_cli.kaggle.answers import status_of
from severstal_cli.kaggle.wire import ANSWER_S, Wire
from severstal_cli.progress import SILENT, Progress

LONGEST_MESSAGE = 300
"""Characters of Kaggle's message. It is cut after secrets are removed: half a secret would not be recognised."""
TRIES = 4
LONGEST_PAUSE_S = 60.0
"""The longest pause that a server may ask for."""

Answer = TypeVar("Answer")


class RefusedError(InputError):
    """Kaggle refuses: `code` is the status, `message` the reason, "" for none."""

    def __init__(self, what: str, found: str = "", remedy: str = "", *, code: int = 0, message: str = "") -> None:
        super().__init__(what, found, remedy)
        self.code, self.message = code, message


class NotThereError(RefusedError):
    """Kaggle does not know the object: a wrong name, or an object that is too new."""


@dataclass(frozen=True, kw_only=True)
class Kaggle:
    """A signed-in client. Every call goes through `call`."""

    sdk: KaggleClient = field(repr=False)
    competition: str
    secrets: tuple[str, ...] = field(repr=False)
    """Texts that are never printed."""
    username: str | None
    """None with a token: `user` asks Kaggle for it."""
    progress: Progress
    pause_s: float
    """Pause before the second try; it doubles with each try."""
    wire: Wire = field(repr=False)
    renew: Callable[[], str] | None = field(default=None, repr=False)
    """Returns a new token, if the token of a login expires."""

    def call(
        self, what: str, ask: Callable[[KaggleClient], Answer], *, repeat: bool = True, remedy: str = ""
    ) -> Answer:
        """Return the result of `ask`. A busy or failing server is asked up to `TRIES` times.

        Args:
            what: names the call in errors, as in "download the data".
            repeat: False: the call must not happen twice, so only 429 is retried.
            remedy: for 400 and 404, instead of the usual one.

        Raises:
            NotThereError: Kaggle answers 404.
            RefusedError: it refuses, and has done nothing.
            MachineError: no answer, a busy or a failing server.
        """
        renewed = False
        for attempt in range(1, TRIES + 1):
            try:
                return ask(self.sdk)
            except requests.HTTPError as error:
                code = status_of(error)
                if code == 401 and self.renew is not None and not renewed:
                    renewed = True
                    self._sign(self.renew())
                    continue
                wait_s = _asked_pause_s(error.response)
                wait_s = self.pause_s * 2 ** (attempt - 1) if wait_s is None else wait_s
                passing = code == 429 or (code >= 500 and repeat)
                if not passing or attempt == TRIES or wait_s > LONGEST_PAUSE_S:
                    raise self.explain(what, error, remedy) from None
                self.progress.log(f"Kaggle is busy ({code}): asking again in {wait_s:.0f} s")
                time.sleep(wait_s)
            except (requests.RequestException, ValueError, KeyError, AttributeError, TypeError) as error:
                raise self.explain(what, error) from None
        raise AssertionError("unreachable")

    def _sign(self, token: str) -> None:
        session = self.sdk.http_client()._session
        session.auth = self.sdk.http_client().BearerAuth(token)

    def get(self, path: str, parameters: dict[str, str]) -> requests.Response:
        """A signed GET of a path without a binding in kagglesdk. The body is not read yet.

        Raises requests.RequestException.
        """
        http = self.sdk.http_client()
        url = http._get_request_url("", "").rstrip("/") + path
        with requests.Session() as session:  # not the client's session: another thread may use it
            for scheme in ("https://", "http://"):
                session.mount(scheme, Wire(self.wire.answer_s))
            headers = {"User-Agent": http._user_agent, "Accept": "text/event-stream, */*"}
            answer = session.get(url, params=parameters, headers=headers, auth=http._session.auth, stream=True)
        answer.raise_for_status()
        return answer

    def user(self) -> str:
        """The name of the account. Raises SeverstalError."""
        if self.username:
            return self.username

        def ask(sdk: KaggleClient) -> Any:
            # this call has no binding in kagglesdk; for this type it returns the raw response
            return sdk.http_client().call("api.v1.DiagnosticsService", "Hello", ApiGetModelRequest(), HttpRedirect)

        answer = self.call("ask Kaggle for your user name", ask)
        try:
            return str(answer.json()["userName"])
        except (ValueError, KeyError, TypeError):
            raise InputError("Kaggle returned no user name", "", "Give it as KAGGLE_USERNAME") from None

    def explain(self, what: str, error: Exception, remedy: str = "") -> SeverstalError:
        """The error for a failed request. `what`: as in `call`."""
        what = f"cannot {what}"
        if isinstance(error, requests.HTTPError):
            message = self.without_secrets(answers.message_of(error))[:LONGEST_MESSAGE].rstrip(". ")
            exchange = "" if message else self._exchange(error.response)
            return self._explain_status(what, status_of(error), message, remedy, exchange)
        if isinstance(error, requests.exceptions.ProxyError):
            return MachineError(what, "the proxy does not answer", "Check HTTPS_PROXY and HTTP_PROXY")
        if isinstance(error, requests.exceptions.SSLError):
            return MachineError(
                what,
                "the certificate of the server is not trusted",
                "Check the clock; behind a company's proxy set REQUESTS_CA_BUNDLE",
            )
        if isinstance(error, requests.Timeout):
            return MachineError(what, "Kaggle does not answer", "Try again later: finished steps are kept")
        if isinstance(error, requests.RequestException):
            remedy = "Check the network; behind a proxy set HTTPS_PROXY. Finished steps are kept"
            return MachineError(what, "no connection to Kaggle", remedy)
        return MachineError(
            what,
            "Kaggle's answer has an unknown format",
            "Try again later, or update severstal, kagglehub and kagglesdk. " + self._exchange(self.wire.last),
        )

    def _exchange(self, response: requests.Response | None) -> str:
        """The request and the answer of an unknown failure, to report."""
        return answers.exchange(response, self.without_secrets)

    def _explain_status(self, what: str, code: int, message: str, remedy: str, exchange: str) -> SeverstalError:
        found = f"Kaggle answers {code}" + (f", {message}" if message else "")
        page = f"https://www.kaggle.com/competitions/{self.competition}"
        if code == 429:
            return MachineError(what, found, "Too many requests: try again later, finished steps are kept")
        if code >= 500:
            return MachineError(what, found, "Kaggle has a fault: try again later, finished steps are kept")
        kind, remedies = (
            RefusedError,
            {
                401: f"The credentials are wrong or expired. {credentials.WHERE}",
                403: f"Accept the rules on {page}/rules, verify your phone on https://www.kaggle.com/settings, and "
                "check the permissions of the token",
            },
        )
        if code == 404:
            kind, remedies = NotThereError, {404: remedy or f"Check the name, and that {page} exists"}
        remedy = remedies.get(code, remedy or f"See {page}")
        return kind(what, found, f"{remedy}. {exchange}" if exchange else remedy, code=code, message=message)

    def without_secrets(self, text: str) -> str:
        """`text` with every secret replaced by ***."""
        signed = getattr(self.sdk.http_client()._session.auth, "token", None)  # it may have been renewed
        for secret in (*self.secrets, *credentials.forms_of(signed)):
            text = text.replace(secret, "***")
        return text


def connect(
    competition: str, progress: Progress = SILENT, *, answer_s: float = ANSWER_S, pause_s: float = 1.0
) -> Kaggle:
    """A client with the user's credentials. It makes no request, except to renew a login.

    Raises InputError: no credentials, a damaged file, or an expired login.
    """
    logging.getLogger("kagglehub").setLevel(logging.ERROR)  # it prints to stdout, which is for results
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # at lower levels it logs signed addresses
    found = credentials.find(answer_s)
    # not kagglehub's client, which prints every header to stdout in its test environment
    sdk = credentials.client(username=found.username, password=found.key, api_token=found.token)
    wire = wires.mount(sdk, answer_s)
    return Kaggle(
        sdk=sdk,
        competition=competition,
        secrets=found.secrets,
        username=found.username,
        progress=progress,
        pause_s=pause_s,
        wire=wire,
        renew=found.renew,
    )


def _asked_pause_s(response: requests.Response | None) -> float | None:
    """The seconds of Retry-After; None for no header, or a date."""
    text = "" if response is None else response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else None
