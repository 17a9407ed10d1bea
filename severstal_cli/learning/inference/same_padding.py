"""TensorFlow's SAME padding by constants, so that a network can be exported for any size of images.

Encoders of timm whose weights come from TensorFlow (`tu-tf_*`, and some more) compute the padding of each step from the
size of its input. Exported for any size, these sizes become expressions of expressions, and the export does not end.
Here all sizes are multiples of `STRIDE`: each step of stride s has an input that s divides, and pads it by a constant.
"""

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from severstal_cli.learning.networks.registry import STRIDE

Network = TypeVar("Network", bound=nn.Module)

LARGEST_ERROR = 1e-5
"""Of an output: the padding is the same, so that rounding alone may differ."""


def with_fixed_padding(network: Network) -> Network:
    """A copy that pads by constants, for images whose sides are multiples of `STRIDE`.

    `network` itself is returned if no step needs it, or if the copy gives another result in a trial, e.g. because the
    input of a step is not divisible. network: takes `(N, 1, H, W)`, returns a tensor.
    """
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
    from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame

    def unpadded(part: Any) -> nn.Module:
        """The step without its padding."""
        if isinstance(part, Conv2dSame):
            plain: Any = nn.Conv2d(
                part.in_channels,
                part.out_channels,
                _pair(part.kernel_size),
                _pair(part.stride),
                dilation=_pair(part.dilation),
                groups=part.groups,
            )
            plain.weight, plain.bias = part.weight, part.bias
        elif isinstance(part, MaxPool2dSame):
            plain = nn.MaxPool2d(part.kernel_size, part.stride, 0, part.dilation, ceil_mode=part.ceil_mode)
        elif isinstance(part, AvgPool2dSame):
            plain = nn.AvgPool2d(part.kernel_size, part.stride, 0, part.ceil_mode, part.count_include_pad)
        else:
            plain, part.same_pad = part, False
        return plain  # type: ignore[no-any-return]

    fixed, found = copy.deepcopy(network), False
    for name, part in list(fixed.named_modules()):
        standardised = isinstance(part, StdConv2dSame | ScaledStdConv2dSame) and part.same_pad
        if standardised or isinstance(part, Conv2dSame | MaxPool2dSame | AvgPool2dSame):
            around = -torch.inf if isinstance(part, MaxPool2dSame) else 0.0
            fixed.set_submodule(name, nn.Sequential(nn.ConstantPad2d(_sides(part), around), unpadded(part)))
            found = True
    if not found:
        return network
    trial = torch.rand(1, 1, 3 * STRIDE, 5 * STRIDE, generator=torch.Generator().manual_seed(0))  # odd numbers of it
    with torch.inference_mode():
        error = float((fixed(trial) - network(trial)).abs().max())
    return fixed if error <= LARGEST_ERROR else network


def _sides(part: Any) -> tuple[int, int, int, int]:
    """Left, right, top and bottom: in all (size / s - 1) s + (k - 1) d + 1 - size, where the stride s divides it."""
    totals = [
        max((kernel - 1) * dilation + 1 - stride, 0)
        for kernel, stride, dilation in zip(
            _pair(part.kernel_size), _pair(part.stride), _pair(getattr(part, "dilation", 1)), strict=True
        )
    ]
    height, width = totals
    return width // 2, width - width // 2, height // 2, height - height // 2


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple) else (value, value)
    return first, second
