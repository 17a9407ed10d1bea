"""A data folder: `train.csv` and `train_images/`, read once and checked against each other.

An image without a row is clean. The number of classes and the image sizes come from the data.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import class_names
from severstal_cli.steel.dataset import origin
from severstal_cli.steel.dataset.agreement import check_inside
from severstal_cli.steel.images.cache import ImageCache, open_cache
from severstal_cli.steel.images.image_files import same_stem_names
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables.csv_rows import place, short
from severstal_cli.steel.tables.mask_table import MaskTable, log_gaps, log_merged, read_table


@dataclass(frozen=True, kw_only=True)
class DataFolder:
    """The annotated images of a folder.

    Attributes:
        folder: the data folder.
        cache: the decoded images, sorted by name.
        masks: RLE of every non-empty mask by (image_id, channel).
        classes: the highest class_id of the table.
        class_ids: class_ids that occur in the table; means are over them.
        class_names: those of `classes.txt`; () without it.
        fingerprint: hash of names, sizes and masks, sixteen hexadecimal digits. The cache has that of the pixels.
        origin: fingerprint of the annotations that these were made from, by the JSON beside them; None without it.
    """

    folder: Path
    cache: ImageCache
    masks: Mapping[tuple[str, int], rle.RLE]
    classes: int
    class_ids: tuple[int, ...]
    fingerprint: str
    class_names: tuple[str, ...] = ()
    origin: str | None = None

    def class_sets(self) -> list[frozenset[int]]:
        """Return the class_ids of each image, in the order of the cache."""
        present: dict[str, set[int]] = {}
        for image_id, channel in self.masks:
            present.setdefault(image_id, set()).add(channel + 1)
        return [frozenset(present.get(image_id, ())) for image_id in self.cache.image_ids]

    def usual_size(self) -> tuple[int, int]:
        """Return the most frequent (height, width)."""
        sizes = Counter((int(height), int(width)) for height, width in self.cache.sizes)
        return sizes.most_common(1)[0][0]

    def exclusive(self) -> bool:
        """Whether no two masks of an image share a pixel."""
        by_image: dict[str, list[int]] = {}
        for image_id, channel in self.masks:
            by_image.setdefault(image_id, []).append(channel)
        return not any(
            rle.overlap(self.masks[image_id, a], self.masks[image_id, b])
            for image_id, channels in by_image.items()
            for a, b in combinations(channels, 2)
        )


def open_data_folder(folder: Path, progress: Progress = SILENT) -> DataFolder:
    """Open a data folder, decoding its images into the cache if necessary.

    Raises:
        InputError: a file of the folder is missing or wrong, an annotated image is missing, or a mask reaches past the
            end of its image.
        OutputError: the cache cannot be written.
    """
    check_folder(folder)
    table = read_table(folder / "train.csv")
    if not table.masks:
        raise InputError(f"{folder / 'train.csv'} has no mask", "nothing to learn from", "Give annotated images")
    names = class_names.names_for(folder / "train.csv", table.classes)
    log_merged(folder / "train.csv", table, progress)
    log_gaps(folder / "train.csv", table, progress)
    cache = open_cache(folder / "train_images", progress)
    check_fits(folder / "train.csv", table, cache, "train_images")
    fingerprint = fingerprint_of(table, cache)
    return DataFolder(
        folder=folder,
        cache=cache,
        masks=table.masks,
        classes=table.classes,
        class_ids=table.class_ids,
        fingerprint=fingerprint,
        class_names=names[: table.classes],
        origin=origin.read(folder / "train.csv", fingerprint),
    )


def check_folder(folder: Path) -> None:
    """Raise InputError if there is no such data folder."""
    if not folder.is_dir():
        raise InputError("no such data folder", str(folder), "Give the folder with train.csv and train_images/")


def check_fits(path: Path, table: MaskTable, cache: ImageCache, folder: str) -> None:
    """Check the table at `path` against the images of `folder`.

    Raises InputError: an image of the table is missing, or a mask reaches past the end of its image.
    """
    missing = [image_id for image_id in table.image_ids if image_id not in cache.index]
    if missing:
        lines = [line for (image_id, _), line in table.lines.items() if image_id == missing[0]]
        other = same_stem_names(missing, cache.index).get(missing[0])
        raise InputError(
            f"{path}, {place(min(lines))}: there is no image {short(missing[0])} in {folder}",
            f"{len(missing)} annotated {'images are' if len(missing) > 1 else 'image is'} missing",
            f"{short(other)} exists: give rows and files the same suffix"
            if other
            else "Add the images or remove their rows",
        )
    check_inside(path, table, dict(zip(cache.image_ids, map(tuple, cache.sizes.tolist()), strict=True)))


def fingerprint_of(table: MaskTable, cache: ImageCache) -> str:
    """Return the hash of names, sizes and masks, sixteen hexadecimal digits."""
    digest = hashlib.sha256(f"{table.classes} classes\n".encode())
    for image_id, (height, width) in zip(cache.image_ids, cache.sizes, strict=True):
        digest.update(f"{image_id} {height} {width}\n".encode())
    for (image_id, channel), runs in sorted(table.masks.items(), key=lambda item: item[0]):
        digest.update(f"{image_id} {channel}\n".encode() + runs.tobytes())
    return digest.hexdigest()[:16]
