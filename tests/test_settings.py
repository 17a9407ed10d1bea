"""What the settings of `train` mean beyond their values: on resume, for `compare`, and on another machine."""

import dataclasses
from typing import Any

import pytest

from severstal_cli.config import TrainConfig
from severstal_cli.config.training import REMOVED, different_settings, settings_with
from severstal_cli.errors import UsageError

ALL = frozenset(field.name for field in dataclasses.fields(TrainConfig))


def test_traits_name_the_settings_that_may_differ() -> None:
    schedule = {"epochs", "time_limit_s", "batch_size", "step_images", "devices"}
    assert settings_with(on_resume="new") == schedule | {"data", "models", "pseudo", "pseudo_images"}
    assert settings_with(on_resume="first") == {"name", "resume", "init", "encoder_weights"}
    assert settings_with(names_run=True) == {"name", "models", "resume"}
    assert ALL - settings_with(changes_training=True) == {"data", "models", "name", "resume", "devices", "seed"}
    assert settings_with(is_local=True) == {
        "data", "models", "name", "resume", "init", "encoder_weights", "pseudo", "pseudo_images",
    }  # fmt: skip


def test_a_path_or_a_name_never_leaves_this_machine() -> None:

    kinds = {field.name for field in dataclasses.fields(TrainConfig) if "Path" in str(field.type)}
    assert kinds <= settings_with(is_local=True)


def test_differences_take_lists_for_tuples_and_a_missing_setting_for_its_default() -> None:
    settings = TrainConfig(crop_widths_px=(64, 128), seed=3).as_json()
    saved = settings | {"crop_widths_px": [64, 128], "seed": 4}
    del saved["paste_share"]
    assert list(different_settings(saved, settings, ALL)) == [("seed", 4, 3)]
    assert list(different_settings(saved, settings, settings_with(changes_training=True))) == []
    assert list(different_settings(saved, settings | {"paste_share": 0.5}, ALL - {"seed"})) == [
        ("paste_share", 0.0, 0.5)
    ]


@pytest.mark.parametrize(
    "settings", [{"crop_widths_px": ()}, {"crop_widths_px": (64, 16)}, {"class_weights": (1.0, float("nan"))}], ids=str
)
def test_each_value_of_a_tuple_is_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^wrong c"):
        TrainConfig(**settings)


def test_a_setting_that_one_run_lacks_is_compared_with_its_default() -> None:
    names = settings_with(changes_training=True)
    older = {"arch": "unet"}
    for settings, count in (({"arch": "unet", "dice_weight": 2.0}, 1), ({"arch": "unet", "dice_weight": 1.0}, 0)):
        assert len(list(different_settings(older, settings, names))) == count
        assert len(list(different_settings(settings, older, names))) == count


def test_a_removed_setting_is_compared_unless_it_had_no_effect() -> None:
    settings = TrainConfig().as_json()
    for earlier, found in (({"noise": 0.0, "zoom": 0.2}, []), ({"noise": 0.1}, [("noise", 0.1, 0.0)])):
        assert list(different_settings(settings | earlier, settings, frozenset())) == found
    assert not REMOVED.keys() & ALL
