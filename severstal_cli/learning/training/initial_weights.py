"""Weights that a training starts from."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError
from severstal_cli.learning.networks import pretrained, registry
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import Progress
from severstal_cli.steel.dataset import leakage


def build(config: TrainConfig, card: model_card.ModelCard, progress: Progress, *, fresh: bool) -> nn.Module:
    """The network of a training: with the weights that it starts from if `fresh`, else with any.

    Raises what `registry.build` and `copy_weights` raise.
    """
    torch.manual_seed(config.seed)
    wanted = None if config.encoder_weights == "none" else config.encoder_weights
    # a training that goes on has its weights already, one that starts from a run gets them from there
    if not fresh or config.init is not None:
        wanted = None
    encoders = config.models / "encoders"
    if card.encoder and wanted == "imagenet" and (file := pretrained.find_file(encoders, card.encoder)):
        wanted = str(file)
    network = registry.build(
        card.arch,
        encoder=config.encoder,
        encoder_weights=wanted,
        in_channels=card.in_channels,
        classes=card.classes,
        classifier=card.classifier,
        encoders=encoders,
        progress=progress,
    )
    if fresh and config.init is not None:
        new = copy_weights(config.init, card, network)
        progress.log(f"starting from {config.init}" + (f", but for {', '.join(new)}" if new else ""))
    return network


def copy_weights(folder: Path, card: model_card.ModelCard, network: nn.Module) -> list[str]:
    """Copy the weights of a run into a network that `card` describes, where they fit; the parts that keep their own.

    Another number of classes, or a classification head that one of the two lacks, leaves just those layers as they are.

    Raises:
        RunError: no run, or a damaged one.
        InputError: a run of another network.
    """
    source = model_card.read_card(folder)
    for what, there, here in (("network", source.arch, card.arch), ("encoder", source.encoder, card.encoder)):
        if there != here:
            raise InputError(f"cannot start from {folder}", f"its {what} is {there}, here {here}",
                             "Start from a run of the same network")  # fmt: skip
    found, own = run_folder.load_network(folder, source).state_dict(), network.state_dict()
    fitting = {name: value for name, value in found.items() if name in own and value.shape == own[name].shape}
    network.load_state_dict(fitting, strict=False)
    return sorted({name.rsplit(".", 1)[0] for name in own.keys() - fitting.keys()})


def check_source(folder: Path, data_fingerprint: str, split_fingerprint: str, fold: int | None) -> None:
    """See that the run of `folder`, and what that started from, was not trained on what a training will be judged by.

    Raises InputError. What cannot be told is not refused.
    """
    for record in model_card.read_card(folder).records():
        fault = leakage.fault_of(record, data=data_fingerprint, split=split_fingerprint, fold=fold)
        if fault:
            what, there, here = fault
            raise InputError(f"cannot start from {folder}", f"its {what} is {there}, here {here}",
                             "Start from a run that left out the same images")  # fmt: skip


def seen_by_others(
    config: TrainConfig, data_fingerprint: str, split_fingerprint: str, progress: Progress
) -> tuple[dict[str, Any], ...]:
    """What a training is going to see by way of others: of the run it starts from, and of those of its pseudo labels.

    Where it cannot be told whether they saw what it will be judged by, that is said. Raises InputError: they did.
    """
    found: list[dict[str, Any]] = []
    unknown: dict[str, None] = {}
    if config.init is not None:
        check_source(config.init, data_fingerprint, split_fingerprint, config.fold)
        own = model_card.read_card(config.init).records()
        found += own
        if any(leakage.is_unknown(record, data=data_fingerprint, split=split_fingerprint) for record in own):
            unknown[str(config.init)] = None
    if config.pseudo is not None:
        records = list(leakage.records_of(config.pseudo))
        if not records:
            progress.log(f"which runs made {config.pseudo} is not told beside it: whether they saw images that this "
                         "training is judged by cannot be told")  # fmt: skip
        for folder, record in records:
            fault = leakage.fault_of(record, data=data_fingerprint, split=split_fingerprint, fold=config.fold)
            if fault:
                what, there, here = fault
                raise InputError(f"{config.pseudo} was made by {folder}", f"its {what} is {there}, here {here}",
                                 "Take pseudo labels of runs that left out the same images")  # fmt: skip
            found.append({name: record[name] for name in ("data", "split", "fold")})
            if leakage.is_unknown(record, data=data_fingerprint, split=split_fingerprint):
                unknown[folder] = None
    for folder in unknown:
        progress.log(f"{folder} learnt from other data with another split: whether it saw images that this training "
                     "is judged by cannot be told")  # fmt: skip
    return tuple({json.dumps(record): record for record in found}.values())
