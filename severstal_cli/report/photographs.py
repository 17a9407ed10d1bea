"""The photographs of a report: grey JPEG files, numbered."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from severstal_cli.progress import Progress
from severstal_cli.steel.images import Grey, cv2
from severstal_cli.steel.parallel import map_in_order

FOLDER = "photographs"
QUALITY = 85
"""What is left of the grain is what a person sees; a photograph of 256 x 1600 takes some 70 KB."""


def number_of(row: int) -> str:
    """What the files of the `row`-th image are called."""
    return f"{row + 1:06d}"


def write(
    place: Path, image_ids: Sequence[str], photograph: Callable[[str], Grey], progress: Progress
) -> list[tuple[int, int]]:
    """Write every photograph to the report at `place`, in threads; return their heights and widths.

    Raises OSError, and what `photograph` raises.
    """
    (place / FOLDER).mkdir()

    def keep(item: tuple[int, str]) -> tuple[int, int]:
        row, image_id = item
        grey = photograph(image_id)
        done, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise ValueError(f"no JPEG can be made of {grey.shape}")
        (place / FOLDER / f"{number_of(row)}.jpg").write_bytes(data.tobytes())
        return int(grey.shape[0]), int(grey.shape[1])

    sizes = []
    with progress.bar("photographs", len(image_ids), "images") as bar:
        ahead = 2 * (os.cpu_count() or 1)
        for size in map_in_order(keep, enumerate(image_ids), ahead=ahead, name="photographs"):
            sizes.append(size)
            bar.advance()
    return sizes
