"""Parses the rows of a table into masks, and collects the faults of each row.

Several rows of one image and class form one mask: some programs write one row per defect. An empty mask is an empty
field or a word that other programs write for it.

Spreadsheets and databases truncate long fields silently. A truncated mask may still parse as a smaller one, so it is
refused where the longest field of a table has exactly the length at which a known program truncates.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLE, RLEError
from severstal_cli.steel.tables.csv_rows import RowError, check_count, read_image_id, short
from severstal_cli.steel.tables.headers import Layout

NOT_A_NUMBER = frozenset(("nan", "-nan", "na", "<na>", "n/a", "#n/a", "#na", "none", "null"))
"""Words that pandas parses as an empty field."""

EMPTY_WORDS = NOT_A_NUMBER | {"-1", "-", "nil", "[]", "()", "{}", "''", '""'}
_LONGEST_WORD = max(map(len, EMPTY_WORDS))

CUT = {
    32_767: "Excel",
    32_768: "Excel",
    43_679: "SQL Server Management Studio",
    50_000: "Google Sheets",
    65_535: "LibreOffice or MySQL",
    65_536: "LibreOffice",
    131_072: "Python's csv module",
}
"""Documented length limits of fields, in characters, and the programs that truncate there."""

CUT_OFTEN = frozenset(
    (255, 256, 1000, 1023, 1024, 2000, 2048, 4000, 4095, 4096, 8000, 8191, 8192, 10_000, 16_384, 32_000)
)
"""Length limits of databases. Masks may have such a length by chance, so several must have it."""
_SEVERAL = 3


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault in a table. line: its line number; 0: the table as a whole."""

    line: int
    message: str
    is_warning: bool = False

    @property
    def place(self) -> str:
        """`line 7`."""
        return f"line {self.line}"


class Scan:
    """Collects masks and faults row by row. pixels: height x width of all images, or of each known one."""

    def __init__(self, columns: tuple[str, ...], layout: Layout, pixels: int | Mapping[str, int] | None) -> None:
        self.image_ids: dict[str, None] = {}
        self.masks: dict[tuple[str, int], RLE] = {}
        self.lines: dict[tuple[str, int], int] = {}
        self.merged: dict[int, tuple[str, int]] = {}
        """Line -> (image_id, channel) of each row whose image and class an earlier row has."""
        self.words: dict[str, int] = {}
        """Words for an empty mask that pandas does not parse as empty -> the line of the first."""
        self.faults: list[Fault] = []
        self._columns, self._pixels, self._count = columns, pixels, len(columns)
        self._several: dict[tuple[str, int], list[RLE]] = {}
        self._longest = min(CUT_OFTEN)
        self._at_longest: dict[str, tuple[int, tuple[str, int]]] = {}
        self._read = layout.form.reader(columns)

    def add(self, line: int, fields: list[str]) -> None:
        """Add the mask of a row, or its fault."""
        try:
            if len(fields) != self._count:
                check_count(fields, self._columns)
            image_id, class_id, field = self._read(fields)
            if image_id not in self.image_ids:
                image_id = read_image_id(image_id)
                self.image_ids[image_id] = None
            key = image_id, class_id - 1
            if key in self.lines:
                self.merged[line] = key
            else:
                self.lines[key] = line
            text = field.strip()
            if not text or (len(text) <= _LONGEST_WORD and self._is_empty(text, line)):
                return
            if len(field) >= self._longest:
                self._note_length(line, key, field)
            pixels = self._pixels.get(image_id) if isinstance(self._pixels, Mapping) else self._pixels
            runs = rle.from_text(text, pixels=pixels)
            if key in self.masks:
                self._several.setdefault(key, [self.masks[key]]).append(runs)
            else:
                self.masks[key] = runs
        except RLEError as error:
            message = f"{short(image_id)}, class {class_id}: {error}{_cause(field, error.word)}"
            self.faults.append(Fault(line=line, message=message))
        except RowError as error:
            self.faults.append(Fault(line=line, message=str(error)))

    def end(self) -> None:
        """After the last row: unite the masks of several rows, and detect truncated fields."""
        for key, masks in self._several.items():
            self.masks[key] = rle.union(masks)
        is_cut = self._longest in CUT or (self._longest in CUT_OFTEN and len(self._at_longest) >= _SEVERAL)
        if not is_cut:
            return
        who = CUT.get(self._longest, "a database")
        known = {fault.line for fault in self.faults}
        for line, (image_id, channel) in self._at_longest.values():
            self.masks.pop((image_id, channel), None)
            if line not in known:
                cut = f"the field has {self._longest:,} characters, the most of all rows, and {who} cuts there"
                message = f"{short(image_id)}, class {channel + 1}: {cut}: the rest of the mask is lost"
                self.faults.append(Fault(line=line, message=message))

    def _is_empty(self, text: str, line: int) -> bool:
        word = text.lower()
        if word not in EMPTY_WORDS:
            return False
        if word not in NOT_A_NUMBER:
            self.words.setdefault(text, line)
        return True

    def _note_length(self, line: int, key: tuple[str, int], field: str) -> None:
        """Collect the longest distinct fields, up to 100."""
        if len(field) > self._longest:
            self._longest = len(field)
            self._at_longest.clear()
        if len(self._at_longest) < 100:
            self._at_longest.setdefault(field, (line, key))


def _cause(field: str, word: str) -> str:
    """The likely cause of a field that is not a mask, as the end of a message. word: the one that is not a number."""
    if len(field) in CUT:
        return f"; {CUT[len(field)]} cuts fields at {len(field):,} characters"
    if word[:1] in ("[", "(", "{"):
        return "; masks have no brackets"
    if re.match(r"\d[\d.,]*[eE]\+?\d", word):
        return "; a spreadsheet has rounded it, and its digits are lost"
    if re.match(r"\d*[,;:|]", word):
        return "; blanks separate numbers, and nothing stands inside of them"
    return "; numbers are whole, without a decimal point" if re.match(r"\d+\.", word) else ""
