"""The table of `split`, counted by hand."""

from pathlib import Path

import pytest

from severstal_cli.config import SplitConfig
from severstal_cli.errors import InputError
from severstal_cli.stages import splitting
from severstal_cli.steel.dataset import splits


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> splits.Split:
    """A split of eight images with two groups of near-duplicates and three classes; class 2 does not occur."""
    path = tmp_path / "splits.csv"
    path.write_text(
        "ImageId,Part,Group,Classes\n"
        "a,0,0,1\nb,0,0,\nc,0,0,1 3\nd,1,1,3\ne,1,2,\nf,1,3,3\ng,holdout,4,\nh,holdout,4,1\n"
    )
    split = splits.read_splits(path)
    monkeypatch.setattr(splitting, "split_data", lambda *_: split)
    return split


def test_the_table(made: splits.Split, tmp_path: Path) -> None:
    result = splitting.split(SplitConfig(data=tmp_path))
    assert result.path == tmp_path / "splits.csv"
    assert result.fingerprint == made.fingerprint
    assert result.largest_group == 3
    assert list(result.counts) == ["images", "clean", 1, 2, 3, "groups", "near-duplicates"]
    assert list(result.counts.itertuples(name=None)) == [
        ("0", 3, 1, 2, 0, 1, 1, 3),
        ("1", 3, 1, 0, 0, 2, 0, 0),
        ("holdout", 2, 1, 1, 0, 0, 1, 2),
        ("all", 8, 3, 3, 0, 3, 2, 5),
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"holdout": 1.0}, "wrong holdout: 1.0"),
        ({"holdout": -0.1}, "wrong holdout: -0.1"),
        ({"folds": 1}, "wrong number of folds: 1"),
        ({"folds": 101}, "wrong number of folds: 101"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, wrong: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SplitConfig(data=tmp_path, **wrong)


def test_the_shares_are_plotted(made: splits.Split, tmp_path: Path) -> None:
    plot = splitting.split(SplitConfig(data=tmp_path)).path.with_suffix(".png")
    assert plot.read_bytes().startswith(b"\x89PNG")
