"""A running notebook: its log is followed, and shown like that of a local command, with a progress bar.

While a notebook runs, Kaggle sends its log as server-sent events (`data: {...}`), always from the first one, and
`data: END_OF_LOG` at the end.
"""

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import requests

from severstal_cli.errors import MachineError, SeverstalError
from severstal_cli.kaggle import answers, kernel, output, polling
from severstal_cli.kaggle.client import Kaggle, NotThereError
from severstal_cli.kaggle.polling import SAME_COMMAND
from severstal_cli.progress import Bar, Progress

_BAR = re.compile(r"(.+): (\d+)/(\d+) (\S+), [\d.,e+]+/s(?:, (.*))?")
"""A line that `progress.TerminalProgress` writes to a log."""
_SESSION = re.compile(r"severstal: session (\d+)")
DRAIN_S = 0.5
"""Pause between two reads of new lines."""
END = "END_OF_LOG"
AGAIN_S = 5.0
"""Pause before a broken stream is opened again."""
DELETED = f"{SAME_COMMAND}; --cancel --discard gives it up, if it was deleted"
"""Remedy for a notebook that Kaggle does not know, perhaps as it is too new."""
TRIES = 5
"""Streams in a row without a new line, after which the log is no longer followed."""


class Follower:
    """The log of a running notebook, read in a thread: a stream may be silent for minutes."""

    def __init__(self, kaggle: Kaggle, user: str, slug: str, label: str, *, again_s: float | None = None) -> None:
        self._kaggle, self._path, self._label = kaggle, f"/kernels/logs/stream/{user}/{slug}", label
        self._again_s = AGAIN_S if again_s is None else again_s
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._events, self._rest = 0, ""
        self._stop = threading.Event()
        self.taken = 0
        """The number of lines that `lines` has returned."""
        self.fault = ""
        """Why the log is no longer followed; "" while it is."""
        threading.Thread(target=self._follow, daemon=True).start()

    def lines(self) -> Iterator[str]:
        """The lines since the last call."""
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
        """Read a stream, and skip the known events. Returns whether the log has ended."""
        with self._kaggle.get(self._path, {"versionLabel": self._label}) as answer:
            if "event-stream" not in answer.headers.get("Content-Type", ""):  # the notebook has ended: its stored log
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
            for line in output.clean(whole):
                self._lines.put(self._kaggle.without_secrets(line))


class Screen:
    """Shows the lines of a log."""

    def __init__(self, progress: Progress, keep: Callable[[int], None] = lambda session: None) -> None:
        """`keep` is called with Kaggle's number of the session."""
        self._progress, self._keep = progress, keep
        self._stack = ExitStack()
        self._bar: tuple[str, int] | None = None
        self._live, self._done = Bar(), 0

    def show(self, line: str) -> None:
        if found := _SESSION.fullmatch(line):
            self._keep(int(found[1]))
        elif found := _BAR.fullmatch(line):
            self._advance(found[1], int(found[2]), int(found[3]), found[4], found[5] or "")
        elif not line.startswith("next: "):  # the notebook itself runs the next command
            self._progress.log(line)

    def _advance(self, label: str, done: int, total: int, unit: str, note: str) -> None:
        if self._bar != (label, total) or done < self._done:
            self.close()
            self._live = self._stack.enter_context(self._progress.bar(label, total, unit))
            self._bar, self._done = (label, total), 0
        self._live.advance(done - self._done, note)
        self._done = done
        if done == total:
            self.close()

    def close(self) -> None:
        self._stack.close()
        self._stack, self._bar = ExitStack(), None


def watch(kaggle: Kaggle, user: str, slug: str, version: int, screen: Screen, *, poll_s: float, limit_s: float) -> str:
    """Show the log of a version until it ends. Returns the reason of its failure, "" for none.

    Raises:
        kernel.CancelledError: it was cancelled.
        MachineError: no end within `limit_s` seconds, or no answer for `polling.SILENCE_S`; the notebook keeps running.
        SeverstalError: a call fails.
    """
    look = kernel.look_at(kaggle, user, slug, version, remedy=DELETED)
    began = answered = time.monotonic()
    state, follower, reported = "", None, False
    try:
        while True:
            try:
                now, failure = look()
                answered = time.monotonic()
            except (MachineError, NotThereError):
                if time.monotonic() - answered + poll_s > polling.SILENCE_S:
                    raise
                now, failure = state, None
            if failure is not None:
                break
            if now != state:
                kaggle.progress.log(f"notebook: {now}")
                state = now
            if state == "running" and follower is None:
                follower = Follower(kaggle, user, slug, output.label(version), again_s=min(5.0, poll_s))
            if time.monotonic() - began > limit_s:
                raise MachineError(f"the notebook {user}/{slug} has run for {limit_s / 3600:.1f} h", "", SAME_COMMAND)
            until = time.monotonic() + poll_s
            while True:
                for line in follower.lines() if follower else ():
                    screen.show(line)
                if follower and follower.fault and not reported:
                    kaggle.progress.log(f"the log cannot be followed ({follower.fault}): waiting for its end")
                    reported = True
                left_s = until - time.monotonic()
                if left_s <= 0:
                    break
                time.sleep(min(DRAIN_S, left_s))
    finally:
        if follower:
            follower.stop()
    _show_rest(kaggle, user, slug, version, screen, follower)
    screen.close()
    return failure


def _show_rest(kaggle: Kaggle, user: str, slug: str, version: int, screen: Screen, follower: Follower | None) -> None:
    """Show the lines of the stored log that were not followed."""
    for line in follower.lines() if follower else ():
        screen.show(line)
    try:
        log = output.read(kaggle, user, slug, version).log
    except SeverstalError:  # the caller waits for the output
        return
    for line in log[follower.taken if follower else 0 :]:
        screen.show(line)


def session_of(kaggle: Kaggle, user: str, slug: str, version: int, *, wait_s: float = 30.0) -> int:
    """Kaggle's number of the running session, from its log; 0: the log does not have it."""
    follower = Follower(kaggle, user, slug, output.label(version))
    until = time.monotonic() + wait_s
    try:
        while time.monotonic() < until and not follower.fault:
            for line in follower.lines():
                if found := _SESSION.fullmatch(line):
                    return int(found[1])
            time.sleep(0.1)
    finally:
        follower.stop()
    return 0
