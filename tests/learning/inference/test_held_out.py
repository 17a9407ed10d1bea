"""Which images runs are tried on: each is predicted by the runs that did not train on it, and by no other."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from severstal_cli.errors import InputError, RunError, UsageError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import held_out
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import SILENT
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.dataset.splits import HOLDOUT, read_splits
from severstal_cli.steel.masks.postprocess import make_exclusive

Found = dict[str, NDArray[np.uint8]]


def levels_of(part: held_out.Subset) -> Found:
    return dict(part.levels(views="none", exclusive=False, batch_size=4, progress=SILENT))


def probs_of(data: Path, folder: Path, image_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """What a run says of images, without anything of `inference`."""
    cache, card = open_data_folder(data).cache, model_card.read_card(folder)
    network, found = run_folder.load_network(folder, card), {}
    for image_id in image_ids:
        pixels = torch.from_numpy(cache[cache.index[image_id]].copy()).float()[None, None] / 255
        with torch.no_grad():
            logits = network((pixels - card.mean) / card.std)
        found[image_id] = (logits.masks.sigmoid() * logits.classes.sigmoid()[:, :, None, None])[0].numpy()
    return found


def check_equal(found: Found, wanted: Found) -> None:
    assert list(found) == list(wanted)
    for image_id, levels in wanted.items():
        np.testing.assert_array_equal(found[image_id], levels)


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "open_device", lambda: open_device("32-true"))


@pytest.mark.parametrize("weights", [(), (3.0, 1.0)])
def test_runs_of_one_fold_are_averaged_by_their_weights(
    trained: tuple[Path, Path], members: dict[str, Path], weights: tuple[float, ...]
) -> None:
    data, runs = trained[0], [members["a"], members["b"]]
    part = held_out.open_validation(runs, None, SILENT, weights)
    assert list(part.image_ids) == read_splits(data / "splits.csv").ids_of("0")
    shares = [weight / sum(weights) for weight in weights] or [0.5, 0.5]
    first, second = (probs_of(data, folder, part.image_ids) for folder in runs)
    for image_id, levels in levels_of(part).items():
        mean = shares[0] * first[image_id] + shares[1] * second[image_id]
        assert np.abs(levels - 255 * mean).max() < 0.51  # rounded once


def test_the_folds_of_several_runs_are_pooled(trained: tuple[Path, Path], members: dict[str, Path], heard) -> None:
    split = read_splits(trained[0] / "splits.csv")
    a, b, c = (members[name] for name in "abc")
    part = held_out.open_validation([c, a, b], None, heard, (1.0, 3.0, 1.0))
    pair = levels_of(held_out.open_validation([a, b], None, SILENT, (3.0, 1.0)))
    alone = levels_of(held_out.open_validation([c], None, SILENT))
    assert list(part.image_ids) == split.ids_of("0") + split.ids_of("1")
    check_equal(levels_of(part), pair | alone)
    assert heard.lines == [
        f"fold 0, {len(pair)} images: 3 x {a} + 1 x {b}; fold 1, {len(alone)} images: 1 x {c}; "
        "note: thresholds are tuned on out-of-fold predictions, i.e. fewer models per image than `predict` averages"
    ]


def test_a_run_of_weight_0_does_nothing(trained: tuple[Path, Path], members: dict[str, Path], heard) -> None:
    """Its fold, where nobody else left that out, is not searched: nobody could predict it."""
    a, b, c = (members[name] for name in "abc")
    alone = held_out.open_validation([a], None, heard)
    assert heard.lines == []
    part = held_out.open_validation([a, b, c], None, heard, (2.0, 0.0, 0.0))
    assert part.image_ids == alone.image_ids
    assert part.shares[0].members == (0,)
    check_equal(levels_of(part), levels_of(alone))
    assert heard.lines == [f"fold 0, {len(alone.image_ids)} images: 2 x {a}"]


def test_every_run_predicts_the_holdout(trained: tuple[Path, Path], members: dict[str, Path]) -> None:
    runs = [members["a"], members["c"], members["every"]]
    part = held_out.open_holdout(runs, None, SILENT, (1.0, 2.0, 1.0))
    assert list(part.image_ids) == read_splits(trained[0] / "splits.csv").ids_of(HOLDOUT)
    (share,) = part.shares
    assert share.members == (0, 1, 2)
    of_runs = [probs_of(trained[0], folder, part.image_ids) for folder in runs]
    for image_id, levels in levels_of(part).items():
        mean = sum(share * probs[image_id] for share, probs in zip((0.25, 0.5, 0.25), of_runs, strict=True))
        assert np.abs(levels - 255 * mean).max() < 0.51


def test_what_would_score_trained_images_is_refused(members: dict[str, Path], tmp_path: Path) -> None:
    a, every = members["a"], members["every"]
    with pytest.raises(InputError, match="every was trained on every image: none is left to search thresholds on"):
        held_out.open_validation([a, every], None, SILENT)
    with pytest.raises(InputError, match="a run is named twice"):
        held_out.open_validation([a, a], None, SILENT)
    for weights in ((1.0,), (0.0, 0.0), (1.0, -1.0), (1.0, float("nan"))):
        with pytest.raises(UsageError, match="wrong weights: "):
            held_out.open_validation([a, members["b"]], None, SILENT, weights)
    other = Path(shutil.copytree(members["c"], tmp_path / "other"))
    fields = vars(model_card.read_card(other))
    model_card.write_card(other, model_card.card_from({**fields, "split_fingerprint": "another"}))
    with pytest.raises(RunError, match=r"other was trained with another split than that of .*: split another, now "):
        held_out.open_validation([a, other], None, SILENT)
    model_card.write_card(other, model_card.card_from({**fields, "data_fingerprint": "another"}))
    with pytest.raises(RunError, match="other was trained with another data"):
        held_out.open_holdout([a, other], None, SILENT)


def test_exclusive_levels_have_one_class_per_pixel(trained: tuple[Path, Path]) -> None:
    part = held_out.open_validation([trained[1]], None, SILENT)
    exclusive = dict(part.levels(views="none", exclusive=True, batch_size=4, progress=SILENT))
    raw = levels_of(part)
    check_equal(exclusive, {image_id: make_exclusive(levels) for image_id, levels in raw.items()})
    assert any(not np.array_equal(exclusive[image_id], levels) for image_id, levels in raw.items())
