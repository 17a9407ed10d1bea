"""A submission in the making, as a folder of shards, so that processes share the work and a killed prediction resumes.

    submission.parts/plan.json               the settings of the prediction; shards of other settings are refused
    submission.parts/part-00001.csv          the table of the first images, one row per image and class
    submission.parts/part-00001.scores.csv   the confidence of its rows
    submission.parts/part-00001.json         written last: fingerprint, masks per class, skipped images

A shard is finished when its JSON file exists and has the fingerprint of its images: their names, sizes and times. A
shard whose images have changed is predicted again.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from severstal_cli import files, typed
from severstal_cli.errors import InputError
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables import confidence, mask_table

PLAN = "plan.json"

SHARDS = 64
"""Number of shards, unless each would have more than `LARGEST` images. A kill loses only unfinished shards."""

MULTIPLE, LARGEST = 16, 4096
"""Images per shard: a multiple of usual batch sizes, as no batch spans two shards, and the maximum."""


def shards_folder(submission: Path) -> Path:
    """The folder of the shards of a submission."""
    return submission.with_suffix(".parts")


def shard_size(images: int) -> int:
    """Images per shard of a prediction of so many images. No batch crosses the end of a shard."""
    return min(-(-images // (SHARDS * MULTIPLE)) * MULTIPLE, LARGEST)


def shard_path(folder: Path, number: int, suffix: str = ".csv") -> Path:
    """A file of a shard; shards are numbered from 1."""
    return folder / f"part-{number:05d}{suffix}"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The JSON file of a finished shard."""

    fingerprint: str
    """Of its images."""
    masks_by_class: tuple[int, ...]
    """Images with a mask of each class."""
    skipped: Mapping[str, str]
    """image_id -> why it could not be read."""


