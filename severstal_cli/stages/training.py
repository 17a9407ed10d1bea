"""`train`: annotated photographs to a run under `models/`."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError, RunError, UsageError
from severstal_cli.learning import history, initial, loop, memory, run, scalars, schedule, validation, workers
from severstal_cli.learning.card import describe
from severstal_cli.learning.dataset import TrainingSet
from severstal_cli.learning.device import chosen_precision, open_device
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import files, splits
from severstal_cli.steel.photographs import open_photographs
from severstal_cli.steel.pseudo import open_pseudo

MAY_DIFFER = {
    "data", "models", "name", "resume", "epochs", "time_limit_s", "devices", "encoder_weights", "compile",
    "pseudo", "pseudo_images",
}  # fmt: skip
"""Settings that may be other ones when a training is resumed; all others would make it another training."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training. Dice are means over the validation fold, None without one."""

    folder: Path
    epochs: int
    best_epoch: int
    validation_dice: float | None
    nothing_dice: float | None
    """What predicting nothing scores on the same images."""
    seconds: float


def train(config: TrainConfig, progress: Progress = SILENT) -> TrainResult:
    """Train a network; keep its best averaged weights, its last state and its history in a run's folder.

    Raises:
        InputError: wrong data or pseudo labels, an unknown architecture, a run of this name exists.
        RunError: nothing to resume, or it was made with other settings or data.
        OutputError: the run cannot be written.
        MachineError: there are fewer GPUs than devices, or a worker was killed.
        SeverstalError: the loss became infinite or not a number.
    """
    if config.devices > 1 and not workers.is_worker():
        return workers.run(train, config.devices, config, progress)
    with workers.one_voice():
        return _train(config, progress if workers.is_first() else SILENT)


def _train(config: TrainConfig, progress: Progress) -> TrainResult:
    """`train` in one process: the only one, or a worker among several, of which the first one alone writes."""
    folder = run.folder_for(config)
    saved = run.read_checkpoint(folder) if config.resume else None
    if saved is None and (folder / run.CHECKPOINT).exists():
        raise InputError("there is a run of this name", str(folder), "Give --resume, another --name, or remove it")
    if saved is None and (folder / run.CARD).exists():
        raise InputError("there is a run of this name", str(folder), "Give another --name, or remove it")
    files.check_place(folder / run.CHECKPOINT)
    fabric = open_device(config.precision)
    if fabric.is_global_zero:
        files.remove_parts(folder)
    with fabric.rank_zero_first(local=True):  # what is missing is made once on each machine
        photographs = open_photographs(config.data, progress)
        split = splits.ensure_splits(config.data, progress)
    if len(config.class_weights) not in (0, photographs.classes):
        raise UsageError("wrong number of class weights", str(len(config.class_weights)),
                         f"{config.data} has {photographs.classes} classes")  # fmt: skip
    train_ids, validation_ids = _parts(split, config)
    pseudo = open_pseudo(config, photographs, train_ids, progress)
    data = TrainingSet(photographs.cache, train_ids, photographs.masks, photographs.classes, config, pseudo,
                       rank=fabric.global_rank, world=fabric.world_size)  # fmt: skip
    card = describe(config, photographs, split, train_ids, validation_ids, pseudo, fabric)
    with fabric.rank_zero_first(local=True):  # weights that must be fetched
        network = initial.build(config, card, progress, fresh=saved is None)
    if config.batch_size is None and fabric.device.type != "cpu":  # a CPU's memory holds any step, as good as always
        memory.find_batch(network, data, config, fabric)
    state = loop.start(network, config, fabric)
    rows: list[history.Row] = []
    if saved is not None:
        rows, card = _go_on(folder, saved, card, state)
        if card.epoch and fabric.is_global_zero:
            run.write_card(folder, card)
        progress.say(f"{folder}: going on after epoch {len(rows)}")
        if len(rows) >= config.epochs:
            progress.say(f"{folder}: nothing is left to do; more --epochs would go on")
    truth = validation.Validation(photographs, validation_ids, card, data.at_once)
    progress.say(f"{folder.name}: {_opening_line(config, data, truth, fabric)}")

    with (
        progress.bar(folder.name, (config.epochs - len(rows)) * len(data), "steps") as bar,
        scalars.open_scalars(folder if fabric.is_global_zero else None, rows) as add_scalars,
        memory.told(data, config),
    ):
        for epoch in range(len(rows), config.epochs):
            began = time.monotonic()
            validation_s = max((row.validation_s for row in rows), default=0)
            done_share = schedule.done_share(config, len(data), state.elapsed_s, began, validation_s, fabric.broadcast)
            worth_it = schedule.validates(config, epoch, done_share(state.steps))
            trained = loop.train_epoch(state, data, epoch, config, card, fabric, done_share, bar)
            if trained.images == 0:
                progress.say("the time limit is used up; a longer one would go on")
                break
            is_last = trained.ended or epoch + 1 == config.epochs or done_share(state.steps) >= 1
            scores = truth.score(state.average, fabric) if worth_it or is_last else None
            state.elapsed_s += time.monotonic() - began
            row = _row(epoch, trained, scores, state, time.monotonic() - began - trained.seconds)
            rows.append(row)
            best, card = _best(state, row, card, config)
            if is_last and len(state.best) > 1:
                best, card = _mean_if_better(best, state, truth, card, fabric, progress)
            if fabric.is_global_zero:
                _keep(folder, best, state, card, rows)
                add_scalars(row)
            progress.say(history.line(row, config.epochs))
            if trained.ended:
                break
    if not rows:
        raise RunError(f"{folder.name} has not learnt anything", "the time was over before the first step",
                       "Give a longer --time-limit")  # fmt: skip
    return TrainResult(
        folder=folder,
        epochs=len(rows),
        best_epoch=card.epoch,
        validation_dice=card.validation_dice,
        nothing_dice=truth.nothing_dice,
        seconds=state.elapsed_s,
    )


