"""`train`: annotated images to a run under `models/`."""

import dataclasses
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric
from torch import nn

from severstal_cli import files
from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError, RunError, UsageError
from severstal_cli.learning import distributed
from severstal_cli.learning.device import chosen_precision, gather, open_device
from severstal_cli.learning.networks import names, registry
from severstal_cli.learning.networks.registry import STRIDE
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import (
    auto_batch_size,
    checkpoint,
    checkpoint_selection,
    history,
    initial_weights,
    loop,
    schedule,
    tensorboard_log,
    validation,
)
from severstal_cli.learning.training.batches import TrainingSet
from severstal_cli.learning.training.new_card import describe
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.data_folder import DataFolder, open_data_folder
from severstal_cli.steel.dataset.pseudo_labels import open_pseudo


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training. Dice are means over the validation fold, None without one."""

    folder: Path
    epochs: int
    best_epoch: int
    averaged: tuple[int, ...]
    """The epochs whose mean was kept instead."""
    validation_dice: float | None
    nothing_dice: float | None
    """What predicting nothing scores on the same images."""
    seconds: float


@distributed.on_devices
def train(config: TrainConfig, progress: Progress) -> TrainResult:
    """Train a network; keep its best averaged weights, its last state and its history in a run's folder.

    `progress` is `SILENT` by default. With several devices each worker does all of this, and the first one writes.

    Raises:
        InputError: wrong data or pseudo labels, an unknown architecture, a run of this name exists.
        RunError: nothing to resume, or it was made with other settings or data.
        OutputError: the run cannot be written.
        MachineError: too few GPUs, a full memory, no compiler, weights that cannot be fetched, a worker was killed, or
            another process trains this run.
        SeverstalError: the loss became infinite or not a number.
    """
    return _train(config, progress)


@distributed.on_devices
def train_folds(config: TrainConfig, progress: Progress) -> list[TrainResult]:
    """Train a run for each fold of the split in turn; `config.fold` is ignored, and a name gets the fold's as an end.

    With `resume`, finished folds are left as they are and the others go on or begin. Raises what `train` raises.
    """
    data_folder = open_data_folder(config.data, progress)  # its faults are told before those of the split
    split = splits.ensure_splits(config.data, progress)
    folds = sorted(int(part) for part in set(split.parts.values()) - {splits.HOLDOUT})
    each = [dataclasses.replace(config, fold=fold, name=config.name and f"{config.name}-fold{fold}") for fold in folds]
    for one in each:
        if not config.resume:
            names.check_new(names.folder_for(one))
            initial_weights.seen_by_others(one, data_folder.fingerprint, split.fingerprint, SILENT)
        elif config.init is not None:
            initial_weights.check_source(config.init, data_folder.fingerprint, split.fingerprint, one.fold)
    results = []
    for one in each:
        folder = names.folder_for(one)
        begun = (folder / run_folder.CHECKPOINT).exists()
        if not begun and (folder / model_card.CARD).exists():
            progress.log(f"{folder}: finished, and left as it is, as it has no {run_folder.CHECKPOINT}")
            continue
        results.append(_train(dataclasses.replace(one, resume=begun), progress))
    return results


def _train(config: TrainConfig, progress: Progress) -> TrainResult:
    folder = names.folder_for(config)
    files.check_place(folder / run_folder.CHECKPOINT)
    alone = files.locked(folder, f"another process is training {folder}")
    with alone if distributed.is_first() else nullcontext():
        return _train_alone(config, folder, progress)


def _train_alone(config: TrainConfig, folder: Path, progress: Progress) -> TrainResult:
    """`train` in a folder that no other training writes to."""
    saved = run_folder.read_checkpoint(folder) if config.resume else None
    if saved is None:
        names.check_new(folder)
    fabric = open_device(config.precision)
    if fabric.is_global_zero:
        files.remove_parts(folder)
    with fabric.rank_zero_first(local=True):  # what is missing is made once on each machine
        data_folder = open_data_folder(config.data, progress)
        split = splits.ensure_splits(config.data, progress)
    if len(config.class_weights) not in (0, data_folder.classes):
        raise UsageError("wrong number of class weights", str(len(config.class_weights)),
                         f"{config.data} has {data_folder.classes} classes")  # fmt: skip
    train_ids, validation_ids = _parts(split, config)
    # one that goes on has seen what it has, and the others may be gone
    seen = () if saved else initial_weights.seen_by_others(config, data_folder.fingerprint, split.fingerprint, progress)
    pseudo = open_pseudo(config, data_folder, train_ids, progress)
    data = TrainingSet(data_folder, train_ids, config, pseudo, rank=fabric.global_rank, world=fabric.world_size)
    card = describe(config, data_folder, split, train_ids, validation_ids, pseudo, seen, fabric)
    with fabric.rank_zero_first(local=True):  # weights that must be fetched
        network = initial_weights.build(config, card, progress, fresh=saved is None)
    with fabric.autocast():
        loop.check_smallest_batch(network, data, config)
    if saved is None:
        height, width = (STRIDE * math.ceil(side / STRIDE) for side in card.image_size)
        with fabric.autocast():
            registry.try_out(network, config.arch, config.encoder, (card.in_channels, height, width))  # to be judged by
    if config.batch_size is None and fabric.device.type != "cpu":  # a CPU's memory holds any step worth waiting for
        auto_batch_size.find_batch(network, data, config, fabric)
        loop.check_smallest_batch(network, data, config)
    if config.batch_size is None:
        found = {"batch_size": data.at_once, "step_images": data.step_images}
        card = dataclasses.replace(card, config=card.config | found)
    state = loop.start(network, config, fabric, data.at_once)
    rows: list[history.Row] = []
    if saved is not None:
        rows, card = checkpoint.go_on(folder, saved, card, state)
        if fabric.is_global_zero:
            checkpoint.restore(folder, state, card, rows)
        progress.log(f"{folder}: going on after epoch {len(rows)}")
        if len(rows) >= config.epochs:
            progress.log(f"{folder}: nothing is left to do; more --epochs would go on")
    if len(set(map(tuple, gather((len(rows), state.steps), fabric)))) > 1:
        raise RunError(f"the workers do not go on from the same state of {folder}", "",
                       "Several machines must share the folder of the runs")  # fmt: skip
    if fabric.is_global_zero:
        checkpoint.check_space(folder, state, config, len(rows))
    if len(rows) < config.epochs:
        began = time.monotonic()
        loop.check_precision(state, data, config, card, fabric, progress)
        state.elapsed_s += time.monotonic() - began  # of a time limit, too
    judge = validation.Validation(data_folder, validation_ids, card, data.at_once, state.validation_verdicts, progress)

    def keep(network: nn.Module | None) -> None:
        """The checkpoint first: what a kill leaves unwritten is made of it again."""
        if fabric.is_global_zero:
            checkpoint.save(folder, state, card, rows)
            if network is not None:
                run_folder.write_model(folder, network, card)
            history.write(folder, rows)

    progress.log(f"{folder.name}: {_opening_line(config, data, judge, fabric)}")
    if note := schedule.small_set_note(config, len(data.image_ids), len(data)):
        progress.log(note)

    with (
        progress.bar(folder.name, (config.epochs - len(rows)) * len(data), "steps") as bar,
        tensorboard_log.open_scalars(folder if fabric.is_global_zero else None, rows) as add_scalars,
        auto_batch_size.told(data, config),
    ):
        for epoch in range(len(rows), config.epochs):
            clock = schedule.Clock(
                config=config, epoch=epoch, steps_an_epoch=len(data), elapsed_s=state.elapsed_s,
                validation_s=max((row.validation_s for row in rows if row.dice is not None), default=None),
                validation_steps=_steps_of_validation(judge, data_folder, data, fabric),
                agree=lambda time_s: float(gather(time_s, fabric)[0]),
            )  # fmt: skip
            validates = schedule.validates(config, epoch, clock.share_done(0))
            trained = loop.train_epoch(state, data, epoch, config, card, fabric, clock.share_done, bar)
            if trained.images == 0:
                progress.log("the time limit is used up; a longer one would go on")
                break
            is_last = trained.ended or epoch + 1 == config.epochs or clock.share_done(len(data)) >= 1
            scores = judge.score(state.average, fabric) if validates or is_last else None
            spent_s = time.monotonic() - clock.began
            state.elapsed_s += spent_s
            row = _row(epoch, trained, scores, state, spent_s - trained.seconds)
            rows.append(row)
            best, card = checkpoint_selection.offer(state, row, card, config.best_epochs)
            writing = time.monotonic()
            keep(best)
            add_scalars(row)
            state.elapsed_s += time.monotonic() - writing  # of a time limit, too
            progress.log(history.line(row, config.epochs))
            if is_last:
                break
    if not rows:
        raise RunError(f"{folder.name} has not learnt anything", "the time was over before the first step",
                       "Give a longer --time-limit")  # fmt: skip
    if not card.epoch:  # it ended, or goes no further, where epochs are not validated: nothing was kept yet
        began = time.monotonic()
        scores = judge.score(state.average, fabric)
        spent_s = time.monotonic() - began
        state.elapsed_s += spent_s
        rows[-1] = dataclasses.replace(_scored(rows[-1], scores), validation_s=spent_s, elapsed_s=state.elapsed_s)
        best, card = checkpoint_selection.offer(state, rows[-1], card, config.best_epochs)
        keep(best)
    mean, card = checkpoint_selection.offer_mean(state, judge, card, fabric, progress)
    if mean is not None:
        keep(mean)
    return TrainResult(
        folder=folder,
        epochs=len(rows),
        best_epoch=card.epoch,
        averaged=card.averaged,
        validation_dice=card.validation_dice,
        nothing_dice=judge.nothing_dice,
        seconds=state.elapsed_s,
    )


def _parts(split: splits.Split, config: TrainConfig) -> tuple[list[str], list[str]]:
    """The images to train on and those to validate on; both in the order of the split."""
    if config.fold is None:
        return [image_id for image_id, part in split.parts.items() if part != splits.HOLDOUT], []
    splits.check_fold(split, config.fold)
    fold = str(config.fold)
    validation = split.ids_of(fold)
    train = [image_id for image_id, part in split.parts.items() if part not in (splits.HOLDOUT, fold)]
    if not train:
        raise InputError("no image is left to train on", f"fold {fold} and holdout take all", "Split into more folds")
    return train, validation


def _row(
    epoch: int,
    trained: loop.EpochResult,
    scores: tuple[float, float | None] | None,
    state: loop.State,
    validation_s: float,
) -> history.Row:
    row = history.Row(
        epoch=epoch + 1,
        loss=trained.loss,
        dice=None,
        dice_present=None,
        learning_rate=float(state.optimizer.param_groups[0]["lr"]),
        images_per_s=trained.images / trained.seconds,
        validation_s=validation_s,
        elapsed_s=state.elapsed_s,
    )
    return _scored(row, scores)


def _scored(row: history.Row, scores: tuple[float, float | None] | None) -> history.Row:
    return dataclasses.replace(row, dice=scores[0], dice_present=scores[1]) if scores else row


def _steps_of_validation(
    judge: validation.Validation, data_folder: DataFolder, data: TrainingSet, fabric: Fabric
) -> float:
    """How many steps take about as long as a validation: a pixel without gradients takes a third of one with them."""
    pixels = len(judge.image_ids) * math.prod(data_folder.usual_size()) / fabric.world_size
    return pixels / (3 * data.step_images * math.prod(data.piece))


def _opening_line(config: TrainConfig, data: TrainingSet, judge: validation.Validation, fabric: Fabric) -> str:
    height, width = data.piece
    precision = chosen_precision(config.precision, fabric.device.type)
    devices = f"{fabric.world_size} x " if fabric.world_size > 1 else ""
    at_once = "" if data.at_once >= data.step_images else f", {data.at_once} at once"
    nothing = "" if judge.nothing_dice is None else f", where predicting nothing scores {judge.nothing_dice:.4f}"
    return (
        f"training on {len(data.image_ids)} images in pieces of {height} x {width}, validating on "
        f"{len(judge.image_ids)}{nothing}; {data.step_images} images a step{at_once}; "
        f"{devices}{fabric.device.type}, {precision}"
    )
