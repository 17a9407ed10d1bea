"""A notebook that runs, shown as if its command ran here: its lines, and its bars as a bar."""

import re
import time
from collections.abc import Callable
from contextlib import ExitStack

from severstal_cli.errors import MachineError, SeverstalError
from severstal_cli.kaggle import kernel, output, polling
from severstal_cli.kaggle.client import Kaggle, NotThereError
from severstal_cli.kaggle.log import Follower
from severstal_cli.kaggle.polling import SAME_COMMAND
from severstal_cli.progress import Bar, Progress

_BAR = re.compile(r"(.+): (\d+)/(\d+) (\S+), [\d.,e+]+/s(?:, (.*))?")
"""A line of `progress.TerminalProgress` where it writes to a log."""
_SESSION = re.compile(r"severstal: session (\d+)")
DRAIN_S = 0.5
"""Between two looks for new lines."""


class Screen:
    """Shows the lines of a log."""

    def __init__(self, progress: Progress, heard: Callable[[int], None] = lambda session: None) -> None:
        """`heard` is called with Kaggle's number of the session."""
        self._progress, self._heard = progress, heard
        self._stack = ExitStack()
        self._bar: tuple[str, int] | None = None
        self._live, self._done = Bar(), 0

    def show(self, line: str) -> None:
        if found := _SESSION.fullmatch(line):
            self._heard(int(found[1]))
        elif found := _BAR.fullmatch(line):
            self._advance(found[1], int(found[2]), int(found[3]), found[4], found[5] or "")
        elif not line.startswith("next: "):  # what comes next there is done by the notebook
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
    """Show the log of a version until it ends; why it failed, "" where it did not.

    Raises:
        kernel.CancelledError: it was cancelled.
        MachineError: no end in `limit_s` seconds, or no answer for `polling.SILENCE_S`; the notebook goes on.
        SeverstalError: a call fails.
    """
    look = kernel.look_at(kaggle, user, slug, version)
    began = heard = time.monotonic()
    state, follower, told = "", None, False
    try:
        while True:
            try:
                now, failure = look()
                heard = time.monotonic()
            except (MachineError, NotThereError):
                if time.monotonic() - heard + poll_s > polling.SILENCE_S:
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
                raise MachineError(f"the notebook {user}/{slug} runs for {limit_s / 3600:.1f} h", "", SAME_COMMAND)
            until = time.monotonic() + poll_s
            while True:
                for line in follower.lines() if follower else ():
                    screen.show(line)
                if follower and follower.fault and not told:
                    kaggle.progress.log(f"its log cannot be followed ({follower.fault}): waiting for its end")
                    told = True
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
    """What the log has beyond what was followed."""
    for line in follower.lines() if follower else ():
        screen.show(line)
    try:
        log = output.read(kaggle, user, slug, version).log
    except SeverstalError:  # what it left is waited for later
        return
    for line in log[follower.taken if follower else 0 :]:
        screen.show(line)


def session_of(kaggle: Kaggle, user: str, slug: str, version: int, *, wait_s: float = 30.0) -> int:
    """Kaggle's number of the session that runs, from its log; 0: it does not tell."""
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
