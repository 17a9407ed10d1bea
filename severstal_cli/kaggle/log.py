"""The log of a notebook: its lines as a person reads them, and the log of one that runs, line by line.

Kaggle keeps it as JSON, [{"stream_name": "stderr", "time": 1.5, "data": "..."}, ...]. While the notebook runs it sends
the same events (`data: {...}`, "server-sent events"), always from the first one, and `data: END_OF_LOG` at the end.
"""

import json
import queue
import re
import threading
from collections.abc import Iterator
from typing import Any

import requests

from severstal_cli.kaggle import answers
from severstal_cli.kaggle.client import Kaggle

END = "END_OF_LOG"
AGAIN_S = 5.0
"""Before a stream that broke is opened again."""
TRIES = 5
"""Streams in a row that bring nothing new, after which the log is no longer followed."""


def log_lines(log: str) -> list[str]:
    """The lines of a log as Kaggle keeps it. No blank lines, no control characters, no keys in addresses."""
    try:
        text = "".join(str(part["data"]) for part in json.loads(log))
    except (ValueError, TypeError, KeyError):
        text = log
    return list(clean(text.splitlines()))


def clean(lines: list[str]) -> Iterator[str]:
    """Lines that may be shown."""
    for line in lines:
        shown = answers.open_address(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line))
        shown = "".join(letter for letter in shown if letter.isprintable()).rstrip()
        if shown:
            yield shown


class Follower:
    """The log of a notebook that runs, read by a thread of its own: a stream may say nothing for minutes."""

    def __init__(self, kaggle: Kaggle, user: str, slug: str, label: str, *, again_s: float = AGAIN_S) -> None:
        self._kaggle, self._path, self._label = kaggle, f"/kernels/logs/stream/{user}/{slug}", label
        self._again_s = again_s
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._events, self._rest = 0, ""
        self._stop = threading.Event()
        self.taken = 0
        """Lines that were handed out."""
        self.fault = ""
        """Why the log is no longer followed."""
        threading.Thread(target=self._follow, daemon=True).start()

    def lines(self) -> Iterator[str]:
        """What has arrived since the last call."""
        while not self._lines.empty():
            self.taken += 1
            yield self._lines.get()

    def stop(self) -> None:
        self._stop.set()

    def _follow(self) -> None:
        tries = 0
        while not self._stop.is_set():
            before = self._events
            try:
                if self._read():
                    return
                self.fault = "the connection broke"
            except requests.HTTPError as error:
                self.fault = f"Kaggle answers {answers.status_of(error)}"
            except (requests.RequestException, ValueError, OSError) as error:
                self.fault = type(error).__name__
            tries = 0 if self._events > before else tries + 1
            if tries == TRIES:
                return
            self.fault = ""
            self._stop.wait(self._again_s)

    def _read(self) -> bool:
        """Read a stream, passing over what is known. Whether it has come to the log's end."""
        with self._kaggle.get(self._path, {"versionLabel": self._label}) as answer:
            if "event-stream" not in answer.headers.get("Content-Type", ""):  # it has ended: the log as it is kept
                body = answer.json()
                self._take(body if isinstance(body, list) else [])
                return True
            number = 0
            for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
                if self._stop.is_set():
                    return True
                text = str(line)
                if not text.startswith("data:"):
                    continue
                payload = text[len("data:") :].strip()
                if payload == END:
                    return True
                number += 1
                if number > self._events:
                    self._take([json.loads(payload)], known=number - 1)
        return False

    def _take(self, events: list[Any], known: int = 0) -> None:
        for event in events[self._events - known :]:
            self._events += 1
            text = self._rest + str(event.get("data", "") if isinstance(event, dict) else "")
            *whole, self._rest = text.split("\n")
            for line in clean(whole):
                self._lines.put(self._kaggle.without_secrets(line))
