"""How a stage tells what it is doing, without knowing whether a person, a pipe or nobody listens.

A stage takes `progress: Progress = SILENT`. The command line passes a `TerminalProgress`: a live bar on a terminal,
a plain line now and then elsewhere. All of it goes to stderr; results go to stdout.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from severstal_cli.errors import shown


class Bar:
    """One task of known length. This one shows nothing."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """`steps` more are done; `note` is a short text to show beside the bar."""


class Progress:
    """Where a stage reports. This one is silent."""

    def log(self, line: str) -> None:
        """One line for the person: what was found, chosen or written."""

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        """A bar for `total` steps of `unit`, open as long as the block runs."""
        yield Bar()

    @contextmanager
    def waiting(self, label: str) -> Iterator[Callable[[str], None]]:
        """For what takes its own time elsewhere; what is yielded is called with its state, as often as it is asked."""
        yield lambda state: None


SILENT = Progress()


def megabytes(size: int) -> int:
    """How many megabytes hold `size` bytes: the length of a bar for a `MegabyteBar`."""
    return -(-size // 1_000_000)


class MegabyteBar:
    """Shows bytes on a bar of megabytes."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._done = bar, 0

    def reach(self, done: int, note: str = "") -> None:
        """`done` bytes are there in all; fewer than before show nothing."""
        steps = megabytes(done) - megabytes(self._done)
        if steps > 0:
            self._bar.advance(steps, note)
        self._done = max(self._done, done)


class _RichBar(Bar):
    def __init__(self, live: Any, task: Any) -> None:
        self._live, self._task = live, task

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._live.update(self._task, advance=steps, note=shown(note))


class _PlainBar(Bar):
    """A line at the end, and one every `seconds` before it: a log stays short."""

    def __init__(self, console: Any, label: str, total: int, unit: str, seconds: float = 30.0) -> None:
        self._console, self._label, self._total, self._unit = console, label, total, unit
        self._seconds, self._start, self._last = seconds, time.monotonic(), time.monotonic()
        self._done, self._note = 0, ""

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self._note = note or self._note
        now = time.monotonic()
        if self._done == self._total or now - self._last >= self._seconds:
            self._last = now
            rate = self._done / max(now - self._start, 1e-9)
            rate_text = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
            text = f"{self._label}: {self._done}/{self._total} {self._unit}, {rate_text}/s"
            self._console.print(shown(f"{text}, {self._note}" if self._note else text), soft_wrap=True)


class _PlainWait:
    """A line for each change of state, and one every `seconds` while nothing changes."""

    def __init__(self, console: Any, label: str, seconds: float = 600.0) -> None:
        self._console, self._label, self._seconds = console, label, seconds
        self._start = self._last = time.monotonic()
        self._state = ""

    def show(self, state: str) -> None:
        now = time.monotonic()
        if state != self._state or now - self._last >= self._seconds:
            self._state, self._last = state, now
            self._console.print(shown(f"{self._label}: {state}, {(now - self._start) / 60:.0f} min"), soft_wrap=True)


class TerminalProgress(Progress):
    """Reports to stderr: live bars on a terminal, plain lines in a pipe or a log."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, markup=False)

    def __reduce__(self) -> tuple[Any, ...]:  # another process opens the terminal itself
        return TerminalProgress, ()

    def log(self, line: str) -> None:
        self._console.print(shown(line), soft_wrap=True)

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        if not self._console.is_terminal:
            yield _PlainBar(self._console, label, total, unit)
            return
        from rich import progress as rich_progress

        columns = (
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(bar_width=20),
            rich_progress.TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            rich_progress.TextColumn("{task.fields[note]}", markup=False),
            rich_progress.TimeRemainingColumn(compact=True),
        )
        with rich_progress.Progress(*columns, console=self._console, transient=True) as live:
            yield _RichBar(live, live.add_task(shown(label), total=total, unit=unit, note=""))

    @contextmanager
    def waiting(self, label: str) -> Iterator[Callable[[str], None]]:
        if not self._console.is_terminal:
            yield _PlainWait(self._console, label).show
            return
        from rich import progress as rich_progress

        text = rich_progress.TextColumn("{task.description}", markup=False)
        columns = (rich_progress.SpinnerColumn(), text, rich_progress.TimeElapsedColumn())
        with rich_progress.Progress(*columns, console=self._console, transient=True) as live:
            task = live.add_task(shown(label), total=None)
            yield lambda state: live.update(task, description=shown(f"{label}: {state}"))
