"""Parse the names of mask files to image and class, and refuse ambiguous names.

`0002cc93b_1.png` is class 1 of the image `0002cc93b.jpg`; `0002cc93b.jpg_1.png` contains the full image name, for the
case that `0002cc93b.png` is another image. A label image, or a mask whose class is an option, is named like its image.

`In_8.png` may be image number 8 instead of class 8: names that seem to number images are refused.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.files import nfc
from severstal_cli.steel.images.image_files import image_stem, same_stem_hint
from severstal_cli.steel.images.image_headers import IMAGE_SUFFIXES
from severstal_cli.steel.mask_images.mask_classes import remedy_for_whole_name
from severstal_cli.steel.mask_images.mask_files import KINDS, MASK_SUFFIXES, SAVE_AS_PNG
from severstal_cli.steel.tables.csv_rows import RowError, check_image_id, read_class
from severstal_cli.wording import listed

_LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".jxl", ".avif", ".heic"}
_OTHER_IMAGES = {".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".psd", ".xcf", ".npy"}
_TRUSTED_CLASSES = 4
"""Classes of the competition: names up to this class are not questioned."""


@dataclass(frozen=True, kw_only=True)
class MaskFile:
    """A mask file with its image and class; `class_id` 0: a label image of several classes."""

    path: Path
    image_id: str
    class_id: int


def mask_name(image_id: str, class_id: int, in_full: bool) -> str:
    """Return the file name of a mask, as `ImageNames` parses it."""
    return f"{image_id if in_full else image_stem(image_id)}_{class_id}.png"


def need_full_names(image_ids: Iterable[str]) -> set[str]:
    """Return images whose masks need the full name: names that differ only in the suffix, or have two suffixes."""
    by_stem: dict[str, list[str]] = {}
    for image_id in image_ids:
        by_stem.setdefault(image_stem(image_id), []).append(image_id)
    return {
        image_id
        for stem, ids in by_stem.items()
        if len(ids) > 1 or Path(stem).suffix.lower() in IMAGE_SUFFIXES
        for image_id in ids
    }


class ImageNames:
    """Map the name of a mask to its image."""

    def __init__(self, images: Path | None, listed: Collection[str], suffix: str) -> None:
        self._images, self._listed, self._suffix = images, listed, suffix
        self._by_stem: dict[str, list[str]] = {}
        for image_id in listed:
            self._by_stem.setdefault(image_stem(image_id), []).append(image_id)

    @property
    def are_known(self) -> bool:
        """Whether a list of images was given."""
        return self._images is not None

    def candidates(self, stem: str) -> list[str]:
        """Return the images that `stem` may mean: the listed ones, or without a list `stem` plus the suffix."""
        stem = nfc(stem)  # like image ids
        if self._images is None:
            return [stem if Path(stem).suffix.lower() in IMAGE_SUFFIXES else stem + self._suffix]
        if stem in self._listed:
            return [stem]
        return self._by_stem.get(stem, [])

    def find(self, path: Path, stem: str) -> str:
        """Return the image of the mask at `path`. Raises InputError: none, or several; RowError: not an image name."""
        if not stem:
            raise RowError("ImageId is empty")
        candidates = self.candidates(stem)
        if len(candidates) != 1:
            if candidates:
                remedy = f"Use the full image name, e.g. {mask_name(candidates[0], 1, in_full=True)}"
                raise InputError(f"{path}", f"it matches {' and '.join(candidates)}", remedy)
            other = same_stem_hint(stem, self._listed)
            raise InputError(f"{path}", f"no image {stem} in {self._images}{other}", "Name a mask after its image")
        check_image_id(candidates[0])
        return candidates[0]


def find_mask_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the mask files of a folder (or the given file), sorted by name, and its other visible entries.

    Raises InputError: no such folder, no masks in it, or images in a format that masks cannot have.
    """
    if not folder.exists():
        raise InputError(f"{folder}", "no such file or folder", "Check the path")
    entries = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    masks, others = [], []
    for path in entries:
        suffix = path.suffix.lower()
        if path.name.startswith(".") and folder.is_dir():
            continue
        if path.is_dir():
            others.append(path.name + "/")
        elif suffix in MASK_SUFFIXES:
            masks.append(path)
        elif suffix in _LOSSY:
            raise InputError(f"{path}", f"a {suffix[1:].upper()} file: its compression changes pixels", SAVE_AS_PNG)
        elif suffix in _OTHER_IMAGES:
            raise InputError(f"{path}", f"masks are {KINDS} files", SAVE_AS_PNG)
        else:
            others.append(path.name)
    if not masks:
        held = f"it holds {listed(others, 5)}" if others else "it is empty"
        raise InputError(f"no masks in {folder}", held, f"Name the folder with the mask files: {KINDS}")
    return masks, others


