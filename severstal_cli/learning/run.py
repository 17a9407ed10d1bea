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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from severstal_cli.errors import InputError, RunError, check_memory
from severstal_cli.learning import finite, names, registry
from severstal_cli.learning.thresholds import Thresholds
from severstal_cli.steel import files
from severstal_cli.steel.images import DEPTHS

FORMAT = 1
"""Of the run's files. A program of another format says so instead of guessing."""

WEIGHTS, CARD, CHECKPOINT, THRESHOLDS = "model.safetensors", "model.json", "training.ckpt", "thresholds.json"
SCORE = "score.json"


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


_KINDS: dict[str, Any] = {
    "arch": str, "encoder": str | None, "in_channels": int, "classes": int, "mean": int | float, "std": int | float,
    "data": str, "fold": int | None, "validation_dice": int | float | None,
}  # fmt: skip
"""What must be in a card for the program to work with it; a card is a file that people may edit."""


folder_for, check_new = names.folder_for, names.check_new


def read_card(folder: Path) -> ModelCard:
    """The card of a run. Raises RunError: no run, an incomplete one, or one of another version."""
    names.check_run(folder)
    raw = _read_json(folder / CARD, "")
    found = raw.get("format")
    if found != FORMAT:
        raise RunError(f"{folder / CARD} is of another version", f"format {found}, this program reads {FORMAT}",
                       "Train again, or use the version of severstal that wrote it")  # fmt: skip
    fields = {each.name for each in dataclasses.fields(ModelCard)}
    later = {"environment", "averaged", "pixels_fingerprint", "bits", "pseudo_fingerprint", "seen"}
    odd = sorted(fields ^ (set(raw) | later))
    if odd:
        raise RunError(f"{folder / CARD} is damaged", f"missing or unknown: {', '.join(odd)}", "Train again")
    if isinstance(raw["encoder"], str):
        names.check_encoder_of(folder, raw["encoder"])
    if raw["arch"] not in registry.REGISTRY:
        raise RunError(f"{folder / CARD} is of a network that this program does not have", str(raw["arch"]),
                       "Use the version of severstal that wrote it")  # fmt: skip
    wrong = [name for name, kinds in _KINDS.items() if not isinstance(raw[name], kinds)]
    wrong += [] if raw.get("bits") in (None, *DEPTHS) and not isinstance(raw.get("bits"), float) else ["bits"]
    try:
        if not wrong:
            card = card_from(raw)
            finite.check_pixels(folder / CARD, card.mean, card.std)
            return card
    except (TypeError, ValueError):
        wrong = ["image_size"]
    found = ", ".join(f"{name} is {raw[name]!r}" for name in wrong)
    raise RunError(f"{folder / CARD} is damaged", found, "Train again, or restore the file")


def card_from(fields: dict[str, Any]) -> ModelCard:
    """The card whose fields were written as JSON or into a checkpoint."""
    height, width = fields["image_size"]
    lists = {name: tuple(fields.get(name, ())) for name in ("averaged", "seen")}
    return ModelCard(**fields | {"image_size": (height, width)} | lists)


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
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
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
    if not path.is_file():
        raise RunError("nothing to resume", f"{path} does not exist", "Train without --resume")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
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
    raw = _read_json(path, remedy or f"Search them: severstal thresholds {shlex.quote(str(path.parent))}", again)
    if raw.get("format", FORMAT) != FORMAT:
        found = f"format {raw['format']}, this program reads {FORMAT}"
        raise RunError(f"{path} is of another version", found, "Search the thresholds again")
    try:
        thresholds = Thresholds.from_dict(raw)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged", str(error), "Search the thresholds again") from error
    if classes is not None and len(thresholds.rules) != classes:
        found = f"{len(thresholds.rules)} classes, the run has {classes}"
        raise RunError(f"{path} does not fit the run", found, "Search again")
    return thresholds


def find_runs(models: Path) -> list[tuple[Path, ModelCard]]:
    """The runs under a folder, the best validated first; folders that are no runs are passed over."""
    found = []
    for card_path in sorted(models.glob(f"*/{CARD}")):
        try:
            found.append((card_path.parent, read_card(card_path.parent)))
        except RunError:
            continue
    return sorted(found, key=lambda run: validation_rank(run[1]), reverse=True)


def validation_rank(card: ModelCard) -> float:
    """What runs are compared by: the validation Dice; a run without one comes last."""
    return -1.0 if card.validation_dice is None else card.validation_dice


def best_run(models: Path) -> Path:
    """The run under `models` with the highest validation Dice. Raises RunError when there is none."""
    names.check_any_run(models)
    runs = find_runs(models)
    if not runs:
        raise RunError(f"no trained run in {models}", "", "Train one: severstal train --arch unet --data DATA")
    return runs[0][0]


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


def _read_json(path: Path, remedy: str, remedy_of_damage: str = "Train again, or restore the file") -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing", "", remedy) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"cannot read {path}", str(error), remedy_of_damage) from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged", "it holds no table of values", remedy_of_damage)
    return content
