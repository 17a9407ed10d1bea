"""A run: the folder of one trained model, with everything that prediction needs.

    model.safetensors     the EMA weights of the best epoch
    model.json            the `ModelCard`: network, training data and settings
    training.ckpt         the checkpoint for `--resume`; tensors and plain values only
    history.csv, .png     one row per epoch; its plot
    tensorboard/          the same for TensorBoard, if it is installed
    thresholds.json, .png the `Thresholds` of the run, with details of their search; a plot of the scores
    score.json            the score on the holdout with these weights and thresholds

All files are written atomically, and none contains pickled objects.
"""

import io
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from severstal_cli import files, typed
from severstal_cli.errors import InputError, RunError, check_memory
from severstal_cli.learning import finite
from severstal_cli.learning.networks import names, registry
from severstal_cli.learning.runs import model_card
from severstal_cli.learning.runs.model_card import FORMAT, ModelCard, read_card, write_card
from severstal_cli.learning.runs.thresholds import Thresholds

WEIGHTS, CHECKPOINT = names.WEIGHTS_FILE, names.CHECKPOINT
THRESHOLDS, SCORE = names.THRESHOLDS_FILE, names.SCORE_FILE
OF_THRESHOLDS = THRESHOLDS, str(Path(THRESHOLDS).with_suffix(".png")), SCORE
"""The thresholds of a run, their plot, and the score that depends on them."""


def write_model(folder: Path, network: nn.Module, card: ModelCard) -> None:
    """Write weights and card, and remove the thresholds of earlier weights. Raises OutputError."""
    from safetensors.torch import save

    remove_thresholds(folder)

    # safetensors stores plain tensors: contiguous, none shared
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    with files.replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(state))  # safetensors.save_file hides a full disk, and makes the file private
    write_card(folder, card)


def remove_thresholds(folder: Path) -> None:
    """Remove `OF_THRESHOLDS`."""
    for name in OF_THRESHOLDS:
        (folder / name).unlink(missing_ok=True)


def network_of(card: ModelCard) -> nn.Module:
    """The untrained network that a card describes. Works offline."""
    return registry.build(
        card.arch,
        encoder=card.encoder or "",
        in_channels=card.in_channels,
        classes=card.classes,
        classifier=card.classifier,
    )


def load_network(folder: Path, card: ModelCard) -> nn.Module:
    """The network with its trained weights, on the CPU, in evaluation mode. Works offline.

    Raises RunError: the weights are missing, damaged or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = network_of(card)
    names.check_has_weights(folder)
    path = folder / WEIGHTS
    try:
        path.open("rb").close()  # raises the system's own OSError, which safetensors would reword
        network.load_state_dict(load_file(path))
    except OSError as error:
        raise files.unreadable(path, error, RunError) from error
    except (SafetensorError, RuntimeError) as error:
        check_memory(error, f"reading {path}")
        raise RunError(
            f"{path} is damaged or does not fit {model_card.CARD}", str(error)[:120], "Train again"
        ) from error
    finite.check_weights(path, network.state_dict())
    return network.eval()


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the checkpoint for `--resume`. Raises OutputError."""
    content = io.BytesIO()  # torch does not report a full disk when it writes a file itself
    torch.save({"format": FORMAT, **state}, content)
    with files.replacing(folder / CHECKPOINT) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The content of `write_checkpoint`. Raises RunError: the file is missing, damaged or of another version."""
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
    except Exception as error:  # a damaged archive raises many kinds of errors
        check_memory(error, f"reading {path}")
        raise RunError(f"{path} is damaged", type(error).__name__, remedy) from error
    if not isinstance(state, dict):
        raise RunError(f"{path} is damaged", "it holds no table of values", remedy)
    if state.get("format") != FORMAT:
        found = f"format {state.get('format')}, this program reads {FORMAT}"
        raise RunError(f"{path} is of another version", found, remedy)
    return state


def write_thresholds(path: Path, thresholds: Thresholds, report: dict[str, Any]) -> None:
    """Write thresholds together with the report of their search. Raises OutputError."""
    content = {"format": FORMAT, **thresholds.to_dict(), **report}
    files.write_text(path, json.dumps(content, indent=2) + "\n")


def thresholds_of(folder: Path, card: ModelCard) -> Thresholds:
    """The thresholds of a run. Raises RunError as `read_thresholds` does."""
    no_fold = (
        f"{folder} was trained on all folds, so there is nothing to tune on; copy thresholds.json from a comparable run"
    )
    return read_thresholds(folder / THRESHOLDS, classes=card.classes, remedy=no_fold if card.fold is None else "")


def read_thresholds(path: Path, *, classes: int | None = None, remedy: str = "") -> Thresholds:
    """The thresholds of a file. Raises RunError: it is missing, damaged, or not for `classes` classes, if given.

    `remedy`: for a missing file; by default to search thresholds.
    """
    again = "Search the thresholds again"
    missing = remedy or f"Search them: severstal thresholds {shlex.quote(str(path.parent))}"
    with model_card.reading(path, missing, again):
        raw = typed.read_table(path)
    if raw.get("format", FORMAT) != FORMAT:
        raise RunError(f"{path} is of another version", f"format {raw['format']}, this program reads {FORMAT}", again)
    with model_card.reading(path, "", again):
        thresholds = Thresholds.from_dict(raw)
    if classes is not None and len(thresholds.rules) != classes:
        found = f"{len(thresholds.rules)} classes, the run has {classes}"
        raise RunError(f"{path} does not fit the run", found, "Search again")
    return thresholds


def read_cards(folders: Sequence[Path]) -> list[ModelCard]:
    """The cards of the runs of an ensemble. Raises InputError: a run is named twice, or the classes differ."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a run is named twice", " ".join(map(str, folders)), "Name each run once")
    cards = [read_card(folder) for folder in folders]
    for folder, card in zip(folders, cards, strict=True):
        if card.classes != cards[0].classes:
            raise InputError(
                "runs of different classes cannot be averaged",
                f"{folders[0]} has {cards[0].classes}, {folder} has {card.classes}",
            )
    return cards
