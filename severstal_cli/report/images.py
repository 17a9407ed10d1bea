"""The images of a report: grey JPEG files, numbered."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from severstal_cli.errors import InputError
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import Progress
from severstal_cli.steel.images.decoding import Grey, cv2

MOST = 65_500
"""Pixels of a side, as JPEG has it."""
FOLDER = "images"
QUALITY = 75
"""What is left of the grain is what a person sees; a image of 256 x 1600 takes some 50 kB."""


def number_of(row: int) -> str:
    """What the files of the `row`-th image are called."""
    return f"{row + 1:06d}"


def write(
    place: Path, image_ids: Sequence[str], image: Callable[[str], Grey], progress: Progress
) -> list[tuple[int, int]]:
    """Write every image to the report at `place`, in threads; return their heights and widths.

    Raises OSError, what `image` raises, and InputError for one that is too large.
    """
    (place / FOLDER).mkdir()

    def keep(item: tuple[int, str]) -> tuple[int, int]:
        row, image_id = item
        grey = image(image_id)
        if max(grey.shape) > MOST:
            raise InputError(f"{image_id} is too large to show", f"{grey.shape[0]} x {grey.shape[1]} pixels",
                             f"A side may have {MOST:,}")  # fmt: skip
        _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        (place / FOLDER / f"{number_of(row)}.jpg").write_bytes(data.tobytes())
        return int(grey.shape[0]), int(grey.shape[1])

    sizes = []
    with progress.bar("images", len(image_ids), "images") as bar:
        ahead = 2 * (os.cpu_count() or 1)
        for size in map_in_order(keep, enumerate(image_ids), ahead=ahead, name="images"):
            sizes.append(size)
            bar.advance()
    return sizes
