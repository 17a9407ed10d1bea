"""Post-training quantisation to int8 by NNCF, for OpenVINO.

The weights become int8, and the ranges of the activations are measured on training images. What follows the last
convolution stays in floating point: a step of int8 there would be a level of 255, everywhere.
"""

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from severstal_cli.learning.inference import runtimes
from severstal_cli.learning.networks.registry import STRIDE
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.data_folder import DataFolder
from severstal_cli.steel.images import decoding

CALIBRATION_IMAGES = 64

RANKING_IMAGES = 16
"""Images on which the layers are ranked by what int8 costs there: those that it costs most on."""

_LAYERS = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"}

Pixels = NDArray[np.float32]
"""(1, 1, H, W) in [0, 1], with sides that are multiples of `STRIDE`."""


def calibration_ids(data_folder: DataFolder, split: splits.Split, fold: int) -> list[str]:
    """Up to `CALIBRATION_IMAGES` training images of a run, as many of each class as of clean images.

    An image of several classes counts for the rarest. Images of `fold` and of the holdout are left out.
    """
    left_out = splits.HOLDOUT, str(fold)
    present = dict(zip(data_folder.cache.image_ids, data_folder.class_sets(), strict=True))
    trained = [image_id for image_id, part in split.parts.items() if part not in left_out]
    counts = Counter(class_id for image_id in trained for class_id in present[image_id])
    strata: dict[int, list[str]] = {}
    for image_id in trained:
        rarest = min(present[image_id], key=lambda class_id: (counts[class_id], class_id), default=0)
        strata.setdefault(rarest, []).append(image_id)
    shares = dict.fromkeys(strata, 0)
    while sum(shares.values()) < min(CALIBRATION_IMAGES, len(trained)):
        stratum = min((one for one in strata if shares[one] < len(strata[one])), key=lambda one: (shares[one], one))
        shares[stratum] += 1
    return sorted(strata[one][n * len(strata[one]) // share] for one, share in shares.items() for n in range(share))


def pixels_of(data_folder: DataFolder, image_ids: Iterable[str]) -> list[Pixels]:
    """Images as `level_maps.predict_levels` gives them to the network."""
    cache = data_folder.cache
    padded = (decoding.pad_to_multiple(cache[cache.index[image_id]][None], STRIDE) for image_id in image_ids)
    return [(image[:, None] / np.float32(255)).astype(np.float32) for image in padded]


def quantise(model: Any, images: Sequence[Pixels], progress: Progress = SILENT) -> Any:
    """The `openvino.Model` with its layers in int8; `images` give the ranges of their activations."""
    with _nncf() as nncf, progress.bar("calibrating", len(images), "images") as bar:
        seen: set[int] = set()

        def counted(number: int) -> Pixels:
            if number not in seen:  # NNCF takes some again
                seen.add(number)
                bar.advance()
            return images[number]

        dataset = nncf.Dataset(range(len(images)), counted)
        return nncf.quantize(model, dataset, advanced_parameters=_advanced(nncf), **_settings(nncf, model, images))


def quantise_within(
    model: Any,
    images: Sequence[Pixels],
    validate: Callable[[Callable[[Pixels], Pixels], Sequence[int]], tuple[float, list[float]]],
    validation_images: int,
    max_drop: float,
) -> Any:
    """Like `quantise`, but the layers that int8 costs most stay in floating point until the drop is at most `max_drop`.

    validate: (network, numbers of validation images) -> mean Dice, and the Dice of each of these images. The result may
    still drop by more.
    """
    with _nncf() as nncf:
        errors: list[BaseException] = []

        def validation(compiled: Any, numbers: Iterable[int]) -> tuple[float, list[float]]:
            if errors:  # NNCF ignores the error of its first call
                raise errors[0]
            request = compiled.create_infer_request()
            try:
                return validate(lambda pixels: request.infer([pixels])[0].copy(), list(numbers))
            except Exception as error:
                errors.append(error)
                raise

        return nncf.quantize_with_accuracy_control(
            model,
            nncf.Dataset(range(len(images)), images.__getitem__),
            nncf.Dataset(range(validation_images)),
            validation,
            max_drop=max_drop,
            advanced_quantization_parameters=_advanced(nncf),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=RANKING_IMAGES, num_ranking_workers=1
            ),
            **_settings(nncf, model, images),
        )


def write(model: Any, path: Path) -> None:
    """Write an `openvino.Model` as XML, with its weights beside it."""
    runtimes.load_openvino().save_model(model, path, compress_to_fp16=False)


def layers(model: Any) -> tuple[list[str], list[str]]:
    """The names of the convolutions and matrix products in int8, and of those in floating point."""
    in_int8: list[str] = []
    kept: list[str] = []
    for node in model.get_ordered_ops():
        if node.get_type_name() in _LAYERS:
            (in_int8 if _is_quantised(node) else kept).append(node.get_friendly_name())
    return in_int8, kept


def _is_quantised(node: Any) -> bool:
    """Whether the weights of a layer are int8: behind scales and conversions there is a constant of 8 bits."""
    source = node.input_value(1).get_node()
    while source.get_type_name() != "Constant":
        if source.get_type_name() == "FakeQuantize":
            return True
        if not source.get_input_size():
            return False
        source = source.input_value(0).get_node()
    return bool(source.get_element_type().bitwidth == 8)


def _settings(nncf: Any, model: Any, images: Sequence[Pixels]) -> dict[str, Any]:
    return {
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": len(images),
        "ignored_scope": nncf.IgnoredScope(names=list(_left_out(model))),
    }


def _advanced(nncf: Any) -> Any:
    """Ranges from the lowest to the highest activation: half the error of the library's defaults, at the same speed.

    The defaults also halve the range of the first weights for processors without VNNI, which compute in float32 here.
    """
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.DISABLE, activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
    )


def _left_out(model: Any) -> Iterator[str]:
    """The names of the operations that stay in floating point.

    They are those behind the last convolutions, with the matrix product of the classification head. Means over an image
    are not among them: bfloat16 rounds their sums so much that all logits of an image move together.
    """
    waiting, seen = [(model.get_results()[0], False)], set()
    while waiting:
        node, is_before_product = waiting.pop()
        for value in node.input_values():
            source = value.get_node()
            name, kind = source.get_friendly_name(), source.get_type_name()
            is_head = kind == "MatMul" and not is_before_product
            if (is_head or kind not in {*_LAYERS, "ReduceMean", "Constant"}) and name not in seen:
                seen.add(name)
                waiting.append((source, is_before_product or is_head))
                yield name


@contextlib.contextmanager
def _nncf() -> Iterator[Any]:
    """The library, without its telemetry, and without the bars that it prints to stdout."""
    runtimes.load_openvino()
    with runtimes.quiet(), contextlib.redirect_stdout(io.StringIO()):
        import nncf

        yield nncf
