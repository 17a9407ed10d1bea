"""Image files: which ones a folder holds, and the id of each, by which tables name it."""

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.files import nfc
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.images.image_headers import IMAGE_SUFFIXES, kind_of, max_pixels
from severstal_cli.steel.tables.csv_rows import RowError, check_image_id


def id_of(path: Path) -> str:
    """Return the id of an image: the name of its file, as Unicode NFC.

    Some systems store `é` as one code point, some as two (NFD): tables and folders then still agree.

    Raises InputError: the name cannot stand in a table.
    """
    name = nfc(path.name)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}", "the name of the file is not UTF-8", "Rename it") from None
    try:
        check_image_id(name)
    except RowError as fault:
        raise InputError("the name of an image cannot stand in a table", str(fault), "Rename it") from fault
    return name


def find_images(places: Sequence[Path], progress: Progress = SILENT) -> list[Path]:
    """Return the image files among `places`: files as named, folders by what they hold, sorted by name, not recursive.

    In a folder an image has an ending of IMAGE_SUFFIXES, or none and the first bytes of one. What else is there is
    reported to `progress`, but for hidden files.

    Raises:
        InputError: a place does not exist, a folder has no images, a name cannot stand in a table, or two files have
            the same id.
    """
    max_pixels()  # a wrong limit is an error of its own, not of each image
    found: dict[str, Path] = {}
    for place in places:
        for path in _images_at(place, progress):
            name = id_of(path)
            if (other := found.setdefault(name, path)) is not path:
                forms = ", in two Unicode forms" if other.parent == path.parent else ""
                raise InputError(f"two images are named {name}", f"{other} and {path}{forms}",
                                 "Give each a name of its own")  # fmt: skip
    return list(found.values())


def image_stem(image_id: str) -> str:
    """`a.b.jpg` -> `a.b`; an id that does not end as an image does is its own stem: `plate.001`."""
    path = Path(image_id)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else image_id


def other_endings(wanted: Iterable[str], named: Collection[str]) -> dict[str, str]:
    """Names that are missing from `named` -> those there whose ending or case alone differs, as `a.jpg` -> `A.png`.

    A name that is wanted itself stands for no other.
    """
    wanted = dict.fromkeys(wanted)
    absent = [name for name in wanted if name not in named]
    there = {image_stem(name).casefold(): name for name in named if name not in wanted} if absent else {}
    return {name: there[stem] for name in absent if (stem := image_stem(name).casefold()) in there}


def other_ending(image_id: str, known: Collection[str]) -> str:
    """For a message about an image that is missing: " (a.jpg is there)" where only the ending or the case differs."""
    found = other_endings([image_id], known)
    return f" ({found[image_id]} is there)" if found else ""


def paths_by_id(paths: Iterable[Path]) -> dict[str, Path]:
    """image_id -> path."""
    return {id_of(path): path for path in paths}


def in_folders(folders: Iterable[Path], image_ids: Collection[str]) -> dict[str, Path]:
    """image_id -> path, in the first of the folders with a file of that name; without the images that are missing."""
    found: dict[str, Path] = {}
    for folder in folders:
        if len(found) < len(image_ids) and folder.is_dir():
            names = {nfc(name): name for name in os.listdir(folder)}  # noqa: PTH208 (thousands of Paths are slow)
            found = {name: folder / names[name] for name in image_ids if name in names} | found
    return found


def _images_at(place: Path, progress: Progress) -> list[Path]:
    """The images at a place: the file itself, or those of the folder by name."""
    try:
        if not place.is_dir():
            if not place.exists():
                raise InputError(f"{place}", "no such file or folder", "Check the path")
            return [place]
        there = sorted(path for path in place.iterdir() if not path.name.startswith("."))
    except OSError as fault:
        raise InputError(f"{place}", f"cannot be read: {fault.strerror}", "Check the path") from None
    paths, folders, others = [], [], []
    for path in there:
        if path.is_dir():
            folders.append(path.name)
        elif _is_image(path):
            paths.append(path)
        else:
            others.append(path.name)
    passed = [
        f"{len(names):,} {kind if len(names) == 1 else kinds}, first {names[0]}"
        for names, kind, kinds in (
            (folders, "folder", "folders"),
            (others, "file that is no image", "files that are no images"),
        )
        if names
    ]
    if not paths:
        raise InputError(f"no images in {place}", "; ".join(passed) or "it is empty", "Name the folder with them")
    if passed:
        progress.log(f"{place}: passed over {' and '.join(passed)}")
    return sorted(paths, key=lambda path: nfc(path.name))


def _is_image(path: Path) -> bool:
    """Whether a file of a folder is meant as an image: by its ending, without one by its first bytes.

    A link to something that is missing has its ending: it must not be passed over in silence. A number is no ending.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return path.is_file() or path.is_symlink()
    if path.suffix.strip(".0123456789"):
        return False
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return kind_of(file.read(16)) is not None
    except OSError:
        return False
