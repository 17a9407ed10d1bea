"""Losses and running statistics, checked after each batch: the training ends if they are not finite."""

import math

import torch
from torch import Tensor

from severstal_cli.errors import SeverstalError
from severstal_cli.learning.training.batches import Batch


class Losses:
    """The losses of an epoch, and the largest values of the running statistics (names and tensors).

    Each loss is read while the next batch is computed, so that a GPU does not idle.
    """

    def __init__(self, epoch: int, statistics: tuple[list[str], list[Tensor]]) -> None:
        self.total, self.images = 0.0, 0
        """Sum of the losses read so far, over images, and the number of these images."""
        self._epoch, self._batches = epoch, 0
        self._names, self._statistics = statistics
        self._last: tuple[Batch, Tensor] | None = None

    def add(self, batch: Batch, loss: Tensor) -> None:
        """Add a loss, and read the previous one; on a CPU this one, too. Raises SeverstalError: it is not finite."""
        self.settle()
        # one tensor needs one transfer; the largest value is finite only if all values are
        largest = torch._foreach_norm(self._statistics, ord=math.inf) if self._statistics else ()
        self._last = batch, torch.stack([loss.float(), *largest])
        if loss.device.type == "cpu":
            self.settle()

    def settle(self) -> None:
        """Read the last loss. Raises SeverstalError: it is not finite."""
        if self._last is None:
            return
        (batch, read), self._last = self._last, None
        self._batches += 1
        value, *largest = read.tolist()
        if not math.isfinite(value):
            raise SeverstalError(
                f"the loss is {value} in epoch {self._epoch + 1}, batch {self._batches}",
                ", ".join(batch.image_ids),
                "Look at these images, or lower the learning rate; the last whole epoch is kept",
            )
        for name, most in zip(self._names, largest, strict=True):
            if not math.isfinite(most):
                raise SeverstalError(
                    f"the running statistics are not finite in epoch {self._epoch + 1}, batch {self._batches}",
                    f"{name}, images {', '.join(batch.image_ids)}",
                    "Look at these images, lower the learning rate, or set the precision to 32-true by --config; "
                    "the last whole epoch is kept",
                )
        self.total += value * len(batch.image_ids)
        self.images += len(batch.image_ids)
