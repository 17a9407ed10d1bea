"""Check that a table matches images, by their names and sizes."""

from collections.abc import Collection, Mapping
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.images.image_files import same_stem_names
from severstal_cli.steel.images.surveys import survey
from severstal_cli.steel.tables.csv_rows import place, short
from severstal_cli.steel.tables.mask_table import MaskTable, past_the_end
from severstal_cli.wording import counted, spans


def check_names(path: Path, table: MaskTable, image_ids: Collection[str], what: str) -> None:
    """Check that the table at `path` names the images by their ids. `what` describes the images, e.g. "that count".

    Images without a row are allowed. Raises InputError: names differ only in suffix or case, or no name matches.
    """
    known = set(table.image_ids)
    endings = same_stem_names(image_ids, known)
    if endings:
        image_id, other = next(iter(endings.items()))
        line = place(min(line for (name, _), line in table.lines.items() if name == other))
        raise InputError(
            f"{path}, {line}: it names {short(other)}",
            f"the image is {short(image_id)}",
            f"{counted(len(endings))} {'differ' if len(endings) > 1 else 'differs'} only in the suffix or "
            "case of the name: give rows and files the same",
        )
    if known and known.isdisjoint(image_ids):
        first = next(iter(image_ids), "")
        raise InputError(
            f"{path} names none of the images {what}",
            f"it names {short(table.image_ids[0])}, expected {short(first)}",
            "Check that the table is for these images",
        )


def check_classes(path: Path, table: MaskTable, truth: Path, true: MaskTable, progress: Progress) -> None:
    """Check the classes of a submission. Classes outside the ground truth are not scored: empty rows would be right.

    Raises InputError: there is no class to score, or masks of a class outside the ground truth.
    """
    if not table.classes and not true.classes:
        raise InputError("no classes to score", f"{path} and {truth} have no rows", "Give other files")
    unknown = set(table.class_ids) - set(true.class_ids)
    rows = table.masks if true.class_ids else table.lines
    wrong = [(table.lines[key], key[1] + 1) for key in rows if key[1] + 1 in unknown] if unknown else []
    if wrong:
        line, class_id = min(wrong)
        is_gap = class_id < true.classes
        raise InputError(
            f"{path}, {place(line)}: it names class {class_id}",
            f"{truth} has {spans(true.class_ids) if is_gap else true.classes}",
            "Remove it, or add a row of that class to the ground truth, which may be empty",
        )
    if unknown:
        progress.log(
            f"not scored: class {spans(sorted(unknown))}, which {truth} does not name; {path} has only empty rows of it"
        )


def check_inside(path: Path, table: MaskTable, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raise InputError if a mask of the table at `path` reaches past the end of its image.

    sizes: image_id -> (height, width) of the images to check.
    """
    for fault in past_the_end(table, {image_id: height * width for image_id, (height, width) in sizes.items()}):
        raise InputError(f"{path}, {fault.place}", fault.message, "Masks must be drawn on images of this size")


def sizes_of(files: Mapping[str, Path], progress: Progress = SILENT) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Return image_id -> (height, width), and the faults of unreadable images; log the notes of the survey."""
    headers = survey(list(files.values()), progress)
    for note in headers.notes:
        progress.log(note)
    sizes = {image_id: headers.sizes[path] for image_id, path in files.items() if path in headers.sizes}
    return sizes, list(map(str, headers.wrong.values()))


def unread(wrong: list[str]) -> str:
    """Return a note on images that could not be read; "" if there are none."""
    if not wrong:
        return ""
    return f"masks were not checked against the size of {len(wrong)} unreadable images, first {wrong[0]}"
