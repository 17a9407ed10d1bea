"""Checks that the numbers of a run are finite: NaN would become an empty submission with high confidence."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from severstal_cli.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_STD = 1e-3
"""Smallest standard deviation of pixels in [0, 1]; a data folder of constant images gets 1/255."""

REMEDY = "Train again, or restore the file"


def check_pixels(card: Path, mean: float, std: float) -> None:
    """Raise RunError unless these can be mean and standard deviation of pixels in [0, 1]."""
    for name, value, least in (("mean", mean, 0.0), ("std", std, SMALLEST_STD)):
        if not least <= value <= 1:
            raise RunError(f"{card} is damaged", f"{name} is {value!r:.40}, not between {least:g} and 1", REMEDY)


def check_weights(file: Path, weights: Mapping[str, "Tensor"]) -> None:
    """Raise RunError unless all weights of a file are finite."""
    for name, value in weights.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise not_finite(file, name)


def check_constants(file: Path, model: Any) -> None:
    """Raise RunError unless all weights of an `openvino.Model` are finite."""
    for node in model.get_ops():
        is_weight = node.get_type_name() == "Constant" and node.get_element_type().is_real()
        if is_weight and not np.isfinite(node.get_data()).all():
            raise not_finite(file, node.get_friendly_name())


def check_onnx(file: Path) -> None:
    """Raise RunError unless all weights of an ONNX file are finite. Without the library `onnx`, nothing is checked."""
    if importlib.util.find_spec("onnx") is None:
        return
    import onnx

    for weight in onnx.load(file).graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise not_finite(file, weight.name)


def not_finite(file: Path, name: str) -> RunError:
    """The error for a weight `name` of a file that is not finite."""
    return RunError(f"{file} has numbers that are not finite", name, REMEDY)


class NotFiniteError(RunError):
    """The probabilities of a network for an image are not finite."""

    def __init__(self, number: int, member: int) -> None:
        super().__init__(f"run {member + 1} gives numbers that are not finite", f"for image {number + 1}")
        self.number, self.member = number, member
        """Index of the image among the predicted ones, and of the network among the members, from 0."""

    def of(self, run: object, image: object, remedy: str = "") -> RunError:
        """The error with the names of run and image."""
        remedy = remedy or "Its weights are too large or damaged: restore its files, or train again"
        return RunError(f"{run} gives numbers that are not finite", f"for {image}", remedy)
