"""`model.json`: a run's model card, with the network, its training data and its settings."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from severstal_cli import files, typed
from severstal_cli.errors import RunError
from severstal_cli.learning import finite
from severstal_cli.learning.networks import names
from severstal_cli.steel import class_names
from severstal_cli.steel.dataset import leakage
from severstal_cli.steel.images.decoding import DEPTHS
from severstal_cli.steel.tables.csv_rows import MAX_CLASS_ID

FORMAT = 1
"""Version of the run's file formats. Other versions are refused."""

LARGEST = 2**31 - 1
"""Largest accepted count in a card; it fits into 32 bits."""

CARD = names.CARD


@dataclass(frozen=True, kw_only=True)
class Int8:
    """How the network of a run was quantised to int8, and what that costs.

    The Dice is the mean over classes on the validation fold, both with the thresholds of the run, averaged over those
    around them at which the run is hardly worse: the difference has less noise than at one threshold.
    """

    calibration_images: int
    """Training images that the ranges of the activations were measured on."""
    dice_before: float
    dice_after: float
    max_drop: float
    """The largest difference of both that was accepted."""
    tta: str
    """TTA views of both."""
    layers: int
    """Convolutions and matrix products in int8."""
    kept: tuple[str, ...] = ()
    """Those that stayed in floating point, because int8 costs too much there."""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Description of a set of weights: everything that prediction and leakage checks need."""

    format: int = FORMAT
    arch: str
    encoder: str | None
    """None for a network without an encoder."""
    in_channels: int
    classes: int
    classifier: bool
    mean: float
    """Mean pixel of the training images, in [0, 1]."""
    std: float
    image_size: tuple[int, int]
    """(height, width) of most training images."""
    exclusive: bool
    """No training annotations overlap, so only the class with the highest level counts at each pixel."""
    data: str
    data_fingerprint: str
    split_fingerprint: str
    fold: int | None
    train_images: int
    validation_images: int
    epoch: int
    """Epoch of the weights, counted from 1; with checkpoint averaging the best of the averaged epochs."""
    validation_dice: float | None
    """Mean Dice at threshold 0.5 on the validation fold; None without one."""
    config: dict[str, Any]
    versions: dict[str, str]
    environment: dict[str, str | int] = field(default_factory=dict)
    """The machine of the last session. This and the following fields are empty in runs of earlier versions."""
    averaged: tuple[int, ...] = ()
    """The epochs of checkpoint averaging; empty without it."""
    pixels_fingerprint: str | None = None
    """Fingerprint of the pixels of all images in the data folder."""
    bits: int | None = None
    """Bits in use in 16-bit images, by which they become 8-bit; None: no image has 16 bits."""
    pseudo_fingerprint: str | None = None
    """Fingerprint of images and masks of the pseudo-labels; None without pseudo-labels."""
    seen: tuple[dict[str, Any], ...] = ()
    """Leakage records (`leakage`) of other runs: the run that the weights started from, the runs that made the
    pseudo-labels, and the runs that these started from."""

    class_names: tuple[str, ...] = ()
    """Names of all classes, from `classes.txt` of the data; () without it, and in runs from before it was noted."""

    int8: Int8 | None = None
    """None: the network is not quantised."""
    data_origin: str | None = None
    """Data fingerprint of the annotations that `audit --apply` changed; None: these were not made by it."""

    def records(self) -> tuple[dict[str, Any], ...]:
        """Leakage records of all images that this model has seen, in its own training or through other runs."""
        return {"data": self.data_fingerprint, "split": self.split_fingerprint, "fold": self.fold}, *self.seen


def class_names_of(cards: Iterable[ModelCard]) -> tuple[str, ...]:
    """Names of the classes, of the first of these runs that has names; () if none has."""
    return next((card.class_names for card in cards if card.class_names), ())


def read_card(folder: Path) -> ModelCard:
    """The card of a run. Raises RunError: the folder is no run, is incomplete, or of another version."""
    names.check_run(folder)
    path = folder / CARD
    with reading(path, ""):
        raw = typed.read_table(path)
    if raw.get("format") != FORMAT:
        raise RunError(
            f"{path} is of another version",
            f"format {raw.get('format')}, this program reads {FORMAT}",
            "Train again, or use the version of severstal that wrote it",
        )
    with reading(path, ""):
        card = card_from(raw)
    if card.encoder is not None:
        names.check_encoder_of(folder, card.encoder)
    if card.arch not in names.networks():
        raise RunError(
            f"{path} names a network that this program does not have",
            card.arch,
            "Use the version of severstal that wrote it",
        )
    finite.check_pixels(path, card.mean, card.std)
    return card


def card_from(fields: Mapping[str, Any]) -> ModelCard:
    """The card with these fields of a JSON file or a checkpoint. Raises ValueError: the fields are damaged."""
    card = typed.make(ModelCard, fields)
    limits = {
        "in_channels": (card.in_channels, 1, 1),
        "classes": (card.classes, 1, MAX_CLASS_ID),
        "epoch": (card.epoch, 0, LARGEST),
        "fold": (card.fold or 0, 0, LARGEST),
        "height": (card.image_size[0], 1, LARGEST),
        "width": (card.image_size[1], 1, LARGEST),
    }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}, not {low}{f' to {high}' * (high > low)}")
    if card.bits not in (None, *DEPTHS):
        raise ValueError(f"bits is {card.bits}, not one of {', '.join(map(str, DEPTHS))}")
    if card.class_names and len(card.class_names) != card.classes:
        raise ValueError(f"class_names has {len(card.class_names)} names, not {card.classes}")
    class_names.check(card.class_names)
    for record in card.seen:
        leakage.check(record)
    return card


def write_card(folder: Path, card: ModelCard) -> None:
    """Write the card, without weights. Raises OutputError."""
    files.write_text(folder / CARD, json.dumps(dataclasses.asdict(card), indent=2) + "\n")


@contextmanager
def reading(path: Path, if_missing: str, if_damaged: str = "Train again, or restore the file") -> Iterator[None]:
    """Turn errors while reading a file of a run into a RunError with a remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing", "", if_missing) from error
    except OSError as error:
        raise files.unreadable(path, error, RunError) from error
    except ValueError as error:
        raise RunError(f"{path} is damaged", str(error), if_damaged) from error
