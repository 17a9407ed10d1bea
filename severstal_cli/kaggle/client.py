"""Calls to Kaggle: who asks, how long an answer may take, and what an error means.

kagglehub finds the credentials and kagglesdk makes the calls. Three things are added, as neither has them: no request
waits for ever, a busy server is asked again, and every error is one line that holds no secret.
"""

import base64
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus, urlsplit

import requests
from kagglehub import config as hub
from kagglesdk.common.types.http_redirect import HttpRedirect
from kagglesdk.kaggle_client import KaggleClient
from kagglesdk.kaggle_env import get_env
from kagglesdk.models.types.model_api_service import ApiGetModelRequest
from requests.adapters import HTTPAdapter

import severstal_cli
from severstal_cli.errors import InputError, MachineError, SeverstalError
from severstal_cli.progress import SILENT, Progress

ANSWER_S = 60.0
"""How long one answer may take to begin, and how long it may pause."""
CONNECT_S = 15.0

SHORTEST = 8
"""Digits of base64 that are still looked for: fewer may stand anywhere."""

TRIES = 4
LONGEST_PAUSE_S = 60.0
"""A server that asks for a longer pause is not waited for."""

Answer = TypeVar("Answer")


class NotThereError(InputError):
    """Kaggle does not know what was asked for: a wrong name, or something so new that it is not known everywhere."""


class _Bounded(HTTPAdapter):
    """Gives every request a time-out: kagglesdk sets none, and would wait for ever."""

    def __init__(self, answer_s: float) -> None:
        super().__init__()
        self._timeout = (min(CONNECT_S, answer_s), answer_s)

    def send(self, request: Any, *arguments: Any, **options: Any) -> requests.Response:
        if options.get("timeout") is None:
            options["timeout"] = self._timeout
        return super().send(request, *arguments, **options)


