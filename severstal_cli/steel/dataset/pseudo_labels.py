"""Pseudo labels: a submission taken as annotations of images that nobody annotated, where it is sure of them."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset.data_folder import DataFolder, check_fits
from severstal_cli.steel.dataset.near_duplicates import find_near_duplicates
from severstal_cli.steel.images.cache import ImageCache, open_cache
from severstal_cli.steel.images.decoding import pixel_digest
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables import confidence
from severstal_cli.steel.tables.csv_rows import short
from severstal_cli.steel.tables.mask_table import MaskTable, log_merged, read_table


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """Images to train on beside the annotated ones. None of their names is that of an annotated one."""

    cache: ImageCache
    """The decoded images, also those that are not taken."""
    image_ids: tuple[str, ...]
    """Those that are taken, in the order of their names."""
    masks: Mapping[tuple[str, int], rle.RLE]
    """(image_id, channel) -> runs, not empty, of the images that are taken."""
    fingerprint: str
    """Of names, pixels and masks of the images that are taken: sixteen hexadecimal digits."""


def open_pseudo(
    config: TrainConfig, data_folder: DataFolder, train_ids: Collection[str], progress: Progress = SILENT
) -> PseudoLabels | None:
    """The images whose every row is sure enough; None where the settings ask for no pseudo labels.

    An image that shows the steel of one that is not among `train_ids` is left out: that one is there to judge by.

    Raises:
        InputError: submission, scores or images are missing, wrong, or do not go with each other or with
            `images`; or no image is sure enough.
        OutputError: the images cannot be cached.
    """
    if config.pseudo is None or config.pseudo_images is None:
        return None
    submission, folder = config.pseudo, config.pseudo_images
    table = read_table(submission)
    log_merged(submission, table, progress)
    scores = confidence.read_scores(confidence.scores_path(submission))
    known = [image_id for image_id in table.image_ids if image_id in data_folder.cache.index]
    if known:
        raise InputError(f"{submission} names annotated images of {data_folder.folder}",
                         f"{len(known)}, first {short(known[0])}",
                         "Pseudo labels are for other images, with names of their own")  # fmt: skip
    if table.classes > data_folder.classes:
        raise InputError(f"{submission} has classes 1 to {table.classes}",
                         f"{data_folder.folder} has {data_folder.classes}",
                         "Give a submission of a run that was trained on the same classes")  # fmt: skip
    if not folder.is_dir():
        raise InputError("no such folder", str(folder), f"Give the images that {submission.name} is of")
    cache = open_cache(folder, progress, bits=data_folder.cache.bits)
    check_fits(submission, table, cache, folder.name)

    lowest = _lowest_scores(submission, table, scores, data_folder.classes)
    sure = [image_id for image_id, score in lowest.items() if score >= config.pseudo_min_score]
    if not sure:
        raise InputError(f"no image of {submission} has scores of at least {config.pseudo_min_score:g}",
                         f"the best one has {max(lowest.values(), default=0):.4f}",
                         "Give a lower --pseudo-min-score")  # fmt: skip
    of_training = set(train_ids)
    judges = [data_folder.cache[number] for name, number in data_folder.cache.index.items() if name not in of_training]
    pictures = [cache[cache.index[image_id]] for image_id in sure]
    with progress.bar("comparing images", len(judges) + len(pictures), "images") as bar:
        groups = find_near_duplicates(chain(judges, pictures), bar)
    judging = set(groups[: len(judges)].tolist())
    taken = tuple(
        name for name, group in zip(sure, groups[len(judges) :].tolist(), strict=True) if group not in judging
    )
    if not taken:
        raise InputError(f"no image of {submission} is left to train on",
                         f"{len(sure)} with such scores, all near-duplicates of validation or holdout",
                         "Give other images, or a lower --pseudo-min-score")  # fmt: skip
    left_out = len(sure) - len(taken)
    progress.log(
        f"pseudo labels: {len(taken)} of {len(lowest)} images are taken, with scores of at least "
        f"{config.pseudo_min_score:g}"
        + (f"; {left_out} left out: near-duplicates of validation or holdout" if left_out else "")
    )
    chosen = set(taken)
    masks = {key: runs for key, runs in table.masks.items() if key[0] in chosen}
    digest = hashlib.sha256()
    for image_id in taken:
        digest.update(f"{image_id}\n".encode() + pixel_digest(cache[cache.index[image_id]]))
    for (image_id, channel), runs in sorted(masks.items(), key=lambda item: item[0]):
        digest.update(f"{image_id} {channel}\n".encode() + runs.tobytes())
    return PseudoLabels(cache=cache, image_ids=taken, masks=masks, fingerprint=digest.hexdigest()[:16])


def _lowest_scores(
    submission: Path, table: MaskTable, scores: Mapping[tuple[str, int], float], classes: int
) -> dict[str, float]:
    """Of each image, over its classes."""
    missing = [pair for pair in product(table.image_ids, range(classes)) if pair not in scores]
    if missing:
        image_id, channel = missing[0]
        raise InputError(f"the scores beside {submission} lack rows",
                         f"{len(missing)}, first {image_id}, class {channel + 1}",
                         f"Predict again, with a run of all {classes} classes")  # fmt: skip
    names = sorted(table.image_ids)  # what is trained must not depend on the order of rows
    return {image_id: min(scores[image_id, channel] for channel in range(classes)) for image_id in names}
