"""Checkpoints. The disk is looked at before the training: one that does not fit would lose its first epoch."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from severstal_cli.config import TrainConfig
from severstal_cli.errors import OutputError
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import checkpoint
from severstal_cli.learning.training.validation import Validation
from severstal_cli.progress import SILENT
from severstal_cli.stages import training

MARGIN = 1_000_000
"""What a run may take beside its weights."""


@pytest.fixture
def with_free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Say how many bytes of the disk are free."""

    def set_free(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))

    return set_free


def _config(data: Path, models: Path, **changes: object) -> TrainConfig:
    settings = {
        "arch": "unet",
        "encoder": "mobilenet_v2",
        "encoder_weights": "none",
        "epochs": 1,
        "batch_size": 8,
    } | changes
    return TrainConfig(data=data, models=models, **settings)


def test_the_first_worker_alone_keeps_the_weights_of_a_resumed_run(trained: tuple[Path, Path], tmp_path: Path) -> None:
    card = model_card.read_card(trained[1])
    state: Any = SimpleNamespace(kept=run_folder.load_network(trained[1], card).state_dict())
    worker: Any = SimpleNamespace(is_global_zero=False, world_size=1)
    assert checkpoint.restore(tmp_path, state, card, [], worker, SILENT) == card
    assert state.kept == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("best_epochs", [1, 2])
def test_a_disk_that_is_too_small_is_told_before_the_first_epoch(
    make_data, tmp_path: Path, with_free: Callable[[int], None], best_epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = (1 / number for number in itertools.count(1))
    # the first epoch stays the best, so the checkpoints of the others have its weights, too
    monkeypatch.setattr(Validation, "score", lambda *_: (next(dice), 0.5))
    data, more = make_data(images=12), {"best_epochs": best_epochs}
    two = training.train(_config(data, tmp_path / "real", epochs=2, **more)).folder
    checkpoint, weights = ((two / name).stat().st_size for name in (run_folder.CHECKPOINT, run_folder.WEIGHTS))
    assert checkpoint > 4 * weights > 100 * MARGIN

    def fits(free: int, models: str, **changes: object) -> bool:
        with_free(free)
        try:
            training.train(_config(data, tmp_path / models, **more | changes))
        except OutputError as error:
            line = str(error)
            assert line.startswith(
                f"the disk of {tmp_path}/{models}/unet-mobilenet_v2-fold0 is too full for the training: "
            )
            assert f"{free / 1e6:,.1f} MB free, its checkpoints need " in line
            assert line.endswith(" MB. Free some space, or give another folder by --models")
            return False
        return True

    # the second checkpoint stands beside the first until it is whole
    assert not fits(int(0.99 * (2 * checkpoint + weights)), "too small", epochs=2)
    assert not (tmp_path / "too small").exists()
    if best_epochs == 1:
        assert not fits(int(0.99 * checkpoint), "small", epochs=1)
        assert fits(checkpoint + MARGIN, "enough", epochs=1), "without the weights of another epoch"
        # what lies there already is taken for what it is
        assert not fits(int(0.99 * (checkpoint + weights)), "enough", epochs=2, resume=True)
        assert fits(checkpoint + weights + MARGIN, "enough", epochs=2, resume=True)
        assert fits(0, "enough", epochs=2, resume=True), "nothing is left to do"
