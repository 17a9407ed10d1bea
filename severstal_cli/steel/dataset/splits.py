"""`splits.csv` beside the annotations: assigns images to folds and a holdout set, which no training or search reads.

    ImageId,Part,Group,Classes
    0002cc93b.jpg,holdout,0,1
    000418bfc.jpg,3,1,
    00031f466.jpg,3,1,
    0025bde0c.jpg,0,2,3 4

`Part` is the subset: "holdout" or the number of a fold, from 0. Images of the same `Group` are near-duplicates and
share a subset. `Classes` are the class ids of the image's annotations, empty for a clean image. The file has one row
per image of `train_images`, sorted by name.
"""

import csv
import hashlib
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli import files
from severstal_cli.config import SplitConfig
from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset.data_folder import DataFolder, open_data_folder
from severstal_cli.steel.dataset.near_duplicates import find_near_duplicates
from severstal_cli.steel.dataset.stratification import make_splits
from severstal_cli.steel.tables.csv_rows import (
    MAX_CLASS_ID,
    BrokenRow,
    RowError,
    quote,
    read_image_id,
    read_rows,
    short,
)
from severstal_cli.steel.tables.headers import show

HOLDOUT = "holdout"
COLUMNS = ("ImageId", "Part", "Group", "Classes")
_AGAIN = "Run `severstal split` again"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Content of a `splits.csv`; all mappings are sorted by name."""

    path: Path
    parts: Mapping[str, str]
    """image_id -> subset: "holdout" or the number of a fold as text."""
    groups: Mapping[str, int]
    """image_id -> number of its group of near-duplicates."""
    class_sets: Mapping[str, frozenset[int]]
    """image_id -> class ids of its annotations."""

    @property
    def fingerprint(self) -> str:
        """Hash of the subset of each image, sixteen hexadecimal digits."""
        text = "".join(f"{image_id}\0{part}\n" for image_id, part in sorted(self.parts.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def groups_with(self, image_ids: Collection[str]) -> Mapping[str, int] | None:
        """Return the groups if the split has all of these images, else None."""
        return self.groups if self.groups.keys() >= set(image_ids) else None

    def subset_names(self) -> list[str]:
        """Return the names of the subsets: the folds in order, then the holdout if there is one."""
        return sorted(set(self.parts.values()), key=lambda part: (part == HOLDOUT, part.zfill(9)))

    def ids_of(self, part: str) -> list[str]:
        """Return the images of a subset; empty if there is no such subset."""
        return [image_id for image_id, own in self.parts.items() if own == part]


def write_splits(
    path: Path,
    image_ids: Sequence[str],
    parts: NDArray[np.int8],
    groups: NDArray[np.integer],
    class_sets: Sequence[frozenset[int]],
) -> None:
    """Write the result of `make_splits` as `splits.csv`, whole or not at all. Raises OutputError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for position in sorted(range(len(image_ids)), key=image_ids.__getitem__):
        part = int(parts[position])
        classes = " ".join(map(str, sorted(class_sets[position])))
        writer.writerow((image_ids[position], HOLDOUT if part < 0 else part, int(groups[position]), classes))
    files.write_text(path, text.getvalue())


def read_splits(path: Path, image_ids: Collection[str] | None = None) -> Split:
    """Read a split.

    Args:
        path: as written by `write_splits`.
        image_ids: the current images, which must equal those of the split; None: do not check.

    Raises:
        InputError: the file is missing or malformed, an image occurs twice, a fold has no images, a group is in two
            subsets, or the images differ from those of the split.
    """
    if not path.exists():
        raise InputError(f"{path}", "no such file", "Run `severstal split` first")
    header, rows = read_rows(path)
    if header != COLUMNS:
        raise InputError(f"{path}", f"the header is {show(header)}, not {','.join(COLUMNS)}", _AGAIN)
    try:
        split = _parse(path, rows)
    except BrokenRow as broken:
        raise InputError(f"{path}, line {broken.line}", str(broken), _AGAIN) from broken
    _check_folds(split)
    if image_ids is not None:
        _check_same_images(split, image_ids)
    return split


def splits_path(data: Path, *, new: bool = False) -> Path:
    """Return the path of the split of a data folder: in it, or in the user's cache if it is read-only.

    `new`: return the path for a new split.
    """
    return files.beside(data, "splits.csv", new=new)


def split_in(data: Path) -> Split | None:
    """Return the split of a data folder, if there is one, unchecked against its images. Raises as `read_splits`."""
    path = splits_path(data)
    return read_splits(path) if path.exists() else None


def check_fold(split: Split, fold: int) -> None:
    """Raises InputError unless the split has this fold."""
    if str(fold) not in split.parts.values():
        folds = ", ".join(sorted(set(split.parts.values()) - {HOLDOUT}))
        raise InputError("no such fold", str(fold), f"The split has folds {folds}; or --fold none")