@dataclass(frozen=True, kw_only=True)
class Kaggle:
    """A signed-in client. Every call goes through `call`."""

    sdk: KaggleClient = field(repr=False)
    competition: str
    secrets: tuple[str, ...] = field(repr=False)
    """Never to be shown."""
    username: str | None
    """Known at once with a user name and a key, asked for by `user` with a token."""
    progress: Progress
    pause_s: float
    """Before the second try; it doubles with each."""

    def call(
        self, what: str, ask: Callable[[KaggleClient], Answer], *, repeat: bool = True, remedy: str = ""
    ) -> Answer:
        """What `ask` returns. A busy or failing server is asked up to `TRIES` times.

        `repeat=False`: for what must not be done twice; then only 429 is tried again, as it was not done.
        `remedy`: for 400 and 404, which say little, where the usual one does not fit.

        Raises:
            NotThereError: Kaggle answers 404.
            InputError: it refuses. What was asked for was not done.
            MachineError: no answer, a busy or a failing server.
        """
        for attempt in range(1, TRIES + 1):
            try:
                return ask(self.sdk)
            except requests.HTTPError as error:
                code = status_of(error)
                wait_s = _asked_pause_s(error.response)
                wait_s = self.pause_s * 2 ** (attempt - 1) if wait_s is None else wait_s
                passing = code == 429 or (code >= 500 and repeat)
                if not passing or attempt == TRIES or wait_s > LONGEST_PAUSE_S:
                    raise self.explain(what, error, remedy) from None
                self.progress.say(f"Kaggle is busy ({code}): asking again in {wait_s:.0f} s")
                time.sleep(wait_s)
            except (requests.RequestException, ValueError, KeyError, AttributeError, TypeError) as error:
                raise self.explain(what, error) from None
        raise AssertionError("unreachable")

    def user(self) -> str:
        """The name of the account. Raises SeverstalError."""
        if self.username:
            return self.username

        def ask(sdk: KaggleClient) -> Any:
            # the one call that tells it has no binding; with this type of answer the raw one is passed on
            return sdk.http_client().call("api.v1.DiagnosticsService", "Hello", ApiGetModelRequest(), HttpRedirect)

        answer = self.call("ask Kaggle for your user name", ask)
        try:
            return str(answer.json()["userName"])
        except (ValueError, KeyError, TypeError):
            raise InputError("Kaggle did not tell your user name", "", "Give it as KAGGLE_USERNAME") from None

    def explain(self, what: str, error: Exception, remedy: str = "") -> SeverstalError:
        """One line for a failed request; `what`: what was being done, as in "download the data"."""
        what = f"cannot {what}"
        if isinstance(error, requests.HTTPError):
            return self._explain_status(what, status_of(error), _cut(self.without_secrets(_message_of(error))), remedy)
        if isinstance(error, requests.exceptions.ProxyError):
            return MachineError(what, "the proxy does not answer", "Check HTTPS_PROXY and HTTP_PROXY")
        if isinstance(error, requests.exceptions.SSLError):
            return MachineError(what, "the certificate of the server is not trusted",
                                "Check the clock; behind a proxy of your company set REQUESTS_CA_BUNDLE")  # fmt: skip
        if isinstance(error, requests.Timeout):
            return MachineError(what, "Kaggle does not answer", "Try again later: what was done is kept")
        if isinstance(error, requests.RequestException):
            return MachineError(what, "no connection to Kaggle",
                                "Check the network; behind a proxy set HTTPS_PROXY. What was done is kept")  # fmt: skip
        return MachineError(what, "Kaggle answered something that this program does not understand",
                            "Try again later, or update severstal, kagglehub and kagglesdk")  # fmt: skip

    def _explain_status(self, what: str, code: int, message: str, remedy: str) -> SeverstalError:
        found = f"Kaggle answers {code}" + (f", {message}" if message else "")
        page = f"https://www.kaggle.com/competitions/{self.competition}"
        if code == 401:
            return InputError(what, found, f"The credentials are wrong or expired. {WHERE_CREDENTIALS}")
        if code == 403:
            return InputError(what, found, f"Accept the rules on {page}/rules, verify your phone on "
                              "https://www.kaggle.com/settings, and check that the token may do this")  # fmt: skip
        if code == 404:
            return NotThereError(what, found, remedy or f"Check the name, and that {page} is there")
        if code == 429:
            return MachineError(what, found, "Too many requests: try again later, what was done is kept")
        if code >= 500:
            return MachineError(what, found, "Kaggle has a fault: try again later, what was done is kept")
        return InputError(what, found, remedy or f"See {page}")

    def without_secrets(self, text: str) -> str:
        """`text`, whatever a server put into it."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


WHERE_CREDENTIALS = (
    "Make a token on https://www.kaggle.com/settings and give it as KAGGLE_API_TOKEN (the token or a file with it) or "
    "in ~/.kaggle/access_token; or KAGGLE_USERNAME and KAGGLE_KEY, or a kaggle.json in KAGGLE_CONFIG_DIR or ~/.kaggle"
)


def connect(
    competition: str, progress: Progress = SILENT, *, answer_s: float = ANSWER_S, pause_s: float = 1.0
) -> Kaggle:
    """A client with the credentials of this user; no request is made.

    Raises InputError: no credentials anywhere, or a damaged file.
    """
    logging.getLogger("kagglehub").setLevel(logging.ERROR)  # it prints to stdout, where results go
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # below that it writes whole addresses, which may be keys
    try:
        found = hub.get_kaggle_credentials()
    except (ValueError, OSError) as error:
        raise InputError("cannot read the Kaggle credentials", type(error).__name__, WHERE_CREDENTIALS) from None
    if found is None:
        raise InputError("no Kaggle credentials", "none in the environment nor in ~/.kaggle", WHERE_CREDENTIALS)
    # not kagglehub's own client, which prints every header to stdout where it takes the server for a test
    sdk = KaggleClient(
        env=get_env(),
        username=found.username,
        password=found.key,
        api_token=found.api_key,
        user_agent=f"severstal/{severstal_cli.__version__}",
    )
    http = sdk.http_client()
    http._init_session()
    session = http._session
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Bounded(answer_s))
    return Kaggle(
        sdk=sdk,
        competition=competition,
        secrets=_forms_of(found.key, found.api_key, found.key and f"{found.username}:{found.key}"),
        username=found.username,
        progress=progress,
        pause_s=pause_s,
    )


def _forms_of(*secrets: str | None) -> tuple[str, ...]:
    """The forms in which a server may echo a secret, the longest first: as it is, in an address, and in base64.

    A header has base64 of user and key; the ends of base64 depend on what stands beside the secret, so each of its
    three alignments is taken without its first and last digits.
    """
    forms = set()
    for text in filter(None, secrets):
        data = text.encode()
        forms |= {text, quote(text), quote(text, safe=""), quote_plus(text), data.hex()}
        for before in range(3):
            digits = base64.b64encode(bytes(before) + data).decode().rstrip("=")
            inner = digits[4 * (before > 0) : len(digits) - 1 if (before + len(data)) % 3 else None]
            if len(inner) >= SHORTEST:
                forms |= {inner, inner.translate(str.maketrans("+/", "-_"))}
    return tuple(sorted(forms, key=len, reverse=True))


def status_of(error: requests.HTTPError) -> int:
    """The status of a failed call; some arrive as 200 with the true one in the body. 0: unknown."""
    if error.response is None:
        return 0
    body = _body_of(error.response)
    code = body.get("code")
    return code if isinstance(code, int) and code >= 400 else error.response.status_code


def host_of(url: str) -> str:
    """The host alone: the rest of an address of stored data is a key to it."""
    return urlsplit(url).hostname or "?"


def _message_of(error: requests.HTTPError) -> str:
    """What the server says, as a line; nothing where it answers with a page."""
    body = {} if error.response is None else _body_of(error.response)
    return " ".join(str(body.get("message") or "").split())


def _cut(message: str) -> str:
    """Only after secrets are out: the first half of one is no longer known as one."""
    return message[:200].rstrip(". ")


def _body_of(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except (ValueError, requests.RequestException, RuntimeError):
        return {}
    return body if isinstance(body, dict) else {}


def _asked_pause_s(response: requests.Response | None) -> float | None:
    """What Retry-After says in seconds; None where it does not, or gives a date."""
    text = "" if response is None else response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else None
