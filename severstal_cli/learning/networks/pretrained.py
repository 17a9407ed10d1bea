"""Weights of encoders that others trained: where they come from, a folder or a hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


@contextmanager
def offline() -> Iterator[str]:
    """Ask no hub, whatever the libraries would: for networks that get their weights elsewhere."""
    from huggingface_hub import constants

    was_offline, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield "weights are not fetched here"
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def note_on(encoder: str) -> str:
    """What a person should know of the weights that were trained for an encoder, or ""."""
    exact = _exact(encoder)
    return exact and (
        f"{encoder} gives other features than the network that its weights are of (there the padding and batch norm's "
        f"epsilon are TensorFlow's); {exact} is that network"
    )


def _exact(encoder: str) -> str:
    """The name of the network whose weights segmentation-models-pytorch has for an encoder that computes otherwise.

    All its EfficientNets out of timm's parts leave out what timm passes for weights of TensorFlow (`pad_type="same"`,
    `bn_eps=1e-3`). Its SKNets, the only others that are made so, differ from timm's in shape, which is told by itself.
    """
    if encoder.startswith("timm-efficientnet-"):
        return f"tu-tf_efficientnet_{encoder.removeprefix('timm-efficientnet-')}"
    return encoder.replace("timm-", "tu-") if encoder.startswith("timm-tf_efficientnet_lite") else ""
