"""A run: the folder of one trained model, all that prediction needs.

    model.safetensors     the averaged weights of the best epoch
    model.json            the `ModelCard`: what the weights are and what they were trained on
    training.ckpt         to go on with an interrupted training; tensors and plain values only
    history.csv, .png     a row an epoch; the curves
    tensorboard/          the same for TensorBoard, where it is installed
    thresholds.json, .png the `Thresholds` of the run, and how they were found; their picture
    score.json            the score on the holdout with these weights and thresholds

Every file appears whole or not at all, and nothing is pickled.
"""

import dataclasses
import io
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from severstal_cli import typed
from severstal_cli.errors import InputError, RunError, check_memory
from severstal_cli.learning import finite, names, registry
from severstal_cli.learning.thresholds import Thresholds
from severstal_cli.steel import files, leaks
from severstal_cli.steel.images import DEPTHS
from severstal_cli.steel.records import MAX_CLASS_ID

FORMAT = 1
"""Of the run's files. A program of another format says so instead of guessing."""

LARGEST = 2**31 - 1
"""Of a count in a card: far above any, and a number that all that takes it can hold."""

WEIGHTS, CARD, CHECKPOINT = names.WEIGHTS_FILE, names.CARD, names.CHECKPOINT
THRESHOLDS, SCORE = "thresholds.json", "score.json"


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
    """What this was trained on by way of others, as records of steel/leaks: of the run it started from, of those that
    made its pseudo labels, and of what these in turn started from."""

    def records(self) -> tuple[dict[str, Any], ...]:
        """All that this model has seen, as records of steel/leaks: by its own training, and by way of others."""
        return {"data": self.data_fingerprint, "split": self.split_fingerprint, "fold": self.fold}, *self.seen


def read_card(folder: Path) -> ModelCard:
    """The card of a run. Raises RunError: no run, an incomplete one, or one of another version."""
    names.check_run(folder)
    path = folder / CARD
    with _reading(path, ""):
        raw = typed.read_table(path)
    if raw.get("format") != FORMAT:
        raise RunError(f"{path} is of another version", f"format {raw.get('format')}, this program reads {FORMAT}",
                       "Train again, or use the version of severstal that wrote it")  # fmt: skip
    with _reading(path, ""):
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
    for record in card.seen:
        leaks.check(record)
    return card


def write_model(folder: Path, network: nn.Module, card: ModelCard) -> None:
    """Write weights and card; thresholds of other weights are removed. Raises OutputError."""
    from safetensors.torch import save

    remove_thresholds(folder)

    # safetensors stores plain tensors: contiguous, none shared
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    with files.replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(state))  # its own way to a file tells no full disk, and lets nobody else read
    write_card(folder, card)


def write_card(folder: Path, card: ModelCard) -> None:
    """Write the card alone. Raises OutputError."""
    files.write_text(folder / CARD, json.dumps(dataclasses.asdict(card), indent=2) + "\n")


def remove_thresholds(folder: Path) -> None:
    """Remove the rules of a run, their picture, and the score that was reached with them."""
    for name in (THRESHOLDS, str(Path(THRESHOLDS).with_suffix(".png")), SCORE):
        (folder / name).unlink(missing_ok=True)


