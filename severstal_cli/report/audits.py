"""The page of an audit: suspected faults to accept or reject, and the scripts that it reads on demand.

Its folder is that of a report, with these files of its own:

    data/index.js          names and sizes of the images; image, class, kind, score and box of every finding
    images/000001.jpg      the first image that a finding is about
    masks/000001.js        its annotated masks
    rows/000001.js         the rows of the table for the first `ROWS` findings: their masks, and what is exported

The browser keeps the choices by `key`, a hash of the data and of the table with its decisions, so a page that is
written again finds them, and that of another audit does not.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from severstal_cli import __version__, typed
from severstal_cli.config import ReportConfig
from severstal_cli.errors import InputError
from severstal_cli.files import unreadable
from severstal_cli.progress import Progress
from severstal_cli.report import folder, images, page
from severstal_cli.steel import class_names
from severstal_cli.steel.audit import accepting, finding_table
from severstal_cli.steel.audit.finding_table import Decision
from severstal_cli.steel.audit.findings import Finding, Kind
from severstal_cli.steel.dataset import data_folder
from severstal_cli.steel.dataset.data_folder import DataFolder
from severstal_cli.steel.tables.table_files import metadata_path
from severstal_cli.wording import class_label, counted

ROWS = 200
"""Findings per script in `rows`: few enough to load at once, and to keep a folder of 20,000 findings small."""
SCRIPTS = ("masks", "loader", "drawing", "zooming", "choices", "findings", "audit")
"""In loading order."""
KINDS = {
    Kind.MISSED: ("Missed", "predicted component", "The runs see a defect that nobody drew.",
                  "it is added to the mask."),
    Kind.INVENTED: ("Invented", "drawn component", "No run sees this drawn component.", "it is removed."),
    Kind.WRONG_CLASS: ("Wrong class", "drawn component", "The runs see class {class} in this drawn component.",
                       "it moves to class {class}."),
    Kind.BOUNDARY: ("Boundary", "predicted component", "Drawn and predicted outlines differ.",
                    "the predicted outline replaces the drawn one."),
    Kind.DISAGREEMENT: ("Disagreement", "mask of the near-duplicate",
                        "A near-duplicate, {other}, has another mask of this class.",
                        "the mask of the near-duplicate replaces this one."),
}  # fmt: skip
"""Name, what the outline is, the suspected fault, and what follows if it is accepted."""


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """`audit.json`: the data of an audit."""

    data: Path
    data_fingerprint: str
    class_names: tuple[str, ...]


def write(config: ReportConfig, site: Path, progress: Progress) -> tuple[int, int]:
    """Write the page of `config.shown`, one table of an audit, to `site`. Return the number of findings and of images.

    Raises:
        InputError: the table is wrong, or does not fit the data.
        OutputError: the images cannot be cached.
    """
    path = _only_path(config)
    columns, rows = finding_table.read(path)
    if not rows:
        raise InputError(f"{path} has no row", "the audit suspects no fault", "There is nothing to show")
    origin = _read_origin(path)
    audited = config.data or (None if origin is None else origin.data)
    if audited is None:
        raise InputError(
            f"the data of {path} is unknown",
            f"there is no {metadata_path(path).name} beside it",
            "Give --data DATA, the audited folder",
        )
    data = data_folder.open_data_folder(audited, progress)
    if origin is None:
        progress.log(f"note: without {metadata_path(path).name} nothing shows whether {audited} was audited")
    elif origin.data_fingerprint != data.fingerprint:
        raise InputError(
            f"{data.folder} is not the data of {path}",
            "its annotations or images have changed since, or are others",
            "Run the audit again, or give the audited folder with --data",
        )
    sizes = {
        name: (int(height), int(width))
        for name, (height, width) in zip(data.cache.image_ids, data.cache.sizes, strict=True)
    }
    decisions = [decision for _, decision in rows]
    for decision in decisions:
        _check(path, decision, sizes, data)
    names = _class_names(config, data, origin)
    # in the order of the findings, so that the first images are those of the first findings
    shown = list(dict.fromkeys(name for each in decisions for name in _image_ids(each.finding)))
    images.write(site, shown, lambda name: data.cache[data.cache.index[name]], progress)
    _write_masks(site, shown, data)
    _write_rows(site, columns, [fields for fields, _ in rows])
    title = f"{counted(len(rows), 'suspected fault')} in {data.folder.resolve().name}"
    index = _index(columns, rows, shown, sizes, names, data)
    folder.write_index(site, index)
    metadata = {
        "severstal_report": __version__,
        "title": title,
        "audit": str(path),
        "key": index["key"],
        "data_fingerprint": data.fingerprint,
        "findings": len(rows),
    }
    (site / folder.METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    text = page.render(
        "audit.html",
        title=title,
        scripts=SCRIPTS,
        classes=index["labels"],
        findings=len(rows),
        images=len(shown),
        choices=finding_table.CHOICES,
    )
    # last, so that a page exists only with all its files
    (site / folder.INDEX).write_text(text, encoding="utf-8")
    return len(rows), len(shown)


def view(finding: Finding, height: int) -> tuple[int, int, int, int]:
    """x, y, width and height of what must be in sight: the box of a finding, and its mask, which may be larger."""
    x, y, box_width, box_height = finding.box
    right, bottom = x + box_width, y + box_height
    if len(finding.mask):
        starts = finding.mask[:, 0].astype(np.int64)
        lasts = starts + finding.mask[:, 1] - 1
        x, right = min(x, int(starts[0]) // height), max(right, int(lasts[-1]) // height + 1)
        if (starts // height != lasts // height).any():  # a run passes the end of a column
            y, bottom = 0, height
        else:
            y, bottom = min(y, int((starts % height).min())), max(bottom, int((lasts % height).max()) + 1)
    return x, y, right - x, bottom - y


def _only_path(config: ReportConfig) -> Path:
    """The table. Raises InputError: there are other candidates, or options that do nothing."""
    if len(config.shown) > 1:
        raise InputError("an audit is shown alone", " ".join(map(str, config.shown)), "Name the table of one audit")
    if config.truth is not None or config.images is not None:
        raise InputError(
            "not clear which images to show", "an audit shows images of its own data", "Leave out --truth and --images"
        )
    return config.shown[0]


def _read_origin(path: Path) -> _Origin | None:
    """The JSON beside an audit; None if there is none. Raises InputError: it is damaged, or of another command."""
    beside = metadata_path(path)
    try:
        content = typed.read_table(beside)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(beside, error) from error
    except ValueError as error:
        raise InputError(f"{beside} is damaged", str(error), "Run the audit again, or move the file away") from error
    data, fingerprint, names = (content.get(name) for name in ("data", "data_fingerprint", "class_names"))
    if not (isinstance(data, str) and isinstance(fingerprint, str)):
        raise InputError(
            f"{beside} is not of an audit",
            "it lacks data or data_fingerprint",
            "Run the audit again, or move the file away",
        )
    try:
        class_names.check(names if isinstance(names, list) else [])
    except (ValueError, TypeError, AttributeError):
        names = []
    return _Origin(data=Path(data), data_fingerprint=fingerprint, class_names=tuple(names or ()))


def _check(path: Path, decision: Decision, sizes: Mapping[str, tuple[int, int]], data: DataFolder) -> None:
    """Raises InputError: the row does not fit the data."""
    accepting.check_names(path, decision, sizes, data.class_ids)
    finding = decision.finding
    x, y, box_width, box_height = finding.box
    height, width = sizes[finding.image_id]
    if x + box_width > width or y + box_height > height:
        raise InputError(
            f"{path}, line {decision.line}",
            f"the box ends outside the image of {height} x {width}",
            "Give the table as the audit wrote it",
        )
    if finding.other_image_id is not None and sizes[finding.other_image_id] != (height, width):
        raise InputError(
            f"{path}, line {decision.line}",
            "OtherImageId is an image of another size",
            "Give the table as the audit wrote it",
        )


def _class_names(config: ReportConfig, data: DataFolder, origin: _Origin | None) -> tuple[str, ...]:
    if config.class_names:
        class_names.check_count(config.class_names, data.classes, "--class-names", data.folder / "train.csv")
        return config.class_names
    known = () if origin is None else origin.class_names
    return known if len(known) >= data.classes else data.class_names


def _image_ids(finding: Finding) -> tuple[str, ...]:
    return (finding.image_id,) if finding.other_image_id is None else (finding.image_id, finding.other_image_id)


def _write_masks(site: Path, shown: Sequence[str], data: DataFolder) -> None:
    (site / "masks").mkdir()
    for row, image_id in enumerate(shown):
        masks = {
            channel: page.gaps(data.masks[image_id, channel])
            for channel in range(data.classes)
            if (image_id, channel) in data.masks
        }
        folder.write_script(site, f"masks/{folder.file_number(row)}", [masks])


def _write_rows(site: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write the fields as they are in the table, without those of the column Decision."""
    (site / "rows").mkdir()
    kept = [at for at, name in enumerate(columns) if name != finding_table.DECISION]
    for number, first in enumerate(range(0, len(rows), ROWS)):
        some = [[fields[at] for at in kept] for fields in rows[first : first + ROWS]]
        folder.write_script(site, f"rows/{folder.file_number(number)}", some)


