"""Half precision only where it agrees with float32: what is wrong is found, at its size alone, and nothing else is."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from severstal_cli.config import TrainConfig
from severstal_cli.errors import SeverstalError
from severstal_cli.learning import device, precision
from severstal_cli.learning.inference import engines
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.inference.level_maps import predict_levels
from severstal_cli.learning.networks import names, registry
from severstal_cli.learning.precision import CheckedHalf
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import loop
from severstal_cli.learning.training.batches import Batch, TrainingSet
from severstal_cli.progress import SILENT
from severstal_cli.stages import training
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.dataset.pseudo_labels import open_pseudo


def on_cpu(name: str) -> Fabric:
    if name == "32-true":
        return Fabric(accelerator="cpu", devices=1, precision="32-true")
    return Fabric(accelerator="cpu", devices=1, plugins=device.Mixed("bf16-mixed", "cpu"))


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "other channels": lambda values: values.roll(1, 1),
    "one column": lambda values: torch.cat([values[..., :-1], 2 * values[..., -1:]], -1),
    "noise": lambda values: values + values.std() * torch.randn(values.shape).to(values.dtype),
    "NaN": lambda values: values * math.nan,
    "infinite": lambda values: values * math.inf,
}
"""What wrong kernels may give; the first three are plausible numbers."""


@pytest.fixture
def break_half(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make convolutions of stride 2 in half precision wrong where their input has this width."""
    right = nn.Conv2d._conv_forward

    def broken(width: int, fault: str, batch: int | None = None) -> None:
        def forward(self: nn.Conv2d, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            found = right(self, images, weight, bias)
            is_it = images.shape[-1] == width and batch in (None, len(images)) and self.kernel_size == (3, 3)
            return FAULTS[fault](found) if found.dtype != torch.float32 and is_it else found

        monkeypatch.setattr(nn.Conv2d, "_conv_forward", forward)

    return broken


def images_of(sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def member_of(encoder: str = "resnet18", arch: str = "unet") -> Member:
    torch.manual_seed(0)
    return Member(registry.build(arch, encoder=encoder, classes=2, classifier=True), 0.4, 0.2).eval()


def checked(member: Member, fabric: Fabric, heard: Any) -> CheckedHalf:
    return CheckedHalf(member, lambda: member, fabric, name="models/x", emulated=member, progress=heard)


# prediction


@pytest.mark.parametrize("fault", FAULTS)
def test_a_size_that_half_precision_computes_wrongly_is_computed_in_float32(break_half, heard, fault: str) -> None:
    """Deepest layers of 64 x 32 are 2 columns wide before the last step, those of 64 x 128 are not."""
    half, exact, member = on_cpu("bf16-mixed"), on_cpu("32-true"), member_of()
    data_folder = images_of([(64, 32)] * 3 + [(64, 128)] * 2 + [(64, 32)] * 3)
    float32 = list(predict_levels([member], data_folder, exact))
    right = list(predict_levels([member], data_folder, half))
    break_half(2, fault)
    found = list(predict_levels([checked(member, half, heard)], data_folder, half))
    for number in (0, 1, 2, 5, 6, 7):
        np.testing.assert_array_equal(found[number], float32[number])
    for number in (3, 4):
        np.testing.assert_array_equal(found[number], right[number])
    [line] = heard.lines
    assert line.startswith("models/x: bfloat16 gives wrong numbers on this machine for 3 x 64 x 32 (")
    assert line.endswith("): using float32 for this size")


def test_half_precision_that_fails_is_not_used(heard) -> None:
    """As OpenVINO does where the processor has no instructions for it, though it says so."""
    half, member = on_cpu("bf16-mixed"), member_of()
    data_folder = images_of([(64, 32)] * 2)
    expected = list(predict_levels([member], data_folder, on_cpu("32-true")))
    probs = checked(member, half, heard)

    def fails(pixels: Tensor) -> Tensor:
        raise RuntimeError("could not create a primitive")

    probs.half = fails
    np.testing.assert_array_equal(list(predict_levels([probs], data_folder, half)), expected)
    assert len(heard.lines) == 1


def test_each_number_of_images_and_each_view_is_a_size_of_its_own(break_half, heard) -> None:
    half, member = on_cpu("bf16-mixed"), member_of()
    break_half(2, "other channels", batch=1)
    probs = checked(member, half, heard)
    list(predict_levels([probs], images_of([(64, 32)] * 3), half, batch_size=2))
    list(predict_levels([probs], images_of([(50, 70)]), half, batch_size=2, views="larger"))
    assert probs.agreement == {(2, 64, 32): True, (1, 64, 32): False, (1, 64, 96): True, (1, 64, 128): True}
    assert len(heard.lines) == 1


@pytest.mark.parametrize("arch", sorted(registry.REGISTRY))
@pytest.mark.parametrize("is_trained", [False, True])
def test_rounding_alone_is_no_fault(arch: str, is_trained: bool, heard) -> None:
    """Of any network, with random weights, and with running statistics of real pictures."""
    half, member = on_cpu("bf16-mixed"), member_of(arch=arch)
    if is_trained:
        member.network.train()
        for seed in range(5):
            member.network(torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(seed)) * 5 - 2)
        member.eval()
    probs = checked(member, half, heard)
    list(predict_levels([probs], images_of([(64, 96)] * 4 + [(64, 32), (96, 160)]), half))
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(*size, generator=generator) * 5 - 2 for size in ((4, 1, 64, 96), (1, 1, 64, 32))]
    agreement: precision.Agreement = {}
    precision.check_training(member.network, batches, half, agreement, "training", heard)
    assert heard.lines == []
    assert len(agreement) == 2


