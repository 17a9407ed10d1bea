"""How a stage reports progress, without knowing whether a person, a pipe or nobody reads it.

A stage takes `progress: Progress = SILENT`. The command line passes a `TerminalProgress`: a live bar on a terminal,
a plain line now and then elsewhere. All of it goes to stderr; results go to stdout.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from severstal_cli.errors import shown

BYTES = "bytes"
"""The unit of a bar that shows its steps as kB, MB or GB."""


class Bar:
    """One task of known length. This class shows nothing."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more as done and show `note` beside the bar."""


class Progress:
    """Where a stage reports. This class is silent."""

    def log(self, line: str) -> None:
        """Report one line."""

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        """Yield a bar of `total` steps of `unit`, which closes at the end of the block."""
        yield Bar()

    @contextmanager
    def waiting(self, label: str) -> Iterator[Callable[[str], None]]:
        """For work that another process or server does: yield a function that shows its current state."""
        yield lambda state: None


SILENT = Progress()


class _RichBar(Bar):
    def __init__(self, live: Any, task: Any) -> None:
        self._live, self._task = live, task

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._live.update(self._task, advance=steps, note=shown(note))


class _PlainBar(Bar):
    """Prints a line at the end and one every `seconds` before it, so that a log stays short."""

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
            text = f"{self._label}: {self._amounts(self._done / max(now - self._start, 1e-9))}"
            self._console.print(shown(f"{text}, {self._note}" if self._note else text), soft_wrap=True)

    def _amounts(self, rate: float) -> str:
        if self._unit == BYTES:
            from rich.filesize import decimal

            return f"{decimal(self._done)} of {decimal(self._total)}, {decimal(int(rate))}/s"
        rate_text = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        return f"{self._done}/{self._total} {self._unit}, {rate_text}/s"


class _PlainWait:
    """Prints a line for each change of state, and one every `seconds` while nothing changes."""

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

        amounts: rich_progress.ProgressColumn = rich_progress.DownloadColumn()
        if unit != BYTES:
            amounts = rich_progress.TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}")
        columns = (
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(bar_width=20),
            amounts,
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
