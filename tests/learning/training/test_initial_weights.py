"""What weights a training starts from."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError
from severstal_cli.learning.networks import registry
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import initial_weights
from severstal_cli.stages import training


def _config(data: Path, models: Path, **changes: object) -> TrainConfig:
    settings = {"arch": "unet-small", "epochs": 3, "batch_size": 4} | changes
    return TrainConfig(data=data, models=models, **settings)


def test_a_file_of_the_encoder_stands_for_fetching(heard, tmp_path: Path) -> None:
    given = registry.build("unet", encoder="resnet18", in_channels=3, classes=2).encoder.state_dict()
    (tmp_path / "encoders").mkdir()
    torch.save(given, tmp_path / "encoders" / "resnet18.pth")
    config = TrainConfig(models=tmp_path, arch="unet", encoder="resnet18")
    model = SimpleNamespace(arch="unet", encoder="resnet18", in_channels=1, classes=2, classifier=False)
    network = initial_weights.build(config, model, heard, fresh=True)
    assert torch.equal(network.encoder.state_dict()["layer4.1.conv2.weight"], given["layer4.1.conv2.weight"])
    assert heard.lines == [f"encoder weights: {tmp_path}/encoders/resnet18.pth"]
    heard.lines.clear()
    initial_weights.build(dataclasses.replace(config, encoder_weights="none"), model, heard, fresh=True)
    initial_weights.build(config, model, heard, fresh=False)
    assert heard.lines == []


def test_a_training_can_start_from_a_run(make_data, trained, heard, tmp_path: Path) -> None:
    data, folder = trained
    config = _config(data, tmp_path, epochs=1, init=folder, seed=1, learning_rate=1e-5, average_decay=0.0)
    source = run_folder.load_network(folder, model_card.read_card(folder)).state_dict()
    begun = run_folder.load_network(
        training.train(config).folder, model_card.read_card(tmp_path / "unet-small-fold0")
    ).state_dict()
    for name, value in source.items():
        if "running" not in name and value.is_floating_point():
            assert torch.allclose(begun[name], value, atol=1e-3), name
    assert not torch.equal(begun["network.out.weight"], source["network.out.weight"])  # it did train

    # other classes: all but the last layer; a head that the run lacks stays as it is
    more = make_data("more", classes=3)
    training.train(dataclasses.replace(config, data=more, head_weight=0.5, name="more"), heard)
    assert f"starting from {folder}, except head, network.out" in heard.lines
    unknown = [line for line in heard.lines if "cannot be ruled out" in line]
    assert unknown == [
        f"{folder} was trained on other data with another split, so leakage into validation cannot be ruled out"
    ]


def test_a_training_starts_from_no_run_that_saw_its_validation(make_data, trained, tmp_path: Path) -> None:
    data, folder = trained
    with pytest.raises(InputError, match=r"cannot start from .*its fold is 0, expected 1"):
        training.train(_config(data, tmp_path, init=folder, fold=1))
    with pytest.raises(InputError, match=r"cannot start from .*its network is unet-small, expected linknet-small"):
        training.train(_config(data, tmp_path, init=folder, arch="linknet-small"))
    assert not list(tmp_path.glob("*/model.json"))
    training.train(_config(data, tmp_path, init=folder, fold=None, epochs=1))  # nothing is validated there


def test_what_was_seen_by_way_of_others_is_kept_and_refused(
    make_data, make_pseudo, trained, heard, tmp_path: Path
) -> None:
    data, folder = trained
    source = model_card.read_card(folder)
    more = make_data("more")
    first = training.train(_config(more, tmp_path, epochs=1, init=folder, name="first")).folder
    own = {"data": source.data_fingerprint, "split": source.split_fingerprint, "fold": 0}
    card = model_card.read_card(first)
    assert card.seen == (own,)
    training.train(_config(more, tmp_path, epochs=2, init=folder, name="first", resume=True))
    assert model_card.read_card(first).seen == (own,)
    # by way of other images, back to those whose fold 1 the first run of all was trained on
    with pytest.raises(InputError, match=r"cannot start from .*first: its fold is 0, expected 1"):
        training.train(_config(data, tmp_path, init=first, fold=1, name="second"))
    again = training.train(_config(data, tmp_path, epochs=1, init=first, name="second")).folder
    assert model_card.read_card(again).seen == (card.records()[0], own)

    pseudo = make_pseudo()
    story = {"folder": "models/teacher", **own, "seen": [card.records()[0]]}
    (tmp_path / "pseudo" / "train.json").write_text(json.dumps({"runs": [story]}))
    with pytest.raises(InputError, match=r"train.csv was made by models/teacher: its fold is 0, expected 1\. Use"):
        training.train(_config(data, tmp_path, fold=1, name="third", **pseudo))
    third = training.train(_config(data, tmp_path, epochs=1, name="third", **pseudo), heard).folder
    assert [line.split(" was trained")[0] for line in heard.lines if "cannot be ruled out" in line] == [
        "models/teacher"
    ]
    assert model_card.read_card(third).seen == (own, card.records()[0])
