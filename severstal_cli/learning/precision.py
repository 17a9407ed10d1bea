"""Half precision, used only where it agrees with float32.

Some processors compute some batch sizes wrongly in half precision, e.g. in bfloat16 by AMX a 3 x 3 convolution of
stride 2 over an input two columns wide. The wrong numbers may look plausible. So before a batch size is computed in
half precision, the network's output for one real batch is compared with float32; in training, the running statistics
of the batch norms are compared, too. The error by rounding alone depends on network, weights and size: it is 0.0003 to
0.8 of the output's standard deviation. So it is measured: float32 is computed once more, with inputs and outputs of
each convolution and matrix product rounded to half precision. If half precision differs by more than `TOLERANCE` times
that error, or is not finite, the batch size is computed in float32.
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

Agreement = dict[Size, bool]
"""Whether half precision agrees with float32, by batch size."""

TOLERANCE = 4.0
"""Largest accepted error of the output, as a multiple of the rounding error. Correct hardware reaches 2.4."""

STATISTICS_TOLERANCE = 8.0
"""The same for the running statistics of a layer, which may be few numbers. Correct hardware reaches 4."""

HEAD_TOLERANCE = 16.0
"""The same for the classification head in training, which has one logit per image and class: the largest of few numbers
varies by chance. Correct hardware reaches 6.1."""

FLOOR = 0.01
"""Error of a logit that is always accepted: it changes no probability by more than 0.0025."""

SURELY_ROUNDING = 0.1
"""Error that is accepted without measuring the rounding error, as a share of the standard deviation of an image's
logits. A smaller error hardly changes a mask."""

CROP_PX = 256
"""Side of the crop on which prediction measures the rounding error; a multiple of the networks' stride."""

_ROUNDED = {
    "convolution", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "addmm", "mm", "bmm", "baddbmm", "matmul",
    "linear", "einsum", "scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math",
}  # fmt: skip
"""Operations that autocast computes in half precision, by their names with autograd and in inference mode."""


class Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context that rounds float32 to `half` wherever autocast would compute in `half`."""

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
    """The largest error of `half` as a multiple of `rounding`; infinity if `half` is not finite.

    0 if `exact` is not finite either: then half precision is not the cause.
    """
    half, exact = half.float(), exact.float()
    error = float((half - exact).abs().max())
    if error != error or error == float("inf"):
        return float("inf") if bool(exact.isfinite().all()) else 0.0
    if not math.isfinite(rounding):  # an unknown rounding error explains nothing
        return float("inf") if error > FLOOR else 0.0
    return error / rounding


# prediction


class CheckedHalf:
    """A network in half precision that switches to float32 for the batch sizes where both do not agree.

    A size is checked at its first batch, with the last image of the batch.
    """

    def __init__(
        self,
        half: Callable[[Tensor], Tensor],
        exact: Callable[[], Callable[[Tensor], Tensor]],
        fabric: Fabric,
        *,
        name: str,
        emulated: Callable[[Tensor], Tensor] | None,
        agreement: Agreement | None = None,
        progress: Progress = SILENT,
    ) -> None:
        """`exact()` builds the network in float32. `emulated`: the network in torch, to measure the rounding error."""
        self.half, self._make_exact, self._name = half, exact, name
        self._exact: Callable[[Tensor], Tensor] | None = None
        self._emulated, self._progress = emulated, progress
        self._kind = half_type(fabric)
        self._kind_name = str(self._kind).removeprefix("torch.")
        self.agreement: Agreement = {} if agreement is None else agreement

    def __call__(self, pixels: Tensor) -> Tensor:
        size = pixels.shape[0], pixels.shape[2], pixels.shape[3]
        agrees = self.agreement.get(size)
        if agrees is False:
            return self.in_float32(pixels)
        if agrees:
            return self.half(pixels)
        try:
            probs = self.half(pixels)
            error_ratio = self._excess(probs[-1:], pixels[-1:])
        except RuntimeError as error:  # the processor may lack instructions that the engine expects
            if is_memory(error):
                raise
            error_ratio = math.inf
        self.agreement[size] = error_ratio <= TOLERANCE
        if self.agreement[size]:
            return probs
        self._progress.log(_line(self._name, self._kind_name, size, error_ratio))
        return self.in_float32(pixels)

    def in_float32(self, pixels: Tensor) -> Tensor:
        """The probs, computed in float32."""
        if self._exact is None:
            self._exact = self._make_exact()
        with torch.autocast(pixels.device.type, enabled=False):
            return self._exact(pixels)

    def _excess(self, probs: Tensor, pixels: Tensor) -> float:
        """`excess` of the logits of one image: low probabilities would hide an error."""
        logits, exact = (torch.logit(each, 1e-6) for each in (probs, self.in_float32(pixels)))
        spread = float(exact.std())
        if float((logits - exact).abs().max()) <= max(FLOOR, SURELY_ROUNDING * spread):
            return 0.0
        rounding = SURELY_ROUNDING * spread / TOLERANCE
        if self._emulated is not None and self._kind is not None:
            with torch.autocast(pixels.device.type, enabled=False):
                crop = _around_largest(pixels, (logits - exact).abs().nan_to_num())
                plain = torch.logit(self._emulated(crop), 1e-6)
                with Rounding(self._kind):
                    rounding = float((torch.logit(self._emulated(crop), 1e-6) - plain).abs().max())
        return excess(logits, exact, max(rounding, FLOOR))


def _around_largest(pixels: Tensor, errors: Tensor) -> Tensor:
    """The crop of `pixels: (1, 1, H, W)` around the largest of `errors: (1, C, H, W)`, with sides up to `CROP_PX`."""
    largest = int(errors.amax(dim=(0, 1)).argmax())
    for axis, at in enumerate(divmod(largest, errors.shape[-1]), start=2):
        length = min(CROP_PX, pixels.shape[axis])
        begin = max(0, min(at - length // 2, pixels.shape[axis] - length))
        pixels = pixels.narrow(axis, begin, length)
    return pixels.contiguous(memory_format=torch.channels_last)


# training


def share_agreement(agreement: Agreement, fabric: Fabric) -> None:
    """Let all devices compute a size in float32 if half precision is wrong on one of them."""
    for others in gather([[*size, agrees] for size, agrees in agreement.items()], fabric):
        for count, height, width, agrees in others:
            size = count, height, width
            agreement[size] = agrees and agreement.get(size, True)


def check_training(
    network: nn.Module,
    batches: Iterable[Tensor],
    fabric: Fabric,
    agreement: Agreement,
    name: str,
    progress: Progress,
) -> None:
    """Compare half precision with float32 in training mode on `batches` of normalised pixels `(N, 1, H, W)`.

    The results for new sizes are added to `agreement`. Neither the network nor any random state changes.
    """
    kind = half_type(fabric)
    if kind is None:
        return
    with torch.no_grad(), torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        for pixels in batches:
            size = pixels.shape[0], pixels.shape[2], pixels.shape[3]
            if size in agreement:
                continue
            share = _excess_in_training(network, pixels, fabric, kind)
            agreement[size] = share <= 1
            if share > 1:
                progress.log(_line(name, str(kind).removeprefix("torch."), size, share * TOLERANCE))


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


class _Trained(NamedTuple):
    outputs: list[Tensor]
    statistics: dict[str, Tensor]


def _excess_in_training(network: nn.Module, pixels: Tensor, fabric: Fabric, kind: torch.dtype) -> float:
    """The largest `excess` of outputs and running statistics, each as a share of its tolerance."""
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
    """Outputs and running statistics of a copy of the network, with batch norms in training mode and no dropout."""
    trial = copy.deepcopy(network).eval()
    for module in trial.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    outputs = [logits for logits in trial(pixels) if logits is not None]
    return _Trained(outputs, dict(running_statistics(trial)))


def running_statistics(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The running means and variances of all batch norms, by name."""
    for name, value in network.named_buffers():
        if name.rpartition(".")[2] in ("running_mean", "running_var") and value.is_floating_point():
            yield name, value


def machine(fabric: Fabric) -> str:
    """A fingerprint of everything the kernels depend on: on another machine each size is checked again."""
    device = fabric.device.type
    facts = [
        torch.__version__,
        platform.machine(),
        torch.get_num_threads(),
        str(half_type(fabric)),
        device,
        torch.cuda.get_device_name(fabric.device) if device == "cuda" else sorted(torch.cpu.get_capabilities().items()),
        os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _line(name: str, kind: str, size: Size, error_ratio: float) -> str:
    images, height, width = size
    why = "none, or not finite" if error_ratio == math.inf else f"error {error_ratio:.0f} times the rounding error"
    return (
        f"{name}: {kind} gives wrong numbers on this machine for {images} x {height} x {width} ({why}): using float32 "
        "for this size"
    )
