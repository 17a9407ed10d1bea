"""Half precision, where it agrees with float32.

Some processors compute some sizes wrongly in half precision: a 3 x 3 convolution of stride 2 over an input two columns
wide, for one, in bfloat16 by AMX. The numbers may look plausible. So before a size of batch is computed in half
precision, the network's output for one real batch (and in training the running statistics of its batch norms) is
compared with float32. How far rounding alone takes it differs by network, weights and size, from 0.0003 to 0.8 of the
output's spread. So it is measured: the network is computed once more in float32, with what goes into and comes out of
each convolution and matrix product rounded to half precision. A difference of more than `TOLERANCE` times that, or one
of numbers that are not finite, is a fault, and the size is computed in float32.
"""

import copy
import hashlib
import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from severstal_cli.errors import is_memory
from severstal_cli.learning.device import gather, half_type
from severstal_cli.progress import SILENT, Progress

Size = tuple[int, int, int]
"""Images, height and width of a batch."""

Verdicts = dict[Size, bool]
"""Whether half precision agrees with float32 for a size."""

TOLERANCE = 4.0
"""How many times as far from float32 as rounding explains. Where nothing is wrong it is 2.4 at most."""

STATISTICS_TOLERANCE = 8.0
"""The same of a layer's running statistics, which may be few numbers. Where nothing is wrong it is 4 at most."""

HEAD_TOLERANCE = 16.0
"""The same of the logits of the classification head in training, one an image and class: the largest of so few differs
by chance. Where nothing is wrong it is 6.1 at most."""

FLOOR = 0.01
"""Of a logit: less changes no probability by more than 0.0025."""

SURELY_ROUNDING = 0.1
"""Of the spread of an image's logits: so much is put down to rounding without measuring it. Wrong numbers that make
less of a difference would make hardly any to a mask."""

PART_PX = 256
"""Side of the part of an image that rounding is measured on in prediction; a multiple of what networks take."""

_ROUNDED = {
    "convolution", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "addmm", "mm", "bmm", "baddbmm", "matmul",
    "linear", "einsum", "scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math",
}  # fmt: skip
"""What autocast computes in half precision, by its name without gradients and, where that is another, in inference."""


class Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """In it, float32 is rounded to `half` wherever autocast would compute in that."""

    def __init__(self, half: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._half = half

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.__name__.partition(".")[0] not in _ROUNDED:
            return func(*args, **kwargs)
        return tree_map_only(Tensor, self._rounded, func(*tree_map_only(Tensor, self._rounded, args), **kwargs))

    def _rounded(self, value: Tensor) -> Tensor:
        return value.to(self._half).to(value.dtype) if value.dtype == torch.float32 else value


def excess(half: Tensor, exact: Tensor, rounding: float) -> float:
    """How many times as far `half` is from `exact` as `rounding` explains; infinity where it is not finite.

    0 where float32 is not finite, either: then half precision is not what is wrong.
    """
    half, exact = half.float(), exact.float()
    error = float((half - exact).abs().max())
    if error != error or error == float("inf"):
        return float("inf") if bool(exact.isfinite().all()) else 0.0
    if not math.isfinite(rounding):  # then it explains nothing
        return float("inf") if error > FLOOR else 0.0
    return error / rounding


# prediction


class Careful:
    """Probs of a network in half precision, and in float32 for the sizes where that does not agree.

    A size is tried at its first batch, by the last image of it.
    """

    def __init__(
        self,
        half: Callable[[Tensor], Tensor],
        exact: Callable[[], Callable[[Tensor], Tensor]],
        fabric: Fabric,
        *,
        name: str,
        emulated: Callable[[Tensor], Tensor] | None,
        verdicts: Verdicts | None = None,
        progress: Progress = SILENT,
    ) -> None:
        """`exact()` makes the network in float32. `emulated`: it by torch, by which rounding can be measured."""
        self.half, self._make_exact, self._name = half, exact, name
        self._exact: Callable[[Tensor], Tensor] | None = None
        self._emulated, self._progress = emulated, progress
        self._kind = half_type(fabric)
        self.verdicts: Verdicts = {} if verdicts is None else verdicts

    def __call__(self, pixels: Tensor) -> Tensor:
        size = pixels.shape[0], pixels.shape[2], pixels.shape[3]
        agrees = self.verdicts.get(size)
        if agrees is False:
            return self.in_float32(pixels)
        if agrees:
            return self.half(pixels)
        try:
            probs = self.half(pixels)
            found = self._excess(probs[-1:], pixels[-1:])
        except RuntimeError as error:  # a processor may not have what the engine takes it to have
            if is_memory(error):
                raise
            found = math.inf
        self.verdicts[size] = found <= TOLERANCE
        if self.verdicts[size]:
            return probs
        self._progress.log(_line(self._name, self._kind, size, found))
        return self.in_float32(pixels)

    def in_float32(self, pixels: Tensor) -> Tensor:
        """The probs by float32."""
        if self._exact is None:
            self._exact = self._make_exact()
        with torch.autocast(pixels.device.type, enabled=False):
            return self._exact(pixels)

    def _excess(self, probs: Tensor, pixels: Tensor) -> float:
        """Of one image, by logits: low probabilities would hide what is wrong."""
        logits, exact = (torch.logit(each, 1e-6) for each in (probs, self.in_float32(pixels)))
        spread = float(exact.std())
        if float((logits - exact).abs().max()) <= max(FLOOR, SURELY_ROUNDING * spread):
            return 0.0
        rounding = SURELY_ROUNDING * spread / TOLERANCE
        if self._emulated is not None and self._kind is not None:
            with torch.autocast(pixels.device.type, enabled=False):
                part = _around_largest(pixels, (logits - exact).abs().nan_to_num())
                plain = torch.logit(self._emulated(part), 1e-6)
                with Rounding(self._kind):
                    rounding = float((torch.logit(self._emulated(part), 1e-6) - plain).abs().max())
        return excess(logits, exact, max(rounding, FLOOR))


def _around_largest(pixels: Tensor, errors: Tensor) -> Tensor:
    """`pixels` `(1, 1, H, W)` around the largest of `errors` `(1, C, H, W)`, `PART_PX` high and wide at most."""
    place = int(errors.amax(dim=(0, 1)).argmax())
    for axis, at in enumerate(divmod(place, errors.shape[-1]), start=2):
        length = min(PART_PX, pixels.shape[axis])
        begin = max(0, min(at - length // 2, pixels.shape[axis] - length))
        pixels = pixels.narrow(axis, begin, length)
    return pixels.contiguous(memory_format=torch.channels_last)


# training


def share_verdicts(verdicts: Verdicts, fabric: Fabric) -> None:
    """Let all devices compute a size in float32 where one of them has seen that it must."""
    for others in gather([[*size, agrees] for size, agrees in verdicts.items()], fabric):
        for count, height, width, agrees in others:
            size = count, height, width
            verdicts[size] = agrees and verdicts.get(size, True)


def check_training(
    network: nn.Module,
    batches: Iterable[Tensor],
    fabric: Fabric,
    verdicts: Verdicts,
    name: str,
    progress: Progress,
) -> None:
    """Try `network` in training on each of `batches`, pixels `(N, 1, H, W)` as it learns from them.

    `verdicts` gets the sizes that it has not yet. Nothing of the network changes, nor any random state.
    """
    kind = half_type(fabric)
    if kind is None:
        return
    with torch.no_grad(), torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        for pixels in batches:
            size = pixels.shape[0], pixels.shape[2], pixels.shape[3]
            if size in verdicts:
                continue
            found = _excess_in_training(network, pixels, fabric, kind)
            verdicts[size] = found <= 1
            if found > 1:
                progress.log(_line(name, kind, size, found * TOLERANCE))


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


class _Trained(NamedTuple):
    outputs: list[Tensor]
    statistics: dict[str, Tensor]


def _excess_in_training(network: nn.Module, pixels: Tensor, fabric: Fabric, kind: torch.dtype) -> float:
    """The largest excess of outputs and running statistics, each as a share of what is tolerated."""
    exact = _trained(network, pixels)
    with fabric.autocast():
        half = _trained(network, pixels.to(kind))
    with Rounding(kind):
        emulated = _trained(network, pixels.to(kind).float())
    shares = []
    tolerances = TOLERANCE, HEAD_TOLERANCE  # there may be no head
    for one, other, rounded, tolerated in zip(half.outputs, exact.outputs, emulated.outputs, tolerances, strict=False):
        shares.append(excess(one, other, max(_distance(rounded, other), FLOOR)) / tolerated)
    for layer, value in exact.statistics.items():
        scale = float(exact.statistics[f"{layer.rpartition('.')[0]}.running_var"].max()) ** 0.5
        scale = max(scale, float(value.abs().max())) if layer.endswith("running_mean") else scale**2
        floor = torch.finfo(kind).eps / 8 * scale + 1e-30
        rounding = max(_distance(emulated.statistics[layer], value), floor)
        shares.append(excess(half.statistics[layer], value, rounding) / STATISTICS_TOLERANCE)
    return max(shares)


def _trained(network: nn.Module, pixels: Tensor) -> _Trained:
    """What a copy gives for a batch in training: batch norms take its statistics, and nothing is dropped."""
    trial = copy.deepcopy(network).eval()
    for part in trial.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.train()
    logits = trial(pixels)
    outputs = [part for part in logits if part is not None]
    return _Trained(outputs, dict(running_statistics(trial)))


def running_statistics(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The running means and variances of all batch norms, by name."""
    for name, value in network.named_buffers():
        if name.rpartition(".")[2] in ("running_mean", "running_var") and value.is_floating_point():
            yield name, value


# what is remembered


def machine(fabric: Fabric) -> str:
    """A fingerprint of what the kernels depend on: on another machine each size is tried again."""
    device = fabric.device.type
    found = [
        torch.__version__, platform.machine(), torch.get_num_threads(), str(half_type(fabric)), device,
        torch.cuda.get_device_name(fabric.device) if device == "cuda" else sorted(torch.cpu.get_capabilities().items()),
        os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
    ]  # fmt: skip
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def _line(name: str, kind: torch.dtype | None, size: Size, found: float) -> str:
    images, height, width = size
    how = "none, or not finite" if found == math.inf else f"it differs {found:.0f} times as much as rounding explains"
    return (
        f"{name}: {str(kind).removeprefix('torch.')} gives wrong numbers on this machine for {images} x {height} x "
        f"{width} ({how}): float32 is used for this size"
    )
