"""Loading a weights file into an encoder.

Files differ in nesting (`{"state_dict": {"module.encoder.conv1.weight": ...}}`), in names that libraries have changed,
in the number of input channels and in precision. The prefix of the encoder's weight names is the one under which the
file has most of them. The file must have all weights of the encoder. Its other weights must be of layers that an
encoder lacks, such as a classifier: a resnet34 has all weights of a resnet18, but does not fit one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from severstal_cli.errors import InputError, check_memory
from severstal_cli.learning.networks.names import TIMM
from severstal_cli.wording import listed

_DEPTH = 4
"""Levels of nested tables that are searched for tensors."""

_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
"""Names of densenet before torchvision 0.2: `norm.1` is `norm1`."""

_BUFFERS = "num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask"
"""Buffers that a network computes itself, and that only some versions store."""

_FOREIGN = 0.02
"""Accepted number of additional weights inside the encoder's own modules, as a share of its number of weights."""

_REMEDY = "Give the weights of the encoder that --encoder names"

_PREFERRED = "ema", "average", "teacher"
"""Prefixes of averaged weights, preferred if a file has several sets."""


def load(encoder: nn.Module, name: str, path: Path, in_channels: int) -> str:
    """Load a weights file into an encoder; weights for three input channels are summed to `in_channels`.

    Returns a progress line that names the unused weights of the file.

    Raises InputError: the file holds no weights, weights of another encoder, or weights that are not finite.
    """
    own = encoder.state_dict()
    given = dict(_flat(read(path)))
    if not given:
        raise InputError(f"{path} holds no weights", "no table of tensors", "Give a state dict")
    fits, foreign = _matched(own, given, name, path)
    if len(foreign) > _FOREIGN * len(fits):
        raise InputError(
            f"{path} is of another encoder than {name}",
            f"{len(foreign)} of its weights match none of the encoder's, {listed(foreign, 3)}",
            _REMEDY,
        )
    weights = {key: _shaped(given[other], own[key], other, path, in_channels) for key, other in fits.items()}
    # not the encoder's own method: in some encoders it has no `strict`, and drops or renames keys again
    nn.Module.load_state_dict(encoder, weights, strict=False)
    unused = sorted(given.keys() - fits.values())
    beyond = f"; {len(unused)} of its {len(given)} weights are not used: {listed(unused, 3)}" if unused else ""
    return f"encoder weights: {path}{beyond}"


def read(path: Path) -> Any:
    """The content of a weights file: tensors, plain values and tables of these. Raises InputError."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if head[8:] == b"{":  # the JSON header of safetensors
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        check_memory(error, f"reading {path}")
        raise InputError(f"cannot read {path}", error.strerror or str(error), "Give another file") from error
    except Exception as error:  # both libraries raise many kinds of errors for other files
        check_memory(error, f"reading {path}")
        found = "it is damaged, or no file of torch or safetensors"
        if "unsupported global" in str(error).lower():
            found = "it holds more than tensors, which could run code and is not loaded"
        raise InputError(f"cannot read {path} as weights", found, "Give a state dict") from error


def _flat(
    content: object, before: str = "", depth: int = _DEPTH, searched: set[int] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of nested tables, under their names joined by dots.

    Each table is searched once: a table may contain itself, and the search would not end.
    """
    searched = set() if searched is None else searched
    if not isinstance(content, Mapping) or depth == 0 or id(content) in searched:
        return
    searched.add(id(content))
    for name, value in content.items():
        if isinstance(name, str):
            if isinstance(value, Tensor):
                yield before + name, value
            else:
                yield from _flat(value, f"{before}{name}.", depth - 1, searched)


