"""Waiting for Kaggle."""

from types import SimpleNamespace

import pytest

from severstal_cli.errors import InputError, MachineError, SeverstalError
from severstal_cli.kaggle import polling
from severstal_cli.kaggle.client import NotThereError
from severstal_cli.kaggle.polling import RemoteError, wait_for
from severstal_cli.progress import SILENT, TerminalProgress


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only `sleep` advances."""
    found = SimpleNamespace(now=0.0)

    def sleep(seconds: float) -> None:
        found.now += seconds

    monkeypatch.setattr(polling, "time", SimpleNamespace(monotonic=lambda: found.now, sleep=sleep))
    return found


@pytest.mark.parametrize("error", [MachineError("no network"), NotThereError("not known yet")], ids=str)
def test_a_wait_outlasts_a_network_fault(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace, error: SeverstalError
) -> None:
    """Three of four looks fail, for longer than `SILENCE_S`; then all fail."""
    monkeypatch.setattr(polling, "SILENCE_S", 0.3)
    looks = 0

    def look() -> tuple[str, str | None]:
        nonlocal looks
        looks += 1
        if looks % 4 or looks > 40:
            raise error
        return "there", "found" if looks == 40 else None

    assert wait_for("it", look, SILENT, poll_s=0.01, limit_s=9) == "found"
    assert clock.now > 0.3, "the test needs a longer time"
    clock.now = 0.0
    with pytest.raises(type(error), match=str(error)):
        wait_for("it", look, SILENT, poll_s=0.01, limit_s=9)
    assert 0.27 < clock.now <= 0.3


@pytest.mark.parametrize("error", [RemoteError("it failed"), InputError("401")], ids=str)
def test_a_permanent_error_ends_the_wait(error: SeverstalError) -> None:
    looks = 0

    def look() -> tuple[str, None]:
        nonlocal looks
        looks += 1
        raise error

    with pytest.raises(type(error), match=str(error)):
        wait_for("it", look, SILENT, poll_s=0, limit_s=9)
    assert looks == 1


def test_a_wait_times_out(clock: SimpleNamespace) -> None:
    with pytest.raises(MachineError, match="it: timed out after 0 min: last state: queued"):
        wait_for("it", lambda: ("queued", None), SILENT, poll_s=0.05, limit_s=0.3)
    assert 0.2 <= clock.now <= 0.3


def test_a_log_gets_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    states = iter(["queued", "queued", "running", "running", "[done]"])
    wait_for(
        "notebook",
        lambda: (state := next(states), "x" if state == "[done]" else None),
        TerminalProgress(),
        poll_s=0,
        limit_s=9,
    )
    assert capsys.readouterr().err.splitlines() == ["notebook: queued, 0 min", "notebook: running, 0 min"]
