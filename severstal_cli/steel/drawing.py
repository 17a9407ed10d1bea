"""Pictures for people: masks drawn on images, in one palette."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli import files
from severstal_cli.errors import InputError, shown
from severstal_cli.steel.images.decoding import Grey, cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.scoring import dice
from severstal_cli.wording import class_label

PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00")
"""A colour a class, over again past the seventh; told apart by colour-blind people (Okabe and Ito, 2008)."""

LONGEST_LABEL = 30
"""Characters of a class label on a plot; longer ones are cut in the middle."""

Colour = NDArray[np.uint8]
DataFolder = Callable[[str], Grey]
"""image_id -> (H, W)"""


def overlay(image: Grey, masks: Sequence[rle.RLE]) -> Colour:
    """`image: (H, W)`, one mask a class -> `(H, W, 3) uint8`, blue first: outlines and a light tint."""
    picture = np.repeat(image[:, :, None], 3, axis=2)
    for channel, runs in enumerate(masks):
        if not len(runs):
            continue
        mask = rle.decode(runs, image.shape)
        colour = _blue_first(PALETTE[channel % len(PALETTE)])
        picture[mask] = (0.75 * picture[mask] + 0.25 * colour).astype(np.uint8)
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colour.tolist(), max(1, min(image.shape) // 128))
    return picture


def panel(rows: Sequence[Sequence[tuple[str, Colour]]]) -> Colour:
    """Pictures in rows and columns, each with its title above: `(H, W, 3) uint8`, blue first. Small ones get a rim."""
    height, width = (max(picture.shape[axis] for row in rows for _, picture in row) for axis in (0, 1))
    return np.vstack([np.hstack([_titled(title, picture, height, width) for title, picture in row]) for row in rows])


def by_class(
    columns: Sequence[tuple[str, dice.Masks]],
    image_ids: Sequence[str],
    classes: int,
    image: DataFolder,
    class_names: Sequence[str] = (),
) -> Colour:
    """For each class the image with the largest mask of the first column: image, and each column's masks on it.

    columns: titles and masks. class_names: of all classes, or none.

    Pictures stand side by side, wide ones one below the other. Classes that are in no image are left out; where that is
    all of them, the first image is shown.
    """
    true = columns[0][1]
    blocks = []
    largest = [
        max(areas, key=areas.__getitem__)
        for channel in range(classes)
        if (areas := {name: rle.area(true[name, channel]) for name in image_ids if (name, channel) in true})
    ]
    there = [channel for channel in range(classes) if any((name, channel) in true for name in image_ids)]
    for channel, image_id in zip(there or [0], largest or image_ids[:1], strict=True):
        grey = image(image_id)
        block = [(f"class {shown(class_label(channel, class_names), LONGEST_LABEL)}: {image_id}", overlay(grey, []))]
        for title, masks in columns:
            found = [masks.get((image_id, at), rle.EMPTY) for at in range(classes)]
            block.append((title, overlay(grey, found)))
        blocks.append(block)
    if all(picture.shape[1] > 3 * picture.shape[0] for block in blocks for _, picture in block):
        return panel([[cell] for block in blocks for cell in block])
    return panel(blocks)


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write `(H, W)` or `(H, W, 3)` BGR. Raises OutputError."""
    data = to_png(picture)
    with files.replacing(path) as temporary:
        temporary.write_bytes(data)


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """`(H, W)` or `(H, W, 3)` BGR -> the bytes of a PNG file."""
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise ValueError(f"no PNG can be made of {picture.shape} {picture.dtype}")
    return data.tobytes()


def check_places(folder: Path, data_folder: Sequence[Path]) -> None:
    """See that a PNG of each image can go to `folder`, apart from the images and each its own.

    In a folder of images pictures would be images the next time. Raises InputError.
    """
    taken: dict[Path, Path] = {}
    # a image may be a link: neither where it stands nor where it lies
    if folder.resolve() in {place.resolve() for path in data_folder for place in (path.parent, path.resolve().parent)}:
        raise InputError(f"{folder} holds the images", "pictures among them would be taken for some",
                         "Name another folder for --masks")  # fmt: skip
    for path in data_folder:
        target = (folder / f"{path.stem}.png").resolve()
        if target in taken:
            raise InputError(f"two pictures of the name {target.name}", f"of {taken[target].name} and {path.name}",
                             "Predict them one after the other")  # fmt: skip
        taken[target] = path


def figure(*, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A matplotlib figure with a row of axes, each `width` x `height` inches.

    Made by the object interface: no global figure and no display, safe in threads.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(columns * width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made, list(made.subplots(1, columns, squeeze=False)[0])


def write_figure(path: Path, figure: Any, *, dpi: int) -> None:
    """Write a matplotlib figure as PNG. Raises OutputError."""
    with files.replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks some scripts: a box stands for the character
        figure.savefig(temporary, format="png", dpi=dpi)


def _blue_first(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[at : at + 2], 16) for at in (5, 3, 1)], np.float64)


def _titled(title: str, picture: Colour, height: int, width: int) -> Colour:
    """`picture` with a line of text above and a margin around up to this size and a little more, on white."""
    below, right = height - picture.shape[0] + 6, width - picture.shape[1] + 6
    framed = cv2.copyMakeBorder(picture, 26, below, 6, right, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    cv2.putText(framed, title, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return framed  # type: ignore[return-value]
