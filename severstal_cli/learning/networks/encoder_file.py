"""ImageNet weights of an encoder as a file, for a machine without internet access."""

from pathlib import Path

from severstal_cli.errors import MachineError
from severstal_cli.learning.networks import registry


def fetch(encoder: str, path: Path) -> Path:
    """Download the weights, and write them to `path` as safetensors, for `--encoder-weights`. Returns `path`.

    Raises as `registry.build` does, and OutputError.
    """
    from safetensors.torch import save

    from severstal_cli import files

    network = registry.build("fpn", encoder=encoder, encoder_weights="imagenet", in_channels=3, classes=1)
    module = getattr(network, "encoder", None)
    if module is None:
        raise MachineError(f"{encoder} has no weights of its own")
    state = {name: value.detach().contiguous().clone() for name, value in module.state_dict().items()}
    with files.replacing(path) as temporary:
        temporary.write_bytes(save(state))
    return path
