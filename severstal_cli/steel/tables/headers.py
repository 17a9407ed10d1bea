"""The layouts of a table: their columns, and how a row gives image, class and mask, and is made of them.

The header decides. Columns may have any order; others, such as the index that pandas writes, `Usage` or `fold`, are
ignored. A new layout is a member of `Layout` with its `Form`, and a name in `config.data.LAYOUTS`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.steel.tables.csv_rows import RowError, quote, read_class

PART = "Part"
"""Column of `splits.csv`: the subset of an image."""

Row = tuple[str, int, str]
"""(image_id, class_id, RLE) of a row, as it stands there."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A layout: the columns of the key, which name image and class, and the column of the mask."""

    key: tuple[str, ...]
    """The first column names the image, alone or with the class."""
    runs: str = "EncodedPixels"
    parse: Callable[..., tuple[str, int]]
    """The fields of the key -> (image_id, class_id). Raises RowError."""
    fields: Callable[[str, int], tuple[str, ...]]
    """Inverse of `parse`."""
    has_all_rows: bool
    """Whether each image and class has one row. Otherwise an image without a defect needs no row, or any."""

    @property
    def columns(self) -> tuple[str, ...]:
        """In the default order of writing."""
        return *self.key, self.runs

    def reader(self, columns: Sequence[str]) -> Callable[[Sequence[str]], Row]:
        """The function from the fields below these columns to a row. Raises RowError."""
        parse, key, runs = self.parse, itemgetter(*map(columns.index, self.key)), columns.index(self.runs)
        if len(self.key) == 1:
            return lambda fields: (*parse(key(fields)), fields[runs])
        return lambda fields: (*parse(*key(fields)), fields[runs])

    def writer(self, columns: Sequence[str]) -> Callable[[str, int, str], list[str]]:
        """The function from a row to its fields below these columns, a permutation of `columns`."""
        make, order = self.fields, [self.columns.index(name) for name in columns]

        def write(image_id: str, class_id: int, runs: str) -> list[str]:
            fields = *make(image_id, class_id), runs
            return [fields[position] for position in order]

        return write


def _split_pair(text: str) -> tuple[str, int]:
    """`0002cc93b.jpg_1` -> (`0002cc93b.jpg`, 1), split at the last underscore. Raises RowError."""
    image_id, underscore, class_text = text.rpartition("_")
    if not underscore:
        raise RowError(f"ImageId_ClassId {quote(text)} is not an image, an underscore and a class")
    return image_id, read_class(class_text)


class Layout(StrEnum):
    """The layouts of a table."""

    ORIGINAL = "original"
    CURRENT = "current"

    @property
    def form(self) -> Form:
        return FORMS[self]


FORMS: Mapping[Layout, Form] = {
    Layout.ORIGINAL: Form(
        key=("ImageId_ClassId",),
        parse=_split_pair,
        fields=lambda image_id, class_id: (f"{image_id}_{class_id}",),
        has_all_rows=True,
    ),
    Layout.CURRENT: Form(
        key=("ImageId", "ClassId"),
        parse=lambda image_id, class_id: (image_id, read_class(class_id)),
        fields=lambda image_id, class_id: (image_id, str(class_id)),
        has_all_rows=False,
    ),
}


def layout_of(columns: Sequence[str]) -> Layout | None:
    """The layout whose columns all occur, each once; None where no layout matches, or several."""
    counts = Counter(columns)
    matches = [layout for layout, form in FORMS.items() if all(counts[name] == 1 for name in form.columns)]
    return matches[0] if len(matches) == 1 else None


def check_layout(path: Path, columns: Sequence[str]) -> Layout:
    """The layout of the table at `path`. Raises InputError: the header is of no layout, or of several."""
    layout = layout_of(columns)
    if layout is not None:
        return layout
    counts = Counter(columns)
    nearest = next((form for form in FORMS.values() if form.key[0] in counts), FORMS[Layout.CURRENT]).columns
    found = f"the header is {show(columns)}"
    for label, some in (
        ("missing", [name for name in nearest if name not in counts]),
        ("unknown", [name for name in columns if name not in nearest]),
        ("doubled", [name for name in nearest if counts[name] > 1]),
    ):
        if some:
            found += f"; {label}: {show(some)}"
    several = [layout for layout, form in FORMS.items() if all(name in counts for name in form.columns)]
    if len(several) > 1:
        found += f"; it has the columns of the layouts {' and '.join(several)}"
    raise InputError(
        f"{path}, line 1", found, f"A table has {' or '.join(','.join(form.columns) for form in FORMS.values())}"
    )


def image_column(path: Path, columns: Sequence[str]) -> tuple[int, Form]:
    """The column of a list of images that names them, and its layout; the class may be in a column that is missing.

    Raises InputError: no column names images, or several do.
    """
    forms = {form.key[0]: form for form in FORMS.values()}
    found = [position for position, name in enumerate(columns) if name in forms]
    if len(found) != 1:
        remedy = f"A list of images has a column {' or '.join(sorted(forms, key=len))}"
        raise InputError(f"{path}, line 1", f"the header is {show(columns)}", remedy)
    return found[0], forms[columns[found[0]]]


def show(names: Sequence[str]) -> str:
    """Column names on one line, escaped and truncated."""
    text = ",".join((name if name.isprintable() and name else repr(name))[:60] for name in names[:20])
    return text if len(text) <= 160 and len(names) <= 20 else text[:160] + "..."
