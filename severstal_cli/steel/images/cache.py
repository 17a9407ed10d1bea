"""The images of a folder, decoded once into a memory map: 12,568 of 256 x 1600 are 5.1 GB on disk, not in memory.

Two files in `.severstal` beside the folder (or in the user's cache folder, where the data is read-only):

    train_images-0f3a9c0d5b7e1246.pixels    all images concatenated, uint8, row by row
    train_images-0f3a9c0d5b7e1246.json      {"image_ids": ["0002cc93b.jpg", ...], "sizes": [[256, 1600], ...],
                                             "pixels": "77c0e1...", "bits": null, "notes": []}

`pixels` is the fingerprint of the decoded pixels, `bits` the bits in use in 16-bit files (null if there are none), and
`notes` are lines that are logged whenever the cache is opened.

The sixteen digits in the file names are a hash of the image files' names, sizes and modification times. A changed
folder therefore gets a new cache, and the old one is removed. The index is written last, so if it exists, the pixels
are complete. A lock on `train_images.lock` lets one process build while others wait. The lock ends with its process;
the next build removes the files of a killed one.
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
"""Version of the cache and of the decoding. A cache of another version is rebuilt."""


class ImageCache:
    """Decoded images, read by position. Safe to share between threads and to send to other processes.

    Attributes:
        image_ids: sorted.
        sizes: (N, 2) int32, height and width of each image.
        pixels_fingerprint: hash of the pixels of all images, sixteen hexadecimal digits.
        bits: bits in use in the 16-bit files, which are scaled to 8 bits by it; None without 16-bit files.
        index: image_id -> position.
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

    def __reduce__(self) -> tuple[Any, ...]:  # another process maps the file; pickled pixels would be 5 GB
        return ImageCache, (self.path, self.image_ids, self.sizes, self.pixels_fingerprint, self.bits)


def open_cache(folder: Path, progress: Progress = SILENT, *, bits: int | None = None) -> ImageCache:
    """Return the images of `folder`; decode them first if the folder has no up-to-date cache.

    Images may differ in size. `bits`: bits in use in 16-bit files, if another set decides it; None: measure the folder.

    Raises:
        InputError: no such folder, no images, or an image that cannot be read.
        OutputError: the cache cannot be written: no permission, or not enough space.
    """
    paths = find_images([folder], progress)
    folder = folder.resolve()
    pixels_name = f"{folder.name}-{_fingerprint(paths, bits)}.pixels"
    cache_folder = files.beside(folder.parent, ".severstal")
    if cache_folder.exists():  # a cache shipped with read-only data is used if it is up to date, else built elsewhere
        cache_folder = files.beside(cache_folder, pixels_name).parent
    pixels_path = cache_folder / pixels_name
    cache = _open(pixels_path, progress)
    if cache is not None:
        return cache
    with _locked(cache_folder / f"{folder.name}.lock", folder, progress):
        cache = _open(pixels_path, progress)  # another process may have built it while this one waited
        if cache is not None:
            return cache
        _remove_outdated(cache_folder, folder.name)
        _build(pixels_path, paths, bits, progress)
    cache = _open(pixels_path, progress)
    if cache is None:
        raise OutputError(f"the image cache {pixels_path}", "vanished after it was written", "Run the command again")
    return cache


def _fingerprint(paths: Sequence[Path], bits: int | None) -> str:
    """Return a hash, sixteen digits, of the files' names, sizes and modification times and of the decoding."""
    digest = hashlib.sha256(f"format {_FORMAT}, {bits} bits\n".encode())
    for path in sorted(paths):
        stat = path.stat()
        digest.update(f"{id_of(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _open(pixels_path: Path, progress: Progress) -> ImageCache | None:
    """Return the cache at `pixels_path` and log its notes; None if it is missing or damaged."""
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
    headers = survey(paths)
    if headers.wrong:
        raise next(iter(headers.wrong.values()))
    needed = sum(height * width for height, width in headers.sizes.values())
    free = shutil.disk_usage(pixels_path.parent).free
    if needed > free:
        raise OutputError(
            f"cannot cache the decoded images in {pixels_path.parent}",
            f"{needed:,} bytes needed, {free:,} free",
            "Free some space, or let XDG_CACHE_HOME name a larger disk and make the data folder read-only",
        )
    depth = depth_of(headers.deep, progress)
    if depth and bits:
        depth = dataclasses.replace(depth, bits=bits)
    notes = [*headers.notes, *([depth.note(len(paths))] if depth else [])]
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
    index = {
        "image_ids": [id_of(path) for path in paths],
        "sizes": sizes,
        "pixels": digest.hexdigest()[:16],
        "bits": depth and depth.bits,
        "notes": notes,
    }
    files.write_text(pixels_path.with_suffix(".json"), json.dumps(index))


def _read(path: Path, bits: int) -> tuple[Grey, bytes]:
    """Return an image and the hash of its pixels; both release the GIL."""
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


def _remove_outdated(cache_folder: Path, folder_name: str) -> None:
    """Remove outdated caches of the folder and files of killed builds. The caller holds the lock."""
    ours = re.compile(rf"\.?{re.escape(folder_name)}-[0-9a-f]{{16}}\.(pixels|json)(\.\d+\.[0-9a-f]+\.part)?")
    for path in cache_folder.iterdir():
        if ours.fullmatch(path.name):
            path.unlink(missing_ok=True)
