"""The card of a run, `model.json`: what its weights are and what they were trained on."""

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
from severstal_cli.learning.networks import names, registry
from severstal_cli.steel import class_names
from severstal_cli.steel.dataset import leakage
from severstal_cli.steel.images.decoding import DEPTHS
from severstal_cli.steel.tables.csv_rows import MAX_CLASS_ID

FORMAT = 1
"""Of the run's files. A program of another format says so instead of guessing."""

LARGEST = 2**31 - 1
"""Of a count in a card: far above any, and a number that all that takes it can hold."""

CARD = names.CARD


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a set of weights is: everything that prediction and honest scoring need to know."""

    format: int = FORMAT
    arch: str
    encoder: str | None
    """None for a network that has none."""
    in_channels: int
    classes: int
    classifier: bool
    mean: float
    """Of the training images, in shares of the full range."""
    std: float
    image_size: tuple[int, int]
    """(height, width) of most training images."""
    exclusive: bool
    """The training annotations never overlap: of two classes at a pixel only the higher level counts."""
    data: str
    data_fingerprint: str
    split_fingerprint: str
    fold: int | None
    train_images: int
    validation_images: int
    epoch: int
    """The one that the weights are of, counted from 1; of a mean of epochs, the best of them."""
    validation_dice: float | None
    """Mean Dice at threshold 0.5 on the validation fold; None without one."""
    config: dict[str, Any]
    versions: dict[str, str]
    environment: dict[str, str | int] = field(default_factory=dict)
    """The machine of the last sitting; empty, as the following ones, in runs from before it was noted."""
    averaged: tuple[int, ...] = ()
    """The epochs that the weights are the mean of, where it is more than one."""
    pixels_fingerprint: str | None = None
    """Of the pixels of all images of the data; None in runs from before it was noted."""
    bits: int | None = None
    """Those in use in the 16-bit files among the images, by which 16-bit images become 8-bit; None: there was none."""
    pseudo_fingerprint: str | None = None
    """Of the images and masks of pseudo labels; None without any."""
    seen: tuple[dict[str, Any], ...] = ()
    """Records (`leakage`) of what it has seen through other runs: the run that it started from, those that made its
    pseudo-labels, and the runs that these in turn started from."""

    class_names: tuple[str, ...] = ()
    """Names of all classes, from `classes.txt` of the data; () without it, and in runs from before it was noted."""

    def records(self) -> tuple[dict[str, Any], ...]:
        """Records (`leakage`) of all images that this model has seen, by its own training and through other runs."""
        return {"data": self.data_fingerprint, "split": self.split_fingerprint, "fold": self.fold}, *self.seen


def class_names_of(cards: Iterable[ModelCard]) -> tuple[str, ...]:
    """Names of the classes, of the first of these runs that has names; () if none has."""
    return next((card.class_names for card in cards if card.class_names), ())


def read_card(folder: Path) -> ModelCard:
    """The card of a run. Raises RunError: no run, an incomplete one, or one of another version."""
    names.check_run(folder)
    path = folder / CARD
    with reading(path, ""):
        raw = typed.read_table(path)
    if raw.get("format") != FORMAT:
        raise RunError(f"{path} is of another version", f"format {raw.get('format')}, this program reads {FORMAT}",
                       "Train again, or use the version of severstal that wrote it")  # fmt: skip
    with reading(path, ""):
        card = card_from(raw)
    if card.encoder is not None:
        names.check_encoder_of(folder, card.encoder)
    if card.arch not in registry.REGISTRY:
        raise RunError(f"{path} is of a network that this program does not have", card.arch,
                       "Use the version of severstal that wrote it")  # fmt: skip
    finite.check_pixels(path, card.mean, card.std)
    return card


def card_from(fields: Mapping[str, Any]) -> ModelCard:
    """The card whose fields were written as JSON or into a checkpoint. Raises ValueError: it is damaged."""
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
    """Write the card alone. Raises OutputError."""
    files.write_text(folder / CARD, json.dumps(dataclasses.asdict(card), indent=2) + "\n")


@contextmanager
def reading(path: Path, if_missing: str, if_damaged: str = "Train again, or restore the file") -> Iterator[None]:
    """Report in one line what is wrong with a file of a run, and what helps. Raises RunError."""
    try:
        yield
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing", "", if_missing) from error
    except OSError as error:
        raise files.unreadable(path, error, RunError) from error
    except ValueError as error:
        raise RunError(f"{path} is damaged", str(error), if_damaged) from error
