"""What runs a trained network: torch, OpenVINO or ONNX Runtime, by the file that a run has and by what is installed.

    model.safetensors     the weights: torch, or OpenVINO, which converts the network in a few seconds
    model.onnx            exported to ONNX: OpenVINO or ONNX Runtime
    model.xml, model.bin  exported to OpenVINO: OpenVINO

Each engine is a callable: pixels `(N, 1, H, W)` float32 in [0, 1] to probs `(N, C, H, W)` float32, on the same device.
Where the device multiplies a half precision (`device.fastest_precision`), torch and OpenVINO do so, as `Careful`;
ONNX Runtime multiplies in the precision of the file.
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
from severstal_cli.learning.precision import Careful
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import SILENT, Progress

Probs = Callable[[Tensor], Tensor]

ENGINES = ("auto", "torch", "openvino", "onnxruntime")

ONNX, XML = "model.onnx", "model.xml"

ABLE = {run_folder.WEIGHTS: ("torch", "openvino"), ONNX: ("onnxruntime", "openvino"), XML: ("openvino",)}
"""The engines that can run a file; on a CPU OpenVINO goes before the others, where it is installed."""

_SIZES_KEPT = 4  # compiled networks of OpenVINO, one for each size of images


class Member(nn.Module):
    """A network and the normalisation it was trained with, as one module: pixels to probs."""

    def __init__(self, network: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.network, self.mean, self.std = network, mean, std

    def forward(self, pixels: Tensor) -> Tensor:
        """`pixels: (N, 1, H, W) float in [0, 1]` -> probs `(N, C, H, W)` float32.

        Where the network has a classification head, its probability that the class is in the picture is a factor: a
        soft gate, and thresholds are searched behind it. If a logit of an image is not finite, its probs are NaN.
        """
        logits: Logits = self.network((pixels - self.mean) / self.std)
        masks = logits.masks.float()
        # a sigmoid makes 0 or 1 of what is infinite: the mean is then not finite, and makes all of the image NaN
        factor = 1 + 0 * masks.mean(dim=(1, 2, 3), keepdim=True)
        if logits.classes is not None:
            factor = factor * logits.classes.float().sigmoid()[:, :, None, None]
        return masks.sigmoid() * factor


def engine_for(folder: Path, engine: str, device: str) -> str:
    """The engine that "auto" or a name stands for, for a run on "cpu" or "cuda".

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
        liked = sorted(able, key=lambda name: (name == "openvino") != (device == "cpu"))
        found = [name for name in liked if importlib.util.find_spec(name)]
        engine = (found or able)[0]
    if engine not in able:
        convert = f"severstal export {shlex.quote(str(folder))} --format onnx"
        remedy = convert if file == run_folder.WEIGHTS else f"Take {' or '.join(able)}"
        raise UsageError(f"{engine} cannot run {folder / file}", "", remedy)
    if not importlib.util.find_spec(engine):
        extra = "onnx" if engine == "onnxruntime" else engine
        raise MachineError(f"{engine} is not installed", "", f"Install it: pip install 'severstal[{extra}]'")
    return engine


