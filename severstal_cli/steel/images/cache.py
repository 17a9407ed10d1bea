"""The images of a folder, decoded once into a memory map: 12,568 of 256 x 1600 are 5.1 GB on disk, not in memory.

Two files in `.severstal` beside the folder (or in the user's cache folder, where the data is read-only):

    train_images-0f3a9c0d5b7e1246.pixels    the images one after the other, uint8, row by row
    train_images-0f3a9c0d5b7e1246.json      {"image_ids": ["0002cc93b.jpg", ...], "sizes": [[256, 1600], ...],
                                             "pixels": "77c0e1...", "bits": null, "notes": []}

`pixels` is the fingerprint of the decoded pixels, `bits` those in use in 16-bit files (null without any), `notes` what
a person should know of the files.

The sixteen digits of the names stand for the names, sizes and times of the files, so a changed folder asks for another
cache and the old one is removed. The index is written last: where it stands, the pixels are whole. A lock on
`train_images.lock` lets one process build while others wait; it ends with its process, and what a killed build left is
removed by the next.
"""

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli import files
from severstal_cli.errors import OutputError
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.images import decoding
from severstal_cli.steel.images.decoding import FULL_DEPTH, Grey, pixel_digest
from severstal_cli.steel.images.image_files import find_images, id_of
from severstal_cli.steel.images.surveys import depth_of, survey

_FORMAT = 2
"""Of the cache and of how files become pixels: caches of another one are made again."""


