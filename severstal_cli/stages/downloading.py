"""`download`: download the competition's data from Kaggle, unpack it, check it, and move it to the data folder.

Each step leaves files in `.download` within the folder, from which the next run of the command resumes:

    archive.zip.part, archive.json   an unfinished transfer (kaggle/transfer)
    archive.zip                      complete, with the right MD5
    unpacked/                        starts again after an interruption
    ready/                           unpacked and checked; only has to be moved
"""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from severstal_cli import files
from severstal_cli.config import Competition, DownloadConfig
from severstal_cli.errors import InputError, OutputError
from severstal_cli.kaggle import archive, client, transfer, wire
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.images import decoding, image_files
from severstal_cli.steel.tables.mask_table import read_table

TRAIN, TEST, TABLE, SAMPLE = "train_images", "test_images", "train.csv", "sample_submission.csv"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The content of a data folder."""

    train_images: int
    test_images: int
    masks: int
    missing: tuple[str, ...]
    """The missing ones of its four files and folders."""

    def __str__(self) -> str:
        missing = f", no {' and no '.join(self.missing)}" if self.missing else ""
        return f"{self.train_images} train images, {self.masks} masks, {self.test_images} test images{missing}"


@dataclass(frozen=True, kw_only=True)
class DownloadResult:
    """A complete data folder."""

    counts: Counts
    was_there: bool
    """It was complete already."""


def download(config: DownloadConfig, progress: Progress = SILENT) -> DownloadResult:
    """Fill the data folder, or resume an earlier download. A complete folder needs no network.

    Raises:
        InputError: the folder has other data; no credentials, or Kaggle refuses them; the archive has other data.
        OutputError: no space, no permission.
        MachineError: the network or Kaggle fails, another process fills this folder.
    """
    work = config.data / ".download"
    ready = work / "ready"
    if not ready.exists():
        counts = _count(config.data)
        if _is_complete(counts, config.competition):
            shutil.rmtree(work, ignore_errors=True)
            return DownloadResult(counts=counts, was_there=True)
        if len(counts.missing) < 4:
            raise InputError(
                f"{config.data} holds other data", str(counts), "Name another folder with --data, or clear this one"
            )
    with files.locked(work, f"another download fills {config.data}"):
        if not ready.exists():
            zipped, unpacked = work / "archive.zip", work / "unpacked"
            if not zipped.exists():
                _fetch(config, zipped, progress)
            _unpack(zipped, unpacked, progress)
            _check(unpacked, config.competition, progress)
            unpacked.rename(ready)
        _move(ready, config.data)
        shutil.rmtree(work, ignore_errors=True)
    return DownloadResult(counts=_count(config.data), was_there=False)


def _fetch(config: DownloadConfig, path: Path, progress: Progress) -> None:
    answer_s = min(wire.ANSWER_S, config.stall_s)
    kaggle = client.connect(config.competition.slug, progress, answer_s=answer_s)
    transfer.fetch(kaggle, path, stall_s=config.stall_s)


def _unpack(zipped: Path, folder: Path, progress: Progress) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        archive.unpack(zipped, folder, progress)
    except InputError as error:  # unpacking it again would fail, too
        zipped.unlink()
        raise InputError(error.what, error.found, "It was removed: the same command downloads it again") from None


def _check(folder: Path, competition: Competition, progress: Progress) -> None:
    """Check that the archive has the competition's data, and that it is readable. Raises InputError."""
    remedy = f"Remove {folder.parent} and run this again; if the error persists, Kaggle has changed its data"
    try:
        read_table(folder / TABLE)
        counts = _count(folder)
        if not _is_complete(counts, competition):
            wanted = f"{competition.train_images}, {competition.masks} and {competition.test_images} are expected"
            raise InputError("the archive holds other data", f"{counts}; {wanted}")
        paths = [path for name in (TRAIN, TEST) for path in _images(folder / name)]
        with progress.bar("opening every image", len(paths), "images") as bar:
            for _ in decoding.read_all(paths):
                bar.advance()
    except InputError as error:
        raise InputError(error.what.replace(f"{folder}{os.sep}", "in the archive: "), error.found, remedy) from None


def _count(folder: Path) -> Counts:
    try:
        masks = len(read_table(folder / TABLE).masks)
    except InputError:
        masks = 0
    return Counts(
        train_images=len(_images(folder / TRAIN)),
        test_images=len(_images(folder / TEST)),
        masks=masks,
        missing=tuple(name for name in (TRAIN, TEST, TABLE, SAMPLE) if not (folder / name).exists()),
    )


def _is_complete(counts: Counts, competition: Competition) -> bool:
    found = counts.train_images, counts.test_images, counts.masks
    return not counts.missing and found == (competition.train_images, competition.test_images, competition.masks)


def _images(folder: Path) -> list[Path]:
    """The images of a folder; [] if it has none."""
    with suppress(InputError):
        return image_files.find_images([folder])
    return []


def _move(ready: Path, data: Path) -> None:
    for name in (TRAIN, TEST, TABLE, SAMPLE):
        if (ready / name).exists():  # else an earlier run of the command has moved it
            if (data / name).exists():
                raise OutputError(
                    f"cannot move {ready / name} to {data}", "the name exists", "Move that file or folder away"
                )
            with files.writing(data / name):
                (ready / name).rename(data / name)
