"""Adaptive average pooling as a product of matrices, so that a network can be exported for any size of images.

UPerNet pools the deepest features to 1, 2, 3 and 6 squares a side. ONNX has no operator for it, and a graph of
torch holds for the one size, or sizes above one square, that it was made with.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def with_matrix_pooling(network: Network) -> Network:
    """A copy that pools to several squares by matrices; `network` itself if it has no such pooling."""
    if not any(_side(part) for part in network.modules()):
        return network
    changed = copy.deepcopy(network)
    for name, part in list(changed.named_modules()):
        if side := _side(part):
            changed.set_submodule(name, _MatrixPooling(side))
    return changed


def _side(part: nn.Module) -> int:
    """The squares a side that a pooling has; 0 for other layers, and for global pooling, which is a mean."""
    if not isinstance(part, nn.AdaptiveAvgPool2d):
        return 0
    size = part.output_size
    side, other = size if isinstance(size, tuple) else (size, size)
    return side if side == other and side is not None and side > 1 else 0


class _MatrixPooling(nn.Module):
    """`(N, C, H, W) -> (N, C, side, side)`, as `nn.AdaptiveAvgPool2d(side)`."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        rows, columns = (self._means(length, features) for length in (height, width))
        return rows @ features @ columns.T

    def _means(self, length: int, like: Tensor) -> Tensor:
        """`(side, length)`: row i averages over floor(i length / side) <= position < ceil((i + 1) length / side)."""
        number = torch.arange(self.side, device=like.device)[:, None]
        begins = number * length // self.side
        ends = ((number + 1) * length + self.side - 1) // self.side
        position = torch.arange(length, device=like.device)
        inside = (begins <= position) & (position < ends)
        return inside.to(like.dtype) / (ends - begins)
