"""Numbers and lists as text, for results and messages."""

from collections.abc import Sequence


def counted(number: int, what: str = "image") -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def signed(value: float) -> str:
    """`+0.0100`, `-0.0200`; a value that rounds to zero is `+0.0000`."""
    return f"{value:+z.4f}"


def between(interval: tuple[float, float] | None, *, differences: bool = False) -> str:
    """`0.8000 to 0.9000`, or of differences `-0.0100 to +0.0200`; empty for None."""
    return "" if interval is None else " to ".join(signed(end) if differences else f"{end:.4f}" for end in interval)


def percent(level: float) -> str:
    """`95 %`, `97.5 %`, `98.33 %`."""
    return f"{100 * level:.4g} %"


def age(seconds: float) -> str:
    """`5 min`, `3 h`, `12 days`: in the largest unit that is reached."""
    for unit_s, unit in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= unit_s:
            number = int(seconds // unit_s)
            return f"{number:,} {unit}{'s' if unit == 'day' and number > 1 else ''}"
    return "now"


def listed(items: Sequence[object], most: int = 8) -> str:
    """`1, 2, 3`, or shortened `1, 2, 3 and 6 more`."""
    text = ", ".join(map(str, items[:most]))
    return f"{text} and {len(items) - most:,} more" if len(items) > most else text


def spans(numbers: Sequence[int]) -> str:
    """Sorted numbers as text: `1`, `1 and 3`, `1, 3 to 6 and 8`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    texts = [
        text
        for run in found
        for text in ([str(run[0]), str(run[-1])][: len(run)] if len(run) < 3 else [f"{run[0]} to {run[-1]}"])
    ]
    if len(texts) > 8:
        texts = [*texts[:6], f"others to {numbers[-1]}"]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def class_label(channel: int, names: Sequence[str] = ()) -> str:
    """The class of a channel in tables, on plots and on pages: `3`, or with the names of all classes `3 scratch`."""
    return f"{channel + 1} {names[channel]}" if channel < len(names) else str(channel + 1)
