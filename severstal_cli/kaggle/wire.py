"""The transport: every request has a time-out, and the last response is kept for error messages."""

from typing import Any

import requests
from kagglesdk.kaggle_client import KaggleClient
from requests.adapters import HTTPAdapter

ANSWER_S = 60.0
"""Time-out for the start of an answer, and for a pause within it."""
CONNECT_S = 15.0


class Wire(HTTPAdapter):
    """Adds time-outs, which kagglesdk does not set, and keeps the last response."""

    def __init__(self, answer_s: float) -> None:
        super().__init__()
        self.answer_s = answer_s
        self._timeout = (min(CONNECT_S, answer_s), answer_s)
        self.last: requests.Response | None = None

    def send(self, request: Any, *arguments: Any, **options: Any) -> requests.Response:
        if options.get("timeout") is None:
            options["timeout"] = self._timeout
        self.last = None
        self.last = super().send(request, *arguments, **options)
        return self.last


def mount(sdk: KaggleClient, answer_s: float) -> Wire:
    """Use a `Wire` for the requests of a client."""
    http = sdk.http_client()
    http._init_session()
    wire = Wire(answer_s)
    for scheme in ("https://", "http://"):
        http._session.mount(scheme, wire)
    return wire
