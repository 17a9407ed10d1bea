"""Names of mask files: which image and class a file is of, and whether its name can be believed.

`0002cc93b_1.png` is class 1 of the image `0002cc93b.jpg`; `0002cc93b.jpg_1.png` names the image in full, where
`0002cc93b.png` is another one. A label image, or a mask of a class that is given, is named as its image.

`In_8.png` may be image 8 of a kind of defect instead of class 8 of an image: names that count images are refused.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.files import nfc
from severstal_cli.steel.images.image_files import image_stem, other_ending
from severstal_cli.steel.images.image_headers import IMAGE_SUFFIXES
from severstal_cli.steel.mask_images.mask_classes import remedy_for_whole_name
from severstal_cli.steel.mask_images.mask_files import KINDS, MASK_SUFFIXES, SAVE_AS_PNG
from severstal_cli.steel.tables.csv_rows import RowError, check_image_id, read_class
from severstal_cli.wording import listed

_LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".jxl", ".avif", ".heic"}
_OTHER_IMAGES = {".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".psd", ".xcf", ".npy"}
_BELIEVED_CLASSES = 4
"""As many as the competition has: names up to this class are not doubted."""


@dataclass(frozen=True, kw_only=True)
class MaskFile:
    """A mask file and what its name says; `class_id` 0: a label image, which holds several classes."""

    path: Path
    image_id: str
    class_id: int


def mask_name(image_id: str, class_id: int, in_full: bool) -> str:
    """The file for a mask, as `ImageNames` reads it."""
    return f"{image_id if in_full else image_stem(image_id)}_{class_id}.png"


def need_full_names(image_ids: Iterable[str]) -> set[str]:
    """The images whose masks need their names in full: they differ only in the ending, or have two of them."""
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
    """From the name of a mask to its image."""

    def __init__(self, images: Path | None, listed: Collection[str], suffix: str) -> None:
        self._images, self._listed, self._suffix = images, listed, suffix
        self._by_stem: dict[str, list[str]] = {}
        for image_id in listed:
            self._by_stem.setdefault(image_stem(image_id), []).append(image_id)

    @property
    def are_known(self) -> bool:
        """Whether there is a list of images to look names up in."""
        return self._images is not None

    def candidates(self, stem: str) -> list[str]:
        """The images that `stem` may name: with a list of images those of it, else the one with the suffix."""
        stem = nfc(stem)  # as the ids of images are
        if self._images is None:
            return [stem if Path(stem).suffix.lower() in IMAGE_SUFFIXES else stem + self._suffix]
        if stem in self._listed:
            return [stem]
        return self._by_stem.get(stem, [])

    def find(self, path: Path, stem: str) -> str:
        """The image of the mask at `path`. Raises InputError: none, or several; RowError: the name cannot be one."""
        if not stem:
            raise RowError("ImageId is empty")
        candidates = self.candidates(stem)
        if len(candidates) != 1:
            if candidates:
                remedy = f"Name it in full, as {mask_name(candidates[0], 1, in_full=True)}"
                raise InputError(f"{path}", f"it could be of {' or '.join(candidates)}", remedy)
            other = other_ending(stem, self._listed)
            raise InputError(f"{path}", f"no image {stem} in {self._images}{other}", "Name a mask after its image")
        check_image_id(candidates[0])
        return candidates[0]


def find_mask_files(place: Path) -> tuple[list[Path], list[str]]:
    """The mask files of a folder, sorted by name, and what else it holds; hidden files aside.

    Raises InputError: no such folder, no masks in it, or images of a kind that no mask can have.
    """
    if not place.exists():
        raise InputError(f"{place}", "no such file or folder", "Check the path")
    entries = sorted(place.iterdir()) if place.is_dir() else [place]
    found, others = [], []
    for path in entries:
        suffix = path.suffix.lower()
        if path.name.startswith(".") and place.is_dir():
            continue
        if path.is_dir():
            others.append(path.name + "/")
        elif suffix in MASK_SUFFIXES:
            found.append(path)
        elif suffix in _LOSSY:
            raise InputError(f"{path}", f"a {suffix[1:].upper()} file: its compression changes pixels", SAVE_AS_PNG)
        elif suffix in _OTHER_IMAGES:
            raise InputError(f"{path}", f"masks are {KINDS} files", SAVE_AS_PNG)
        else:
            others.append(path.name)
    if not found:
        held = f"it holds {listed(others, 5)}" if others else "it is empty"
        raise InputError(f"no masks in {place}", held, f"Name the folder with the mask files: {KINDS}")
    return found, others


def name_masks(
    paths: Sequence[Path], names: ImageNames, *, class_id: int | None, classes: int
) -> tuple[list[MaskFile], str]:
    """The masks by image and class, each image and class once, and a line that says how the first name was read.

    Args:
        paths: the files.
        names: which image a name means.
        class_id: None: names are IMAGE_CLASS; else each is named as its image: 0 for label images, or the class.
        classes: how many there are, as far as a person said it: names are then believed; 0: not said.

    Raises InputError: a name of another kind, of no image, or that counts images; two files for one mask.
    """
    by_whole_name = class_id is not None
    files: dict[tuple[str, int], MaskFile] = {}
    for path in paths:
        try:
            stem, named = (path.stem, class_id) if class_id is not None else _split(path)
            image_id = names.find(path, stem)
        except RowError as error:
            if by_whole_name:
                raise InputError(f"{path}", f"its name is not that of an image: {error}", "Rename it") from error
            raise InputError(
                f"{path}", f"its name is not IMAGE_CLASS.png: {error}", remedy_for_whole_name(path)
            ) from error
        except InputError as error:
            if by_whole_name or len(names.candidates(path.stem)) != 1:
                raise
            found = f"{names.candidates(path.stem)[0]} is an image, so its name holds no class"
            raise InputError(f"{path}", found, remedy_for_whole_name(path)) from error
        file = MaskFile(path=path, image_id=image_id, class_id=named or 0)
        if files.setdefault((image_id, file.class_id), file) is not file:
            raise InputError(f"{path}", f"{files[image_id, file.class_id].path.name} is the same mask", "Remove one")
    found_files = [files[key] for key in sorted(files)]
    if not by_whole_name and not classes:
        _doubt(found_files, names)
    return found_files, "names are read as " + _reading(next(file for file in found_files if file.path == paths[0]))


def _split(path: Path) -> tuple[str, int]:
    """`a_b_1.png` -> (`a_b`, 1). Raises RowError."""
    stem, _, class_text = path.stem.rpartition("_")
    return stem, read_class(class_text)


def _reading(file: MaskFile) -> str:
    what = f"class {file.class_id}" if file.class_id else "all classes"
    return f"{file.path.name} -> image {file.image_id}, {what}"


def _doubt(files: Sequence[MaskFile], names: ImageNames) -> None:
    """Raise InputError where what stands behind the last underscore seems to count images, not classes."""
    file = max(files, key=lambda file: file.class_id)
    found = ""
    if names.are_known:
        if all(len(names.candidates(file.path.stem)) == 1 for file in files):
            found = "each file is named as an image, too"
    elif count_images([(file.image_id, file.class_id) for file in files]):
        classes = sorted({file.class_id for file in files})
        found = f"{len(files)} files with the numbers {listed(classes, 5)} look like images that were numbered"
    if found:
        confirm = f"--classes {file.class_id}" + ("" if names.are_known else ", or --images")
        remedy = (
            f"If {file.class_id} is a class, give {confirm}; if {file.path.stem} is an image, --label-images or "
            "--class 1"
        )
        raise InputError(f"{_reading(file)}", found, remedy)


def count_images(pairs: Collection[tuple[str, int]]) -> bool:
    """Whether (image, class) pairs look as if the class counted images.

    Classes are few and each is met in many images. Numbers of images are met once or twice each, or are more than
    there are "images", or count 1, 2, 3, ... anew in each "image". Up to the classes of the competition nothing can be
    known, and nothing is said.
    """
    classes = {class_id for _, class_id in pairs}
    if max(classes) <= _BELIEVED_CLASSES:
        return False
    by_image: dict[str, set[int]] = {}
    for image_id, class_id in pairs:
        by_image.setdefault(image_id, set()).add(class_id)
    lengths = Counter(len(found) for found in by_image.values())
    are_counted = all(max(found) == len(found) for found in by_image.values()) and len(lengths) > 1
    return len(pairs) < 3 * len(classes) or len(classes) > len(by_image) or are_counted
