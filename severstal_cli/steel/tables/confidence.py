"""The confidence of each row of a submission: `submission.scores.csv` beside `submission.csv`.

    ImageId,ClassId,Score
    0002cc93b.jpg,1,0.9312
    0002cc93b.jpg,2,0.9961

One row per predicted image and class, in the order of the images. `Score`, from 0 to 1, is the expected Dice of the row
under the predicted probabilities. Take the levels 255 204 0 51, that is probabilities 1.0 0.8 0.0 0.2, with the first
two pixels as the mask: 2 * (1.0 + 0.8) / (2 pixels + 2.0 over the image) = 0.9. For an empty mask it is 1 less the
peak probability: 1 - 1.0 = 0.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli.errors import InputError
from severstal_cli.files import nfc, replacing
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables.csv_rows import (
    BrokenRow,
    RowError,
    check_count,
    quote,
    read_class,
    read_rows,
    read_score,
)
from severstal_cli.steel.tables.table_files import unpacked_name

COLUMNS = ("ImageId", "ClassId", "Score")


def expected_dice(levels: NDArray[np.uint8], masks: Sequence[rle.RLE]) -> list[float]:
    """The expected Dice of the masks of one image, one per class.

    levels: (C, H, W) uint8, those that the masks were made from (exclusive where the masks are); masks: C of them.
    """
    scores = []
    for channel, runs in zip(levels, masks, strict=True):
        if len(runs):
            inside = int(channel[rle.decode(runs, channel.shape)].sum())
            scores.append(2 * inside / (255 * rle.area(runs) + int(channel.sum())))
        else:
            scores.append(1 - int(channel.max(initial=0)) / 255)
    return scores


def scores_path(submission: Path) -> Path:
    """The file with the confidence of a submission."""
    return unpacked_name(submission).with_suffix(".scores.csv")


def write_scores(path: Path, scores: Mapping[str, Sequence[float]]) -> None:
    """Write the confidence of each image, one per class, whole or not at all. Raises OutputError."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for image_id, of_classes in scores.items():
            writer.writerows((image_id, channel + 1, f"{score:.4f}") for channel, score in enumerate(of_classes))


def read_scores(path: Path) -> dict[tuple[str, int], float]:
    """(image_id, channel) -> confidence. Raises InputError: the file is missing or wrong, with the first wrong line."""
    if not path.exists():
        raise InputError(
            f"{path} is missing",
            "it holds the confidence of the rows of the submission",
            "Predict again: this version of `severstal predict` writes it",
        )
    columns, rows = read_rows(path)
    if columns != COLUMNS:
        raise InputError(f"{path}, line 1", f"the header is {quote(','.join(columns))}, not {','.join(COLUMNS)}")
    scores, line = {}, 1
    try:
        for line, fields in rows:  # noqa: B007 (read in the handler)
            check_count(fields, columns)
            scores[nfc(fields[0]), read_class(fields[1]) - 1] = read_score(fields[2])
    except (RowError, BrokenRow) as error:
        line = error.line if isinstance(error, BrokenRow) else line
        raise InputError(f"{path}, line {line}", str(error), "Predict again") from error
    return scores
