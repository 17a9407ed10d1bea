"""`audit.csv`: one row per suspected fault, the most suspicious first; and the same rows with decisions.

    Rank,ImageId,ClassId,Kind,Score,X,Y,Width,Height,Pixels,PredictedClassId,OtherImageId,EncodedPixels
    1,0002cc93b.jpg,1,missed,0.9312,12,40,80,31,1804,,,3113 24 3369 26
    2,00031f466.jpg,3,wrong_class,0.8877,0,0,5,4,20,2,,1 4 257 4 513 4 769 4 1025 4
    3,000418bfc.jpg,4,disagreement,0.7215,8,0,31,52,990,,000789191.jpg,2049 52

X, Y, Width and Height are the box of the component in pixels, counted from 0 at the top left; Pixels is its area.
`findings.Finding` defines which mask EncodedPixels is. Decisions are rows of such a table with a further column
Decision: accept, reject, skip, or empty for skip. Rows and columns may have any order, and rows may be left out.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.files import replacing
from severstal_cli.steel.audit.findings import Finding, Kind
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables.csv_rows import (
    BrokenRow,
    RowError,
    check_count,
    is_table,
    quote,
    read_class,
    read_image_id,
    read_score,
)
from severstal_cli.steel.tables.csv_rows import open_rows as open_csv
from severstal_cli.steel.tables.headers import layout_of, show
from severstal_cli.steel.tables.mask_rows import CUT

COLUMNS = (
    "Rank", "ImageId", "ClassId", "Kind", "Score", "X", "Y", "Width", "Height", "Pixels", "PredictedClassId",
    "OtherImageId", "EncodedPixels",
)  # fmt: skip
DECISION = "Decision"
ACCEPT, SKIP = "accept", "skip"
CHOICES = (ACCEPT, "reject", SKIP)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A row with a decision."""

    line: int
    """Line of the file, for messages."""
    choice: str
    finding: Finding


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """The findings by score, the highest first; the order of equal ones does not depend on that of the input."""
    return sorted(findings, key=lambda each: (-round(each.score, 4), each.image_id, each.class_id, each.kind, each.box))


