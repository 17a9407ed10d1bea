"""Kaggle's error messages, in both of their forms.

{"code": 403, "message": "..."}                                             the form that kagglesdk reads
{"error": {"code": 400, "message": "...", "status": "FAILED_PRECONDITION"}} the form of the gateway
"""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests

LONGEST = 300
"""Characters of a quoted body."""


def status_of(error: requests.HTTPError) -> int:
    """The status of a failed call. Some answers are 200 with the real status in the body. 0: unknown."""
    if error.response is None:
        return 0
    code = _fault_in(error.response).get("code")
    return code if isinstance(code, int) and code >= 400 else error.response.status_code


def message_of(error: requests.HTTPError) -> str:
    """The server's message as one line; "" for a page."""
    fault = {} if error.response is None else _fault_in(error.response)
    return " ".join(str(fault.get("message") or "").split()).rstrip(". ")


def host_of(url: str) -> str:
    """The host of an address. The rest may be a signature."""
    return urlsplit(url).hostname or "?"


def exchange(response: requests.Response | None, hide: Callable[[str], str]) -> str:
    """The request and the answer of an unknown failure in one line, to report as an issue; without signatures.

    hide: removes secrets from a text. It is called before the text is cut.
    """
    if response is None:
        return ""
    sent = response.request
    call = urlsplit(sent.url or "").path.rpartition("/v1/")[2]
    body = sent.body.decode("utf-8", "replace") if isinstance(sent.body, bytes) else str(sent.body or "")
    received = f"{response.status_code} {_quoted(hide(_text_of(response)))}"
    return (
        f"This call was never tried on Kaggle itself. Report this line as an issue of severstal: "
        f"sent {call} {_quoted(hide(body))}, received {received}"
    )


def open_address(text: str) -> str:
    """`text` with addresses cut at the question mark: a signature may follow."""
    return re.sub(r"(https?://[^\s?\"']+)\?[^\s\"']+", r"\1?...", text)


def _quoted(text: str) -> str:
    """A body as one short line; long values are cut, tokens hidden."""
    try:
        text = json.dumps(_short(json.loads(text)))
    except ValueError:
        text = " ".join(text.split())
    text = open_address(text)
    return text if len(text) <= 2 * LONGEST else f"{text[: 2 * LONGEST]}..."


def _short(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _short(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_short(inner) for inner in value[:3]]
    if isinstance(value, str) and "token" in name.lower():
        return "***"
    return f"{value[:60]}..." if isinstance(value, str) and len(value) > 80 else value


def _text_of(response: requests.Response) -> str:
    try:
        return response.text
    except (requests.RequestException, RuntimeError):
        return ""


def _fault_in(response: requests.Response) -> dict[str, Any]:
    """The object with `code` and `message`; {} if there is none."""
    try:
        body = response.json()
    except (ValueError, requests.RequestException, RuntimeError):
        return {}
    if not isinstance(body, dict):
        return {}
    inner = body.get("error")
    return inner if isinstance(inner, dict) else {**body, **({"message": inner} if isinstance(inner, str) else {})}
