"""A trained network as one file of another format, for any batch size, and sides that are multiples of 32.

The file maps `pixels: (N, 1, H, W)` float32 in [0, 1] to `probs: (N, C, H, W)` float32, with normalisation, sigmoid and
classification head. `engines` and any other reader of the format can run it.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch

from severstal_cli.errors import MachineError, UsageError
from severstal_cli.learning.inference import engines, runtimes
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.inference.fuse_norms import with_folded_norms

_NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}


def check(form: str, *, int8: bool = False) -> None:
    """Check that this machine can write a format. Raises UsageError: unknown format, or not with int8; MachineError."""
    if form not in FORMATS:
        raise UsageError("unknown format", form, f"Choose one of {', '.join(FORMATS)}")
    if int8 and form != "openvino":  # measured: docs/prediction.md
        raise UsageError(
            f"int8 is no gain with --format {form}", "ONNX Runtime is slow in int8", "Give --format openvino"
        )
    missing = [name for name in (*_NEEDS[form], *["nncf"] * int8) if not importlib.util.find_spec(name)]
    if missing:
        raise MachineError(f"{', '.join(missing)} is not installed", "", f"Install it: pip install 'severstal[{form}]'")


def write(member: Member, form: str, folder: Path) -> Path:
    """Write the network into `folder` in one of `FORMATS`. Returns the path of the file."""
    name, writer = FORMATS[form]
    with runtimes.quiet(), torch.no_grad():
        writer(with_folded_norms(member), folder / name)
    return folder / name


def _onnx(member: Member, path: Path) -> None:
    program = torch.onnx.export(
        runtimes.exported(member), input_names=["pixels"], output_names=["probs"], verbose=False
    )
    assert program is not None, "an exported program always converts to one"
    program.save(path)


def _openvino(member: Member, path: Path) -> None:
    import openvino

    openvino.save_model(runtimes.to_openvino(member), path, compress_to_fp16=False)


FORMATS: dict[str, tuple[str, Callable[[Member, Path], None]]] = {
    "onnx": (engines.ONNX, _onnx),
    "openvino": (engines.XML, _openvino),
}
