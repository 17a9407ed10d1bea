"""Waiting for Kaggle: unpacking a dataset, running a notebook, scoring."""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kagglesdk.kaggle_client import KaggleClient

from severstal_cli.errors import InputError, MachineError
from severstal_cli.kaggle.client import Kaggle, NotThereError
from severstal_cli.progress import Progress

SAME_COMMAND = "The same command resumes from here"

SILENCE_S = 600.0
"""A wait ends after this time without an answer. A wait of hours must outlast a network fault."""

Message = TypeVar("Message")
Found = TypeVar("Found")


class RemoteError(InputError):
    """Kaggle accepted a task and failed. The same command is a new try."""


def request(kind: type[Message], **fields: object) -> Message:
    """A message of kagglesdk with `fields` set: its constructors take no arguments."""
    message = kind()
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def pages(kaggle: Kaggle, what: str, message: Any, send: Callable[[KaggleClient, Any], Any]) -> Iterator[Any]:
    """Every page of a list: `send(sdk, message)` asks for one. `what`: as in `Kaggle.call`, and errors as there."""
    seen = {""}
    while True:
        page = kaggle.call(what, lambda sdk: send(sdk, message))
        yield page
        if page.next_page_token in seen:
            return
        seen.add(page.next_page_token)
        message.page_token = page.next_page_token


def wait_for(
    label: str,
    look: Callable[[], tuple[str, Found | None]],
    progress: Progress,
    *,
    poll_s: float,
    limit_s: float,
) -> Found:
    """Call `look` every `poll_s` seconds, and show its state, until it returns a result beside the state.

    Raises:
        InputError: `look` raises it: Kaggle refuses (RemoteError: Kaggle failed).
        MachineError: no result within `limit_s` seconds, or no answer for `SILENCE_S`.
        NotThereError: the object is unknown for `SILENCE_S`.
    """
    began = answered = time.monotonic()
    state = "asking"
    with progress.waiting(label) as show:
        while True:
            try:
                state, found = look()
                answered = time.monotonic()
                if found is not None:
                    return found
            except (MachineError, NotThereError):  # a new object may be unknown for a while
                if time.monotonic() - answered + poll_s > SILENCE_S:
                    raise
                state = "no answer, asking again"
            show(state)
            if time.monotonic() - began + poll_s > limit_s:
                what = f"{label}: timed out after {limit_s / 60:.0f} min"
                raise MachineError(what, f"last state: {state}", SAME_COMMAND)
            time.sleep(poll_s)
