"""Image files of a folder, and their ids, by which tables name them."""

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.files import nfc
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.images.image_headers import IMAGE_SUFFIXES, kind_of, max_pixels
from severstal_cli.steel.tables.csv_rows import RowError, check_image_id


def id_of(path: Path) -> str:
    """Return the id of an image: its file name, normalised to Unicode NFC.

    Some systems store `é` as one code point, others as two (NFD); normalised, tables and folders agree.

    Raises InputError: the name is not allowed in a table.
    """
    name = nfc(path.name)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}", "the name of the file is not UTF-8", "Rename it") from None
    try:
        check_image_id(name)
    except RowError as fault:
        raise InputError("the name of an image is not allowed in a table", str(fault), "Rename it") from fault
    return name


def find_images(files_and_folders: Sequence[Path], progress: Progress = SILENT) -> list[Path]:
    """Return the given image files and the images of the given folders, sorted by name; subfolders are ignored.

    An image in a folder has a suffix of IMAGE_SUFFIXES, or no suffix and the first bytes of a known format. Other
    entries are logged to `progress`, except hidden files.

    Raises:
        InputError: a path does not exist, a folder has no images, a name is not allowed in a table, or two files have
            the same id.
    """
    max_pixels()  # report a wrong limit once, not per image
    by_id: dict[str, Path] = {}
    for file_or_folder in files_and_folders:
        for path in _images_at(file_or_folder, progress):
            name = id_of(path)
            if (other := by_id.setdefault(name, path)) is not path:
                forms = ", in two Unicode forms" if other.parent == path.parent else ""
                raise InputError(f"two images are named {name}", f"{other} and {path}{forms}", "Rename one of them")
    return list(by_id.values())


def image_stem(image_id: str) -> str:
    """`a.b.jpg` -> `a.b`; an id without an image suffix stays as it is: `plate.001`."""
    path = Path(image_id)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else image_id


def same_stem_names(wanted: Iterable[str], named: Collection[str]) -> dict[str, str]:
    """Map names missing from `named` to names in it that differ only in suffix or case, as `a.jpg` -> `A.png`.

    A wanted name is not a substitute for another one.
    """
    wanted, known = dict.fromkeys(wanted), frozenset(named)  # a tuple of names would be searched for each of them
    missing = [name for name in wanted if name not in known]
    by_stem = {image_stem(name).casefold(): name for name in named if name not in wanted} if missing else {}
    return {name: by_stem[stem] for name in missing if (stem := image_stem(name).casefold()) in by_stem}


def same_stem_hint(image_id: str, known: Collection[str]) -> str:
    """For messages about a missing image: " (a.jpg exists)" if only the suffix or the case differs, else ""."""
    matches = same_stem_names([image_id], known)
    return f" ({matches[image_id]} exists)" if matches else ""


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


def check_no_images(folder: Path, image_ids: Collection[str], remedy: str) -> None:
    """Raise InputError if `folder` holds one of the images: PNG files written there would be taken for images."""
    if found := in_folders([folder], image_ids):
        raise InputError(f"{folder} holds the images", f"{min(found)} is one", remedy)


def _images_at(file_or_folder: Path, progress: Progress) -> list[Path]:
    """Return the file itself, or the images of the folder sorted by name."""
    try:
        if not file_or_folder.is_dir():
            if not file_or_folder.exists():
                raise InputError(f"{file_or_folder}", "no such file or folder", "Check the path")
            return [file_or_folder]
        entries = sorted(path for path in file_or_folder.iterdir() if not path.name.startswith("."))
    except OSError as fault:
        raise InputError(f"{file_or_folder}", f"cannot be read: {fault.strerror}", "Check the path") from None
    paths, folders, others = [], [], []
    for path in entries:
        if path.is_dir():
            folders.append(path.name)
        elif _is_image(path):
            paths.append(path)
        else:
            others.append(path.name)
    ignored = [
        f"{len(names):,} {kind if len(names) == 1 else kinds}, first {names[0]}"
        for names, kind, kinds in (
            (folders, "folder", "folders"),
            (others, "file that is not an image", "files that are not images"),
        )
        if names
    ]
    if not paths:
        raise InputError(
            f"no images in {file_or_folder}", "; ".join(ignored) or "it is empty", "Name the folder with the images"
        )
    if ignored:
        progress.log(f"{file_or_folder}: ignored {' and '.join(ignored)}")
    return sorted(paths, key=lambda path: nfc(path.name))


def _is_image(path: Path) -> bool:
    """Whether a file of a folder is an image: by its suffix, or without a suffix by its first bytes.

    A broken link with an image suffix counts, as it must not be ignored silently. A number is not a suffix.
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
