"""The weights that a training starts from."""

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
    """The network of a training, with its initial weights if `fresh`; a resumed training needs none.

    Raises as `registry.build` and `copy_weights` do.
    """
    torch.manual_seed(config.seed)
    wanted = None if config.encoder_weights == "none" else config.encoder_weights
    # a resumed training loads its checkpoint later, and --init copies weights below
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
        progress.log(f"starting from {config.init}" + (f", except {', '.join(new)}" if new else ""))
    return network


def copy_weights(folder: Path, card: model_card.ModelCard, network: nn.Module) -> list[str]:
    """Copy the weights of a run into a network that `card` describes. Returns the layers that keep their own weights.

    Those are layers whose number of classes differs, and a classification head that only one of the networks has.

    Raises:
        RunError: the folder is no run, or is damaged.
        InputError: the run has another network.
    """
    source = model_card.read_card(folder)
    for what, theirs, ours in (("network", source.arch, card.arch), ("encoder", source.encoder, card.encoder)):
        if theirs != ours:
            raise InputError(
                f"cannot start from {folder}",
                f"its {what} is {theirs}, expected {ours}",
                "Start from a run of the same network",
            )
    weights, own = run_folder.load_network(folder, source).state_dict(), network.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
    network.load_state_dict(fitting, strict=False)
    return sorted({name.rsplit(".", 1)[0] for name in own.keys() - fitting.keys()})


def check_source(folder: Path, data_fingerprint: str, split_fingerprint: str, fold: int | None) -> None:
    """Check that neither a run nor the runs it started from were trained on the validation images of a training.

    Raises InputError. Unknown cases pass.
    """
    for record in model_card.read_card(folder).records():
        fault = leakage.fault_of(record, data=data_fingerprint, split=split_fingerprint, fold=fold)
        if fault:
            what, theirs, ours = fault
            raise InputError(
                f"cannot start from {folder}",
                f"its {what} is {theirs}, expected {ours}",
                "Start from a run that left out the same images",
            )


def seen_by_others(
    config: TrainConfig, data_fingerprint: str, split_fingerprint: str, progress: Progress
) -> tuple[dict[str, Any], ...]:
    """Leakage records of the run that a training starts from, and of the runs that made its pseudo-labels.

    A progress line names each run that may have seen validation images. Raises InputError: a run has seen them.
    """
    records: list[dict[str, Any]] = []
    unknown: dict[str, None] = {}
    if config.init is not None:
        check_source(config.init, data_fingerprint, split_fingerprint, config.fold)
        own = model_card.read_card(config.init).records()
        records += own
        if any(leakage.is_unknown(record, data=data_fingerprint, split=split_fingerprint) for record in own):
            unknown[str(config.init)] = None
    if config.pseudo is not None:
        sources = list(leakage.records_of(config.pseudo))
        if not sources:
            progress.log(
                f"{config.pseudo.with_suffix('.json')} is missing or names no runs, so leakage from the runs "
                f"that made {config.pseudo} into validation cannot be ruled out"
            )
        for folder, record in sources:
            fault = leakage.fault_of(record, data=data_fingerprint, split=split_fingerprint, fold=config.fold)
            if fault:
                what, theirs, ours = fault
                raise InputError(
                    f"{config.pseudo} was made by {folder}",
                    f"its {what} is {theirs}, expected {ours}",
                    "Use pseudo-labels of runs that left out the same images",
                )
            records.append({name: record[name] for name in ("data", "split", "fold")})
            if leakage.is_unknown(record, data=data_fingerprint, split=split_fingerprint):
                unknown[folder] = None
    for folder in unknown:
        progress.log(
            f"{folder} was trained on other data with another split, so leakage into validation cannot be ruled out"
        )
    return tuple({json.dumps(record): record for record in records}.values())
