"""Waiting for what Kaggle does in its own time: unpacking a dataset, running a notebook, scoring."""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from severstal_cli.errors import InputError, MachineError
from severstal_cli.kaggle.client import NotThereError
from severstal_cli.progress import Progress

SAME_COMMAND = "The same command goes on from here"

SILENCE_S = 600.0
"""A wait is given up after so long without an answer: hours of it must outlast a fault of the network."""

Message = TypeVar("Message")
Found = TypeVar("Found")


class RemoteError(InputError):
    """What Kaggle was to do came to a bad end there; asking for it anew is another try."""


def request(kind: type[Message], **fields: object) -> Message:
    """A message of kagglesdk with `fields` set: its own classes take none when they are made."""
    message = kind()
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def pages(fetch: Callable[[str], Any]) -> Iterator[Any]:
    """Every page of a list: `fetch("")` is the first one, and each names the next in `next_page_token`."""
    token, seen = "", {""}
    while True:
        page = fetch(token)
        yield page
        token = page.next_page_token
        if token in seen:
            return
        seen.add(token)


def wait_for(
    label: str,
    look: Callable[[], tuple[str, Found | None]],
    progress: Progress,
    *,
    poll_s: float,
    limit_s: float,
) -> Found:
    """Look every `poll_s` seconds, show the state, and return what `look` finds beside it once that is there.

    Raises:
        InputError: as soon as `look` does, as Kaggle refuses (RemoteError: it failed).
        MachineError: nothing found in `limit_s` seconds, or no answer for `SILENCE_S`.
        NotThereError: not there, for as long.
    """
    began = heard = time.monotonic()
    state = "asking"
    with progress.waiting(label) as show:
        while True:
            try:
                state, found = look()
                heard = time.monotonic()
                if found is not None:
                    return found
            except (MachineError, NotThereError):  # what was just made may not be known everywhere yet
                if time.monotonic() - heard + poll_s > SILENCE_S:
                    raise
                state = "no answer, asking again"
            show(state)
            if time.monotonic() - began + poll_s > limit_s:
                raise MachineError(f"{label}: no end after {limit_s / 60:.0f} min", f"last seen: {state}", SAME_COMMAND)
            time.sleep(poll_s)
