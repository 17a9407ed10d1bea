"""The images of a report: greyscale JPEG files, numbered."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from severstal_cli.config.checks import JPEG_SIDE_PX
from severstal_cli.errors import InputError
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import Progress
from severstal_cli.report.folder import file_number
from severstal_cli.steel.images.decoding import Grey, cv2

QUALITY = 75
"""Keeps the visible grain; an image of 256 x 1600 takes about 50 kB."""


def write(
    site: Path, image_ids: Sequence[str], read: Callable[[str], Grey], progress: Progress
) -> list[tuple[int, int]]:
    """Write every image to the report at `site`, in threads. Return heights and widths.

    Raises OSError, whatever `read` raises, and InputError for an image that is too large.
    """
    folder = site / "images"
    folder.mkdir()

    def write_one(item: tuple[int, str]) -> tuple[int, int]:
        row, image_id = item
        grey = read(image_id)
        height, width = grey.shape
        if max(height, width) > JPEG_SIDE_PX:
            raise InputError(
                f"{image_id} is too large to show", f"{height} x {width} pixels", f"A side may have {JPEG_SIDE_PX:,}"
            )
        _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        (folder / f"{file_number(row)}.jpg").write_bytes(data.tobytes())
        return height, width

    sizes = []
    with progress.bar("images", len(image_ids), "images") as bar:
        ahead = 2 * (os.cpu_count() or 1)
        for size in map_in_order(write_one, enumerate(image_ids), ahead=ahead, name="images"):
            sizes.append(size)
            bar.advance()
    return sizes