def load_network(folder: Path, card: ModelCard) -> nn.Module:
    """The network with its trained weights, on the CPU, in evaluation mode. Needs no network access.

    Raises RunError: weights missing, damaged or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = registry.build(
        card.arch,
        encoder=card.encoder or "",
        in_channels=card.in_channels,
        classes=card.classes,
        classifier=card.classifier,
    )
    names.check_has_weights(folder)
    path = folder / WEIGHTS
    try:
        path.open("rb").close()  # what the system says against it, safetensors words in other ways
        network.load_state_dict(load_file(path))
    except OSError as error:
        raise files.unreadable(path, error, RunError) from error
    except (SafetensorError, RuntimeError) as error:
        check_memory(error, f"reading {path}")
        raise RunError(f"{path} is damaged or does not fit {CARD}", str(error)[:120], "Train again") from error
    finite.check_weights(path, network.state_dict())
    return network.eval()


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write what `--resume` needs. Raises OutputError."""
    content = io.BytesIO()  # straight to a file, torch would not tell that the disk is full
    torch.save({"format": FORMAT, **state}, content)
    with files.replacing(folder / CHECKPOINT) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """What `write_checkpoint` wrote. Raises RunError: missing, damaged or of another version."""
    path = folder / CHECKPOINT
    remedy = f"Remove {folder} or give another --name, and train again"
    try:
        with path.open("rb") as file:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError("nothing to resume", f"{path} does not exist", "Train without --resume") from error
    except OSError as error:
        raise files.unreadable(path, error, RunError) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged archive raises many kinds
        check_memory(error, f"reading {path}")
        raise RunError(f"{path} is damaged", type(error).__name__, remedy) from error
    if not isinstance(state, dict):
        raise RunError(f"{path} is damaged", "it holds no table of values", remedy)
    if state.get("format") != FORMAT:
        found = f"format {state.get('format')}, this program reads {FORMAT}"
        raise RunError(f"{path} is of another version", found, remedy)
    return state


def write_thresholds(path: Path, thresholds: Thresholds, report: dict[str, Any]) -> None:
    """Write the rules, and with them how they were found and what they gave. Raises OutputError."""
    content = {"format": FORMAT, **thresholds.to_dict(), **report}
    files.write_text(path, json.dumps(content, indent=2) + "\n")


def thresholds_of(folder: Path, card: ModelCard) -> Thresholds:
    """The rules that belong to a run. Raises RunError as `read_thresholds` does."""
    none_left = f"{folder} left no fold out to search them on: put those of a run like it there"
    return read_thresholds(folder / THRESHOLDS, classes=card.classes, remedy=none_left if card.fold is None else "")


def read_thresholds(path: Path, *, classes: int | None = None, remedy: str = "") -> Thresholds:
    """The rules of a file. Raises RunError: missing, damaged, or not for `classes` classes, where that is known.

    `remedy`: what helps where the file is missing, if it is not to search them.
    """
    again = "Search the thresholds again"
    with _reading(path, remedy or f"Search them: severstal thresholds {shlex.quote(str(path.parent))}", again):
        raw = typed.read_table(path)
    if raw.get("format", FORMAT) != FORMAT:
        raise RunError(f"{path} is of another version", f"format {raw['format']}, this program reads {FORMAT}", again)
    with _reading(path, "", again):
        thresholds = Thresholds.from_dict(raw)
    if classes is not None and len(thresholds.rules) != classes:
        found = f"{len(thresholds.rules)} classes, the run has {classes}"
        raise RunError(f"{path} does not fit the run", found, "Search again")
    return thresholds


def read_cards(folders: Sequence[Path]) -> list[ModelCard]:
    """The cards of runs to be averaged. Raises InputError when one is named twice, or their classes differ."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a run is named twice", " ".join(map(str, folders)), "Name each once")
    cards = [read_card(folder) for folder in folders]
    for folder, card in zip(folders, cards, strict=True):
        if card.classes != cards[0].classes:
            raise InputError("runs of different classes cannot be averaged",
                             f"{folders[0]} has {cards[0].classes}, {folder} has {card.classes}")  # fmt: skip
    return cards


@contextmanager
def _reading(path: Path, if_missing: str, if_damaged: str = "Train again, or restore the file") -> Iterator[None]:
    """Report in one line what is wrong with a file of a run, and what helps. Raises RunError."""
    try:
        yield
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing", "", if_missing) from error
    except OSError as error:
        raise files.unreadable(path, error, RunError) from error
    except ValueError as error:
        raise RunError(f"{path} is damaged", str(error), if_damaged) from error
