"""Weights of encoders that others trained: fetched from a hub, or from a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from severstal_cli.errors import InputError, UsageError, check_memory


def find_file(encoders: Path, encoder: str) -> Path | None:
    """The file in the folder `encoders` with the weights of an encoder, or None."""
    # not with_suffix: names of timm have points
    paths = [encoders / f"{encoder}{suffix}" for suffix in (".safetensors", ".pth")]
    return next((path for path in paths if path.is_file()), None)


@contextmanager
def hub() -> Iterator[str]:
    """Yield what keeps us from the hub of weights, or ""; if anything does, only weights fetched before are used.

    The hub's library alone would ask six times in half a minute, with a line for each.
    """
    from huggingface_hub import constants, get_session

    was_offline = constants.HF_HUB_OFFLINE
    reason = "HF_HUB_OFFLINE is set" if was_offline else ""
    try:
        if not was_offline:
            get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # which kinds there are depends on the library's version
        constants.HF_HUB_OFFLINE, reason = True, f"{constants.ENDPOINT}: {error}"
    try:
        yield reason
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def check_encoder(encoder: str) -> None:
    """Raise UsageError unless the library, or timm for `tu-` names, may know the encoder."""
    import segmentation_models_pytorch as smp

    if encoder not in smp.encoders.get_encoder_names() and not encoder.startswith("tu-"):
        raise UsageError(
            "unknown encoder", encoder, "For example resnet18, resnet34, efficientnet-b3, se_resnext50_32x4d"
        )


def load(encoder: nn.Module, path: Path, in_channels: int) -> None:
    """Put the weights of a file into an encoder; those of the first convolution are summed to `in_channels`.

    Raises InputError: no file, not weights, or those of another encoder.
    """
    if not path.is_file():
        raise InputError("no such file of encoder weights", str(path), "Give a file, or imagenet, or none")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries raise many kinds for a file that is not theirs
        check_memory(error, f"reading {path}")
        raise InputError(f"cannot read {path} as weights", type(error).__name__, "Give a state dict") from error
    own = encoder.state_dict()
    state = {key.removeprefix("encoder."): value for key, value in state.items()}
    missing = sorted(key for key in own if key not in state and not key.endswith("num_batches_tracked"))
    if missing:
        raise InputError(f"{path} does not fit the encoder", f"{len(missing)} weights are missing, first {missing[0]}",
                         "Give the weights of the encoder that --encoder names")  # fmt: skip
    picked = {key: state[key] for key in own if key in state}
    for key, value in picked.items():
        if value.shape != own[key].shape and value.ndim == 4 and own[key].shape[1] == in_channels:
            picked[key] = value.sum(dim=1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels
        if picked[key].shape != own[key].shape:
            raise InputError(
                f"{path} does not fit the encoder", f"{key} is {tuple(value.shape)}, not {tuple(own[key].shape)}"
            )
    encoder.load_state_dict(picked, strict=False)
