"""From files to results: in order, errors at their places, bounded, and no batch over the border of a group."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from severstal_cli.errors import InputError
from severstal_cli.learning.inference import pipeline
from severstal_cli.steel.images.decoding import Grey


def _files(folder: Path, number: int, wrong: Iterable[int] = ()) -> list[Path]:
    paths = [folder / f"{n}.png" for n in range(number)]
    for value, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((4, 5), value, np.uint8))
        if value in wrong:
            path.write_bytes(b"")
    return paths


class _Copier:
    """A "network" that gives the picture back; keeps what it was given, None for the end of a batch."""

    def __init__(self, lag: int = 0) -> None:
        self.given: list[int | None] = []
        self.lag = lag

    def __call__(self, pictures: Iterable[Grey | None]) -> Iterator[np.ndarray]:
        waiting = []
        for picture in pictures:
            self.given.append(None if picture is None else int(picture[0, 0]))
            waiting += [] if picture is None else [picture[None]]
            if len(waiting) > self.lag:
                yield waiting.pop(0)
        yield from waiting


def _value(_: Path, levels: np.ndarray) -> int:
    return int(levels[0, 0, 0])


def test_wrong_files_are_told_at_their_places_however_late_levels_come(tmp_path: Path) -> None:
    paths = _files(tmp_path, 9, wrong=(0, 3, 4, 8))
    for lag in (0, 2, 20):
        found = list(pipeline.from_files([paths[:4], paths[4:]], _Copier(lag), _value, batch_size=2))
        assert [path for path, _ in found] == paths
        wrong = [number for number, (_, result) in enumerate(found) if isinstance(result, InputError)]
        assert wrong == [0, 3, 4, 8]
        assert [result for _, result in found if isinstance(result, int)] == [1, 2, 5, 6, 7]


def test_each_group_ends_a_batch_also_where_its_last_file_is_wrong(tmp_path: Path) -> None:
    paths = _files(tmp_path, 6, wrong=(1, 2, 3))
    copier = _Copier()
    list(pipeline.from_files([paths[:2], paths[2:4], paths[4:]], copier, _value, batch_size=2))
    assert copier.given == [0, None, None, 4, 5, None]


def test_files_are_not_read_all_at_once(tmp_path: Path, monkeypatch) -> None:
    read = []
    monkeypatch.setattr(pipeline, "read_grey", lambda path, *_: read.append(path) or np.zeros((2, 2), np.uint8))
    monkeypatch.setattr(pipeline, "cpu_count", lambda: 2)
    results = pipeline.from_files([[tmp_path / str(n) for n in range(500)]], _Copier(), _value, batch_size=2)
    next(results)
    assert len(read) < 50
