"""Pseudo-labels: confident predictions of a submission, used as annotations of unannotated images."""

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
    """Additional training images; their names differ from those of the annotated images."""

    cache: ImageCache
    """All decoded images of the folder, selected or not."""
    image_ids: tuple[str, ...]
    """Selected images, sorted by name."""
    masks: Mapping[tuple[str, int], rle.RLE]
    """(image_id, channel) -> RLE, not empty, of the selected images."""
    fingerprint: str
    """Hash of names, pixels and masks of the selected images, sixteen hexadecimal digits."""


def open_pseudo(
    config: TrainConfig, data_folder: DataFolder, train_ids: Collection[str], progress: Progress = SILENT
) -> PseudoLabels | None:
    """Select the images whose rows all reach the minimum confidence; None if the settings have no pseudo-labels.

    Near-duplicates of images outside `train_ids` are excluded, since they would leak into validation or holdout.

    Raises:
        InputError: submission, scores or images are missing, wrong, or do not match each other or `data_folder`; or no
            image is confident enough.
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
        raise InputError(
            f"{submission} names annotated images of {data_folder.folder}",
            f"{len(known)}, first {short(known[0])}",
            "Give pseudo-labels for other images, with other names",
        )
    if table.classes > data_folder.classes:
        raise InputError(
            f"{submission} has classes 1 to {table.classes}",
            f"{data_folder.folder} has {data_folder.classes}",
            "Give a submission of a run that was trained on the same classes",
        )
    if not folder.is_dir():
        raise InputError("no such folder", str(folder), f"Give the images of {submission.name}")
    cache = open_cache(folder, progress, bits=data_folder.cache.bits)
    check_fits(submission, table, cache, folder.name)

    lowest = _lowest_scores(submission, table, scores, data_folder.classes)
    confident = [image_id for image_id, score in lowest.items() if score >= config.pseudo_min_score]
    if not confident:
        raise InputError(
            f"no image of {submission} has a confidence of at least {config.pseudo_min_score:g}",
            f"the highest is {max(lowest.values(), default=0):.4f}",
            "Give a lower --pseudo-min-score",
        )
    training = set(train_ids)
    held_out = [data_folder.cache[number] for name, number in data_folder.cache.index.items() if name not in training]
    candidates = [cache[cache.index[image_id]] for image_id in confident]
    with progress.bar("comparing images", len(held_out) + len(candidates), "images") as bar:
        groups = find_near_duplicates(chain(held_out, candidates), bar).tolist()
    leaking = set(groups[: len(held_out)])
    selected = tuple(
        name for name, group in zip(confident, groups[len(held_out) :], strict=True) if group not in leaking
    )
    if not selected:
        raise InputError(
            f"no image of {submission} is left to train on",
            f"{len(confident)} are confident, all near-duplicates of validation or holdout",
            "Give other images, or a lower --pseudo-min-score",
        )
    excluded = len(confident) - len(selected)
    progress.log(
        f"pseudo-labels: {len(selected)} of {len(lowest)} images selected, with a confidence of at least "
        f"{config.pseudo_min_score:g}"
        + (f"; {excluded} excluded as near-duplicates of validation or holdout" if excluded else "")
    )
    masks = {key: runs for key, runs in table.masks.items() if key[0] in set(selected)}
    digest = hashlib.sha256()
    for image_id in selected:
        digest.update(f"{image_id}\n".encode() + pixel_digest(cache[cache.index[image_id]]))
    for (image_id, channel), runs in sorted(masks.items(), key=lambda item: item[0]):
        digest.update(f"{image_id} {channel}\n".encode() + runs.tobytes())
    return PseudoLabels(cache=cache, image_ids=selected, masks=masks, fingerprint=digest.hexdigest()[:16])


def _lowest_scores(
    submission: Path, table: MaskTable, scores: Mapping[tuple[str, int], float], classes: int
) -> dict[str, float]:
    """Return image_id -> the lowest score of its classes."""
    missing = [pair for pair in product(table.image_ids, range(classes)) if pair not in scores]
    if missing:
        image_id, channel = missing[0]
        raise InputError(
            f"the scores beside {submission} lack rows",
            f"{len(missing)}, first {image_id}, class {channel + 1}",
            f"Predict again, with a run of all {classes} classes",
        )
    names = sorted(table.image_ids)  # training must not depend on the order of rows
    return {image_id: min(scores[image_id, channel] for channel in range(classes)) for image_id in names}
