"""Inference engines: torch, OpenVINO or ONNX Runtime, depending on the run's model file and the installed libraries.

    model.safetensors     the weights: torch, or OpenVINO, which converts the network in a few seconds
    model.onnx            exported to ONNX: OpenVINO or ONNX Runtime
    model.xml, model.bin  exported to OpenVINO, maybe quantised to int8: OpenVINO

Each engine is a callable: pixels `(N, 1, H, W)` float32 in [0, 1] to probs `(N, C, H, W)` float32, on the same device.
If the device has half precision (`device.fastest_precision`), torch and OpenVINO use it, checked by `CheckedHalf`; ONNX
Runtime computes in the precision of the file. A run that is quantised to int8 is checked by `CheckedInt8`.
"""

import copy
import importlib.util
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from severstal_cli.errors import MachineError, RunError, SeverstalError, UsageError, check_memory
from severstal_cli.learning import finite
from severstal_cli.learning.device import half_type, multiplies_int8
from severstal_cli.learning.inference.checked_int8 import CheckedInt8
from severstal_cli.learning.inference.fuse_norms import with_folded_norms
from severstal_cli.learning.inference.runtimes import (
    OnnxRuntime,
    OpenVino,
    Probs,
    is_quantised,
    load_openvino,
    to_openvino,
)
from severstal_cli.learning.networks import names
from severstal_cli.learning.networks.registry import Logits
from severstal_cli.learning.precision import CheckedHalf
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import SILENT, Progress

ENGINES = ("auto", "torch", "openvino", "onnxruntime")

ONNX, XML = "model.onnx", "model.xml"

ABLE = {run_folder.WEIGHTS: ("torch", "openvino"), ONNX: ("onnxruntime", "openvino"), XML: ("openvino",)}
"""The engines that can run each model file. "auto" prefers OpenVINO on a CPU, the others on a GPU."""


