"""Weights that a training starts from."""

from pathlib import Path

from torch import nn

from severstal_cli.errors import InputError
from severstal_cli.learning import run


def copy_weights(folder: Path, card: run.ModelCard, network: nn.Module) -> list[str]:
    """Copy the weights of a run into a network that `card` describes, where they fit; the parts that keep their own.

    Another number of classes, or a classification head that one of the two lacks, leaves just those layers as they are.

    Raises:
        RunError: no run, or a damaged one.
        InputError: a run of another network, or one that was trained on images that this training validates on.
    """
    source = run.read_card(folder)
    pairs: list[tuple[str, object, object]] = [
        ("network", source.arch, card.arch),
        ("encoder", source.encoder, card.encoder),
    ]
    if source.data_fingerprint == card.data_fingerprint and card.fold is not None:
        pairs += [("split", source.split_fingerprint, card.split_fingerprint), ("fold", source.fold, card.fold)]
    for what, there, here in pairs:
        if there != here:
            raise InputError(f"cannot start from {folder}", f"its {what} is {there}, here {here}",
                             "Start from a run of the same network that left out the same fold")  # fmt: skip
    found, own = run.load_network(folder, source).state_dict(), network.state_dict()
    fitting = {name: value for name, value in found.items() if name in own and value.shape == own[name].shape}
    network.load_state_dict(fitting, strict=False)
    return sorted({name.rsplit(".", 1)[0] for name in own.keys() - fitting.keys()})