def _matched(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], name: str, path: Path
) -> tuple[dict[str, str], list[str]]:
    """The file's name for each weight of the encoder; and the file's additional weights inside the encoder's modules.

    Raises InputError: the file does not fit the encoder.
    """
    bare = _bare(own)
    normalised = {_normalised(key): key for key in reversed(list(given))}
    prefix = _prefix(bare, normalised)
    if prefix is None:
        found = f"it has {listed(list(given), 3)}, the encoder {listed(list(bare.values()), 3)}"
        raise InputError(f"{path} does not fit {name}", found, _REMEDY)
    fits = {key: normalised[prefix + short] for short, key in bare.items() if prefix + short in normalised}
    beyond = {
        short.removeprefix(prefix): key
        for short, key in normalised.items()
        if short.startswith(prefix) and short.removeprefix(prefix) not in bare
    }
    missing = sorted(key for key in own.keys() - fits.keys() if not key.endswith(_BUFFERS))
    if missing:
        others = f"; the file has {listed(sorted(beyond.values()), 3)}" if beyond else ""
        found = f"{len(missing)} of {len(own)} weights are missing, {listed(missing, 3)}{others}"
        raise InputError(f"{path} does not fit {name}", found, _REMEDY)
    modules = {short.split(".")[0] for short in bare}
    foreign = {
        short: key for short, key in beyond.items() if short.split(".")[0] in modules and not key.endswith(_BUFFERS)
    }
    if foreign and name.startswith(TIMM):
        whole = _weights_of_model(name)
        foreign = {short: key for short, key in foreign.items() if short not in whole}
    return fits, sorted(foreign.values())


def _weights_of_model(name: str) -> set[str]:
    """The names of all weights of a timm model, including layers that an encoder drops."""
    import timm

    model = name.removeprefix(TIMM)
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                whole = timm.create_model(model)
        except Exception:  # some compute with their weights at construction, which "meta" tensors cannot
            whole = timm.create_model(model)
    return {_normalised(key) for key in whole.state_dict()}


def _bare(own: Mapping[str, Tensor]) -> dict[str, str]:
    """The encoder's weight names by their normalised names without the libraries' wrappers."""
    names = {key: key for key in own}
    for wrapper in ("model.", "model.", "body."):
        if all(short.startswith(wrapper) for short in names):
            names = {short.removeprefix(wrapper): key for short, key in names.items()}
    return {_normalised(short): key for short, key in names.items()}


def _normalised(key: str) -> str:
    """A name that is equal in all versions: timm writes `stages_0` for the module `stages.0` of an encoder."""
    return _DENSE_LAYER.sub(r"\1\2.", key.replace("_", "."))


def _prefix(bare: Mapping[str, str], names: Iterable[str]) -> str | None:
    """The prefix under which the file's names include most of the encoder's; None if they include none."""
    counts: Counter[str] = Counter()
    for key in names:
        starts = [0, *(dot.end() for dot in re.finditer(r"\.", key))]
        counts.update(key[:start] for start in starts if key[start:] in bare)
    if not counts:
        return None
    return max(counts, key=lambda prefix: (counts[prefix], any(word in prefix for word in _PREFERRED), -len(prefix)))


def _shaped(value: Tensor, own: Tensor, key: str, path: Path, in_channels: int) -> Tensor:
    """A weight of the file in shape and dtype of the encoder's weight `own`. Raises InputError."""
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.device.type != "cpu":
        raise InputError(f"{path} does not fit the encoder", f"{key} is no plain tensor", "Save its values")
    if value.shape == own.shape:
        shaped = value
    elif key.endswith(_BUFFERS):
        return own
    elif (channels := _channels(value, own, in_channels)) is not None:
        shaped = channels
    else:
        found = f"{key} is {tuple(value.shape)}, not {tuple(own.shape)}"
        raise InputError(f"{path} does not fit the encoder", found, _REMEDY)
    if own.is_floating_point() and not value.is_floating_point():
        raise InputError(
            f"{path} does not fit the encoder",
            f"{key} is of type {value.dtype}",
            "Give weights of a floating-point type",
        )
    shaped = shaped.to(own.dtype)
    if not torch.isfinite(shaped).all():
        raise InputError(f"{path} has weights that are not finite", key, "Give another file")
    return shaped


def _channels(value: Tensor, own: Tensor, in_channels: int) -> Tensor | None:
    """Kernels of a first convolution on RGB, converted to `in_channels`; None if the shapes differ in another way.

    A stem that turns squares of pixels into channels has three input channels in the file for each pixel.
    """
    if value.ndim != 4 or own.ndim != 4 or value.shape[1] * in_channels != 3 * own.shape[1]:
        return None
    if value.shape[0] != own.shape[0] or value.shape[2:] != own.shape[2:]:
        return None
    exact = (value.float() if value.is_floating_point() else value).reshape(len(value), -1, 3, *value.shape[2:])
    mean = exact.sum(dim=2, keepdim=True) / in_channels
    return mean.expand(-1, -1, in_channels, -1, -1).reshape(own.shape)
