"""Write a synthetic set as files in the competition's layout.

    train_images/*.jpg, train.csv       current layout, rows for defects only: an image without a row is clean
    test_images/*.jpg, test.csv         test images and their ground truth, likewise
    sample_submission.csv               ImageId,EncodedPixels,ClassId with one placeholder row per image
    synthetic.json                      settings of the set and names of its images; written before the images

train.csv is written last: without it, the set is incomplete. A later set replaces the files that synthetic.json names,
and no others.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli import files, typed
from severstal_cli.errors import InputError, OutputError
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.synth import polygons
from severstal_cli.steel.synth.rendering import render
from severstal_cli.steel.synth.series import (
    GIVEN,
    PIXELS,
    TEST,
    TRAIN,
    SetPlan,
    draw_image,
    image_name,
    quality_of,
    random_stream,
    roll_of,
    to_runs,
)
from severstal_cli.steel.tables import mask_table

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"))
"""Suffixes of images that can be written."""
MARKER = "synthetic.json"
PARTS = ("train_images", "test_images")


def write_synthetic_set(
    folder: Path,
    *,
    seed: int,
    images: int | None,
    test_images: int,
    size: tuple[int, int] = (256, 1600),
    defect_share: float = 1 - polygons.CLEAN_SHARE,
    rare_boost: float = 0.0,
    difficulty: float = 1.0,
    annotations: Path | None = None,
    image_list: Path | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> None:
    """Write a synthetic set to `folder`, which is new, empty, or an earlier synthetic set to replace.

    Images that the earlier set does not name stay, with a warning, as they count as clean images of the new set.

    Args:
        images: number of training images. With `annotations`: the maximum, None for all.
        annotations: a table of masks; the training images show defects inside these masks and keep their names, and
            train.csv holds the same masks.
        image_list: with `annotations`, a file with a column ImageId: the images to draw; those without a row in the
            table are clean. By default the images of the table.
        threads: None = one per core. The files do not depend on it.

    Raises:
        InputError: the folder holds other files, one of its folders is a link, or the table or the list is wrong.
        OutputError: the files cannot be written.
        MachineError: another process is writing a set to the folder.
        ValueError: an argument is out of range.
    """
    plan = SetPlan(seed=seed, size=size, defect_share=defect_share, rare_boost=rare_boost, difficulty=difficulty)
    if test_images < 0 or (images is not None and images < 0):
        raise ValueError("the number of images cannot be negative")
    if annotations is None and (images is None or image_list is not None):
        raise ValueError("without annotations, give the number of images and no list")
    given = _read_given(annotations, image_list, images, size) if annotations else None
    train_names = list(given) if given is not None else [image_name(plan, TRAIN, k) for k in range(images or 0)]
    test_names = _free_names(plan, test_images, frozenset(train_names))
    about = {
        **asdict(plan),
        "images": images,
        "test_images": test_images,
        "drawn_under": annotations.name if annotations else None,
        "names": {"train_images": train_names, "test_images": test_names},
    }
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write a set to {folder}", "it is a file", "Name a folder")
    with files.locked(folder, f"another process writes a synthetic set to {folder}"):
        _make_room(folder, progress)
        files.write_text(folder / MARKER, json.dumps(about, indent=2) + "\n")
        _write(folder, plan, given, train_names, test_names, threads, progress)


def _write(
    folder: Path,
    plan: SetPlan,
    given: Mapping[str, Mapping[int, rle.RLE]] | None,
    train_names: Sequence[str],
    test_names: Sequence[str],
    threads: int | None,
    progress: Progress,
) -> None:
    """Draw and write all files but the marker."""
    size = plan.size
    with _as_output_error(folder):
        for part in PARTS:
            (folder / part).mkdir(exist_ok=True)
    with progress.bar("drawing", len(train_names) + len(test_names), "images") as bar, _one_opencv_thread():

        def write_part(part_folder: Path, names: Sequence[str], draw: Callable[[int], _Drawn]) -> _Masks:
            def write(number: int) -> Mapping[int, rle.RLE]:
                image, runs, quality = draw(number)
                _write_image(part_folder / names[number], image, quality)
                return runs

            masks: _Masks = {}
            with closing(map_in_order(write, range(len(names)), threads=threads, ahead=32, name="draw")) as written:
                for name, runs in zip(names, written, strict=True):
                    masks.update({(name, channel): mask for channel, mask in runs.items()})
                    bar.advance()
            return masks

        def draw_given(number: int) -> _Drawn:
            assert given is not None
            name = train_names[number]
            key = zlib.crc32(name.encode())
            image = render(
                random_stream(plan, PIXELS, GIVEN, key),
                given[name],
                size,
                roll=roll_of(plan, GIVEN, key),
                difficulty=plan.difficulty,
            )
            return image, given[name], quality_of(plan, GIVEN, key)

        def draw_new(part: int) -> Callable[[int], _Drawn]:
            def draw(number: int) -> _Drawn:
                image, labels = draw_image(plan, part, number)
                return image, to_runs(labels), quality_of(plan, part, number)

            return draw

        test_masks = write_part(folder / "test_images", test_names, draw_new(TEST))
        draw_train = draw_new(TRAIN) if given is None else draw_given
        train_masks = write_part(folder / "train_images", train_names, draw_train)

    rows = "".join(f"{name},1 {size[0] * size[1]},0\n" for name in sorted(test_names))
    files.write_text(folder / "sample_submission.csv", "ImageId,EncodedPixels,ClassId\n" + rows)
    _write_table(folder / "test.csv", test_masks, test_names)
    _write_table(folder / "train.csv", train_masks, train_names)


_Masks = dict[tuple[str, int], rle.RLE]  # (image_id, channel) -> RLE
_Drawn = tuple[NDArray[np.uint8], Mapping[int, rle.RLE], int]  # image, masks, JPEG quality


def _free_names(plan: SetPlan, count: int, taken: frozenset[str]) -> list[str]:
    """Return names for the test images; the names of given training images are skipped."""
    names = (image_name(plan, TEST, number) for number in range(count + len(taken)))
    free = [name for name in names if name not in taken]
    return free[:count]


def _read_given(
    annotations: Path, image_list: Path | None, limit: int | None, size: tuple[int, int]
) -> dict[str, dict[int, rle.RLE]]:
    """Return image_id -> channel -> RLE of the training images to draw."""
    table = mask_table.read_table(annotations, pixels=size[0] * size[1])
    names = mask_table.read_image_list(image_list).image_ids if image_list else table.image_ids
    for name in names:
        if not _is_plain(name):
            raise InputError(str(image_list or annotations), f'"{name}" is not the name of an image file')
    wanted: dict[str, dict[int, rle.RLE]] = {name: {} for name in names[:limit]}
    for (name, channel), runs in table.masks.items():
        if name in wanted:
            wanted[name][channel] = runs
    return wanted


def _make_room(folder: Path, progress: Progress) -> None:
    """Remove an earlier synthetic set, its train.csv first: the files that its marker names, and no others.

    Raises InputError: the folder is not a synthetic set, or an image folder is a link to files outside the set.
    """
    files.remove_temporaries(folder)
    if not (folder / MARKER).is_file():
        if any(folder.iterdir()):
            raise InputError(
                f"will not write to {folder}",
                "it holds files that are not a synthetic set",
                "Name a new or empty folder",
            )
        return
    names = _names_in(folder / MARKER)
    for part in PARTS:
        if (folder / part).is_symlink():
            raise InputError(f"will not write to {folder / part}", "it is a link", "Remove it, or name a new folder")
    with _as_output_error(folder):
        for name in ("train.csv", "test.csv", "sample_submission.csv"):
            (folder / name).unlink(missing_ok=True)
        for part, own in names.items():
            files.remove_temporaries(folder / part)
            for name in own:
                (folder / part / name).unlink(missing_ok=True)
            others = sorted(path.name for path in (folder / part).glob("*"))
            if others:
                progress.log(
                    f"warning: {len(others)} files in {folder / part} are not of the earlier set: they stay, "
                    f"first {others[0]}; images among them count as clean"
                )


def _names_in(marker: Path) -> dict[str, tuple[str, ...]]:
    """Return the image names of a set by folder. Raises InputError: the marker does not list them."""
    remedy = f"Remove {marker.parent} yourself, or name a new folder"
    try:
        names = typed.read_table(marker).get("names")
        if names is None:
            raise ValueError("an earlier version wrote it without the names of the images")
        by_folder: dict[str, tuple[str, ...]] = typed.as_type(dict[str, tuple[str, ...]], names, "names")
    except OSError as error:
        raise files.unreadable(marker, error) from error
    except ValueError as error:
        raise InputError(f"will not replace the set of {marker}", str(error), remedy) from error
    for part, own in by_folder.items():
        odd = [name for name in own if not _is_plain(name)] if part in PARTS else [part]
        if odd:
            raise InputError(f"will not replace the set of {marker}", f"{odd[0]!r} cannot be an image of a set", remedy)
    return by_folder


def _is_plain(name: str) -> bool:
    """Whether it is the name of an image file without a path."""
    return Path(name).name == name and "\0" not in name and Path(name).suffix.lower() in IMAGE_SUFFIXES


@contextmanager
def _as_output_error(folder: Path) -> Iterator[None]:
    """Raise failures of the file system as OutputError."""
    try:
        yield
    except OSError as error:
        remedy = "Check the permissions of the folder"
        raise OutputError(f"cannot write {folder}", error.strerror or str(error), remedy) from error


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to one thread: several threads draw one image each, and OpenCV's own would compete with them."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _write_table(path: Path, masks: _Masks, names: Sequence[str]) -> None:
    classes = max((channel + 1 for _, channel in masks), default=0)
    mask_table.write_table(path, masks, sorted(names), classes, layout=mask_table.Layout.CURRENT, empty_rows=False)


def _write_image(path: Path, image: NDArray[np.uint8], quality: int) -> None:
    is_written, data = cv2.imencode(path.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not is_written:
        raise ValueError(f"cannot encode {path.name}")
    with files.replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