class ImageCache:
    """Decoded images, read by position. Safe to share between threads and to send to other processes.

    Attributes:
        image_ids: sorted.
        sizes: (N, 2) int32, height and width of each.
        pixels_fingerprint: of the pixels of all images: sixteen hexadecimal digits.
        bits: those in use in the 16-bit files, by which these became 8-bit; None: there is no 16-bit file.
        index: position of an image_id.
    """

    def __init__(
        self,
        path: Path,
        image_ids: Sequence[str],
        sizes: NDArray[np.int32],
        pixels_fingerprint: str,
        bits: int | None = None,
    ) -> None:
        self.path = path
        self.image_ids = tuple(image_ids)
        self.sizes = sizes
        self.pixels_fingerprint = pixels_fingerprint
        self.bits = bits
        self.index = {image_id: position for position, image_id in enumerate(self.image_ids)}
        self._ends = np.cumsum(sizes.astype(np.int64).prod(axis=1))
        self._pixels: Grey = np.memmap(path, np.uint8, mode="r", shape=(int(self._ends[-1]),))

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, position: int) -> Grey:
        """Return image `position`, `(H, W) uint8`, as a read-only view of the map: no copy, no decoding."""
        height, width = self.sizes[position].tolist()
        end = int(self._ends[position])
        return np.asarray(self._pixels[end - height * width : end]).reshape(height, width)

    def __iter__(self) -> Iterator[Grey]:
        return (self[position] for position in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:  # another process maps the file again; pickled pixels would be 5 GB
        return ImageCache, (self.path, self.image_ids, self.sizes, self.pixels_fingerprint, self.bits)


def open_cache(folder: Path, progress: Progress = SILENT, *, bits: int | None = None) -> ImageCache:
    """Return the images of `folder`, decoding them first where no cache of its present state exists.

    Images may differ in size. `bits`: those in use in 16-bit files, where another set decides them; None: as measured
    over the folder.

    Raises:
        InputError: no such folder, no images, or an image that cannot be read.
        OutputError: the cache cannot be written: no permission, or not enough space.
    """
    paths = find_images([folder], progress)
    folder = folder.resolve()
    pixels_name = f"{folder.name}-{_fingerprint(paths, bits)}.pixels"
    place = files.beside(folder.parent, ".severstal")
    if place.exists():  # a cache that came along with read-only data is used if it fits, else built elsewhere
        place = files.beside(place, pixels_name).parent
    pixels_path = place / pixels_name
    cache = _open(pixels_path, progress)
    if cache is not None:
        return cache
    with _locked(place / f"{folder.name}.lock", folder, progress):
        cache = _open(pixels_path, progress)  # another process may have built it while this one waited
        if cache is not None:
            return cache
        _sweep(place, folder.name)
        _build(pixels_path, paths, bits, progress)
    cache = _open(pixels_path, progress)
    if cache is None:
        raise OutputError(f"the image cache {pixels_path}", "vanished after it was written", "Run the command again")
    return cache


def _fingerprint(paths: Sequence[Path], bits: int | None) -> str:
    """Return sixteen digits for the names, sizes and times of files, and how they become pixels."""
    digest = hashlib.sha256(f"format {_FORMAT}, {bits} bits\n".encode())
    for path in sorted(paths):
        stat = path.stat()
        digest.update(f"{id_of(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _open(pixels_path: Path, progress: Progress) -> ImageCache | None:
    """Return the cache at `pixels_path`, and report its notes; None where it is missing or damaged."""
    try:
        index = json.loads(pixels_path.with_suffix(".json").read_text(encoding="utf-8"))
        sizes = np.array(index["sizes"], np.int32).reshape(-1, 2)
        if len(sizes) != len(index["image_ids"]):
            return None
        if pixels_path.stat().st_size != int(sizes.astype(np.int64).prod(axis=1).sum()):
            return None
        cache = ImageCache(pixels_path, index["image_ids"], sizes, str(index["pixels"]), index["bits"])
        notes = list(map(str, index["notes"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    for note in notes:
        progress.log(note)
    return cache


def _build(pixels_path: Path, paths: Sequence[Path], bits: int | None, progress: Progress) -> None:
    """Decode `paths` into the cache at `pixels_path`."""
    found = survey(paths)
    if found.wrong:
        raise next(iter(found.wrong.values()))
    needed = sum(height * width for height, width in found.sizes.values())
    free = shutil.disk_usage(pixels_path.parent).free
    if needed > free:
        raise OutputError(
            f"cannot cache the decoded images in {pixels_path.parent}",
            f"{needed:,} bytes needed, {free:,} free",
            "Free some space, or let XDG_CACHE_HOME name a larger disk and make the data folder read-only",
        )
    depth = depth_of(found.deep, progress)
    if depth and bits:
        depth = dataclasses.replace(depth, bits=bits)
    notes = [*found.notes, *([depth.note(len(paths))] if depth else [])]
    sizes, digest = [], hashlib.sha256()
    with (
        files.replacing(pixels_path) as temporary,
        temporary.open("wb") as file,
        progress.bar("reading images", len(paths), "images") as bar,
    ):
        read = partial(_read, bits=depth.bits if depth else FULL_DEPTH)
        for image, hashed in map_in_order(read, paths, ahead=32, name="decode"):
            file.write(np.ascontiguousarray(image).data)
            digest.update(hashed)
            sizes.append(image.shape)
            bar.advance()
    index = {"image_ids": [id_of(path) for path in paths], "sizes": sizes,
             "pixels": digest.hexdigest()[:16], "bits": depth and depth.bits, "notes": notes}  # fmt: skip
    files.write_text(pixels_path.with_suffix(".json"), json.dumps(index))


def _read(path: Path, bits: int) -> tuple[Grey, bytes]:
    """An image and the hash of its pixels: in a thread, both leave the interpreter's lock alone."""
    image = decoding.read_grey(path, bits)
    return image, pixel_digest(image)


@contextmanager
def _locked(path: Path, folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file `path`; wait where another process holds it."""
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        if not files.lock(file.fileno()):
            progress.log(f"another process reads the images of {folder}: waiting for it")
            files.lock(file.fileno(), wait=True)
        yield


def _sweep(place: Path, folder_name: str) -> None:
    """Remove caches of former states of the folder and what killed builds left. Call it under the lock."""
    ours = re.compile(rf"\.?{re.escape(folder_name)}-[0-9a-f]{{16}}\.(pixels|json)(\.\d+\.[0-9a-f]+\.part)?")
    for path in place.iterdir():
        if ours.fullmatch(path.name):
            path.unlink(missing_ok=True)