class Shards:
    """The shards of one prediction.

    folder: their folder. images: all images in order. plan: the other settings that decide the masks, as JSON values.
    """

    def __init__(
        self, folder: Path, images: Sequence[Path], plan: Mapping[str, Any], layout: mask_table.Layout
    ) -> None:
        self.folder, self.layout = folder, layout
        size = shard_size(len(images))
        self.images = {
            number: tuple(images[begin : begin + size])
            for number, begin in enumerate(range(0, len(images), size), start=1)
        }
        names = hashlib.sha256("\n".join(path.name for path in images).encode()).hexdigest()[:16]
        self._fingerprints: dict[int, str] = {}
        self._plan = json.loads(json.dumps({"parts": len(self.images), "images": names, "layout": layout, **plan}))

    def begin(self, *, resume: bool) -> None:
        """Make the folder; with `resume`, keep the finished shards.

        Raises:
            InputError: there are finished shards without `resume`, or of another plan.
            OutputError: the folder cannot be made.
        """
        existing = sorted(self.folder.glob("part-*.json"))
        if existing and not resume:
            raise InputError(
                f"{self.folder} holds {len(existing)} finished shards of an earlier prediction",
                "",
                "Give --resume to continue it, or remove the folder",
            )
        files.remove_temporaries(self.folder)
        if existing:
            self.check_plan()
            for number in self.images.keys() - set(self.finished()):
                shard_path(self.folder, number, ".json").unlink(missing_ok=True)
        else:
            self.clear()
        files.write_text(self.folder / PLAN, json.dumps(self._plan, indent=2) + "\n")

    def is_finished(self, number: int) -> bool:
        """Whether a shard exists for the images as they are now."""
        try:
            return self._read(number).fingerprint == _fingerprint(self.images[number])
        except (OSError, ValueError):
            return False

    def is_written(self, number: int) -> bool:
        """Whether a shard exists, even if its images have changed since it was begun."""
        return shard_path(self.folder, number, ".json").is_file()

    def is_shared(self) -> bool:
        """Whether this process sees the folder that the first process has made."""
        return (self.folder / PLAN).is_file()

    def check_plan(self) -> None:
        """Check that the existing shards are of this prediction. Raises InputError."""
        path = self.folder / PLAN
        try:
            existing = typed.read_table(path)
        except FileNotFoundError:
            raise InputError(
                f"{path} is missing",
                "the settings of the shards beside it are unknown",
                f"Remove {self.folder}, and predict again",
            ) from None
        except OSError as error:
            raise files.unreadable(path, error) from error
        except ValueError as error:
            raise InputError(f"{path} is damaged", str(error), f"Remove {self.folder}, and predict again") from error
        differing = [name for name in {**self._plan, **existing} if self._plan.get(name) != existing.get(name)]
        if differing:
            raise InputError(
                f"the shards in {self.folder} are of another prediction",
                f"other {', '.join(differing)}",
                "Give the same command as before and on each machine, or remove them",
            )

    def take(self, numbers: Iterable[int]) -> None:
        """Note the fingerprints of shards about to be predicted, so that later changes of their images count."""
        self._fingerprints |= {number: _fingerprint(self.images[number]) for number in numbers}

    def written(self) -> list[int]:
        """The numbers of the shards that exist."""
        return [number for number in self.images if self.is_written(number)]

    def finished(self) -> list[int]:
        """The numbers of the finished shards."""
        return [number for number in self.images if self.is_finished(number)]

    def write(
        self,
        number: int,
        masks: Mapping[tuple[str, int], rle.RLE],
        scores: Mapping[str, Sequence[float]],
        skipped: Mapping[str, str],
        classes: int,
    ) -> None:
        """Write a shard, whole or not at all. scores: of every image of it, in order. Raises OutputError."""
        shard_path(self.folder, number, ".json").unlink(missing_ok=True)
        table = shard_path(self.folder, number)
        mask_table.write_table(table, masks, list(scores), classes, layout=self.layout)
        confidence.write_scores(confidence.scores_path(table), scores)
        content = {
            "fingerprint": self._fingerprints.get(number) or _fingerprint(self.images[number]),
            "masks_by_class": [sum(channel == of_mask for _, of_mask in masks) for channel in range(classes)],
            "skipped": dict(skipped),
        }
        files.write_text(shard_path(self.folder, number, ".json"), json.dumps(content) + "\n")

    def read(self, number: int) -> Shard:
        """The JSON file of a finished shard. Raises InputError: another program has changed it meanwhile."""
        path = shard_path(self.folder, number, ".json")
        try:
            return self._read(number)
        except OSError as error:
            raise files.unreadable(path, error) from error
        except ValueError as error:
            raise InputError(f"{path} is damaged", str(error), "Predict again with --resume") from error

    def masks(self) -> dict[tuple[str, int], rle.RLE]:
        """All masks of the shards, which must be finished. Raises InputError: a table is missing or damaged."""
        masks: dict[tuple[str, int], rle.RLE] = {}
        for number in self.images:
            masks |= mask_table.read_table(shard_path(self.folder, number)).masks
        return masks

    def join(self, path: Path) -> None:
        """Write the tables of the shards, which must be finished, as one, whole or not at all. Raises OutputError."""
        _join([shard_path(self.folder, number) for number in self.images], path)

    def join_scores(self, path: Path) -> None:
        """Likewise the confidence of their rows."""
        _join([confidence.scores_path(shard_path(self.folder, number)) for number in self.images], path)

    def clear(self) -> None:
        """Remove the files of a prediction, and no others.

        The plan goes last, so that after a kill the remaining shards are still known to be of that plan.
        """
        finished_first = sorted(self.folder.glob("part-*"), key=lambda path: path.suffix != ".json")
        for path in (*finished_first, self.folder / PLAN):
            path.unlink(missing_ok=True)

    def _read(self, number: int) -> Shard:
        return typed.make(Shard, typed.read_table(shard_path(self.folder, number, ".json")))


def _join(tables: Sequence[Path], path: Path) -> None:
    """Concatenate tables below the header of the first."""
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        for number, table in enumerate(tables):
            with table.open("rb") as rows:
                header = rows.readline()
                if number == 0:
                    file.write(header)
                shutil.copyfileobj(rows, file)


def _fingerprint(images: Sequence[Path]) -> str:
    return hashlib.sha256(repr([_state(path) for path in images]).encode()).hexdigest()[:16]


def _state(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:  # a missing image may have been skipped
        return path.name, 0, 0
    return path.name, stat.st_size, stat.st_mtime_ns
