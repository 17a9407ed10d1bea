"""Batch norms fused into the convolutions before them: fewer passes over memory."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from severstal_cli.learning.networks.registry import STRIDE

Network = TypeVar("Network", bound=nn.Module)

LARGEST_FOLDING_ERROR = 1e-3
"""Largest accepted change of a probability. A correct fusion changes it by rounding alone, about 1e-6."""

_FOLDED = (nn.Conv2d, nn.BatchNorm2d)


def with_folded_norms(member: Network) -> Network:
    """A copy with each batch norm that directly follows a convolution fused into its weights.

    A trial run pairs modules by the tensors they pass on. If fusion changes the trial's output, e.g. because another
    module also takes the convolution's output, `member` itself is returned.
    """
    trial = torch.rand(1, 1, 4 * STRIDE, 4 * STRIDE, generator=torch.Generator().manual_seed(0))
    folded = copy.deepcopy(member)
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # holds the outputs, so that their ids stay unique
    calls: list[nn.Module] = []
    pairs: list[tuple[nn.Module, nn.Module]] = []

    def note(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(module)
        if isinstance(module, nn.Conv2d):
            made[id(output)] = (module, output)
        elif id(given[0]) in made:
            pairs.append((made[id(given[0])][0], module))

    # no subclasses: those of BatchNorm2d may do more
    handles = [module.register_forward_hook(note) for module in folded.modules() if type(module) in _FOLDED]
    with torch.inference_mode():
        expected = folded(trial)
    for handle in handles:
        handle.remove()
    names = {module: name for name, module in folded.named_modules()}
    for convolution, norm in pairs:
        if calls.count(convolution) == calls.count(norm) == 1:
            folded.set_submodule(names[convolution], fuse_conv_bn_eval(convolution, norm))  # type: ignore[type-var, arg-type]
            folded.set_submodule(names[norm], nn.Identity())
    with torch.inference_mode():
        error = float((folded(trial) - expected).abs().max())
    return folded if error <= LARGEST_FOLDING_ERROR else member
