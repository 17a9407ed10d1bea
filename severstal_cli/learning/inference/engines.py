"""Inference engines: torch, OpenVINO or ONNX Runtime, depending on the run's model file and the installed libraries.

    model.safetensors     the weights: torch, or OpenVINO, which converts the network in a few seconds
    model.onnx            exported to ONNX: OpenVINO or ONNX Runtime
    model.xml, model.bin  exported to OpenVINO: OpenVINO

Each engine is a callable: pixels `(N, 1, H, W)` float32 in [0, 1] to probs `(N, C, H, W)` float32, on the same device.
If the device has half precision (`device.fastest_precision`), torch and OpenVINO use it, checked by `CheckedHalf`; ONNX
Runtime computes in the precision of the file.
"""

import copy
import importlib.util
import logging
import shlex
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from severstal_cli.errors import MachineError, RunError, SeverstalError, UsageError, check_memory
from severstal_cli.learning import finite
from severstal_cli.learning.device import check_compiler, half_type
from severstal_cli.learning.inference.fuse_norms import with_folded_norms
from severstal_cli.learning.inference.same_padding import with_fixed_padding
from severstal_cli.learning.networks import names
from severstal_cli.learning.networks.registry import STRIDE, Logits
from severstal_cli.learning.precision import CheckedHalf
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import SILENT, Progress

Probs = Callable[[Tensor], Tensor]

ENGINES = ("auto", "torch", "openvino", "onnxruntime")

ONNX, XML = "model.onnx", "model.xml"

ABLE = {run_folder.WEIGHTS: ("torch", "openvino"), ONNX: ("onnxruntime", "openvino"), XML: ("openvino",)}
"""The engines that can run each model file. "auto" prefers OpenVINO on a CPU, the others on a GPU."""

_SIZES_KEPT = 4  # compiled networks of OpenVINO, one per image size


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


def engines_for(folders: Sequence[Path], engine: str, fabric: Fabric, compile_networks: bool = False) -> list[str]:
    """The engine of each run, all checked before any file is opened.

    compile_networks: use torch.compile, on a GPU with CUDA graphs. It is worth its time for many images of one size.

    Raises as `engine_for` does. With `compile_networks`, raises MachineError if the machine cannot compile, UsageError
    for an engine other than torch.
    """
    if compile_networks:
        check_compiler(fabric.device)
        engine = "torch" if engine == "auto" else engine
    names = [engine_for(folder, engine, fabric.device.type) for folder in folders]
    if compile_networks and (others := set(names) - {"torch"}):
        raise UsageError(f"{others.pop()} compiles the network itself", "--compile", "Leave it out")
    return names


def load_members(
    folders: Sequence[Path],
    cards: Sequence[model_card.ModelCard],
    fabric: Fabric,
    *,
    engine: str = "auto",
    compile_networks: bool = False,
    progress: Progress = SILENT,
) -> list[Probs]:
    """The networks of runs, ready to predict. Raises as `engines_for` does, and RunError: a damaged file.

    In half precision each network is a `CheckedHalf`, which logs to `progress` if it has to use float32.
    """
    names = engines_for(folders, engine, fabric, compile_networks)
    return open_members(folders, cards, names, fabric, compile_networks=compile_networks, progress=progress)


def open_members(
    folders: Sequence[Path],
    cards: Sequence[model_card.ModelCard],
    names: Sequence[str],
    fabric: Fabric,
    *,
    compile_networks: bool = False,
    progress: Progress = SILENT,
) -> list[Probs]:
    """`load_members` with the engines that `engines_for` returned. Raises RunError: a damaged file."""
    members: list[Probs] = []
    for folder, card, name in zip(folders, cards, names, strict=True):
        file = folder / _file_of(folder)
        try:
            members.append(_open(name, file, card, fabric, compile_networks, progress))
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


