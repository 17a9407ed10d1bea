"""Credentials for Kaggle: a token, a user name with a key, or the login of Kaggle's own tool.

kagglehub finds all but the last. `kaggle auth login` writes ~/.kaggle/credentials.json: an access token for some hours,
and a refresh token (OAuth, `kagglesdk.kaggle_creds`).
"""

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, quote_plus

import requests
from kagglehub import config as hub
from kagglesdk.kaggle_client import KaggleClient
from kagglesdk.kaggle_creds import KaggleCredentials
from kagglesdk.kaggle_env import get_env

import severstal_cli
from severstal_cli.errors import InputError, MachineError
from severstal_cli.kaggle import answers
from severstal_cli.kaggle.wire import mount

WHERE = (
    "Make a token on https://www.kaggle.com/settings and give it as KAGGLE_API_TOKEN (the token or a file with it) or "
    "in ~/.kaggle/access_token; or KAGGLE_USERNAME and KAGGLE_KEY, or a kaggle.json in KAGGLE_CONFIG_DIR or ~/.kaggle; "
    "or log in by `kaggle auth login`"
)
SHORTEST = 8
"""Digits of the shortest base64 text to hide: a shorter one may occur anywhere."""
_SOON = timedelta(minutes=10)
"""A token that expires within this time is renewed at once."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A token, or a user name with a key."""

    username: str | None = None
    key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)
    """Further secrets."""
    renew: Callable[[], str] | None = field(default=None, repr=False)
    """Returns a new token for an expired one."""

    @property
    def secrets(self) -> tuple[str, ...]:
        signed = self.key and f"{self.username}:{self.key}"
        return forms_of(self.key, signed, self.token, *self.others)


def forms_of(*secrets: str | None) -> tuple[str, ...]:
    """The forms in which a server may echo a secret, the longest first: plain, URL-quoted, hexadecimal and base64.

    A header has base64 of user and key. The ends of base64 depend on the text around the secret, so each of the three
    alignments is used without its first and last digits.
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


def find(answer_s: float) -> Credentials:
    """The user's credentials. Raises InputError: none, a damaged file, or an expired login."""
    try:
        found = hub.get_kaggle_credentials()
        login = None if found else KaggleCredentials.load(client())
    except (ValueError, OSError, TypeError, AttributeError) as error:
        raise InputError("cannot read the Kaggle credentials", type(error).__name__, WHERE) from None
    if found is not None:
        return Credentials(username=found.username, key=found.key, token=found.api_key)
    if login is None:
        raise InputError("no Kaggle credentials", "none in the environment nor in ~/.kaggle", WHERE)

    def renew() -> str:
        return _renew(login, answer_s)

    expires = login._access_token_expiration
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    # kagglesdk uses a token until half an hour after its expiry
    is_good = login._access_token and expires is not None and expires > datetime.now(UTC) + _SOON
    token = str(login._access_token) if is_good else renew()
    return Credentials(
        username=login.get_username() or None, token=token, others=(str(login._refresh_token),), renew=renew
    )


def client(**options: str | None) -> KaggleClient:
    """A client of kagglesdk, with the credentials of `options` or with none."""
    return KaggleClient(env=get_env(), user_agent=f"severstal/{severstal_cli.__version__}", **options)


def _renew(login: Any, answer_s: float) -> str:
    """A new token of a login, saved if the file is writable. Raises InputError, MachineError."""
    mount(login._client, answer_s)
    again = "Log in again: kaggle auth login"
    try:
        answer = login.generate_access_token()
    except requests.HTTPError as error:
        found = f"Kaggle answers {answers.status_of(error)}"
        raise InputError("the login of `kaggle auth login` has expired", found, again) from None
    except requests.RequestException:
        raise MachineError("cannot renew the login of `kaggle auth login`", "no answer", "Try again later") from None
    login._access_token = answer.token
    login._access_token_expiration = datetime.now(UTC) + timedelta(seconds=answer.expires_in)
    with suppress(OSError):
        login.save()
    return str(answer.token)
