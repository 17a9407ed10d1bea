"""Int8 in OpenVINO, used only where it agrees with the same quantised network in float32.

The kernels of a processor may compute int8 wrongly for some sizes, as half precision (`precision`). In float32 the
quantised network gives the same numbers but for sums that are rounded to a neighbouring level, which later layers
amplify. How much they do is measured: each pixel is changed by one grey level, up or down.
"""

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor

from severstal_cli.learning.precision import FLOOR, TOLERANCE, CheckedHalf, excess
from severstal_cli.progress import SILENT, Progress

CHANGE = 1 / 255
"""A grey level: a smaller change of a pixel may be lost where the network rounds its input."""

MEAN_TOLERANCE = 2.0
"""Largest accepted mean error of the logits, as a multiple of the mean effect of `CHANGE`. Correct hardware reaches 1;
sums that saturate in 16 bits reach 2.8 to 4.4 in the networks whose sums are that large."""


class CheckedInt8(CheckedHalf):
    """A quantised network that switches to float32 for the batch sizes where int8 does not agree with it."""

    def __init__(
        self,
        int8: Callable[[Tensor], Tensor],
        exact: Callable[[], Callable[[Tensor], Tensor]],
        fabric: Fabric,
        *,
        name: str,
        progress: Progress = SILENT,
    ) -> None:
        """`exact()` builds the quantised network in float32."""
        super().__init__(int8, exact, fabric, name=name, emulated=None, progress=progress)
        self._kind_name = "int8"

    def _excess(self, probs: Tensor, pixels: Tensor) -> float:
        """The larger of two ratios to the effect of `CHANGE`: of the largest error, and of the mean error."""
        generator = torch.Generator().manual_seed(0)
        changes = torch.randint(0, 2, pixels.shape, generator=generator) * 2 - 1
        exact = torch.logit(self.in_float32(pixels), 1e-6)
        effect = (
            torch.logit(self.in_float32((pixels + CHANGE * changes.to(pixels.device)).clamp(0, 1)), 1e-6) - exact
        ).abs()
        logits = torch.logit(probs, 1e-6)
        largest = excess(logits, exact, max(float(effect.max()), FLOOR))
        mean = float((logits - exact).abs().mean()) / max(float(effect.mean()), FLOOR)
        return largest if mean != mean else max(largest, mean * TOLERANCE / MEAN_TOLERANCE)