def write(path: Path, findings: Sequence[Finding]) -> None:
    """Write ranked findings as `audit.csv`, whole or not at all. Raises OutputError."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for rank, each in enumerate(findings, start=1):
            writer.writerow(
                (rank, each.image_id, each.class_id, each.kind, f"{each.score:.4f}", *each.box, each.pixels,
                 each.predicted_class_id or "", each.other_image_id or "", rle.to_text(each.mask))
            )  # fmt: skip


def has_columns(columns: Sequence[str]) -> bool:
    """Whether a table with this header is an audit, with or without decisions."""
    return set(COLUMNS) <= set(columns)


def is_undecided(columns: Sequence[str]) -> bool:
    """Whether a table with this header is an audit that nobody has added decisions to."""
    return has_columns(columns) and DECISION not in columns


def is_annotations(columns: Sequence[str]) -> bool:
    """Whether a table with this header holds masks and is no audit, which has their columns, too."""
    return layout_of(columns) is not None and not has_columns(columns)


def read_decisions(path: Path) -> list[Decision]:
    """Read rows of an `audit.csv` with decisions.

    Raises InputError: the file cannot be read, lacks a column, has a wrong row (the first such line), or two rows of
    one finding with different decisions.
    """
    decisions = [decision for _, decision in read(path, (*COLUMNS, DECISION))[1]]
    earlier: dict[tuple[object, ...], Decision] = {}
    for decision in decisions:
        one = decision.finding
        key = (
            one.image_id,
            one.class_id,
            one.kind,
            one.box,
            one.predicted_class_id,
            one.other_image_id,
            one.mask.tobytes(),
        )
        first = earlier.setdefault(key, decision)
        if first.choice != decision.choice:
            raise InputError(
                f"{path}, lines {first.line} and {decision.line}",
                f"one finding has the decisions {first.choice} and {decision.choice}",
                "Leave one of the rows out",
            )
    return decisions


def read(path: Path, wanted: Sequence[str] = COLUMNS) -> tuple[tuple[str, ...], list[tuple[list[str], Decision]]]:
    """Read an `audit.csv` that has at least the columns `wanted`: its header, and the fields and decision of each row.

    The fields are unchanged. Without a column Decision every decision is `SKIP`. Raises as `read_decisions`.
    """
    opened = open_csv(path)
    columns = opened.columns
    if DECISION in columns:
        wanted = (*COLUMNS, DECISION)
    missing = [name for name in wanted if columns.count(name) != 1]
    if missing:
        remedy = (
            f"Add a column {DECISION} to audit.csv: accept, reject or skip"
            if missing == [DECISION]
            else ("Give audit.csv with a column Decision" if DECISION in wanted else "Give an audit.csv")
        )
        raise InputError(f"{path}, line 1", f"missing or doubled: {show(missing)}", remedy)
    places = [columns.index(name) for name in wanted]
    rows, line = [], 1
    try:
        for line, fields in opened.rows:
            check_count(fields, columns)
            own = [fields[place].strip() for place in places]
            length = len(fields[columns.index("EncodedPixels")])  # with blanks: it may be cut at one
            if length in CUT:
                raise RowError(f"EncodedPixels has {length:,} characters: {CUT[length]} cuts fields there")
            rows.append((fields, _decision(line, *(own if len(own) > len(COLUMNS) else [*own, SKIP]))))
    except (RowError, BrokenRow) as error:
        line = error.line if isinstance(error, BrokenRow) else line
        raise InputError(
            f"{path}, line {line}", str(error), "A row stays as `severstal audit` wrote it, but for Decision"
        ) from error
    return columns, rows


def is_audit(path: Path) -> bool:
    """Whether a file is meant as an audit, by its header."""
    if not is_table(path) or not path.is_file():
        return False
    try:
        columns = open_csv(path).columns
    except InputError:
        return False  # it is refused where it is read
    return {"Rank", "Kind", "ImageId", "EncodedPixels"} <= set(columns)  # others may be missing: `read` says which


def _decision(
    line: int,
    rank: str,
    image_id: str,
    class_id: str,
    kind: str,
    score: str,
    x: str,
    y: str,
    width: str,
    height: str,
    pixels: str,
    predicted: str,
    other: str,
    mask: str,
    choice: str,
) -> Decision:
    """Raises RowError."""
    choice = choice.lower() or SKIP
    if choice not in CHOICES:
        raise RowError(f"Decision {quote(choice)} is not accept, reject or skip")
    if kind not in list(Kind):
        raise RowError(f"Kind {quote(kind)} is not one of {', '.join(Kind)}")
    try:
        runs = rle.from_text(mask)
    except rle.RLEError as error:
        raise RowError(f"EncodedPixels: {error}") from error
    box = _whole("X", x), _whole("Y", y), _whole("Width", width), _whole("Height", height)
    finding = Finding(
        image_id=read_image_id(image_id),
        class_id=read_class(class_id),
        kind=Kind(kind),
        score=read_score(score),
        box=box,
        pixels=_whole("Pixels", pixels),
        mask=runs,
        predicted_class_id=read_class(predicted) if predicted else None,
        other_image_id=read_image_id(other) if other else None,
    )
    _whole("Rank", rank)
    if (finding.predicted_class_id is None) == (finding.kind == Kind.WRONG_CLASS):
        raise RowError(f"PredictedClassId is {quote(predicted)} in a row of kind {kind}")
    if finding.predicted_class_id == finding.class_id:
        raise RowError(f"PredictedClassId and ClassId are both {class_id}")
    if (finding.other_image_id is None) == (finding.kind == Kind.DISAGREEMENT):
        raise RowError(f"OtherImageId is {quote(other)} in a row of kind {kind}")
    if finding.kind != Kind.DISAGREEMENT and not len(runs):
        raise RowError(f"EncodedPixels is empty in a row of kind {kind}")
    is_component = finding.kind not in (Kind.BOUNDARY, Kind.DISAGREEMENT)
    if is_component and rle.area(runs) != finding.pixels:
        raise RowError(f"EncodedPixels has {rle.area(runs):,} pixels, and Pixels is {pixels}: the row was changed")
    return Decision(line=line, choice=choice, finding=finding)


def _whole(name: str, text: str) -> int:
    number = text.removesuffix(".0").removesuffix(",0")  # pandas or a spreadsheet may write it so
    if not (number.isascii() and number.isdigit() and len(number) < 11):
        raise RowError(f"{name} {quote(text)} is not a whole number from 0")
    return int(number)
