"""Weights of a file, fitted to an encoder.

Files differ in what they wrap the weights in (`{"state_dict": {"module.encoder.conv1.weight": ...}}`), in names that
libraries have changed, in the number of input channels and in precision. What comes before an encoder's own names is
found by the names alone: it is the prefix with which most of them are in the file. All of the encoder's weights must be
there, and what the file has beyond them must be what an encoder leaves off, as a classifier: a resnet34 has all weights
of a resnet18, too, and is none.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from severstal_cli.errors import InputError, check_memory
from severstal_cli.learning.networks.names import TIMM
from severstal_cli.wording import listed

_DEPTH = 4
"""Tables in tables that a file is searched through."""

_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
"""Of densenet before torchvision 0.2: `norm.1` is `norm1`."""

_BUFFERS = "num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask"
"""What a network computes or counts itself, and some versions of it store."""

_FOREIGN = 0.02
"""Share of the encoder's number of weights that a file may have beyond them in the encoder's own parts."""

_REMEDY = "Give the weights of the encoder that --encoder names"

_PREFERRED = "ema", "average", "teacher"
"""Averaged weights, where a file has others beside them."""


def load(encoder: nn.Module, name: str, path: Path, in_channels: int) -> str:
    """Put the weights of a file into an encoder; those of three input channels are summed to `in_channels`.

    Returns a line on what was taken, and what of the file was not.

    Raises InputError: not weights, those of another encoder, or weights that are not finite.
    """
    own = encoder.state_dict()
    given = dict(_flat(read(path)))
    if not given:
        raise InputError(f"{path} holds no weights", "no table of tensors", "Give a state dict")
    fits, foreign = _matched(own, given, name, path)
    if len(foreign) > _FOREIGN * len(fits):
        unmatched = f"{len(foreign)} of its weights have no place in it, {listed(foreign, 3)}"
        raise InputError(f"{path} is of another encoder than {name}", unmatched, _REMEDY)
    weights = {key: _shaped(given[other], own[key], other, path, in_channels) for key, other in fits.items()}
    # not the encoder's own method: of some encoders it takes no `strict`, and drops or renames keys once more
    nn.Module.load_state_dict(encoder, weights, strict=False)
    unused = sorted(given.keys() - fits.values())
    beyond = f"; {len(unused)} of its {len(given)} weights are not used: {listed(unused, 3)}" if unused else ""
    return f"encoder weights: {path}{beyond}"


def read(path: Path) -> Any:
    """The content of a file of weights: nothing but tensors, plain values and tables of them. Raises InputError."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if head[8:] == b"{":  # of its header
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        check_memory(error, f"reading {path}")
        raise InputError(f"cannot read {path}", error.strerror or str(error), "Give another file") from error
    except Exception as error:  # both libraries raise many kinds for a file that is not theirs
        check_memory(error, f"reading {path}")
        found = "it is damaged, or no file of torch or safetensors"
        if "unsupported global" in str(error).lower():
            found = "it holds more than tensors, which could run code and is not loaded"
        raise InputError(f"cannot read {path} as weights", found, "Give a state dict") from error


def _flat(
    content: object, before: str = "", depth: int = _DEPTH, searched: set[int] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of tables in tables, by their names joined with points; of a table that is there twice, once.

    A table may hold itself many times: to search it each time would have no end.
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
    """The name in the file of each weight of the encoder; and names in the file that the encoder's parts do not have.

    Raises InputError: they do not fit.
    """
    bare = _bare(own)
    spelt = {_spelt(key): key for key in reversed(list(given))}
    prefix = _prefix(bare, spelt)
    if prefix is None:
        found = f"it has {listed(list(given), 3)}, the encoder {listed(list(bare.values()), 3)}"
        raise InputError(f"{path} does not fit {name}", found, _REMEDY)
    fits = {key: spelt[prefix + short] for short, key in bare.items() if prefix + short in spelt}
    beyond = {short.removeprefix(prefix): key for short, key in spelt.items()
              if short.startswith(prefix) and short.removeprefix(prefix) not in bare}  # fmt: skip
    missing = sorted(key for key in own.keys() - fits.keys() if not key.endswith(_BUFFERS))
    if missing:
        there = f"; the file has {listed(sorted(beyond.values()), 3)}" if beyond else ""
        found = f"{len(missing)} of {len(own)} weights are missing, {listed(missing, 3)}{there}"
        raise InputError(f"{path} does not fit {name}", found, _REMEDY)
    parts = {short.split(".")[0] for short in bare}
    foreign = {
        short: key for short, key in beyond.items() if short.split(".")[0] in parts and not key.endswith(_BUFFERS)
    }
    if foreign and name.startswith(TIMM):
        left_off = _left_off(name)
        foreign = {short: key for short, key in foreign.items() if short not in left_off}
    return fits, sorted(foreign.values())


def _left_off(name: str) -> set[str]:
    """The names of all weights of a model of timm, those that an encoder leaves off included."""
    import timm

    model = name.removeprefix(TIMM)
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                whole = timm.create_model(model)
        except Exception:  # some compute with their weights when they are built
            whole = timm.create_model(model)
    return {_spelt(key) for key in whole.state_dict()}


def _bare(own: Mapping[str, Tensor]) -> dict[str, str]:
    """The encoder's names without the wrappers of the libraries, as `_spelt` -> the names."""
    names = {key: key for key in own}
    for wrapper in ("model.", "model.", "body."):
        if all(short.startswith(wrapper) for short in names):
            names = {short.removeprefix(wrapper): key for short, key in names.items()}
    return {_spelt(short): key for short, key in names.items()}


def _spelt(key: str) -> str:
    """A name as all versions spell it: timm joins what it takes out of a part by `_`, as `stages_0` of `stages.0`."""
    return _DENSE_LAYER.sub(r"\1\2.", key.replace("_", "."))


def _prefix(bare: Mapping[str, str], spelt: Mapping[str, str]) -> str | None:
    """What stands before most of the encoder's names in the file; None: they are not there."""
    counts: Counter[str] = Counter()
    for key in spelt:
        starts = [0, *(place.end() for place in re.finditer(r"\.", key))]
        counts.update(key[:start] for start in starts if key[start:] in bare)
    if not counts:
        return None
    return max(counts, key=lambda prefix: (counts[prefix], any(word in prefix for word in _PREFERRED), -len(prefix)))


def _shaped(value: Tensor, own: Tensor, key: str, path: Path, in_channels: int) -> Tensor:
    """A weight of the file in shape and precision of the encoder's. Raises InputError."""
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
        raise InputError(f"{path} does not fit the encoder", f"{key} is of type {value.dtype}",
                         "Give weights of a floating-point type")  # fmt: skip
    shaped = shaped.to(own.dtype)
    if not torch.isfinite(shaped).all():
        raise InputError(f"{path} has weights that are not finite", key, "Give another file")
    return shaped


def _channels(value: Tensor, own: Tensor, in_channels: int) -> Tensor | None:
    """The kernels of a first convolution for colour, for other input channels; None: the shapes differ otherwise.

    A stem that turns squares of pixels into channels has three of the file for each of them.
    """
    if value.ndim != 4 or own.ndim != 4 or value.shape[1] * in_channels != 3 * own.shape[1]:
        return None
    if value.shape[0] != own.shape[0] or value.shape[2:] != own.shape[2:]:
        return None
    exact = (value.float() if value.is_floating_point() else value).reshape(len(value), -1, 3, *value.shape[2:])
    mean = exact.sum(dim=2, keepdim=True) / in_channels
    return mean.expand(-1, -1, in_channels, -1, -1).reshape(own.shape)