class _Overflows(nn.Module):
    """Finite in float32 and in bfloat16, not in float16."""

    def forward(self, images: Tensor) -> registry.Logits:
        return registry.Logits(torch.matmul(images * 1e4, torch.full((images.shape[-1],) * 2, 1e4)) / 1e8, None)


def test_float16_that_overflows_is_computed_in_float32(monkeypatch: pytest.MonkeyPatch, heard) -> None:
    """Also for an image in a batch of a size that agreed before."""
    half, exact = on_cpu("32-true"), on_cpu("32-true")
    monkeypatch.setattr(half, "autocast", lambda: torch.autocast("cpu", torch.float16))
    member = Member(_Overflows(), 0.0, 1.0)
    dark, bright = np.zeros((32, 32), np.uint8), np.full((32, 32), 200, np.uint8)
    expected = list(predict_levels([member], [dark, bright], exact))
    probs = checked(member, half, heard)
    found = [next(predict_levels([probs], [picture], half)) for picture in (dark, bright)]
    assert probs.agreement == {(1, 32, 32): True}
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("emulated", [float("nan"), float("inf")])
def test_rounding_that_is_not_finite_explains_nothing(emulated: float) -> None:
    """NaN would be less than any tolerance where the largest of several is taken."""
    ones = torch.ones(3)
    assert precision.excess(ones * 9, ones, emulated) == float("inf")
    assert precision.excess(ones, ones, emulated) == 0


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_engines_in_half_precision_are_careful(trained, with_openvino: None, heard, engine: str) -> None:
    """Where half precision is wrong, the levels are those of the engine in float32, and the run is named."""
    _, folder = trained
    card, half = model_card.read_card(folder), on_cpu("bf16-mixed")
    data_folder = images_of([(64, 96)] * 3)
    [plain] = engines.load_members([folder], [card], on_cpu("32-true"), engine=engine)
    expected = list(predict_levels([plain], data_folder, on_cpu("32-true")))
    [probs] = engines.load_members([folder], [card], half, engine=engine, progress=heard)
    assert isinstance(probs, CheckedHalf)
    right = probs.half
    assert np.abs(np.stack(list(predict_levels([probs], data_folder, half))).astype(int) - expected).max() <= 10
    heard.lines.clear()  # where the processor has no bfloat16, OpenVINO fails
    probs.agreement.clear()
    probs.half = lambda pixels: right(pixels).flip(-1)
    for found, wanted in zip(predict_levels([probs], data_folder, half), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert heard.lines[0].startswith(f"{folder}: bfloat16 gives wrong numbers on this machine for ")


# training

NARROW = {
    "arch": "unet",
    "encoder": "resnet18",
    "encoder_weights": "none",
    "crop_widths_px": (32,),
    "epochs": 1,
    "batch_size": 4,
    "precision": "bf16-mixed",
}


def train(data: Path, models: Path, progress: Any, **changes: Any) -> Path:
    return training.train(TrainConfig(data=data, models=models, **NARROW | changes), progress).folder


def weights_of(folder: Path) -> dict[str, bytes]:
    state = run_folder.read_checkpoint(folder)["state"]
    return {name: value.numpy().tobytes() for name, value in state["network"].items()}


@pytest.fixture(scope="module")
def exact(draw_data: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A data folder, and the weights that a training in float32 gets from it."""
    root = tmp_path_factory.mktemp("exact")
    data = draw_data(root / "data", images=18)
    return data, weights_of(train(data, root, SILENT, precision="32-true"))


@pytest.mark.parametrize("fault", ["one column", "NaN"])
def test_a_training_uses_float32_where_half_precision_is_wrong(
    exact: tuple[Path, dict[str, bytes]], break_half, tmp_path: Path, heard, fault: str
) -> None:
    data, weights = exact
    break_half(2, fault)
    trained = train(data, tmp_path, heard)
    assert weights_of(trained) == weights
    sizes = {tuple(size): agrees for *size, agrees in run_folder.read_checkpoint(trained)["state"]["verdicts"]}
    assert (4, 64, 32) in sizes
    assert not any(sizes.values())
    lines = [line.partition(" (")[0] for line in heard.lines if "using float32" in line]
    assert lines == [f"training: bfloat16 gives wrong numbers on this machine for {n} x 64 x 32" for n, _, _ in sizes]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_before_a_training(break_half, heard, fault: str) -> None:
    torch.manual_seed(0)
    network = registry.build("unet", encoder="resnet18", classes=2, classifier=True)
    batches = [torch.rand(4, 1, 64, width) * 5 - 2 for width in (32, 128)]
    break_half(2, fault)
    agreement: precision.Agreement = {}
    precision.check_training(network, batches, on_cpu("bf16-mixed"), agreement, "training", heard)
    assert agreement == {(4, 64, 32): False, (4, 64, 128): True}
    assert len(heard.lines) == 1


def test_half_precision_stays_where_it_is_right(exact, break_half, tmp_path: Path, heard) -> None:
    """A fault at a size that the training does not have changes nothing."""
    data, in_float32 = exact
    right = train(data, tmp_path / "right", heard)
    break_half(5, "NaN")
    assert weights_of(train(data, tmp_path / "broken", heard)) == weights_of(right)
    assert not [line for line in heard.lines if "using float32" in line]
    assert weights_of(right) != in_float32


def test_validation_uses_float32_where_half_precision_is_wrong(make_data, break_half, tmp_path: Path, heard) -> None:
    """Validated are images of 64 x 96: 6 columns before the last step. Trained are narrower crops."""
    data = make_data(images=18)
    break_half(6, "NaN")
    folder = train(data, tmp_path, heard)
    saved = run_folder.read_checkpoint(folder)["state"]
    assert all(agrees for *_, agrees in saved["verdicts"])
    sizes = {tuple(size): agrees for *size, agrees in saved["validation_verdicts"]}
    assert sizes
    assert not any(sizes.values())
    said = [line.partition(" (")[0] for line in heard.lines if "using float32" in line]
    assert said == [f"validation: bfloat16 gives wrong numbers on this machine for {n} x 64 x 96" for n, _, _ in sizes]
    assert all(math.isfinite(row["dice"]) for row in run_folder.read_checkpoint(folder)["history"])


def test_what_was_found_is_kept_for_a_resume_on_the_same_machine(
    make_data, break_half, tmp_path: Path, heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, tried = make_data(images=18), []
    real, update = precision._excess_in_training, loop.State.update_ema

    def counting(network: nn.Module, pixels: Tensor, *rest: Any) -> float:
        tried.append(tuple(pixels.shape))
        return real(network, pixels, *rest)

    def interrupted(state: loop.State, decay: float) -> None:
        if state.steps == steps_of_epoch + 1:
            raise KeyboardInterrupt
        update(state, decay)

    monkeypatch.setattr(precision, "_excess_in_training", counting)
    break_half(2, "other channels")
    settings = {"batch_size": 5, "epochs": 2}
    whole = train(data, tmp_path / "whole", heard, **settings)
    sizes, steps_of_epoch = list(tried), run_folder.read_checkpoint(whole)["state"]["steps"] // 2
    assert len(sizes) == len(run_folder.read_checkpoint(whole)["state"]["verdicts"]) > 1
    with monkeypatch.context() as patch:
        patch.setattr(loop.State, "update_ema", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "parts", heard, **settings)
    tried.clear()
    heard.lines.clear()
    parts = train(data, tmp_path / "parts", heard, **settings, resume=True)
    assert tried == []
    assert weights_of(parts) == weights_of(whole)
    monkeypatch.setattr(precision, "machine", lambda _: "another")
    train(data, tmp_path / "parts", heard, **settings | {"epochs": 3}, resume=True)
    assert tried == sizes


def test_every_size_of_a_training_is_tried(make_data, make_pseudo, tmp_path: Path) -> None:
    """On one device and for each of several: the sizes of all batches of all stages, and no others."""
    folder = make_data(images=30)
    config = TrainConfig(
        data=folder,
        epochs=10,
        batch_size=4,
        step_images=7,
        crop_widths_px=(32, 64),
        half_size_share=0.3,
        whole_image_share=0.3,
        **make_pseudo(),
    )
    data_folder = open_data_folder(folder)
    pseudo = open_pseudo(config, data_folder, list(data_folder.cache.image_ids), SILENT)
    for world in (1, 3):
        sets = [
            TrainingSet(data_folder, data_folder.cache.image_ids, config, pseudo, rank=rank, world=world)
            for rank in range(world)
        ]
        trials = [{_size(batch) for batch in data.trials()} for data in sets]
        assert all(sizes == trials[0] for sizes in trials)
        seen = {_size(batch) for data in sets for epoch in range(10) for batch in data.batches(epoch, epoch / 10)}
        assert seen == trials[0]
        first, last = (next(data.trials()).images for data in (sets[0], sets[-1]))
        np.testing.assert_array_equal(first, last)


def _size(batch: Batch) -> tuple[int, ...]:
    count, _, height, width = batch.images.shape
    return (count, height // 2, width // 2) if batch.halved else (count, height, width)


def test_running_statistics_that_are_not_finite_end_the_epoch_at_the_batch(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training the loss stays finite, as batches are normalised by themselves."""
    batches, real = [], loop._changed

    def changed(fed: Any, *rest: Any) -> Any:
        batches.append(fed[0].image_ids)
        return real(fed, *rest)

    def overflows(norm: nn.BatchNorm2d, *_: Any) -> None:
        if len(batches) == 2 and norm.running_var is not None:
            norm.running_var[3] = math.inf

    build = registry.build

    def with_fault(*arguments: Any, **settings: Any) -> nn.Module:
        network = build(*arguments, **settings)
        network.get_submodule("network.deepest.1").register_forward_hook(overflows)
        return network

    monkeypatch.setattr(registry, "build", with_fault)
    monkeypatch.setattr(loop, "_changed", changed)
    config = TrainConfig(
        data=make_data(images=18), models=tmp_path, arch="unet-small", batch_size=4, epochs=1, precision="32-true"
    )
    line = r"running statistics are not finite in epoch 1, batch 2: network\.deepest\.1\.running_var, images "
    with pytest.raises(SeverstalError, match=line) as failure:
        training.train(config)
    assert ", ".join(batches[1]) in str(failure.value)
    assert len(batches) == 2
    assert not (names.folder_for(config) / run_folder.WEIGHTS).exists()
