"""Survey a set of images: sizes and faults by their headers, and the bits in use in its 16-bit files.

Cameras store 10, 12 or 14 bits in 16-bit files. Only a set of images reveals this number, so all images of a set are
divided by the same power of two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from severstal_cli.errors import InputError
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.images.decoding import DEPTHS, FULL_DEPTH, Grey, decoded, header_at, image_size, read_grey
from severstal_cli.steel.images.image_files import find_images, paths_by_id
from severstal_cli.steel.images.image_headers import Header


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Summary of the headers of images."""

    sizes: Mapping[Path, tuple[int, int]]
    """Image -> (height, width), upright; without images whose header cannot be read."""
    wrong: Mapping[Path, InputError]
    """Image -> why its header cannot be read."""
    deep: Sequence[Path]
    """Images of more than 8 bits per sample."""
    notes: Sequence[str]
    """Lines for the user: EXIF orientations and further pages."""

    def size_of(self, path: Path) -> tuple[int, int]:
        """(height, width), upright; the header is read now if `path` is not in the survey. Raises InputError."""
        if path in self.wrong:
            raise self.wrong[path]
        return self.sizes.get(path) or image_size(path)


def survey(paths: Sequence[Path], progress: Progress = SILENT) -> Survey:
    """Read the headers of images."""
    headers: dict[Path, Header] = {}
    wrong: dict[Path, InputError] = {}
    with progress.bar("headers", len(paths), "images") as bar:
        for path in paths:
            try:
                headers[path] = header_at(path)
            except InputError as fault:
                wrong[path] = fault
            bar.advance()
    notes = []
    turned = [path for path, header in headers.items() if header.orientation != 1]
    if turned:
        notes.append(
            f"{len(turned):,} of {len(paths):,} images carry an EXIF orientation, first {turned[0].name}: they are "
            "read upright, as browsers and labelme show them, so masks must be drawn on them as shown"
        )
    paged = [path for path, header in headers.items() if header.pages > 1]
    if paged:
        notes.append(
            f"{len(paged):,} of {len(paths):,} images have further pages or frames, first {paged[0].name} with "
            f"{headers[paged[0]].pages:,} in all: only the first one is read"
        )
    return Survey(
        sizes={path: header.size for path, header in headers.items()},
        wrong=wrong,
        deep=[path for path, header in headers.items() if header.deep],
        notes=notes,
    )


def images_of(folder: Path, progress: Progress = SILENT) -> tuple[dict[str, Path], Survey]:
    """Return image_id -> path of the images in a folder, and their survey; log ignored files and the survey's notes.

    Raises InputError as `find_images`.
    """
    paths = find_images([folder], progress)
    headers = survey(paths)
    for note in headers.notes:
        progress.log(note)
    return paths_by_id(paths), headers


def orientation_remedy(path: Path) -> str:
    """Return a remedy for masks of another size than the image at `path`; empty if it has no EXIF orientation."""
    try:
        orientation = header_at(path).orientation
    except InputError:
        return ""
    return (
        ""
        if orientation == 1
        else (
            f"{path.name} carries EXIF orientation {orientation} and is read upright, as browsers and labelme show it: "
            "draw its masks on the upright image, or, if they are drawn on the stored one, remove the orientation "
            "(exiftool -Orientation= FILE)"
        )
    )


@dataclass(frozen=True, kw_only=True)
class Depth:
    """Bits in use in the 16-bit files of a set."""

    bits: int
    """8, 10, 12, 14 or 16: the smallest that holds the brightest pixel."""
    files: int
    """Number of 16-bit files."""
    dim: int = 0
    """Files whose brightest pixel is below 1/16 of the range of `bits`, perhaps from another camera."""

    def note(self, images: int) -> str:
        """Return the line that reports it for a set of `images`."""
        line = (
            f"{self.files:,} of {images:,} images are 16-bit files with {self.bits} bits in use: grey levels of 0 to "
            f"{(1 << self.bits) - 1:,} become 0 to 255"
        )
        if self.dim:
            line += (
                f"; {self.dim:,} of them stay below 1/16 of that and become nearly black: rescale them if they "
                "have another depth"
            )
        return line


def depth_of(deep: Sequence[Path], progress: Progress = SILENT) -> Depth | None:
    """Measure the bits in use in `deep`, files of more than 8 bits (`Survey.deep`); None without 16-bit files.

    Unreadable images are skipped.

    Raises InputError: one file would make most others nearly black, e.g. by a broken pixel.
    """
    if not deep:
        return None
    brightest: dict[Path, int] = {}
    with progress.bar("measuring 16-bit images", len(deep), "images") as bar:
        for path, level in zip(deep, map_in_order(_brightest, deep, ahead=32, name="decode"), strict=True):
            if level is not None:
                brightest[path] = level
            bar.advance()
    if not brightest:
        return None
    first = max(brightest, key=brightest.__getitem__)
    bits = next(bits for bits in DEPTHS if brightest[first] < 1 << bits)
    dim = sum(each < 1 << (bits - 4) for each in brightest.values())
    if 2 * dim > len(brightest):
        raise InputError(
            f"{first}",
            f"its brightest pixel is {brightest[first]:,}, which makes {dim:,} of "
            f"{len(brightest):,} 16-bit images nearly black",
            "Repair or remove it, or convert all images to one depth",
        )
    return Depth(bits=bits, files=len(brightest), dim=dim)


def reader(paths: Mapping[str, Path]) -> Callable[[str], Grey]:
    """Return a function that reads an image by its id; the bits in use are measured over all of `paths` (by id)."""
    depth = depth_of(survey(list(paths.values())).deep)
    bits = depth.bits if depth else FULL_DEPTH
    return lambda image_id: read_grey(paths[image_id], bits)


def _brightest(path: Path) -> int | None:
    """Return the highest value of a 16-bit image; None for other and for unreadable images."""
    try:
        pixels, _ = decoded(path)
    except InputError:
        return None
    return int(pixels.max()) if pixels.dtype == np.uint16 else None
