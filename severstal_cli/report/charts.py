"""Training curves as SVG shapes. The style sheet of the page colours them."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 26


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A labelled tick of an axis."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over epochs, in SVG units of a chart of `WIDTH` x `HEIGHT`."""

    title: str
    lines: tuple[tuple[str, str], ...]
    """Name and SVG points of each line."""
    y_ticks: tuple[Tick, ...]
    """Ticks of the values; `at` is y."""
    x_ticks: tuple[Tick, ...]
    """Ticks of the epochs; `at` is x."""
    summary: str
    """Description for screen readers."""


def curves(title: str, epochs: Sequence[int], lines: Sequence[tuple[str, Sequence[float | None]]]) -> Chart | None:
    """Chart of `lines`, each with one value (or None) per epoch. Returns None if no line has a value."""
    known = [
        (name, [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None])
        for name, values in lines
    ]
    known = [(name, points) for name, points in known if points]
    if not known:
        return None
    values = [value for _, points in known for _, value in points]
    low, high = min(values), max(values)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    first, last = epochs[0], max(epochs[-1], epochs[0] + 1)

    def x(epoch: float) -> float:
        return round(_LEFT + (epoch - first) / (last - first) * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    ends = "; ".join(f"{name} from {points[0][1]:.3f} to {points[-1][1]:.3f}" for name, points in known)
    return Chart(
        title=title,
        lines=tuple((name, " ".join(f"{x(at)},{y(value)}" for at, value in points)) for name, points in known),
        y_ticks=tuple(Tick(at=y(value), label=f"{value:.2f}") for value in (low, (low + high) / 2, high)),
        x_ticks=tuple(Tick(at=x(epoch), label=str(epoch)) for epoch in sorted({first, (first + last) // 2, last})),
        summary=f"{title} over epochs {first} to {epochs[-1]}: {ends}",
    )