def name_masks(
    paths: Sequence[Path], names: ImageNames, *, class_id: int | None, classes: int
) -> tuple[list[MaskFile], str]:
    """Return the masks by image and class, and a log line with the parse of the first name.

    Args:
        paths: the files.
        names: maps names to images.
        class_id: None: names are IMAGE_CLASS; else each file is named like its image: 0 for label images, or the class.
        classes: number of classes if the user gave it, so that names are trusted; else 0.

    Raises InputError: a name cannot be parsed, has no image, or seems to number images; two files for one mask.
    """
    by_whole_name = class_id is not None
    files: dict[tuple[str, int], MaskFile] = {}
    for path in paths:
        try:
            stem, named = (path.stem, class_id) if class_id is not None else _split(path)
            image_id = names.find(path, stem)
        except RowError as error:
            if by_whole_name:
                raise InputError(f"{path}", f"its name is not the name of an image: {error}", "Rename it") from error
            raise InputError(
                f"{path}", f"its name is not IMAGE_CLASS.png: {error}", remedy_for_whole_name(path)
            ) from error
        except InputError as error:
            if by_whole_name or len(names.candidates(path.stem)) != 1:
                raise
            match = f"{names.candidates(path.stem)[0]} is an image, so the file name has no class"
            raise InputError(f"{path}", match, remedy_for_whole_name(path)) from error
        file = MaskFile(path=path, image_id=image_id, class_id=named or 0)
        if files.setdefault((image_id, file.class_id), file) is not file:
            raise InputError(f"{path}", f"{files[image_id, file.class_id].path.name} is the same mask", "Remove one")
    masks = [files[key] for key in sorted(files)]
    if not by_whole_name and not classes:
        _check_numbers_are_classes(masks, names)
    return masks, "names are read as " + _reading(next(file for file in masks if file.path == paths[0]))


def _split(path: Path) -> tuple[str, int]:
    """`a_b_1.png` -> (`a_b`, 1). Raises RowError."""
    stem, _, class_text = path.stem.rpartition("_")
    return stem, read_class(class_text)


def _reading(file: MaskFile) -> str:
    classes = f"class {file.class_id}" if file.class_id else "all classes"
    return f"{file.path.name} -> image {file.image_id}, {classes}"


def _check_numbers_are_classes(files: Sequence[MaskFile], names: ImageNames) -> None:
    """Raise InputError if the number behind the last underscore seems to be of an image, not of a class."""
    file = max(files, key=lambda file: file.class_id)
    reason = ""
    if names.are_known:
        if all(len(names.candidates(file.path.stem)) == 1 for file in files):
            reason = "each file is also named like an image"
    elif count_images([(file.image_id, file.class_id) for file in files]):
        classes = sorted({file.class_id for file in files})
        reason = f"{len(files)} files with the numbers {listed(classes, 5)} look like numbered images"
    if reason:
        confirm = f"--classes {file.class_id}" + ("" if names.are_known else ", or --images")
        remedy = (
            f"If {file.class_id} is a class, give {confirm}; if {file.path.stem} is an image, --label-images or "
            "--class 1"
        )
        raise InputError(f"{_reading(file)}", reason, remedy)


def count_images(pairs: Collection[tuple[str, int]]) -> bool:
    """Whether the classes in (image, class) pairs look like image numbers.

    Classes are few, and each occurs in many images. Image numbers occur once or twice each, or outnumber the "images",
    or restart at 1 in each "image". Numbers up to the classes of the competition are always accepted.
    """
    classes = {class_id for _, class_id in pairs}
    if max(classes) <= _TRUSTED_CLASSES:
        return False
    by_image: dict[str, set[int]] = {}
    for image_id, class_id in pairs:
        by_image.setdefault(image_id, set()).add(class_id)
    lengths = {len(numbers) for numbers in by_image.values()}
    restart = all(max(numbers) == len(numbers) for numbers in by_image.values()) and len(lengths) > 1
    return len(pairs) < 3 * len(classes) or len(classes) > len(by_image) or restart