class Member(nn.Module):
    """A network with the normalisation it was trained with: pixels to probs."""

    def __init__(self, network: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.network, self.mean, self.std = network, mean, std

    def forward(self, pixels: Tensor) -> Tensor:
        """`pixels: (N, 1, H, W) float in [0, 1]` -> probs `(N, C, H, W)` float32.

        With a classification head, the probs of a class are multiplied by the probability that the class is present.
        Thresholds are searched on the product. If any mask logit of an image is not finite, its probs are NaN.
        """
        logits: Logits = self.network((pixels - self.mean) / self.std)
        masks = logits.masks.float()
        # a sigmoid turns infinite logits into 0 or 1; 0 times their mean is NaN, for the whole image
        factor = 1 + 0 * masks.mean(dim=(1, 2, 3), keepdim=True)
        if logits.classes is not None:
            factor = factor * logits.classes.float().sigmoid()[:, :, None, None]
        return masks.sigmoid() * factor


def engine_for(folder: Path, engine: str, device: str) -> str:
    """`engine`, with "auto" resolved for a run on "cpu" or "cuda".

    Raises:
        UsageError: no such engine, or it cannot run the file that the run has.
        MachineError: it is not installed.
        RunError: the run has no weights.
    """
    if engine not in ENGINES:
        raise UsageError("unknown engine", engine, f"Choose one of {', '.join(ENGINES)}")
    file = _file_of(folder)
    able = ABLE[file]
    if engine == "auto":
        preferred = sorted(able, key=lambda name: (name == "openvino") != (device == "cpu"))
        installed = [name for name in preferred if importlib.util.find_spec(name)]
        engine = (installed or able)[0]
    if engine not in able:
        convert = f"severstal export {shlex.quote(str(folder))} --format onnx"
        remedy = convert if file == run_folder.WEIGHTS else f"Use {' or '.join(able)}"
        raise UsageError(f"{engine} cannot run {folder / file}", "", remedy)
    if not importlib.util.find_spec(engine):
        extra = "onnx" if engine == "onnxruntime" else engine
        raise MachineError(f"{engine} is not installed", "", f"Install it: pip install 'severstal[{extra}]'")
    return engine


def engines_for(folders: Sequence[Path], engine: str, fabric: Fabric) -> list[str]:
    """The engine of each run, all checked before any file is opened. Raises as `engine_for` does."""
    return [engine_for(folder, engine, fabric.device.type) for folder in folders]


def load_members(
    folders: Sequence[Path],
    cards: Sequence[model_card.ModelCard],
    fabric: Fabric,
    *,
    engine: str | Sequence[str] = "auto",  # or those of `engines_for`
    progress: Progress = SILENT,
) -> list[Probs]:
    """The networks of runs, ready to predict. Raises as `engines_for` does, and RunError: a damaged file.

    In half precision each network is a `CheckedHalf`, which logs to `progress` if it has to use float32.
    """
    members: list[Probs] = []
    names = engines_for(folders, engine, fabric) if isinstance(engine, str) else engine
    for folder, card, name in zip(folders, cards, names, strict=True):
        file = folder / _file_of(folder)
        try:
            members.append(_open(name, file, card, fabric, progress))
        except SeverstalError:
            raise
        except Exception as error:  # every library has its own errors for damaged files
            check_memory(error, f"reading {file}")
            why = " ".join(str(error).split())[:120]
            raise RunError(f"{name} cannot open {file}", why, "Export the run again") from error
    return members


def member_of(folder: Path, card: model_card.ModelCard) -> Member:
    """The trained network of a run with its normalisation, in float32 on the CPU. Raises RunError."""
    return Member(run_folder.load_network(folder, card), card.mean, card.std).eval()


def _file_of(folder: Path) -> str:
    file = next((name for name in ABLE if (folder / name).is_file()), None)
    if file is None:
        names.check_has_weights(folder)
    return file or run_folder.WEIGHTS


def _open(engine: str, file: Path, card: model_card.ModelCard, fabric: Fabric, progress: Progress) -> Probs:
    name, half = str(file.parent), half_type(fabric)
    if engine == "torch":
        module = with_folded_norms(member_of(file.parent, card))
        module = module.to(fabric.device).to(memory_format=torch.channels_last)
        if half is None:
            return module
        fast = _in_half(copy.deepcopy(module), half)
        return CheckedHalf(fast, lambda: module, fabric, name=name, emulated=module, progress=progress)
    if engine == "openvino":
        if file.name != run_folder.WEIGHTS:
            return open_exported(file, card, fabric, name=name, progress=progress)
        member = member_of(file.parent, card)
        return _in_openvino(to_openvino(member), file, card, fabric, name, progress, member)
    finite.check_onnx(file)
    return OnnxRuntime(file)


def open_exported(
    file: Path, card: model_card.ModelCard, fabric: Fabric, *, name: str, progress: Progress = SILENT
) -> Probs:
    """An exported network in OpenVINO. name: its run, in log lines. Raises RunError: weights are not finite."""
    return _in_openvino(load_openvino().Core().read_model(file), file, card, fabric, name, progress, None)


def _in_openvino(
    model: Any,
    file: Path,
    card: model_card.ModelCard,
    fabric: Fabric,
    name: str,
    progress: Progress,
    member: Member | None,
) -> Probs:
    """member: the network in torch, if the run has its weights."""
    half = half_type(fabric)
    finite.check_constants(file, model)
    engine_in = partial(OpenVino, model, card.classes)
    if is_quantised(model):
        exact = partial(engine_in, None, emulate_int8=True)
        if multiplies_int8():
            return CheckedInt8(engine_in(half), exact, fabric, name=name, progress=progress)
        progress.log(
            f"{name}: this processor has neither VNNI nor AMX, without which sums of int8 overflow: using "
            "float32; the run that it was exported from is as fast"
        )
        return exact()
    if half is None:
        return engine_in(None)
    return CheckedHalf(engine_in(half), partial(engine_in, None), fabric, name=name, emulated=member, progress=progress)


# torch


def _in_half(module: nn.Module, half: torch.dtype) -> nn.Module:
    """`module` with the weights cast once that autocast would cast for every batch."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.to(half)
    return module