def train_folds(config: TrainConfig, progress: Progress = SILENT) -> list[TrainResult]:
    """Train a run for each fold of the split in turn; `config.fold` is ignored, and a name gets the fold's as an end.

    With `resume`, finished folds are left as they are and the others go on or begin. Raises what `train` raises.
    """
    open_photographs(config.data, progress)  # its faults are told before those of a split made from it
    split = splits.ensure_splits(config.data, progress)
    folds = sorted(int(part) for part in set(split.parts.values()) - {splits.HOLDOUT})
    each = [dataclasses.replace(config, fold=fold, name=config.name and f"{config.name}-fold{fold}") for fold in folds]
    begun = {one.fold for one in each if (run.folder_for(one) / run.CHECKPOINT).exists()}
    for one in each:
        if one.fold in begun and not config.resume:
            raise InputError("there is a run of this name", str(run.folder_for(one)),
                             "Give --resume, another --name, or remove it")  # fmt: skip
    return [train(dataclasses.replace(one, resume=one.fold in begun), progress) for one in each]


def _parts(split: splits.Split, config: TrainConfig) -> tuple[list[str], list[str]]:
    """The images to train on and those to validate on; both in the order of the split."""
    if config.fold is None:
        return [image_id for image_id, part in split.parts.items() if part != splits.HOLDOUT], []
    fold = str(config.fold)
    validation = split.ids_of(fold)
    if not validation:
        there = ", ".join(sorted(set(split.parts.values()) - {splits.HOLDOUT}))
        raise InputError("no such fold", fold, f"The split has folds {there}; or --fold none")
    train = [image_id for image_id, part in split.parts.items() if part not in (splits.HOLDOUT, fold)]
    if not train:
        raise InputError("no image is left to train on", f"fold {fold} and holdout take all", "Split into more folds")
    return train, validation


def _keep(
    folder: Path, best: torch.nn.Module | None, state: loop.State, card: run.ModelCard, rows: list[history.Row]
) -> None:
    """Write what an epoch gave: weights where they are the best so far, the history, and what `--resume` needs."""
    if best is not None:
        run.remove_thresholds(folder)  # those of an earlier sitting are of other weights
        run.write_model(folder, best, card)
    history.write(folder, rows)
    saving = {"state": state.state_dict(), "card": dataclasses.asdict(card)}
    run.write_checkpoint(folder, saving | {"history": [dataclasses.asdict(row) for row in rows]})


