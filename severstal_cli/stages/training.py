"""`train`: train a network on annotated images and write a run under `models/`."""

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
from severstal_cli.errors import RunError, UsageError
from severstal_cli.learning import distributed
from severstal_cli.learning.device import gather, open_device
from severstal_cli.learning.networks import names, registry
from severstal_cli.learning.networks.registry import STRIDE
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import (
    auto_batch_size,
    checkpoint,
    checkpoint_selection,
    free_cores,
    history,
    initial_weights,
    loop,
    schedule,
    tensorboard_log,
)
from severstal_cli.learning.training.batches import TrainingSet
from severstal_cli.learning.training.new_card import describe, opening_line
from severstal_cli.learning.training.validation import Validation
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.dataset.pseudo_labels import open_pseudo


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training. Each Dice is a mean over the validation fold, None without one."""

    folder: Path
    epochs: int
    best_epoch: int
    averaged: tuple[int, ...]
    """The epochs whose average was kept instead; empty: the best epoch was kept."""
    validation_dice: float | None
    nothing_dice: float | None
    """The Dice of predicting nothing on the same images."""
    seconds: float


@dataclass(kw_only=True)
class _Session:
    """A training in this process, from its start or from a checkpoint to its end."""

    config: TrainConfig
    folder: Path
    progress: Progress
    fabric: Fabric
    data: TrainingSet
    validation: Validation
    state: loop.State
    card: model_card.ModelCard
    """Describes the weights that are kept; epoch 0: none are kept yet."""
    rows: list[history.Row]
    """One per finished epoch."""

    def keep(self, network: nn.Module | None) -> None:
        """Write the checkpoint, the weights if `network` is given, and the history.

        The checkpoint comes first: if the process is killed in between, the others are made from it.
        """
        if self.fabric.is_global_zero:
            checkpoint.save(self.folder, self.state, self.card, self.rows, network)
            if network is not None:
                run_folder.write_model(self.folder, network, self.card)
            history.write(self.folder, self.rows)


@distributed.on_devices
def train(config: TrainConfig, progress: Progress) -> TrainResult:
    """Train a network; write the best EMA weights, the checkpoint and the history to the folder of the run.

    `progress` is `SILENT` by default. With several devices each worker runs all of this, and only the first one writes.

    Raises:
        InputError: wrong data or pseudo-labels, an unknown architecture, or a run of this name exists.
        RunError: there is nothing to resume, or the run was trained with other settings or data.
        OutputError: the run cannot be written.
        MachineError: too few GPUs or memory, weights cannot be fetched, a worker was killed, another trains this run.
        SeverstalError: the loss became infinite or not a number.
    """
    return _train(config, progress)


@distributed.on_devices
def train_folds(config: TrainConfig, progress: Progress) -> list[TrainResult]:
    """Train a run for each fold of the split in turn. `config.fold` is ignored; a name gets the fold as a suffix.

    With `resume`, finished folds stay as they are, and the others are resumed or started. Raises as `train` does.
    """
    data_folder = open_data_folder(config.data, progress)
    split = splits.ensure_splits(data_folder, progress)
    folds = sorted(int(part) for part in set(split.parts.values()) - {splits.HOLDOUT})
    configs = [
        dataclasses.replace(config, fold=fold, name=config.name and f"{config.name}-fold{fold}") for fold in folds
    ]
    for one in configs:  # all folds are checked before the first one is trained
        if not config.resume:
            names.check_new(names.folder_for(one))
            initial_weights.seen_by_others(one, data_folder.fingerprint, split.fingerprint, SILENT)
        elif config.init is not None:
            initial_weights.check_source(config.init, data_folder.fingerprint, split.fingerprint, one.fold)
    results = []
    for one in configs:
        folder = names.folder_for(one)
        has_checkpoint = (folder / run_folder.CHECKPOINT).exists()
        if not has_checkpoint and (folder / model_card.CARD).exists():
            progress.log(f"{folder}: finished, and left as it is, as it has no {run_folder.CHECKPOINT}")
            continue
        results.append(_train(dataclasses.replace(one, resume=has_checkpoint), progress))
    return results


def _train(config: TrainConfig, progress: Progress) -> TrainResult:
    """`train` in this process."""
    folder = names.folder_for(config)
    files.check_writable(folder / run_folder.CHECKPOINT)
    with files.locked(folder, f"another process is training {folder}") if distributed.is_first() else nullcontext():
        session = _start(config, folder, progress)
        _train_epochs(session)
        _finish(session)
    return TrainResult(
        folder=folder,
        epochs=len(session.rows),
        best_epoch=session.card.epoch,
        averaged=session.card.averaged,
        validation_dice=session.card.validation_dice,
        nothing_dice=session.validation.nothing_dice,
        seconds=session.state.elapsed_s,
    )


def _start(config: TrainConfig, folder: Path, progress: Progress) -> _Session:
    """Open the data, build the network, and restore the checkpoint if the training is resumed."""
    saved = run_folder.read_checkpoint(folder) if config.resume else None
    if saved is None:
        names.check_new(folder)
    fabric = open_device(config.precision)
    if fabric.is_global_zero:
        files.remove_temporaries(folder)
    with fabric.rank_zero_first(local=True):  # one process per machine makes the image cache and the split
        data_folder = open_data_folder(config.data, progress)
        split = splits.ensure_splits(data_folder, progress)
    if len(config.class_weights) not in (0, data_folder.classes):
        raise UsageError(
            "wrong number of class weights",
            str(len(config.class_weights)),
            f"{config.data} has {data_folder.classes} classes",
        )
    train_ids, validation_ids = splits.training_subsets(split, config.fold)
    # the card of a resumed run lists the images already, and the source runs may be gone
    seen = () if saved else initial_weights.seen_by_others(config, data_folder.fingerprint, split.fingerprint, progress)
    pseudo = open_pseudo(config, data_folder, train_ids, progress)
    data = TrainingSet(data_folder, train_ids, config, pseudo, rank=fabric.global_rank, world=fabric.world_size)
    card = describe(config, data_folder, split, train_ids, validation_ids, pseudo, seen, fabric)
    with fabric.rank_zero_first(local=True):  # it may download weights
        network = initial_weights.build(config, card, progress, fresh=saved is None)
    with fabric.autocast():
        loop.check_smallest_batch(network, data, config)
    if saved is None:
        height, width = (STRIDE * math.ceil(side / STRIDE) for side in card.image_size)
        with fabric.autocast():  # some encoders take the smallest crops, but not the largest or whole images
            registry.try_out(network, config.arch, config.encoder, (1, *data.piece), images=data.at_once, learns=True)
            registry.try_out(network, config.arch, config.encoder, (card.in_channels, height, width))  # to be judged by
    if config.batch_size is None and fabric.device.type != "cpu":  # a CPU's memory holds any step worth waiting for
        auto_batch_size.find_batch(network, data, config, fabric)
        loop.check_smallest_batch(network, data, config)
    if config.batch_size is None:
        sizes = {"batch_size": data.at_once, "step_images": data.step_images}
        card = dataclasses.replace(card, config=card.config | sizes)
    state = loop.start(network, config, fabric, data.at_once)
    rows: list[history.Row] = []
    if saved is not None:
        rows, card = checkpoint.resume(folder, saved, card, state)
        card = checkpoint.restore(folder, state, card, rows, fabric, progress)
        progress.log(f"{folder}: resuming after epoch {len(rows)}")
        if len(rows) >= config.epochs:
            progress.log(f"{folder}: all {config.epochs} epochs are done; give more --epochs to continue")
    if len(set(map(tuple, gather((len(rows), state.steps), fabric)))) > 1:
        raise RunError(
            f"the workers do not resume {folder} from the same state",
            "",
            "Several machines must share the folder of the runs",
        )
    if fabric.is_global_zero:
        checkpoint.check_space(folder, state, config, len(rows))
    if len(rows) < config.epochs:
        began = time.monotonic()
        loop.check_precision(state, data, config, card, fabric, progress)
        state.elapsed_s += time.monotonic() - began  # the time limit includes it
    validation = Validation(data_folder, validation_ids, card, data.at_once, state.validation_verdicts, progress)
    progress.log(f"{folder.name}: {opening_line(config, data, validation, fabric)}")
    if note := schedule.small_set_note(config, len(data.image_ids), len(data)):
        progress.log(note)
    return _Session(
        config=config,
        folder=folder,
        progress=progress,
        fabric=fabric,
        data=data,
        validation=validation,
        state=state,
        card=card,
        rows=rows,
    )


def _train_epochs(session: _Session) -> None:
    """Train the remaining epochs. Raises RunError: the time limit ended before the first step."""
    config, data, state, rows, fabric = session.config, session.data, session.state, session.rows, session.fabric
    with (
        session.progress.bar(session.folder.name, (config.epochs - len(rows)) * len(data), "steps") as bar,
        tensorboard_log.open_scalars(session.folder if fabric.is_global_zero else None, rows) as add_scalars,
        auto_batch_size.out_of_memory_errors(data, config),
        free_cores.threads_for(fabric, session.progress) as fit_threads,
    ):
        for epoch in range(len(rows), config.epochs):
            fit_threads()
            clock = schedule.Clock(
                config=config,
                epoch=epoch,
                steps_an_epoch=len(data),
                elapsed_s=state.elapsed_s,
                validation_s=max((row.validation_s for row in rows if row.dice is not None), default=None),
                validation_steps=_steps_of_validation(session),
                agree=lambda time_s: float(gather(time_s, fabric)[0]),
            )
            validates = schedule.validates(config, epoch, clock.share_done(0))
            trained = loop.train_epoch(state, data, epoch, config, session.card, fabric, clock.share_done, bar)
            if trained.images == 0:
                session.progress.log("the time limit is reached; give a longer --time-limit to continue")
                break
            is_last = trained.ended or epoch + 1 == config.epochs or clock.share_done(len(data)) >= 1
            scores = session.validation.score(state.ema, fabric) if validates or is_last else None
            spent_s = time.monotonic() - clock.began
            state.elapsed_s += spent_s
            dice, dice_present = scores or (None, None)
            row = history.Row(
                epoch=epoch + 1,
                loss=trained.loss,
                dice=dice,
                dice_present=dice_present,
                learning_rate=float(state.optimizer.param_groups[0]["lr"]),
                elapsed_s=state.elapsed_s,
                images_per_s=trained.images / trained.seconds,
                validation_s=spent_s - trained.seconds,
            )
            rows.append(row)
            best, session.card = checkpoint_selection.offer(state, row, session.card, config.best_epochs)
            writing_began = time.monotonic()
            session.keep(best)
            add_scalars(row)
            state.elapsed_s += time.monotonic() - writing_began  # the time limit includes it
            session.progress.log(history.line(row, config.epochs))
            if is_last:
                break
    if not rows:
        what = f"{session.folder.name} has not learnt anything"
        raise RunError(what, "the time limit ended before the first step", "Give a longer --time-limit")


def _finish(session: _Session) -> None:
    """Keep the last epoch if no epoch is kept yet; then the average of the best epochs if it validates better."""
    state, rows, fabric = session.state, session.rows, session.fabric
    if not session.card.epoch:  # no epoch up to the end was to be validated
        began = time.monotonic()
        dice, dice_present = session.validation.score(state.ema, fabric) or (None, None)
        spent_s = time.monotonic() - began
        state.elapsed_s += spent_s
        rows[-1] = dataclasses.replace(
            rows[-1], dice=dice, dice_present=dice_present, validation_s=spent_s, elapsed_s=state.elapsed_s
        )
        best, session.card = checkpoint_selection.offer(state, rows[-1], session.card, session.config.best_epochs)
        session.keep(best)
    average, session.card = checkpoint_selection.offer_average(
        state, session.validation, session.card, fabric, session.progress
    )
    if average is not None:
        session.keep(average)


def _steps_of_validation(session: _Session) -> float:
    """The number of steps as long as a validation: a pixel without gradients takes a third of the time of one with."""
    pixels = len(session.validation.image_ids) * math.prod(session.card.image_size) / session.fabric.world_size
    return pixels / (3 * session.data.step_images * math.prod(session.data.piece))