def _index(
    columns: Sequence[str],
    rows: Sequence[tuple[Sequence[str], Decision]],
    shown: Sequence[str],
    sizes: Mapping[str, tuple[int, int]],
    names: Sequence[str],
    data: DataFolder,
) -> dict[str, Any]:
    """What the page filters by, as JSON values; a list per value of the findings."""
    row_of = {image_id: row for row, image_id in enumerate(shown)}
    found = [decision.finding for _, decision in rows]
    kept = [name for name in columns if name != finding_table.DECISION]
    rank = columns.index("Rank")
    given = [
        ""
        if finding_table.DECISION not in columns or not fields[columns.index(finding_table.DECISION)].strip()
        else decision.choice
        for fields, decision in rows
    ]
    digest = hashlib.sha256(f"{data.fingerprint}\n{json.dumps(list(columns))}\n".encode())
    for fields, _ in rows:
        digest.update(json.dumps(fields).encode() + b"\n")
    return {
        "key": digest.hexdigest()[:16],
        "labels": [class_label(channel, names) for channel in range(data.classes)],
        "colours": [page.class_colour(channel) for channel in range(data.classes)],
        "kinds": [dict(zip(("name", "outline", "fault", "accepted"), texts, strict=True)) for texts in KINDS.values()],
        "choices": finding_table.CHOICES,
        "decision": finding_table.DECISION,
        "names": shown,
        "sizes": [side for name in shown for side in sizes[name]],
        "rows": ROWS,
        "columns": kept,
        "mask": kept.index("EncodedPixels"),
        "rank": [fields[rank].strip() for fields, _ in rows],
        "image": [row_of[each.image_id] for each in found],
        "channel": [each.class_id - 1 for each in found],
        "kind": [list(KINDS).index(each.kind) for each in found],
        "score": [each.score for each in found],
        "box": [side for each in found for side in each.box],
        "view": [side for each in found for side in view(each, sizes[each.image_id][0])],
        "pixels": [each.pixels for each in found],
        "predicted": [(each.predicted_class_id or 0) - 1 for each in found],
        "other": [-1 if each.other_image_id is None else row_of[each.other_image_id] for each in found],
        "given": given if any(given) else [],
    }
