"""A trained network as one file of another format, for any number of pictures and any size: multiples of 32.

The file takes `pixels: (N, 1, H, W)` float32 in [0, 1] and gives `probs: (N, C, H, W)` float32: normalisation, sigmoid
and the classification head are in it. `engines` runs it, and so does whatever else reads its format.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch

from severstal_cli.errors import MachineError, UsageError
from severstal_cli.learning.inference import engines
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.inference.fuse_norms import with_folded_norms

_NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}


def check(form: str) -> None:
    """See that this machine can write a format. Raises UsageError: there is none of this name; MachineError."""
    if form not in FORMATS:
        raise UsageError("unknown format", form, f"Choose one of {', '.join(FORMATS)}")
    missing = [name for name in _NEEDS[form] if not importlib.util.find_spec(name)]
    if missing:
        raise MachineError(f"{', '.join(missing)} is not installed", "", f"Install it: pip install 'severstal[{form}]'")


def write(member: Member, form: str, folder: Path) -> Path:
    """Write the network into `folder` in one of `FORMATS`. The path of the file."""
    name, writer = FORMATS[form]
    with engines.quiet(), torch.no_grad():
        writer(with_folded_norms(member), folder / name)
    return folder / name


def _onnx(member: Member, path: Path) -> None:
    program = torch.onnx.export(engines.exported(member), input_names=["pixels"], output_names=["probs"], verbose=False)
    assert program is not None, "of an exported program there is one"
    program.save(path)


def _openvino(member: Member, path: Path) -> None:
    import openvino

    openvino.save_model(engines.to_openvino(member), path, compress_to_fp16=False)


FORMATS: dict[str, tuple[str, Callable[[Member, Path], None]]] = {
    "onnx": (engines.ONNX, _onnx),
    "openvino": (engines.XML, _openvino),
}
