"""Recognises which of the competition's two layouts a table has, by the columns in its header.

Other columns, such as the index that pandas writes, `Usage` or `fold`, are ignored.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from severstal_cli.errors import InputError

IMAGE, CLASS, PAIR, RUNS = "ImageId", "ClassId", "ImageId_ClassId", "EncodedPixels"
PART = "Part"
"""Column of `splits.csv`: the subset of an image."""


class Layout(StrEnum):
    """The two layouts of a table."""

    ORIGINAL = "original"
    CURRENT = "current"


# The columns of each layout, in the default order of writing.
COLUMNS: Mapping[Layout, tuple[str, ...]] = {
    Layout.ORIGINAL: (PAIR, RUNS),
    Layout.CURRENT: (IMAGE, CLASS, RUNS),
}


def layout_of(columns: Sequence[str]) -> Layout | None:
    """The layout whose columns all occur, each once; None where neither layout matches, or both."""
    counts = Counter(columns)
    matches = [layout for layout, names in COLUMNS.items() if all(counts[name] == 1 for name in names)]
    return matches[0] if len(matches) == 1 else None


def check_layout(path: Path, columns: Sequence[str]) -> Layout:
    """The layout of the table at `path`. Raises InputError: the header is neither layout's."""
    layout = layout_of(columns)
    if layout is not None:
        return layout
    counts = Counter(columns)
    nearest = COLUMNS[Layout.ORIGINAL if PAIR in counts else Layout.CURRENT]
    found = f"the header is {show(columns)}"
    for label, some in (
        ("missing", [name for name in nearest if name not in counts]),
        ("unknown", [name for name in columns if name not in nearest]),
        ("doubled", [name for name in nearest if counts[name] > 1]),
    ):
        if some:
            found += f"; {label}: {show(some)}"
    if all(name in counts for names in COLUMNS.values() for name in names):
        found += "; it has the columns of both layouts"
    raise InputError(
        f"{path}, line 1", found, f"A table has {' or '.join(','.join(each) for each in COLUMNS.values())}"
    )


def show(names: Sequence[str]) -> str:
    """Column names on one line, escaped and truncated."""
    text = ",".join((name if name.isprintable() and name else repr(name))[:60] for name in names[:20])
    return text if len(text) <= 160 and len(names) <= 20 else text[:160] + "..."
