"""Whether tables and images belong together: by the names of images, and by their sizes."""

from collections.abc import Collection, Mapping
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.images.image_files import other_endings
from severstal_cli.steel.images.surveys import survey
from severstal_cli.steel.tables.csv_rows import place, short
from severstal_cli.steel.tables.mask_table import MaskTable, past_the_end
from severstal_cli.wording import counted


def check_names(path: Path, table: MaskTable, image_ids: Collection[str], what: str) -> None:
    """See that the table at `path` names the images as they are called. what: "that count", say.

    An image without a row is no fault. Raises InputError: only the endings of names differ, or all of them do.
    """
    known = set(table.image_ids)
    endings = other_endings(image_ids, known)
    if endings:
        image_id, other = next(iter(endings.items()))
        line = place(min(line for (name, _), line in table.lines.items() if name == other))
        raise InputError(f"{path}, {line}: it names {short(other)}", f"the image is {short(image_id)}",
                         f"{counted(len(endings))} {'differ' if len(endings) > 1 else 'differs'} by the ending or the "
                         "case of the name alone: give rows and files the same")  # fmt: skip
    if known and known.isdisjoint(image_ids):
        first = next(iter(image_ids), "")
        raise InputError(f"{path} names none of the images {what}",
                         f"it names {short(table.image_ids[0])}, wanted is {short(first)}",
                         "Check that table and images belong together")  # fmt: skip


def check_inside(path: Path, table: MaskTable, sizes: Mapping[str, tuple[int, int]]) -> None:
    """See that no mask of the table at `path` reaches past the end of its image.

    sizes: (height, width) of the images to look at. Raises InputError.
    """
    for fault in past_the_end(table, {image_id: height * width for image_id, (height, width) in sizes.items()}):
        raise InputError(f"{path}, {fault.place}", fault.message, "Masks must be drawn on images of this size")


def sizes_of(files: Mapping[str, Path], progress: Progress = SILENT) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """(height, width) of images by image_id, and what is wrong with those that cannot be read.

    What their headers say that a person should know is reported.
    """
    found = survey(list(files.values()), progress)
    for note in found.notes:
        progress.log(note)
    sizes = {image_id: found.sizes[path] for image_id, path in files.items() if path in found.sizes}
    return sizes, list(map(str, found.wrong.values()))


def unread(wrong: list[str]) -> str:
    """That images could not be looked at; "" where all could."""
    if not wrong:
        return ""
    return f"runs past the end were not looked for in images that cannot be read: {len(wrong)}, first {wrong[0]}"