def engines_for(folders: Sequence[Path], engine: str, fabric: Fabric, compile_networks: bool = False) -> list[str]:
    """That of each run, all checked before one is opened. Raises as `engine_for` does.

    compile_networks: by torch.compile, on a GPU with CUDA graphs. It pays for many pictures of one size. Raises
        MachineError where the machine cannot, UsageError for another engine than torch.
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
    engine: str | Sequence[str] = "auto",  # or those of `engines_for`
    compile_networks: bool = False,
    progress: Progress = SILENT,
) -> list[Probs]:
    """The networks of runs, ready to predict. Raises as `engines_for` does, and RunError: a damaged file.

    In half precision each is a `Careful`, which reports to `progress` where float32 is used instead.
    """
    members: list[Probs] = []
    names = engines_for(folders, engine, fabric, compile_networks) if isinstance(engine, str) else engine
    for folder, card, name in zip(folders, cards, names, strict=True):
        file = folder / _file_of(folder)
        try:
            members.append(_open(name, file, card, fabric, compile_networks, progress))
        except SeverstalError:
            raise
        except Exception as error:  # each library has its own for a damaged file, and torch one for each kind of damage
            check_memory(error, f"reading {file}")
            found = " ".join(str(error).split())[:120]
            raise RunError(f"{name} cannot open {file}", found, "Export the run again") from error
    return members


def member_of(folder: Path, card: model_card.ModelCard) -> Member:
    """The trained network of a run with its normalisation, in float32 on the CPU. Raises RunError."""
    return Member(run_folder.load_network(folder, card), card.mean, card.std).eval()


def _file_of(folder: Path) -> str:
    found = next((name for name in ABLE if (folder / name).is_file()), None)
    if found is None:
        names.check_has_weights(folder)
    return found or run_folder.WEIGHTS


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
        return Careful(fast, lambda: module, fabric, name=name, emulated=module, progress=progress)
    if engine == "openvino":
        member = member_of(file.parent, card) if file.name == run_folder.WEIGHTS else None
        model = to_openvino(member) if member is not None else _openvino().Core().read_model(file)
        finite.check_constants(file, model)
        engine_in = partial(OpenVino, model, card.classes)
        if half is None:
            return engine_in(None)
        return Careful(engine_in(half), partial(engine_in, None), fabric, name=name, emulated=member, progress=progress)
    finite.check_onnx(file)
    return OnnxRuntime(file)


# torch


def _on_torch(module: nn.Module, half: torch.dtype | None, fabric: Fabric, compiles: bool) -> Probs:
    """The module, which is on the device; what autocast would cast at each batch is cast once."""
    for part in module.modules():
        if half is not None and isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            part.to(half)
    return Compiled(module, "reduce-overhead" if fabric.device.type == "cuda" else "default") if compiles else module


class Compiled:
    """Probs of a network that torch.compile compiles at its first pictures of a size.

    In this mode of a GPU, torch keeps its CUDA graphs for the thread that it was imported in: call it there.
    """

    def __init__(self, module: nn.Module, mode: str) -> None:
        self._network = torch.compile(module, dynamic=False, mode=mode)

    def __call__(self, pixels: Tensor) -> Tensor:
        # the next run of a CUDA graph writes where this one's output is
        return self._network(pixels).clone()  # type: ignore[no-any-return]


def exported(member: Member) -> torch.export.ExportedProgram:
    """The network as a graph for any number of pictures and any size: multiples of `STRIDE`."""
    dim = torch.export.Dim
    sizes = dim("n"), dim.STATIC, STRIDE * dim("h", min=1), STRIDE * dim("w", min=1)
    trial = torch.zeros(2, 1, 2 * STRIDE, 3 * STRIDE)  # what is 1 or equal here would be so for good
    with torch.no_grad():
        return torch.export.export(with_fixed_padding(member), (trial,), dynamic_shapes=(sizes,))


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters tell of their own affairs."""
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
    # its conversion would tell a server of each use
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def to_openvino(member: Member) -> Any:
    """The `openvino.Model` of a network, for any number and size of pictures."""
    return _openvino().convert_model(exported(member))


class OpenVino:
    """Probs by OpenVINO on the CPU. Pictures go one by one, so their probs do not depend on the batch they are in."""

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
        for number, picture in enumerate(pixels.cpu().numpy()):
            found = request.infer([np.ascontiguousarray(picture[None])], share_inputs=True, share_outputs=True)
            probs[number] = found[0][0]
        return torch.from_numpy(probs).to(pixels.device)

    def _request(self, size: torch.Size) -> Any:
        """For pictures of this (height, width): a network of fixed size is the quickest."""
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
    """Probs by ONNX Runtime, on a GPU where its package for GPUs is installed, in the precision of the file."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        liked = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in liked if name in onnxruntime.get_available_providers()]
        self._session = onnxruntime.InferenceSession(file, options, providers=providers)

    def __call__(self, pixels: Tensor) -> Tensor:
        name = self._session.get_inputs()[0].name
        [probs] = self._session.run(None, {name: pixels.contiguous().cpu().numpy()})
        return torch.from_numpy(probs).to(pixels.device)
