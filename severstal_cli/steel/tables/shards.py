"""A submission in the making: a folder of parts, so that a killed prediction goes on and processes can share the work.

    submission.parts/plan.json               what is predicted and by what; parts of another plan are not taken over
    submission.parts/part-00001.csv          the table of the first images, a row for every image and class
    submission.parts/part-00001.scores.csv   how sure its rows are
    submission.parts/part-00001.json         written last: its fingerprint, masks by class, images that were skipped

A part is finished when its JSON is there. Its fingerprint is that of its images' names, sizes and times: a part whose
images have changed since is made again. `records.read_records` reads the tables of such a folder as one.
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
from severstal_cli.steel.tables.csv_rows import PLAN, part_path

PARTS = 64
"""As many as there are of a usual set: a killed prediction loses one of them at most."""

MULTIPLE, LARGEST = 16, 4096
"""Images of a part: a multiple of usual batches, as none goes over its end; more make long waits."""


def parts_path(submission: Path) -> Path:
    """Where the parts of a submission are kept."""
    return submission.with_suffix(".parts")


def shard_size(images: int) -> int:
    """Images per shard of a prediction of so many images. No batch crosses the end of a shard."""
    return min(-(-images // (PARTS * MULTIPLE)) * MULTIPLE, LARGEST)


@dataclass(frozen=True, kw_only=True)
class Subset:
    """What a finished part holds."""

    fingerprint: str
    """Of its images."""
    masks_by_class: tuple[int, ...]
    """Images with a mask of each class."""
    skipped: Mapping[str, str]
    """image_id -> why it could not be read."""


class Parts:
    """The parts of one prediction.

    folder: where they are. images: all images in their order. plan: what else decides the masks, as JSON values.
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
        self._taken: dict[int, str] = {}
        self._plan = json.loads(json.dumps({"parts": len(self.images), "images": names, "layout": layout, **plan}))

    def begin(self, *, resume: bool) -> None:
        """Make the folder; with `resume`, keep the parts that are finished.

        Raises:
            InputError: there are finished parts and no `resume`, or they are of another plan.
            OutputError: the folder cannot be made.
        """
        there = sorted(self.folder.glob("part-*.json"))
        if there and not resume:
            raise InputError("the parts of a prediction are in the way", f"{len(there)} in {self.folder}",
                             "Give --resume to go on with it, or remove them")  # fmt: skip
        files.remove_parts(self.folder)
        if there:
            self.check_plan()
            for number in self.images.keys() - set(self.finished()):
                part_path(self.folder, number, ".json").unlink(missing_ok=True)
        else:
            self.clear()
        files.write_text(self.folder / PLAN, json.dumps(self._plan, indent=2) + "\n")

    def is_finished(self, number: int) -> bool:
        """Whether a part is there, of the images as they are now."""
        try:
            return self._story(number).fingerprint == _fingerprint(self.images[number])
        except (OSError, ValueError):
            return False

    def is_written(self, number: int) -> bool:
        """Whether a part is there, whatever has become of its images since it was begun."""
        return part_path(self.folder, number, ".json").is_file()

    def is_shared(self) -> bool:
        """Whether the folder is the one that the first process has begun."""
        return (self.folder / PLAN).is_file()

    def check_plan(self) -> None:
        """See that what is there is of this prediction. Raises InputError."""
        path = self.folder / PLAN
        try:
            there = typed.read_table(path)
        except FileNotFoundError:
            raise InputError(f"{path} is missing", "without it the parts beside it are of nobody knows what",
                             f"Remove {self.folder}, and predict again") from None  # fmt: skip
        except OSError as error:
            raise files.unreadable(path, error) from error
        except ValueError as error:
            raise InputError(f"{path} is damaged", str(error), f"Remove {self.folder}, and predict again") from error
        other = [name for name in {**self._plan, **there} if self._plan.get(name) != there.get(name)]
        if other:
            raise InputError(f"the parts in {self.folder} are of another prediction", f"other {', '.join(other)}",
                             "Give the same command as before and on each machine, or remove them")  # fmt: skip

    def take(self, numbers: Iterable[int]) -> None:
        """These parts are about to be made: they will count as made of their images as they are now."""
        self._taken |= {number: _fingerprint(self.images[number]) for number in numbers}

    def written(self) -> list[int]:
        """The numbers of the parts that are there."""
        return [number for number in self.images if self.is_written(number)]

    def finished(self) -> list[int]:
        """The numbers of the finished parts."""
        return [number for number in self.images if self.is_finished(number)]

    def write(
        self,
        number: int,
        masks: Mapping[tuple[str, int], rle.RLE],
        scores: Mapping[str, Sequence[float]],
        skipped: Mapping[str, str],
        classes: int,
    ) -> None:
        """Write a part, whole or not at all. `scores`: of every image of it, in order. Raises OutputError."""
        part_path(self.folder, number, ".json").unlink(missing_ok=True)
        table = part_path(self.folder, number)
        mask_table.write_table(table, masks, list(scores), classes, layout=self.layout)
        confidence.write_scores(confidence.scores_path(table), scores)
        story = {
            "fingerprint": self._taken.get(number) or _fingerprint(self.images[number]),
            "masks_by_class": [sum(channel == at for _, at in masks) for channel in range(classes)],
            "skipped": dict(skipped),
        }
        files.write_text(part_path(self.folder, number, ".json"), json.dumps(story) + "\n")

    def read(self, number: int) -> Subset:
        """What a finished part holds. Raises InputError: another program has changed it meanwhile."""
        path = part_path(self.folder, number, ".json")
        try:
            return self._story(number)
        except OSError as error:
            raise files.unreadable(path, error) from error
        except ValueError as error:
            raise InputError(f"{path} is damaged", str(error), "Predict again with --resume") from error

    def masks(self) -> Mapping[tuple[str, int], rle.RLE]:
        """All masks of the parts, which must be finished."""
        return mask_table.read_table(self.folder).masks

    def join(self, path: Path) -> None:
        """Write the tables of the parts, which must be finished, as one, whole or not at all. Raises OutputError."""
        _join([part_path(self.folder, number) for number in self.images], path)

    def join_scores(self, path: Path) -> None:
        """Likewise how sure their rows are."""
        _join([confidence.scores_path(part_path(self.folder, number)) for number in self.images], path)

    def clear(self) -> None:
        """Remove what is of a prediction, and nothing else.

        The plan goes last: a kill on the way leaves parts that count with the plan that says of what they are.
        """
        finished_first = sorted(self.folder.glob("part-*"), key=lambda path: path.suffix != ".json")
        for path in (*finished_first, self.folder / PLAN):
            path.unlink(missing_ok=True)

    def _story(self, number: int) -> Subset:
        return typed.make(Subset, typed.read_table(part_path(self.folder, number, ".json")))


def _join(tables_of_parts: Sequence[Path], path: Path) -> None:
    """Their rows as they are, below the one header."""
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        for number, part in enumerate(tables_of_parts):
            with part.open("rb") as rows:
                header = rows.readline()
                if number == 0:
                    file.write(header)
                shutil.copyfileobj(rows, file)


def _fingerprint(images: Sequence[Path]) -> str:
    return hashlib.sha256(repr([_state(path) for path in images]).encode()).hexdigest()[:16]


def _state(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:  # such a one may have been skipped
        return path.name, 0, 0
    return path.name, stat.st_size, stat.st_mtime_ns
