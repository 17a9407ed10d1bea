"""Sources of pretrained encoder weights: a folder or a hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_file(encoders: Path, encoder: str) -> Path | None:
    """The weights file of an encoder in the folder `encoders`, or None."""
    # not with_suffix: timm names contain dots
    paths = [encoders / f"{encoder}{suffix}" for suffix in (".safetensors", ".pth")]
    return next((path for path in paths if path.is_file()), None)


@contextmanager
def hub(*, downloads: bool) -> Iterator[str]:
    """Yield "", or the reason why nothing is downloaded; then the libraries use only weights in the local cache.

    Without this, the hub's library would retry six times in half a minute, and print a line for each.
    """
    from huggingface_hub import constants, get_session

    was_offline = constants.HF_HUB_OFFLINE
    reason = "HF_HUB_OFFLINE is set" if downloads else "downloads are switched off"
    if downloads and not was_offline:
        try:
            get_session().head(constants.ENDPOINT, timeout=10)
            reason = ""
        except Exception as error:  # the kinds depend on the library's version
            reason = f"{constants.ENDPOINT}: {error}"
    constants.HF_HUB_OFFLINE = bool(reason)
    try:
        yield reason
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def note_on(encoder: str) -> str:
    """A warning about the pretrained weights of an encoder, or ""."""
    exact = _exact(encoder)
    return exact and (
        f"{encoder} differs from the network that its weights were trained in, which had TensorFlow's padding and "
        f"batch norm epsilon; {exact} is that network"
    )


def _exact(encoder: str) -> str:
    """The encoder that the pretrained weights of `encoder` really belong to, or "".

    The EfficientNets that segmentation-models-pytorch builds from timm's modules lack timm's settings for TensorFlow
    weights (`pad_type="same"`, `bn_eps=1e-3`). Its SKNets are built so, too, but differ in shape, which is an error.
    """
    if encoder.startswith("timm-efficientnet-"):
        return f"tu-tf_efficientnet_{encoder.removeprefix('timm-efficientnet-')}"
    return encoder.replace("timm-", "tu-") if encoder.startswith("timm-tf_efficientnet_lite") else ""
