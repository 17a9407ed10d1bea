"""What predicts: the runs, weights and views that the thresholds were searched with, unless others are asked for."""

import shutil
from pathlib import Path

import pytest

from severstal_cli.errors import InputError, RunError, UsageError
from severstal_cli.learning.inference import ensemble
from severstal_cli.learning.runs import run_folder
from severstal_cli.learning.runs.listing import best_run
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.steel.masks.postprocess import ClassPostprocess


@pytest.fixture
def models(members: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`models/a`, `models/b` and `models/c` in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        shutil.copytree(members[name], tmp_path / "models" / name)
    return Path("models")


def write(path: Path, *runs: str, weights: tuple[float, ...] = (), tta: str = "none") -> Path:
    thresholds = Thresholds(rules=(ClassPostprocess(),) * 2, exclusive=True, tta=tta, runs=runs, weights=weights)
    run_folder.write_thresholds(path, thresholds, {})
    return path


def test_the_runs_are_those_given_else_those_of_the_thresholds_else_the_best(models: Path) -> None:
    file = write(Path("both.json"), "models/a", "models/b")
    assert ensemble.runs_for([models / "c"], file, models) == (models / "c",)
    assert ensemble.runs_for((), file, models) == (models / "a", models / "b")
    assert ensemble.runs_for((), None, models) == (best_run(models),)
    assert ensemble.runs_for((), write(Path("of-nobody.json")), models) == (best_run(models),)
    with pytest.raises(RunError, match=r"gone\.json is missing\. Check the path"):
        ensemble.runs_for((), Path("gone.json"), models)


def test_thresholds_in_the_folder_of_a_run_are_of_that_run(models: Path) -> None:
    """It may have been copied from another run, or moved with its folder."""
    own = write(models / "b/thresholds.json", "models/a")
    assert ensemble.runs_for((), own, models) == (models / "b",)
    assert list(ensemble.read((models / "b",), thresholds=own).notes()) == []
    assert ensemble.runs_for((), write(Path("of-a.json"), "models/a"), models) == (models / "a",)
    assert ensemble.runs_for((), write(models / "b/pair.json", "models/a", "models/c"), models) == (
        models / "a",
        models / "c",
    )


def test_runs_that_are_not_here_are_named(
    models: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(Path("both.json"), "models/a", "models/gone", weights=(1.0, 2.0)).absolute()
    line = r"both\.json was searched for runs that do not exist: models/gone\. Name them with --model"
    with pytest.raises(RunError, match=line):
        ensemble.runs_for((), file, models)
    elsewhere = models.absolute()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(RunError, match=r"do not exist: models/a, models/gone\. Name"):
        ensemble.runs_for((), file, models)
    (elsewhere / "c").rename(elsewhere / "gone")
    assert ensemble.read((elsewhere / "gone", elsewhere / "a"), thresholds=file).weights == (2.0, 1.0)


def test_weights_are_those_of_the_search_unless_others_are_given(models: Path) -> None:
    file = write(Path("both.json"), "models/a", "models/b", weights=(3.0, 1.0), tta="hflip")
    runs = (models / "b", models / "a")
    how = ensemble.read(runs, thresholds=file)
    assert (how.folders, how.weights, how.views, list(how.notes())) == (runs, (1.0, 3.0), "hflip", [])
    how = ensemble.read(runs, thresholds=file, weights=(1.0, 5.0), views="none")
    assert (how.weights, how.views) == ((1.0, 5.0), "none")
    assert list(how.notes()) == [
        "both.json was searched with --weights 1,3, this is with --weights 1,5",
        "both.json was searched with --tta hflip, this is --tta none",
    ]
    how = ensemble.read(runs, thresholds=file, weights=(2.0, 2.0))
    assert (how.weights, list(how.notes())) == (
        (),
        ["both.json was searched with --weights 1,3, this is with equal weights"],
    )
    even = write(Path("even.json"), "models/a", "models/b", weights=(1.0, 1.0))
    assert list(ensemble.read(runs, thresholds=even).notes()) == []


def test_thresholds_of_other_runs_are_told_and_their_weights_left(models: Path) -> None:
    file = write(Path("both.json"), "models/a", "models/b", weights=(3.0, 1.0))
    how = ensemble.read((models / "a", models / "c"), thresholds=file)
    assert how.weights == ()
    assert list(how.notes()) == [
        "both.json was searched for models/a models/b with --weights 3,1, this is models/a models/c with equal weights"
    ]
    own = write(models / "a/thresholds.json", "models/a")
    (note,) = ensemble.read((models / "a", models / "b"), thresholds=own).notes()
    assert "models/a/thresholds.json, which was searched for that run alone" in note
    assert "`severstal thresholds models/a models/b --out FILE`" in note
    write(own, "models/a", "models/b")
    (note,) = ensemble.read((models / "a",), thresholds=own).notes()
    assert note == "models/a/thresholds.json was searched for models/a models/b, this is models/a"


def test_what_decides_the_masks_is_in_the_fingerprint(models: Path) -> None:
    both = (models / "a", models / "b")
    plain, weighted = (
        write(Path("p.json"), "models/a", "models/b"),
        write(Path("w.json"), "models/a", "models/b", weights=(3.0, 1.0)),
    )
    found = [
        ensemble.read(both, thresholds=plain),
        ensemble.read(both, thresholds=weighted),
        ensemble.read(both, thresholds=plain, weights=(3.0, 1.0)),
        ensemble.read(both, thresholds=plain, weights=(1.0, 1.0)),
        ensemble.read(both[::-1], thresholds=weighted),
    ]
    prints = [how.fingerprints() for how in found]
    assert prints[0] == prints[3]
    assert prints[1] == prints[2] != prints[0]
    assert prints[4]["runs"] == prints[1]["runs"][::-1]
    assert prints[4]["weights"] == prints[1]["weights"][::-1]


def test_what_does_not_go_together_is_refused(models: Path) -> None:
    file = write(Path("both.json"), "models/a", "models/b")
    runs = (models / "a", models / "b")
    for weights in ((1.0,), (1.0, 2.0, 3.0), (-1.0, 2.0), (0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0)):
        with pytest.raises(UsageError, match=r"wrong weights: .*\. Give 2, one per run, none below 0 and not all 0"):
            ensemble.read(runs, thresholds=file, weights=weights)
    with pytest.raises(InputError, match=r"a run is named twice: models/a models/b/\.\./a"):
        ensemble.read((models / "a", models / "b/../a"), thresholds=file)
