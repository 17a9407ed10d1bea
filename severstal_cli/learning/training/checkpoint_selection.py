"""The weights that a run keeps: those of the best epoch, or the average of the best epochs (checkpoint averaging)."""

import copy
import dataclasses

import torch
from lightning_fabric import Fabric
from torch import nn

from severstal_cli.learning.runs.model_card import ModelCard
from severstal_cli.learning.training.history import Row
from severstal_cli.learning.training.loop import State
from severstal_cli.learning.training.validation import Validation
from severstal_cli.progress import Progress


def offer(state: State, row: Row, card: ModelCard, count: int) -> tuple[nn.Module | None, ModelCard]:
    """Consider a finished epoch. Returns its EMA network and its card if it is the best so far, else None and `card`.

    Of equal epochs the later one wins; without a validation fold every epoch does. With `count` above 1, `state.best`
    keeps the weights of the `count` best epochs.
    """
    if row.dice is not None and count > 1:
        weights = {name: value.detach().cpu().clone() for name, value in state.ema.state_dict().items()}
        state.best.append({"dice": row.dice, "epoch": row.epoch, "weights": weights})
        state.best = sorted(state.best, key=lambda kept: (-kept["dice"], -kept["epoch"]))[:count]
    best = card.validation_dice
    if card.validation_images and (row.dice is None or (best is not None and row.dice < best)):
        return None, card
    return state.ema, dataclasses.replace(card, epoch=row.epoch, averaged=(), validation_dice=row.dice)


def offer_average(
    state: State, validation: Validation, card: ModelCard, fabric: Fabric, progress: Progress
) -> tuple[nn.Module | None, ModelCard]:
    """Average the best epochs. Returns the network and its card if it validates better, else None and `card`."""
    epochs = tuple(sorted(kept["epoch"] for kept in state.best))
    if len(epochs) < 2 or epochs == card.averaged:  # nothing to average, or an earlier session kept the average
        return None, card
    network = _mean(state)
    scores = validation.score(network, fabric)
    name = f"the average of epochs {', '.join(map(str, epochs))}"
    if scores is None or card.validation_dice is None or scores[0] <= card.validation_dice:
        progress.log(f"{name} is not better than the best of them")
        return None, card
    progress.log(f"{name} is kept: Dice {scores[0]:.4f}")
    return network, dataclasses.replace(card, averaged=epochs, validation_dice=scores[0])


def _mean(state: State) -> nn.Module:
    """A network with the mean of the weights in `state.best`, running statistics included."""
    every = [kept["weights"] for kept in state.best]
    mean = {name: value.clone() for name, value in every[0].items()}
    for name, value in mean.items():
        if value.is_floating_point():
            value.copy_(torch.stack([weights[name] for weights in every]).mean(dim=0))
    network = copy.deepcopy(state.ema)
    network.load_state_dict(mean)
    return network
