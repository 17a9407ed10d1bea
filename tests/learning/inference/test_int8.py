"""Int8: which images calibrate it, which layers it takes, and that it is used only where it computes right."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from severstal_cli.learning import device
from severstal_cli.learning.inference import engines, int8, runtimes
from severstal_cli.learning.inference.checked_int8 import CheckedInt8
from severstal_cli.learning.inference.fuse_norms import with_folded_norms
from severstal_cli.learning.inference.level_maps import predict_levels
from severstal_cli.learning.runs import model_card
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.dataset.splits import Split

IMAGES = [np.random.default_rng(n).integers(0, 256, (64, 96), np.uint8) for n in range(3)]
WITHOUT_VNNI = {"avx2": True, "avx512_vnni": False, "avx_vnni": False, "amx_int8": False}


What = tuple[str, frozenset[int]]
"""The subset of an image, and its classes."""


def on_cpu() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


def folder_of(
    counts: dict[tuple[str, frozenset[int]], int],
) -> tuple[Any, Split, dict[str, tuple[str, frozenset[int]]]]:
    """A data folder and its split with this many images of each (subset, classes), and these of each image."""
    what = {
        f"{part}-{'-'.join(map(str, sorted(classes)))}-{number:04}.png": (part, classes)
        for (part, classes), count in counts.items()
        for number in range(count)
    }
    names = sorted(what)
    cache = SimpleNamespace(image_ids=names)
    data_folder = SimpleNamespace(cache=cache, class_sets=lambda: [what[name][1] for name in names])
    split = Split(path=Path("splits.csv"), parts={name: what[name][0] for name in names}, groups={}, class_sets={})
    return data_folder, split, what


def test_calibration_images_are_training_images_of_every_class_and_clean_ones() -> None:
    clean, one, two = frozenset[int](), frozenset({1}), frozenset({2})
    data_folder, split, what = folder_of({
        ("0", clean): 50, ("0", two): 50, ("holdout", one): 50, ("1", clean): 400, ("2", clean): 100,
        ("1", one): 60, ("2", frozenset({1, 2})): 3, ("2", two): 2,
    })  # fmt: skip
    chosen = int8.calibration_ids(data_folder, split, 0)
    assert len(set(chosen)) == len(chosen) == int8.CALIBRATION_IMAGES == 64
    assert {what[name][0] for name in chosen} == {"1", "2"}
    counts = Counter(what[name][1] for name in chosen)
    assert counts == {two: 2, frozenset({1, 2}): 3, clean: 30, one: 29}
    assert {name for name in chosen if "--" in name} >= {"1--0000.png"}
    spread = [name for name in chosen if what[name] == ("1", clean)]
    assert spread[-1] > "1--0300"


def test_a_small_folder_calibrates_on_all_its_training_images() -> None:
    data_folder, split, what = folder_of({("0", frozenset()): 3, ("1", frozenset()): 2, ("1", frozenset({3})): 5})
    assert int8.calibration_ids(data_folder, split, 0) == sorted(name for name in what if name.startswith("1"))


@pytest.fixture(scope="module")
def quantised(trained: tuple[Path, Path]) -> Any:
    """The trained run as an openvino.Model in int8."""
    data, source = trained
    data_folder = open_data_folder(data)
    with runtimes.quiet(), torch.no_grad():
        model = runtimes.to_openvino(with_folded_norms(engines.member_of(source, model_card.read_card(source))))
    return int8.quantise(model, int8.pixels_of(data_folder, data_folder.cache.image_ids[:8]))


def test_all_convolutions_are_in_int8_and_what_follows_them_is_not(
    quantised: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    in_int8, kept = int8.layers(quantised)
    assert len(in_int8) == 14  # the convolutions of unet-small
    assert len(kept) == 1
    assert kept[0].endswith("MatMul")  # the classification head
    means = [node for node in quantised.get_ops() if node.get_type_name() == "ReduceMean"]
    sources = [node.input_value(0).get_node().get_type_name() for node in means]
    assert set(sources) == {"FakeQuantize"}  # bfloat16 would round the sums of more digits
    fine = runtimes.OpenVino(quantised, 2, None)(torch.rand(1, 1, 64, 96, generator=torch.Generator().manual_seed(0)))
    assert len(fine.unique()) > 2000  # in int8 they would have 256 values


def test_the_pixels_are_padded_and_scaled_as_for_prediction(trained: tuple[Path, Path]) -> None:
    data_folder = open_data_folder(trained[0])
    [found] = int8.pixels_of(data_folder, data_folder.cache.image_ids[:1])
    assert found.dtype == np.float32
    assert found.shape == (1, 1, 64, 96)
    np.testing.assert_array_equal(np.rint(found[0, 0] * 255), data_folder.cache[0])
    assert found.max() <= 1


# the check against float32


def checked(
    trained: tuple[Path, Path], int8_network: Callable[[Tensor], Tensor], heard: Any
) -> tuple[CheckedInt8, Any]:
    member = engines.member_of(trained[1], model_card.read_card(trained[1]))
    probs = CheckedInt8(int8_network, lambda: member, on_cpu(), name="models/x", progress=heard)
    return probs, member


def test_int8_is_used_where_it_agrees_with_float32_but_for_rounding(trained: tuple[Path, Path], heard: Any) -> None:
    member = engines.member_of(trained[1], model_card.read_card(trained[1]))
    rounded = lambda pixels: member(pixels * (1 + 2.0**-11))  # noqa: E731
    probs, _ = checked(trained, rounded, heard)
    found = list(predict_levels([probs], IMAGES, on_cpu()))
    assert heard.lines == []
    assert probs.agreement == {(3, 64, 96): True}
    np.testing.assert_array_equal(found, list(predict_levels([rounded], IMAGES, on_cpu())))


def saturated(probs: Tensor) -> Tensor:
    return torch.sigmoid(torch.logit(probs, 1e-6) * 0.9 - 0.1)


def not_finite(probs: Tensor) -> Tensor:
    return probs * torch.where(torch.arange(96) == 5, torch.nan, 1.0)


def fails(probs: Tensor) -> Tensor:
    raise RuntimeError("could not create a primitive")


@pytest.mark.parametrize("fault", [saturated, not_finite, fails])
def test_a_size_that_int8_computes_wrongly_is_computed_in_float32(
    trained: tuple[Path, Path], heard: Any, fault: Callable[[Tensor], Tensor]
) -> None:
    """Sums that saturate change every logit a little, and no logit much."""
    member = engines.member_of(trained[1], model_card.read_card(trained[1]))
    probs, exact = checked(trained, lambda pixels: fault(member(pixels)), heard)
    found = list(predict_levels([probs], IMAGES, on_cpu()))
    np.testing.assert_array_equal(found, list(predict_levels([exact], IMAGES, on_cpu())))
    [line] = heard.lines
    assert line.startswith("models/x: int8 gives wrong numbers on this machine for 3 x 64 x 96 (")
    assert line.endswith("): using float32 for this size")


def test_a_processor_whose_sums_overflow_computes_a_quantised_run_in_float32(
    quantised: Any,
    trained: tuple[Path, Path],
    tmp_path: Path,
    with_openvino: None,
    heard: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = model_card.read_card(trained[1])
    int8.write(quantised, tmp_path / "model.xml")
    [member] = engines.load_members([tmp_path], [card], on_cpu(), progress=heard)
    assert isinstance(member, CheckedInt8) or not device.multiplies_int8()
    heard.lines.clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITHOUT_VNNI)
    [probs] = engines.load_members([tmp_path], [card], on_cpu(), progress=heard)
    [line] = heard.lines
    assert line.startswith(f"{tmp_path}: this processor has neither VNNI nor AMX")
    emulated = runtimes.OpenVino(quantised, card.classes, None, emulate_int8=True)
    found = np.stack(list(predict_levels([probs], IMAGES, on_cpu())))
    np.testing.assert_array_equal(found, np.stack(list(predict_levels([emulated], IMAGES, on_cpu()))))


@pytest.mark.parametrize(
    ("capabilities", "able"),
    [
        (WITHOUT_VNNI, False),
        (WITHOUT_VNNI | {"avx512_vnni": True}, True),
        (WITHOUT_VNNI | {"avx_vnni": True}, True),
        ({"neon": True}, True),
    ],
)
def test_which_processors_multiply_int8(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], able: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert device.multiplies_int8() is able
