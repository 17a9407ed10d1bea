"""Batch norm behind global pooling, for batches of a single image.

DeepLabV3+ and UPerNet pool the deepest features to one value per channel and normalise them over the batch. The last
batch of an epoch may have a single image, of which a batch norm cannot train.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class PooledNorm(nn.BatchNorm2d):
    """A batch norm that normalises one value per channel by its running statistics, and leaves these as they are."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training and features.numel() == self.num_features:
            return functional.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(features)


def accept_single_images(network: nn.Module) -> None:
    """Replace the batch norms behind global pooling. Weights and their names stay."""
    for branch in network.modules():
        if isinstance(branch, nn.Sequential) and _pools_globally(branch):
            for name, part in list(branch.named_modules()):
                if type(part) is nn.BatchNorm2d:
                    branch.set_submodule(name, _pooled(part))


def _pools_globally(branch: nn.Sequential) -> bool:
    first = next(iter(branch), None)
    return isinstance(first, nn.AdaptiveAvgPool2d) and first.output_size in (1, (1, 1))


def _pooled(norm: nn.BatchNorm2d) -> PooledNorm:
    with torch.device("meta"):
        pooled = PooledNorm(norm.num_features, norm.eps, norm.momentum)
    pooled.load_state_dict(norm.state_dict(), assign=True)
    return pooled
