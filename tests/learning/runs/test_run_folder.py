"""The folder of a trained model: what is written is read back, and its faults are reported."""

import dataclasses
import errno
import json
from pathlib import Path

import pytest
import torch

from severstal_cli.errors import InputError, OutputError, RunError
from severstal_cli.learning.networks import registry
from severstal_cli.learning.runs import listing, model_card, run_folder
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess


def _card(**changes: object) -> model_card.ModelCard:
    card = model_card.ModelCard(
        arch="unet-small", encoder=None, in_channels=1, classes=2, classifier=False, mean=0.4, std=0.2,
        image_size=(64, 96), exclusive=True, data="data", data_fingerprint="d", split_fingerprint="s", fold=0,
        train_images=10, validation_images=5, epoch=3, validation_dice=0.9, config={"seed": 0}, versions={"torch": "2"},
    )  # fmt: skip
    return dataclasses.replace(card, **changes)


def _write(folder: Path, **changes: object) -> torch.nn.Module:
    torch.manual_seed(1)
    network = registry.build("unet-small", classes=2)
    run_folder.write_model(folder, network, _card(**changes))
    return network


def test_model_is_read_back_bit_by_bit(tmp_path: Path) -> None:
    network = _write(tmp_path / "a")
    card = model_card.read_card(tmp_path / "a")
    assert card == _card()
    loaded = run_folder.load_network(tmp_path / "a", card)
    assert not loaded.training
    written, read = network.state_dict(), loaded.state_dict()
    assert all(torch.equal(written[name], read[name]) for name in written)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [model_card.CARD, run_folder.WEIGHTS]


def test_a_card_from_before_the_environment_was_noted_is_read(tmp_path: Path) -> None:
    _write(tmp_path, environment={"cores": 2})
    assert model_card.read_card(tmp_path).environment == {"cores": 2}
    fields = json.loads((tmp_path / model_card.CARD).read_text())
    del fields["environment"]
    (tmp_path / model_card.CARD).write_text(json.dumps(fields))
    assert model_card.read_card(tmp_path) == _card()


def test_checkpoint_is_read_back_without_pickle(tmp_path: Path) -> None:
    state = {"state": {"network": {"w": torch.arange(3.0)}, "steps": 4}, "history": [{"epoch": 1, "dice": None}]}
    run_folder.write_checkpoint(tmp_path, state)
    read = run_folder.read_checkpoint(tmp_path)
    assert read["history"] == state["history"]
    assert torch.equal(read["state"]["network"]["w"], torch.arange(3.0))


def test_thresholds_are_read_back(tmp_path: Path) -> None:
    rules = (
        ClassPostprocess(pixel_threshold=140, min_component_px=60, min_mask_px=300),
        ClassPostprocess(pixel_threshold=DISABLED),
    )
    thresholds = Thresholds(rules=rules, exclusive=True, tta="hflip")
    run_folder.write_thresholds(tmp_path / run_folder.THRESHOLDS, thresholds, {"images": 12})
    assert run_folder.read_thresholds(tmp_path / run_folder.THRESHOLDS, classes=2) == thresholds
    assert json.loads((tmp_path / run_folder.THRESHOLDS).read_text())["images"] == 12
    with pytest.raises(RunError, match="2 classes, the run has 3"):
        run_folder.read_thresholds(tmp_path / run_folder.THRESHOLDS, classes=3)


def test_best_run_is_the_best_validated(tmp_path: Path) -> None:
    for name, dice in (("a", 0.8), ("b", 0.95), ("c", None), ("d", 0.9)):
        _write(tmp_path / name, validation_dice=dice)
    (tmp_path / "no-run").mkdir()
    (tmp_path / "encoders").mkdir()
    (tmp_path / "encoders" / "resnet34.safetensors").touch()
    assert listing.best_run(tmp_path) == tmp_path / "b"
    assert [folder.name for folder, _ in listing.find_runs(tmp_path).trained] == ["b", "d", "a", "c"]


def test_a_run_in_int8_is_the_best_only_where_all_are_in_int8(tmp_path: Path) -> None:
    quantised = model_card.Int8(
        calibration_images=64, dice_before=0.9, dice_after=0.9, max_drop=0.002, tta="none", layers=14
    )
    _write(tmp_path / "a-openvino-int8", validation_dice=0.96, int8=quantised)
    assert listing.best_run(tmp_path) == tmp_path / "a-openvino-int8"
    _write(tmp_path / "a", validation_dice=0.95)
    _write(tmp_path / "b", validation_dice=0.94)
    assert listing.best_run(tmp_path) == tmp_path / "a"
    assert [folder.name for folder, _ in listing.find_runs(tmp_path).trained] == ["a", "b", "a-openvino-int8"]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / model_card.CARD).unlink(), r"model\.json is missing"),
        (lambda folder: (folder / model_card.CARD).write_text("{"), r"model\.json is damaged"),
        (lambda folder: (folder / model_card.CARD).write_text("[]"), "damaged"),
        (
            lambda folder: _change(folder / model_card.CARD, format=99),
            "of another version: format 99, this program reads 1",
        ),
        (lambda folder: _change(folder / model_card.CARD, spare=1), "damaged: missing or unknown: spare"),
        (lambda folder: (folder / run_folder.WEIGHTS).unlink(), r"model\.safetensors is missing"),
        (
            lambda folder: (folder / run_folder.WEIGHTS).write_bytes((folder / run_folder.WEIGHTS).read_bytes()[:900]),
            "damaged",
        ),
        (lambda folder: _change(folder / model_card.CARD, classes=3), "does not fit"),
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, harm, message: str) -> None:
    _write(tmp_path)
    harm(tmp_path)
    with pytest.raises(RunError, match=message) as caught:
        run_folder.load_network(tmp_path, model_card.read_card(tmp_path))
    assert "\n" not in str(caught.value)


def test_wrong_thresholds_and_checkpoints_are_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Search them: severstal thresholds"):
        run_folder.read_thresholds(tmp_path / run_folder.THRESHOLDS, classes=2)
    (tmp_path / run_folder.THRESHOLDS).write_text(
        '{"rules": [{"pixel_threshold": 300}], "exclusive": true, "tta": "none"}'
    )
    with pytest.raises(RunError, match="damaged"):
        run_folder.read_thresholds(tmp_path / run_folder.THRESHOLDS, classes=1)
    with pytest.raises(RunError, match="nothing to resume"):
        run_folder.read_checkpoint(tmp_path)
    (tmp_path / run_folder.CHECKPOINT).write_bytes(b"no archive")
    with pytest.raises(RunError, match="damaged"):
        run_folder.read_checkpoint(tmp_path)
    with pytest.raises(RunError, match="no such run"):
        model_card.read_card(tmp_path / "nowhere")
    with pytest.raises(RunError, match="no trained run"):
        listing.best_run(tmp_path)


def test_runs_of_different_classes_are_not_averaged(tmp_path: Path) -> None:
    _write(tmp_path / "a")
    _write(tmp_path / "b", classes=3)
    with pytest.raises(InputError, match="different classes"):
        run_folder.read_cards([tmp_path / "a", tmp_path / "b"])


def test_failed_writing_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_folder.write_checkpoint(tmp_path, {"history": [1]})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"cannot write .*No space left on device"):
        run_folder.write_checkpoint(tmp_path, {"history": [1, 2]})
    assert run_folder.read_checkpoint(tmp_path)["history"] == [1]
    assert [path.name for path in tmp_path.iterdir()] == [run_folder.CHECKPOINT]


def _change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
