"""`training.ckpt`: the state after each epoch, from which alone a training resumes.

It has the weights of the run, too: a notebook gets this file only, and later epochs may not be better.
"""

import copy
import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from severstal_cli import typed
from severstal_cli.config import TrainConfig
from severstal_cli.config.training import REMOVED, different_settings, effective_batch_size, settings_with
from severstal_cli.errors import InputError, OutputError, RunError, check_memory
from severstal_cli.learning.device import gather
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import history, loop
from severstal_cli.progress import Progress
from severstal_cli.steel.images.decoding import FULL_DEPTH

_MARGIN_BYTES = 1_000_000
"""Bytes of a run beside its weights: history, plots, names of tensors."""


def save(
    folder: Path, state: loop.State, card: model_card.ModelCard, rows: Sequence[history.Row], network: nn.Module | None
) -> None:
    """Write the checkpoint. `network`: has the new weights of the run; None: they stay. Raises OutputError."""
    if network is not None:
        state.kept = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    saving = {"state": state.state_dict(), "card": dataclasses.asdict(card)}
    if _is_latest(card, rows):
        saving["state"]["kept"] = {}  # the EMA weights of the state
    run_folder.write_checkpoint(folder, saving | {"history": [dataclasses.asdict(row) for row in rows]})


def check_space(folder: Path, state: loop.State, config: TrainConfig, epochs: int) -> None:
    """Check that the disk has room for the run of `folder`, whose training has done `epochs`. Raises OutputError.

    A new file is complete before it replaces the old one, so from the second checkpoint on two of them need space.
    Files of an earlier session count as space of the run.
    """
    weights = _size(state.ema.state_dict().values())
    moments = 2 * _size(weight for weight in state.network.parameters() if weight.requires_grad)  # AdamW has two
    averaged = config.best_epochs if config.best_epochs > 1 else 0
    kept = 0 if config.fold is None or config.epochs == 1 else 1  # else the latest epoch is kept
    checkpoint = (2 + averaged + kept) * weights + moments
    written = [folder / name for name in (run_folder.CHECKPOINT, run_folder.WEIGHTS) if (folder / name).is_file()]
    to_write = config.epochs - epochs + (1 if averaged else 0)
    if to_write < 1:
        return
    times = 2 if written or to_write > 1 else 1
    needed = times * checkpoint + weights + _MARGIN_BYTES - sum(path.stat().st_size for path in written)
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
    if free < needed:
        raise OutputError(
            f"the disk of {folder} is too full for the training",
            f"{_megabytes(free)} free, its checkpoints need {_megabytes(needed)}",
            "Free some space, or give another folder by --models",
        )


