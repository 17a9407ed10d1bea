"""Numbers in the words that results and messages share."""


def counted(number: int, what: str = "image") -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def between(interval: tuple[float, float] | None, *, signed: bool = False) -> str:
    """`0.8000 to 0.9000`, or signed `-0.0100 to +0.0200`; nothing for None."""
    return "" if interval is None else " to ".join(f"{end:{'+' if signed else ''}.4f}" for end in interval)


def percent(level: float) -> str:
    """`95 %`, `97.5 %`, `98.33 %`."""
    return f"{100 * level:.4g} %"
