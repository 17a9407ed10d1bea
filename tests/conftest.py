"""Small data folders in the competition's layout, made afresh for the tests that need one."""

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# the arrays here are tiny: more threads only wait for each other; before torch and numba are imported, for children too
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest

from severstal_cli.progress import Progress
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables import confidence, mask_table


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names bytes by their argument: gzip writes the time into them, but all processes need the same names."""
    return argname if isinstance(val, bytes) else None


class Heard(Progress):
    """Keeps the lines that were said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


MakeData = Callable[..., Path]


def draw_folder(
    folder: Path,
    *,
    images: int = 24,
    size: tuple[int, int] = (64, 96),
    classes: int = 2,
    seed: int = 0,
    prefix: str = "",
) -> Path:
    """Bright (class 1) and dark (class 2) rectangles on noise; every third image is clean. Easy to learn."""
    rng = np.random.default_rng(seed)
    (folder / "train_images").mkdir(parents=True)
    masks, names = {}, []
    for number in range(images):
        image = rng.normal(110, 20, size)
        name = f"{prefix}{number:09x}.png"
        names.append(name)
        if number % 3:
            channel = number % classes
            height, width = (int(rng.integers(side // 4, side // 2)) for side in size)
            y, x = (int(rng.integers(0, side - extent)) for side, extent in zip(size, (height, width), strict=True))
            mask = np.zeros(size, bool)
            mask[y : y + height, x : x + width] = True
            image[mask] += 90 if channel == 0 else -90
            masks[name, channel] = rle.encode(mask)
        cv2.imwrite(str(folder / "train_images" / name), image.clip(0, 255).astype(np.uint8))
    mask_table.write_table(
        folder / "train.csv", masks, names, classes, layout=mask_table.Layout.CURRENT, empty_rows=False
    )
    return folder


@pytest.fixture(scope="session")
def draw_data() -> MakeData:
    """`draw_folder`, for fixtures of a module or the session."""
    return draw_folder


@pytest.fixture
def make_data(tmp_path: Path) -> MakeData:
    """`make_data(images=..., size=...)` -> a data folder with `train.csv` and `train_images/`."""

    def make(name: str = "data", **options: object) -> Path:
        return draw_folder(tmp_path / name, **options)

    return make


@pytest.fixture
def make_pseudo(make_data: MakeData) -> Callable[..., dict[str, Path]]:
    """`make_pseudo(images=..., sure=...)` -> the settings of a submission for other images, sure of its first."""

    def make(name: str = "pseudo", *, images: int = 9, sure: int = 6, **options: object) -> dict[str, Path]:
        folder = make_data(name, images=images, **{"seed": 1, "prefix": "p"} | options)
        names = sorted(path.name for path in (folder / "train_images").iterdir())
        scores = {name: [0.97, 0.95 if number < sure else 0.4] for number, name in enumerate(names)}
        confidence.write_scores(folder / "train.scores.csv", scores)
        masks = mask_table.read_table(folder / "train.csv").masks
        mask_table.write_table(folder / "train.csv", masks, names, 2, layout=mask_table.Layout.ORIGINAL)
        return {"pseudo": folder / "train.csv", "pseudo_images": folder / "train_images"}

    return make


_find_spec = importlib.util.find_spec


@pytest.fixture(scope="session", autouse=True)
def without_openvino() -> Iterator[None]:
    """It takes seconds to convert a network, and here each test has another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else _find_spec(name))
        yield


@pytest.fixture
def with_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the tests that are about it."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(importlib.util, "find_spec", _find_spec)


@pytest.fixture
def heard() -> Heard:
    return Heard()


class Outcome(NamedTuple):
    """The exit code of a command, and what it printed, without colours."""

    code: int
    out: str
    err: str


@pytest.fixture
def severstal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`severstal("train --fold 2")` and `severstal("train", "--fold", 2)` run this command line in this process."""
    from severstal_cli import cli

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SEVERSTAL_DEBUG", raising=False)

    def run(*words: object) -> Outcome:
        line = str(words[0]).split() if len(words) == 1 else map(str, words)
        monkeypatch.setattr(sys, "argv", ["severstal", *line])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = (re.sub(r"\x1b\[[\d;]*m", "", text) for text in capfd.readouterr())
        return Outcome(code=int(end.value.code or 0), out=out, err=err)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data folder and the folder of a run trained on it; not to be changed."""
    from severstal_cli.config import ThresholdsConfig, TrainConfig
    from severstal_cli.stages import threshold_search, training

    root = tmp_path_factory.mktemp("trained")
    data = draw_folder(root / "data", images=45)
    config = TrainConfig(data=data, arch="unet-small", epochs=3, models=root / "models", average_decay=0.5)
    folder = training.train(config).folder
    threshold_search.search(ThresholdsConfig(runs=(folder,)))
    return data, folder


@pytest.fixture(scope="session")
def members(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs like the trained one, each with weights of its own, without thresholds; not to be changed.

    `a` and `b` left out fold 0, `c` fold 1, and `every` none.
    """
    import dataclasses

    import torch

    from severstal_cli.learning.runs import model_card, run_folder

    root = tmp_path_factory.mktemp("members")
    card = model_card.read_card(trained[1])
    for scale, (name, fold) in zip((1.0, 0.7, 0.5, 0.9), {"a": 0, "b": 0, "c": 1, "every": None}.items(), strict=True):
        network = run_folder.load_network(trained[1], card)
        with torch.no_grad():
            for value in network.parameters():
                value.mul_(scale)
        run_folder.write_model(root / name, network, dataclasses.replace(card, fold=fold))
    return {path.name: path for path in root.iterdir()}
