"""Losses and running statistics of a training, checked batch by batch: it ends where they are not finite."""

import math

import torch
from torch import Tensor

from severstal_cli.errors import SeverstalError
from severstal_cli.learning.training.batches import Batch


class Losses:
    """The losses of an epoch's batches, each read when the next one is under way: a GPU would stand still meanwhile.

    With them the largest values of the running statistics, `names` and tensors.
    """

    def __init__(self, epoch: int, statistics: tuple[list[str], list[Tensor]]) -> None:
        self.total, self.images = 0.0, 0
        """Sum over images, and their number, of what was read."""
        self._epoch, self._batches = epoch, 0
        self._names, self._statistics = statistics
        self._last: tuple[Batch, Tensor] | None = None

    def add(self, batch: Batch, loss: Tensor) -> None:
        """Read the loss before this one, on a CPU this one. Raises SeverstalError: it is not finite."""
        self.settle()
        # all in one tensor, which is read at once; where a value is not finite, the largest is not
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