def _open(
    engine: str, file: Path, card: model_card.ModelCard, fabric: Fabric, compiles: bool, progress: Progress
) -> Probs:
    name, half = str(file.parent), half_type(fabric)
    if engine == "torch":
        module = with_folded_norms(member_of(file.parent, card))
        module = module.to(fabric.device).to(memory_format=torch.channels_last)
        if half is None:
            return _on_torch(module, half, fabric, compiles)
        fast = _on_torch(copy.deepcopy(module), half, fabric, compiles)
        return CheckedHalf(fast, lambda: module, fabric, name=name, emulated=module, progress=progress)
    if engine == "openvino":
        member = member_of(file.parent, card) if file.name == run_folder.WEIGHTS else None
        model = to_openvino(member) if member is not None else _openvino().Core().read_model(file)
        finite.check_constants(file, model)
        engine_in = partial(OpenVino, model, card.classes)
        if half is None:
            return engine_in(None)
        return CheckedHalf(
            engine_in(half), partial(engine_in, None), fabric, name=name, emulated=member, progress=progress
        )
    finite.check_onnx(file)
    return OnnxRuntime(file)


# torch


def _on_torch(module: nn.Module, half: torch.dtype | None, fabric: Fabric, compiles: bool) -> Probs:
    """`module` with the weights cast once that autocast would cast for every batch; compiled if `compiles`."""
    for layer in module.modules():
        if half is not None and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.to(half)
    return Compiled(module, "reduce-overhead" if fabric.device.type == "cuda" else "default") if compiles else module


class Compiled:
    """A network compiled by torch.compile, at the first batch of each size.

    On a GPU, call it in the thread that imported torch: the CUDA graphs belong to that thread.
    """

    def __init__(self, module: nn.Module, mode: str) -> None:
        self._network = torch.compile(module, dynamic=False, mode=mode)

    def __call__(self, pixels: Tensor) -> Tensor:
        # the next run of the CUDA graph overwrites the output of this one
        return self._network(pixels).clone()  # type: ignore[no-any-return]


def exported(member: Member) -> torch.export.ExportedProgram:
    """The network as a graph for any batch size, and sides that are multiples of `STRIDE`."""
    dim = torch.export.Dim
    sizes = dim("n"), dim.STATIC, STRIDE * dim("h", min=1), STRIDE * dim("w", min=1)
    trial = torch.zeros(2, 1, 2 * STRIDE, 3 * STRIDE)  # export would fix sizes that are 1 or equal
    with torch.no_grad():
        return torch.export.export(with_fixed_padding(member), (trial,), dynamic_shapes=(sizes,))


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the log lines and warnings of the exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


# OpenVINO


def _openvino() -> Any:
    # the conversion would report each use to a server
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def to_openvino(member: Member) -> Any:
    """The `openvino.Model` of a network, for any number and size of images."""
    return _openvino().convert_model(exported(member))


class OpenVino:
    """A network in OpenVINO on the CPU. Images go one by one, so their probs do not depend on the batch."""

    def __init__(self, model: Any, classes: int, half: torch.dtype | None) -> None:
        self._model, self._classes = model, classes
        self._settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": {None: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[half],
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled: OrderedDict[torch.Size, Any] = OrderedDict()

    def __call__(self, pixels: Tensor) -> Tensor:
        request = self._request(pixels.shape[2:])
        probs = np.empty((len(pixels), self._classes, *pixels.shape[2:]), np.float32)
        for number, image in enumerate(pixels.cpu().numpy()):
            results = request.infer([np.ascontiguousarray(image[None])], share_inputs=True, share_outputs=True)
            probs[number] = results[0][0]
        return torch.from_numpy(probs).to(pixels.device)

    def _request(self, size: torch.Size) -> Any:
        """The compiled network for images of this (height, width): fixed sizes are the fastest."""
        if size not in self._compiled:
            fixed = self._model.clone()
            fixed.reshape([1, 1, *size])
            compiled = _openvino().Core().compile_model(fixed, "CPU", self._settings)
            self._compiled[size] = compiled.create_infer_request()
            if len(self._compiled) > _SIZES_KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(size)
        return self._compiled[size]


# ONNX Runtime


class OnnxRuntime:
    """A network in ONNX Runtime, in the precision of the file; on a GPU if onnxruntime-gpu is installed."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        preferred = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in preferred if name in onnxruntime.get_available_providers()]
        self._session = onnxruntime.InferenceSession(file, options, providers=providers)

    def __call__(self, pixels: Tensor) -> Tensor:
        name = self._session.get_inputs()[0].name
        [probs] = self._session.run(None, {name: pixels.contiguous().cpu().numpy()})
        return torch.from_numpy(probs).to(pixels.device)
