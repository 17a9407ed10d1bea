"""Depthwise convolutions trained in float32 on a CPU: in bfloat16 their backward pass is several times slower.

Autocast stays on around them, and their output is rounded to bfloat16, so the other layers compute as before.
"""

from typing import Any

import torch
from torch import Tensor, nn


def train_in_float32(network: nn.Module) -> None:
    """Compute the depthwise convolutions of a network in float32 wherever gradients are computed on a CPU."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels:
            module.register_forward_pre_hook(_begin)
            module.register_forward_hook(_end, always_call=True)


def _begin(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
    kind = torch.get_autocast_dtype("cpu")
    if not (module.training and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")):
        return None
    if given[0].device.type != "cpu" or kind != torch.bfloat16:
        return None
    torch.set_autocast_enabled("cpu", False)
    module._half = kind  # type: ignore[assignment]
    return (given[0].float(), *given[1:])


def _end(module: nn.Module, _: tuple[Any, ...], output: Tensor | None) -> Tensor | None:
    kind = module.__dict__.pop("_half", None)
    if kind is None:
        return None
    torch.set_autocast_enabled("cpu", True)
    return output.to(kind) if output is not None else None  # None: the convolution failed