def training_subsets(split: Split, fold: int | None) -> tuple[list[str], list[str]]:
    """The image_ids to train on and to validate on, both in the order of the split; fold None: all, and none.

    Raises InputError: the split lacks the fold, or no image is left to train on.
    """
    if fold is None:
        return [image_id for image_id, part in split.parts.items() if part != HOLDOUT], []
    check_fold(split, fold)
    validation = split.ids_of(str(fold))
    train = [image_id for image_id, part in split.parts.items() if part not in (HOLDOUT, str(fold))]
    if not train:
        raise InputError("no image is left to train on", f"fold {fold} and holdout take all", "Split into more folds")
    return train, validation


def split_data(config: SplitConfig, progress: Progress = SILENT) -> Split:
    """Split the images of a data folder, keeping near-duplicates together, and write `splits.csv`.

    Raises:
        InputError: the data is wrong (see `open_data_folder`), or there are too few images for these subsets.
        OutputError: the split or the image cache cannot be written.
    """
    return _split_opened(open_data_folder(config.data, progress), config, progress)


def ensure_splits(data_folder: DataFolder, progress: Progress = SILENT) -> Split:
    """Return the split of a data folder; if there is none, create it with the defaults of `SplitConfig`.

    Raises as `read_splits` and `split_data`, and InputError if the images differ from those of the split.
    """
    path = splits_path(data_folder.folder)
    if path.exists():
        return read_splits(path, data_folder.cache.index)
    config = SplitConfig(data=data_folder.folder)
    split = _split_opened(data_folder, config, progress)
    progress.log(f"{split.path}: {config.holdout:.0%} of {len(split.parts):,} images held out, {config.folds} folds")
    return split


def _split_opened(data_folder: DataFolder, config: SplitConfig, progress: Progress) -> Split:
    cache, class_sets = data_folder.cache, data_folder.class_sets()
    with progress.bar("comparing images", len(cache), "images") as bar:
        groups = find_near_duplicates(cache, bar)
    parts = make_splits(
        cache.image_ids, class_sets, groups, holdout=config.holdout, folds=config.folds, seed=config.seed
    )
    wanted = {*range(config.folds), *([-1] if config.holdout else [])}
    if wanted - set(parts.tolist()):
        raise InputError(
            f"too few images for {len(wanted)} subsets",
            f"{len(cache)} images in {groups.max() + 1} groups that must stay together",
            "Use fewer folds, or another holdout",
        )
    path = splits_path(config.data, new=True)
    write_splits(path, cache.image_ids, parts, groups, class_sets)
    return read_splits(path, cache.index)


def _parse(path: Path, rows: Iterable[tuple[int, Sequence[str]]]) -> Split:
    """Parse the rows below the header. Raises InputError with the line of the first fault."""
    parts: dict[str, str] = {}
    groups: dict[str, int] = {}
    class_sets: dict[str, frozenset[int]] = {}
    part_of_group: dict[int, str] = {}
    for line, row in rows:
        try:
            _check_row(row)
            image_id, part, group, classes = files.nfc(row[0]), row[1], int(row[2]), row[3]
            if image_id in parts:
                raise RowError(f"{short(image_id)} occurs a second time")
            if part_of_group.setdefault(group, part) != part:
                raise RowError(f"group {group} is in subset {part_of_group[group]} and in subset {part}")
        except RowError as fault:
            raise InputError(f"{path}, line {line}", str(fault), _AGAIN) from fault
        parts[image_id], groups[image_id] = part, group
        class_sets[image_id] = frozenset(map(int, classes.split()))
    names = sorted(parts)
    parts, groups = {name: parts[name] for name in names}, {name: groups[name] for name in names}
    return Split(path=path, parts=parts, groups=groups, class_sets={name: class_sets[name] for name in names})


def _check_row(row: Sequence[str]) -> None:
    """Check a row by itself. Raises RowError."""
    if len(row) != len(COLUMNS):
        raise RowError(f"{len(row)} fields instead of {len(COLUMNS)}")
    image_id, part, group, classes = row
    read_image_id(image_id)
    if part != HOLDOUT and not _is_number(part):
        raise RowError(f"Part is {_quoted(part)}, neither {HOLDOUT} nor the number of a fold")
    if not _is_number(group):
        raise RowError(f"Group is {_quoted(group)}, not a number")
    if not all(_is_number(text) and int(text) <= MAX_CLASS_ID for text in classes.split()):
        raise RowError(f"Classes are {_quoted(classes)}, not class ids")


def _quoted(text: str) -> str:
    return f'"{quote(text)[1:-1]}"'


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and text == str(int(text))


def _check_folds(split: Split) -> None:
    folds = [part for part in split.subset_names() if part != HOLDOUT]
    for number, fold in enumerate(folds):
        if fold != str(number):
            raise InputError(f"{split.path}", f"no image is in fold {number}, but some are in fold {fold}", _AGAIN)
    if not folds:
        raise InputError(f"{split.path}", "no image is in a fold", _AGAIN)


def _check_same_images(split: Split, image_ids: Collection[str]) -> None:
    for odd, where in (
        (set(image_ids) - set(split.parts), "in train_images but not in the split"),
        (set(split.parts) - set(image_ids), "in the split but not in train_images"),
    ):
        if odd:
            others = f" and {len(odd) - 1:,} others are" if len(odd) > 1 else " is"
            raise InputError(f"{split.path}", f"{min(odd)}{others} {where}", _AGAIN)
