"""Overlays of masks on images, panels of them, and the figure and palette of all plots."""

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
"""One colour per class, repeating after the seventh; distinct for colour-blind people (Okabe and Ito, 2008)."""

LONGEST_LABEL = 30
"""Characters of a class label on a plot; longer ones are cut in the middle."""

Colour = NDArray[np.uint8]
ReadImage = Callable[[str], Grey]
"""image_id -> (H, W)"""


def overlay(image: Grey, masks: Sequence[rle.RLE]) -> Colour:
    """Outline and tint the masks of each class on an image: `(H, W)` -> `(H, W, 3) uint8` BGR."""
    pixels = np.repeat(image[:, :, None], 3, axis=2)
    for channel, runs in enumerate(masks):
        if not len(runs):
            continue
        mask = rle.decode(runs, image.shape)
        colour = _bgr(PALETTE[channel % len(PALETTE)])
        pixels[mask] = (0.75 * pixels[mask] + 0.25 * colour).astype(np.uint8)
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(pixels, contours, -1, colour.tolist(), max(1, min(image.shape) // 128))
    return pixels


def panel(rows: Sequence[Sequence[tuple[str, Colour]]]) -> Colour:
    """A grid of images, each below its title and padded to the largest: `(H, W, 3) uint8` BGR."""
    height, width = (max(pixels.shape[axis] for row in rows for _, pixels in row) for axis in (0, 1))
    return np.vstack([np.hstack([_titled(title, pixels, height, width) for title, pixels in row]) for row in rows])


def by_class(
    columns: Sequence[tuple[str, dice.Masks]],
    image_ids: Sequence[str],
    classes: int,
    read_image: ReadImage,
    class_names: Sequence[str] = (),
) -> Colour:
    """A panel per class: the image with the largest mask of the first column, and an overlay for each column.

    columns: titles and masks. class_names: of all classes, or none. Wide images are stacked, others are side by side.
    Classes without a mask are left out; without any mask the first image is shown.
    """
    true = columns[0][1]
    blocks = []
    largest = {
        channel: max(areas, key=areas.__getitem__)
        for channel in range(classes)
        if (areas := {name: rle.area(true[name, channel]) for name in image_ids if (name, channel) in true})
    }
    for channel, image_id in (largest or dict(enumerate(image_ids[:1]))).items():
        grey = read_image(image_id)
        block = [(f"class {shown(class_label(channel, class_names), LONGEST_LABEL)}: {image_id}", overlay(grey, []))]
        for title, masks in columns:
            block.append((title, overlay(grey, [masks.get((image_id, at), rle.EMPTY) for at in range(classes)])))
        blocks.append(block)
    if all(pixels.shape[1] > 3 * pixels.shape[0] for block in blocks for _, pixels in block):
        return panel([[cell] for block in blocks for cell in block])
    return panel(blocks)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write `(H, W)`, or `(H, W, 3)` BGR. Raises OutputError; ValueError: another shape or type."""
    data = to_png(pixels)
    with files.replacing(path) as temporary:
        temporary.write_bytes(data)


def to_png(pixels: NDArray[np.uint8]) -> bytes:
    """`(H, W)`, or `(H, W, 3)` BGR, as the bytes of a PNG file. Raises ValueError: another shape or type."""
    is_encoded, data = cv2.imencode(".png", pixels)
    if not is_encoded:
        raise ValueError(f"cannot encode {pixels.shape} {pixels.dtype} as PNG")
    return data.tobytes()


def check_overlay_paths(folder: Path, images: Sequence[Path]) -> None:
    """Check that `folder` is not one of the images' folders, and that the overlay of each image has its own name.

    Raises InputError.
    """
    # of a link, neither its folder nor that of its target
    if folder.resolve() in {parent.resolve() for path in images for parent in (path.parent, path.resolve().parent)}:
        raise InputError(
            f"{folder} holds the images",
            "the overlays would be taken for images next time",
            "Name another folder for --masks",
        )
    image_of: dict[Path, Path] = {}
    for path in images:
        target = (folder / f"{path.stem}.png").resolve()
        if target in image_of:
            raise InputError(
                f"two overlays named {target.name}",
                f"of {image_of[target].name} and {path.name}",
                "Predict one image after the other",
            )
        image_of[target] = path


def figure(*, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A matplotlib figure with one row of axes, each `width` x `height` inches.

    It uses the object interface: thread-safe, without global state or a display.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    result = Figure(figsize=(columns * width, height), layout="constrained")
    FigureCanvasAgg(result)
    return result, list(result.subplots(1, columns, squeeze=False)[0])


def write_figure(path: Path, figure: Any, *, dpi: int) -> None:
    """Write a matplotlib figure as PNG. Raises OutputError."""
    with files.replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks some scripts and shows a box instead
        figure.savefig(temporary, format="png", dpi=dpi)


def _bgr(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[at : at + 2], 16) for at in (5, 3, 1)], np.float64)


def _titled(title: str, pixels: Colour, height: int, width: int) -> Colour:
    """`pixels` below its title, padded with white to slightly more than this size."""
    below, right = height - pixels.shape[0] + 6, width - pixels.shape[1] + 6
    framed = cv2.copyMakeBorder(pixels, 26, below, 6, right, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    cv2.putText(framed, title, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return framed  # type: ignore[return-value]