def _size(tensors: Iterable[Tensor]) -> int:
    """Size in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def restore(
    folder: Path,
    state: loop.State,
    card: model_card.ModelCard,
    rows: Sequence[history.Row],
    fabric: Fabric,
    progress: Progress,
) -> model_card.ModelCard:
    """Write the files that the folder of a resumed training lacks: a kill left them out, or only the checkpoint came.

    Returns `card`; that of another epoch, or of epoch 0, none, if the weights are lost. Raises OutputError.
    """
    written = _weights_in(folder, card, state.kept) if fabric.is_global_zero else {}
    is_written = gather(bool(written), fabric)[0]
    if card.epoch and not is_written and not state.kept:
        # a checkpoint of an earlier version
        progress.log(f"{folder}: the weights of its best epoch, {card.epoch}, are lost; the best of the others is kept")
        best = state.best[0] if state.best else {"epoch": 0, "dice": None, "weights": {}}
        card = dataclasses.replace(card, epoch=best["epoch"], averaged=(), validation_dice=best["dice"])
        state.kept = best["weights"]
    if fabric.is_global_zero:
        if is_written:
            state.kept = written
            model_card.write_card(folder, card)
        elif card.epoch:
            _write_model(folder, copy.deepcopy(state.ema), state.kept, card)
        history.write(folder, rows)
    else:
        state.kept = {}  # the first worker alone saves them
    return card


def complete(folder: Path) -> None:
    """Write the weights and the card that the folder of a checkpoint lacks, or has others of, and then the history.

    The thresholds of other weights are removed. Raises RunError: the checkpoint is damaged. OutputError.
    """
    saved = run_folder.read_checkpoint(folder)
    with _reading(folder):
        card, rows = model_card.card_from(_entry(saved, "card")), _rows(saved)
        if not card.epoch:
            return
        network = run_folder.network_of(card)
        kept = _kept(_entry(saved, "state"), card, rows, network.state_dict())
        if kept and not _weights_in(folder, card, kept):
            _write_model(folder, network, kept, card)
    history.write(folder, rows)


def losses(folder: Path) -> list[float]:
    """The training loss of each epoch of a checkpoint. Trainings that resume the same one have equal losses up to it.

    Raises RunError: the checkpoint is missing or damaged.
    """
    saved = run_folder.read_checkpoint(folder)
    with _reading(folder):
        return [row.loss for row in _rows(saved)]


def _write_model(folder: Path, network: nn.Module, weights: Mapping[str, Tensor], card: model_card.ModelCard) -> None:
    network.load_state_dict(weights)
    run_folder.write_model(folder, network, card)


def _is_latest(card: model_card.ModelCard, rows: Sequence[history.Row]) -> bool:
    """Whether the card describes the EMA weights after the last epoch."""
    return card.epoch == len(rows) and not card.averaged


def _weights_in(folder: Path, card: model_card.ModelCard, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that `card` describes, from their file in the folder; {} if it has none, or others.

    `kept`: these weights in the checkpoint; {} in a checkpoint of an earlier version, where the card has to do.
    """
    try:
        written = model_card.read_card(folder)
        if any(getattr(written, name) != getattr(card, name) for name in ("epoch", "averaged", "validation_dice")):
            return {}
        weights: dict[str, Tensor] = run_folder.load_network(folder, written).state_dict()
    except RunError:
        return {}
    is_same = weights.keys() == kept.keys() and all(torch.equal(value, kept[name]) for name, value in weights.items())
    return weights if is_same or not kept else {}


def resume(
    folder: Path, saved: dict[str, Any], card: model_card.ModelCard, state: loop.State
) -> tuple[list[history.Row], model_card.ModelCard]:
    """Load a checkpoint into `state`. Returns its epochs and its card; `card` is the card of the resumed training.

    Raises RunError: the checkpoint is damaged, or of other data or settings.
    """
    with _reading(folder):
        before = model_card.card_from(_entry(saved, "card"))
        _check_same(folder, saved["card"], card)
        rows = _rows(saved)
        _take_over(state, _entry(saved, "state"), before, rows)
        card = dataclasses.replace(
            card,
            epoch=before.epoch,
            averaged=before.averaged,
            seen=before.seen,
            validation_dice=before.validation_dice,
            config=before.config | {name: card.config[name] for name in settings_with(on_resume="new")},
        )
        return rows, card


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Raises RunError: the checkpoint is damaged."""
    try:
        yield
    except (ValueError, RuntimeError, InputError) as error:  # the last: its card names an unknown network
        check_memory(error, f"resuming {folder}")
        raise RunError(
            f"{folder / run_folder.CHECKPOINT} is damaged", str(error), f"Remove {folder}, and train again"
        ) from error


def _entry(saved: Any, name: str, kind: type = dict) -> Any:
    """An entry of a checkpoint. Raises ValueError: it is missing, or of another type."""
    if not isinstance(saved, dict) or name not in saved:
        raise ValueError(f"{name} is missing")
    if not isinstance(saved[name], kind):
        raise ValueError(f"{name} is of type {type(saved[name]).__name__}, not {kind.__name__}")
    return saved[name]


def _rows(saved: dict[str, Any]) -> list[history.Row]:
    rows = [typed.make(history.Row, row, "history") for row in _entry(saved, "history", list)]
    if [row.epoch for row in rows] != list(range(1, len(rows) + 1)):
        raise ValueError("the epochs of its history are not counted from 1")
    return rows


def _kept(
    saved: dict[str, Any], card: model_card.ModelCard, rows: Sequence[history.Row], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights of the run in a saved state; {}: none are kept yet, or an earlier version did not save them."""
    kept = _entry(saved, "average") if _is_latest(card, rows) else _entry({"kept": {}} | saved, "kept")
    if kept:
        _check_tensors(kept, weights, "kept")
    return {name: value.clone() for name, value in kept.items()}