def _go_on(
    folder: Path, saved: dict[str, Any], card: run.ModelCard, state: loop.State
) -> tuple[list[history.Row], run.ModelCard]:
    """Put a checkpoint into `state`; its epochs and its card. `card` is what a training from here would have."""
    try:
        _check_same(folder, saved["card"], card)
        state.load_state_dict(saved["state"])
        before = run.card_from(saved["card"])
        moved = "data", "models", "epochs", "time_limit_s", "compile", "pseudo", "pseudo_images"
        now = {name: card.config[name] for name in moved}
        card = dataclasses.replace(
            card, epoch=before.epoch, validation_dice=before.validation_dice, config=before.config | now
        )
        return [history.Row(**row) for row in saved["history"]], card
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{folder / run.CHECKPOINT} is damaged", repr(error)[:120], f"Remove {folder}, and train again"
        ) from error


def _check_same(folder: Path, saved: dict[str, Any], card: run.ModelCard) -> None:
    """Going on with other data or settings would be neither the old training nor a new one."""
    pairs = [(name, saved[f"{name}_fingerprint"], getattr(card, f"{name}_fingerprint")) for name in ("data", "split")]
    # a setting that the run's version did not have was what the default is
    pairs += [
        (name, saved["config"].get(name, getattr(TrainConfig, name, None)), value)
        for name, value in card.config.items()
        if name not in MAY_DIFFER
    ]
    for name, before, now in pairs:
        if before != now:
            raise RunError(f"{folder} was trained with another {name}", f"{before}, here {now}",
                           "Resume with the same, or train anew under another --name")  # fmt: skip


def _best(
    state: loop.State, row: history.Row, card: run.ModelCard, config: TrainConfig
) -> tuple[torch.nn.Module | None, run.ModelCard]:
    """The network of an epoch that validated better than all before it, or None; without a fold, of each epoch."""
    if row.dice is not None and config.best_epochs > 1:
        state.remember(row.epoch, row.dice, config.best_epochs)
    best = card.validation_dice
    if card.validation_images and (row.dice is None or (best is not None and row.dice <= best)):
        return None, card
    return state.average, dataclasses.replace(card, epoch=row.epoch, validation_dice=row.dice)


def _mean_if_better(
    best: torch.nn.Module | None,
    state: loop.State,
    truth: validation.Validation,
    card: run.ModelCard,
    fabric: Fabric,
    progress: Progress,
) -> tuple[torch.nn.Module | None, run.ModelCard]:
    """A network with the mean weights of the best epochs if it validates better than each of them, else `best`."""
    mean = state.mean_of_best()
    scores = truth.score(mean, fabric)
    epochs = ", ".join(str(kept["epoch"]) for kept in state.best)
    if scores is None or card.validation_dice is None or scores[0] <= card.validation_dice:
        progress.say(f"the mean of epochs {epochs} is not better than the best of them")
        return best, card
    progress.say(f"the mean of epochs {epochs} is kept: Dice {scores[0]:.4f}")
    return mean, dataclasses.replace(card, validation_dice=scores[0])


def _row(
    epoch: int,
    trained: loop.EpochResult,
    scores: tuple[float, float | None] | None,
    state: loop.State,
    validation_s: float,
) -> history.Row:
    return history.Row(
        epoch=epoch + 1,
        loss=trained.loss,
        dice=scores[0] if scores else None,
        dice_present=scores[1] if scores else None,
        learning_rate=float(state.optimizer.param_groups[0]["lr"]),
        images_per_s=trained.images / trained.seconds,
        validation_s=validation_s,
        elapsed_s=state.elapsed_s,
    )


def _opening_line(config: TrainConfig, data: TrainingSet, truth: validation.Validation, fabric: Fabric) -> str:
    height, width = data.piece
    precision = chosen_precision(config.precision, fabric.device.type)
    devices = f"{fabric.world_size} x " if fabric.world_size > 1 else ""
    at_once = "" if data.at_once >= data.step_images else f", {data.at_once} at once"
    nothing = "" if truth.nothing_dice is None else f", where predicting nothing scores {truth.nothing_dice:.4f}"
    return (
        f"training on {len(data.image_ids)} images in pieces of {height} x {width}, validating on "
        f"{len(truth.image_ids)}{nothing}; {data.step_images} images a step{at_once}; "
        f"{devices}{fabric.device.type}, {precision}"
    )
