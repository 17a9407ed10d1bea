"""Curves as SVG, which take their colours from the page."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 26


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A line across a chart, and its label."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over epochs, in the units of a picture of `WIDTH` x `HEIGHT`."""

    title: str
    lines: tuple[tuple[str, str], ...]
    """Names and SVG points."""
    across: tuple[Mark, ...]
    """Marks of the values; `at` is the height."""
    along: tuple[Mark, ...]
    """Marks of the epochs; `at` is the place from the left."""
    summary: str
    """For those who do not see it."""


def curves(title: str, epochs: Sequence[int], lines: Sequence[tuple[str, Sequence[float | None]]]) -> Chart | None:
    """Lines over `epochs`, each with a value an epoch or None; None where there is nothing to draw."""
    known = [(name, [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None])
             for name, values in lines]  # fmt: skip
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
        across=tuple(Mark(at=y(value), label=f"{value:.2f}") for value in (low, (low + high) / 2, high)),
        along=tuple(Mark(at=x(epoch), label=str(epoch)) for epoch in sorted({first, (first + last) // 2, last})),
        summary=f"{title} over epochs {first} to {epochs[-1]}: {ends}",
    )
