"""Networks as callables of OpenVINO and ONNX Runtime: pixels to probs, as `engines` describes."""

import logging
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from severstal_cli.learning.inference.adaptive_pooling import with_matrix_pooling
from severstal_cli.learning.inference.same_padding import with_fixed_padding
from severstal_cli.learning.networks.registry import STRIDE

Probs = Callable[[Tensor], Tensor]

_SIZES_KEPT = 4
"""Compiled networks of OpenVINO, one for each size of images."""


def exported(member: nn.Module) -> torch.export.ExportedProgram:
    """The network as a graph for any batch size, and sides that are multiples of `STRIDE`."""
    dim = torch.export.Dim
    sizes = dim("n"), dim.STATIC, STRIDE * dim("h", min=1), STRIDE * dim("w", min=1)
    trial = torch.zeros(2, 1, 2 * STRIDE, 3 * STRIDE)  # export would fix sizes that are 1 or equal
    fixed = with_matrix_pooling(with_fixed_padding(member))
    with torch.no_grad():
        return torch.export.export(fixed, (trial,), dynamic_shapes=(sizes,))


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the log lines and warnings of the exporters."""
    names = "torch.onnx", "torch.export", "torch.utils.cpp_extension", "onnxscript", "onnx_ir", "nncf"
    loggers = [logging.getLogger(name) for name in names]
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


def load_openvino() -> Any:
    """The library, without its telemetry: a conversion would report each use to a server."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def to_openvino(member: nn.Module) -> Any:
    """The `openvino.Model` of a network, for any number and size of images."""
    return load_openvino().convert_model(exported(member))


def is_quantised(model: Any) -> bool:
    """Whether layers of an `openvino.Model` are quantised to int8."""
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


class OpenVino:
    """A network in OpenVINO on the CPU. Images go one by one, so their probs do not depend on the batch."""

    def __init__(self, model: Any, classes: int, half: torch.dtype | None, *, emulate_int8: bool = False) -> None:
        """`emulate_int8`: compute the layers that are quantised to int8 in float32, with the same rounding."""
        self._model, self._classes = model, classes
        self._settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": {None: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[half],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if emulate_int8:
            self._settings["LP_TRANSFORMS_MODE"] = False  # OpenVINO's own setting, in no document
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
            compiled = load_openvino().Core().compile_model(fixed, "CPU", self._settings)
            self._compiled[size] = compiled.create_infer_request()
            if len(self._compiled) > _SIZES_KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(size)
        return self._compiled[size]


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