def _take_over(
    state: loop.State, saved: dict[str, Any], card: model_card.ModelCard, rows: Sequence[history.Row]
) -> None:
    """Load a saved state into `state`. Raises ValueError or RuntimeError: it is damaged, or of another network."""
    steps = typed.as_type(int, saved.get("steps"), "steps")
    elapsed_s = typed.as_type(float, saved.get("elapsed_s"), "elapsed_s")
    weights = state.ema.state_dict()
    best = _entry({"best": []} | saved, "best", list)
    for kept in best:
        for name, kind in (("dice", float), ("epoch", int)):
            typed.as_type(kind, kept.get(name) if isinstance(kept, dict) else None, f"best.{name}")
        _check_tensors(_entry(kept, "weights"), weights, "best.weights")
    for name in ("network", "average"):
        _check_tensors(_entry(saved, name), weights, name)
    optimizer = state.optimizer.state_dict()
    of_weights = _entry(_entry(saved, "optimizer"), "state")
    sizes = {
        number: weight
        for group, own in zip(state.optimizer.param_groups, optimizer["param_groups"], strict=True)
        for number, weight in zip(own["params"], group["params"], strict=True)
    }
    for number, moments in of_weights.items():
        if number not in sizes or not isinstance(moments, dict):
            raise ValueError("its optimizer is of another network")
        expected = {"step": torch.zeros(()), "exp_avg": sizes[number], "exp_avg_sq": sizes[number]}
        _check_tensors(moments, expected, "optimizer")
    for name in ("verdicts", "validation_verdicts"):  # missing in checkpoints of earlier versions
        typed.as_type(tuple[tuple[int, int, int, bool], ...], saved.get(name, ()), name)
    kept = _kept(saved, card, rows, weights)
    # the optimiser's settings come from this training, whose config is equal
    state.load_state_dict(
        saved
        | {
            "best": best,
            "kept": kept,
            "steps": steps,
            "elapsed_s": elapsed_s,
            "optimizer": {"state": of_weights, "param_groups": optimizer["param_groups"]},
        }
    )


def _check_tensors(saved: dict[str, Any], expected: Mapping[str, torch.Tensor], what: str) -> None:
    """Raise ValueError unless `saved` has tensors of the names, shapes and dtypes of `expected`."""
    if saved.keys() != expected.keys():
        raise ValueError(f"{what} has other weights than the network")
    for name, value in expected.items():
        other = saved[name]
        if not isinstance(other, torch.Tensor) or (other.shape, other.dtype) != (value.shape, value.dtype):
            raise ValueError(f"{what} does not fit the network at {name}")


def _check_same(folder: Path, saved: dict[str, Any], card: model_card.ModelCard) -> None:
    """Going on with other data or settings would be neither the old training nor a new one."""
    parts = {"data": "data", "split": "split", "pseudo": "choice of pseudo labels"}
    pairs = [
        (what, saved.get(f"{name}_fingerprint"), getattr(card, f"{name}_fingerprint")) for name, what in parts.items()
    ]
    if saved.get("pixels_fingerprint") is not None:  # an earlier version did not note it
        pairs.append(("state of the images", saved["pixels_fingerprint"], card.pixels_fingerprint))
    elif card.bits not in (None, FULL_DEPTH):
        pairs.append(("reading of 16-bit images", FULL_DEPTH, card.bits))
    old_step, new_step = (
        effective_batch_size(each.get("step_images"), each.get("batch_size")) for each in (saved["config"], card.config)
    )
    pairs.append(("effective batch size", old_step, new_step))  # batch_size and step_images may differ
    pairs += different_settings(saved["config"], card.config, settings_with(on_resume="same"))
    for name, before, now in pairs:
        if before != now:
            raise RunError(
                f"{folder} was trained with another {name}",
                f"{before}, here {now}",
                "Resume with the same, or train anew under another --name"
                if name not in REMOVED
                else "This version has no such setting: train anew under another --name",
            )
