"""Comparisons of submissions worked by hand, of runs, and of networks that are trained first; refusals."""

import dataclasses
import gzip
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from severstal_cli.config import CompareConfig, ScoreConfig, TrainConfig
from severstal_cli.errors import InputError, RunError, UsageError
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.stages import comparing, scoring, threshold_search, training
from severstal_cli.steel.scoring import comparison
from severstal_cli.steel.scoring.comparison import CompareResult, markdown
from severstal_cli.steel.scoring.scores import Scores
from severstal_cli.wording import between, signed

TRUTH = "ImageId,ClassId,EncodedPixels\na.png,1,1 4\nb.png,2,11 10\n"


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.csv").write_text(TRUTH)
    (tmp_path / "right.csv").write_text(TRUTH)
    (tmp_path / "half.csv").write_text(TRUTH.replace("11 10", "11 5"))
    (tmp_path / "more.csv").write_text(TRUTH + "c.png,1,1 9\n")
    (tmp_path / "images.csv").write_text("ImageId\na.png\nb.png\nc.png\n")
    return tmp_path


def test_submissions_are_compared_on_the_same_images_and_classes(tables: Path) -> None:
    config = CompareConfig(
        candidates=("half.csv", "right.csv", "more.csv"), truth=Path("truth.csv"), images=Path("images.csv")
    )
    result = comparing.compare(config)
    half, right, more = result.rows
    assert [row.score.mean_dice for row in result.rows] == pytest.approx([1 - 1 / 18, 1, 5 / 6])
    assert [row.name for row in result.rows] == ["half", "right", "more"]
    assert half.differences == ()
    assert half.verdict == ""
    assert [found.difference for found in right.differences] == pytest.approx([0, 1 / 9, 1 / 18])
    differ = "their scores differ on one image, near-duplicates counted once: too few to decide which is better"
    few = f"right and half: {differ}"
    assert right.verdict == few
    assert more.score.by_class[0].predicted_masks == 2
    assert (half.parameters, half.training_s, half.images_per_s) == (None, None, None)
    assert result.folder == Path("comparisons/half-right-more")
    assert sorted(path.name for path in result.folder.iterdir()) == ["comparison.json", "comparison.md"]
    content = json.loads((result.folder / "comparison.json").read_text())
    assert content == json.loads(json.dumps(result.to_dict()))
    assert content["images"] == 3
    assert content["all_empty"] == pytest.approx(4 / 6)
    assert [one["mean_dice"] for one in content["candidates"]] == pytest.approx([1 - 1 / 18, 1, 5 / 6])
    lines = (result.folder / "comparison.md").read_text().splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert len({len(row) for row in rows}) == 1
    assert rows[2][:2] == ["| right", "1.0000"]
    assert rows[4][0] == "| predicting nothing"
    assert f"- {few}" in lines


def test_images_of_submissions_are_plotted_if_all_files_are_known(tables: Path) -> None:
    (tables / "train_images").mkdir()
    for name, width in (("a", 9), ("b", 9), ("c", 12)):
        cv2.imwrite(str(tables / "train_images" / f"{name}.png"), np.full((8, width), 90, np.uint8))
    config = CompareConfig(
        candidates=("half.csv", "truth.csv"), truth=Path("truth.csv"), images=Path("images.csv"), out=Path("here")
    )
    assert comparing.compare(config).has_plot
    plot = cv2.imread("here/comparison.png")
    # two classes; image, ground truth and two submissions
    assert plot.shape == (2 * (8 + 32), 4 * (9 + 12), 3)
    before = {path.name: path.read_bytes() for path in Path("here").iterdir()}
    Path("half.csv").write_text(TRUTH.replace("11 10", "11 500"))
    with pytest.raises(
        InputError, match=r"half\.csv, line 3: b\.png, class 2: .* length 500 reaches past the end, pixel 72"
    ):
        comparing.compare(config)
    assert {path.name: path.read_bytes() for path in Path("here").iterdir()} == before
    Path("half.csv").write_text(TRUTH)
    (tables / "train_images" / "c.png").unlink()
    assert not comparing.compare(config).has_plot
    assert not Path("here/comparison.png").exists()  # that of the earlier comparison is removed


def test_each_table_is_read_once(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = [], scoring.mask_table.read_table

    def count(path: Path) -> object:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(scoring.mask_table, "read_table", count)
    comparing.compare(
        CompareConfig(
            candidates=("half.csv", "right.csv", "more.csv"), truth=Path("truth.csv"), images=Path("images.csv")
        )
    )
    assert sorted(read) == ["half.csv", "more.csv", "right.csv", "truth.csv"]


def test_submissions_of_any_suffix_are_compared(tables: Path) -> None:
    (tables / "right.csv").rename("right.txt")
    (tables / "half.csv").rename("half.CSV")
    Path("more.csv.gz").write_bytes(gzip.compress(Path("more.csv").read_bytes()))
    names = ("half.CSV", "right.txt", "more.csv.gz")
    result = comparing.compare(CompareConfig(candidates=names, truth=Path("truth.csv"), images=Path("images.csv")))
    assert [row.name for row in result.rows] == ["half", "right", "more"]
    assert [row.score.mean_dice for row in result.rows] == pytest.approx([1 - 1 / 18, 1, 5 / 6])


def test_classes_with_gaps_are_compared_and_plotted_by_their_ids(tables: Path) -> None:
    (tables / "train_images").mkdir()
    for name in "abc":
        cv2.imwrite(str(tables / "train_images" / f"{name}.png"), np.full((8, 9), 90, np.uint8))
    for path in tables.glob("*.csv"):
        path.write_text(path.read_text().replace("b.png,2,", "b.png,5,"))
    config = CompareConfig(candidates=("half.csv", "right.csv"), truth=Path("truth.csv"), images=Path("images.csv"))
    result = comparing.compare(config)
    assert [row.score.mean_dice for row in result.rows] == pytest.approx([1 - 1 / 18, 1])
    assert result.has_plot
    text = (result.folder / "comparison.md").read_text()
    assert "| class 1 | class 5 |" in text


def scores(dice: np.ndarray) -> Scores:
    blank = np.zeros(dice.shape, bool)
    return Scores(
        image_ids=tuple(map(str, range(len(dice)))),
        dice=dice,
        there=blank,
        found=blank,
        groups=np.arange(len(dice)),
        knows_duplicates=True,
    )


def test_the_verdict_names_images_trainings_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    hard = rng.random((1000, 2)) / 2
    monkeypatch.setattr(comparing, "_by_seed_alone", lambda one, other: {one, other} == {Path("a0"), Path("s0")})

    def of(name: str, *shifts: float, runs: bool = False) -> comparing._Candidate:
        folders = tuple(Path(f"{name}{number}") for number in range(len(shifts))) if runs else ()
        return comparing._Candidate(name=name, scores=tuple(scores(hard + shift) for shift in shifts), runs=folders)

    few = hard.copy()
    few[:3] += 0.1
    neither = "no significant difference on 1,000 images"
    by, but = "(+0.0200 to +0.0200, 95 % interval)", ", these two trainings only; --seeds trains more"
    for first, other, words in (
        (of("a", 0.0), of("b", 0.02), f"b is better than a by 0.0200 {by}"),
        (of("a", 0.0), of("b", -0.02), f"b is worse than a by 0.0200 {by.replace('+', '-')}"),
        (of("a", 0.0), of("b", 0.0), "b and a: their scores differ on no image"),
        (
            of("a", 0.0),
            comparing._Candidate(name="b", scores=(scores(few),)),
            "b and a: their scores differ on 3 images, near-duplicates counted once: too few to decide which is better",
        ),
        (
            of("a", 0.0),
            comparing._Candidate(name="b", scores=(scores(hard[::-1] + 0.005),)),
            f"{neither}: b minus a +0.0050 (-0.0038 to +0.0136, 95 % interval)",
        ),
        (
            of("a", 0.0),
            of("b", 0.05, -0.02, 0.01),
            f"{neither} and 3 trainings: b minus a +0.0133 (-0.1550 to +0.1923, 95 % interval)",
        ),
        (of("a", 0.0, runs=True), of("b", 0.02, runs=True), f"b is better than a by 0.0200 {by}{but}"),
        (
            of("a", 0.0, runs=True),
            of("s", 0.02, runs=True),
            "s and a differ only by seed: their difference is training noise",
        ),
    ):
        found = comparing.differences(other.scores, first.scores)[-1]
        assert comparing._verdict(other, first, found) == words


def test_several_comparisons_have_wider_intervals() -> None:
    rng = np.random.default_rng(1)
    one, two, three = (
        comparing._Candidate(name=name, scores=(scores(rng.random((50, 2))),)) for name in ("one", "two", "three")
    )
    alone = comparing._rows([one, two])[1].differences[-1].interval
    rows = comparing._rows([one, two, three])
    among = rows[1].differences[-1].interval
    assert among[0] < alone[0] < alone[1] < among[1]
    result = CompareResult(rows=rows, folder=Path("out"), has_plot=False)
    assert "| 97.5 % interval of the difference |" in markdown(result)
    assert "| 95 % interval |" in markdown(result)
    assert not {"weights", "training", "images/s"} & set(comparison.table(result)), "nothing is known of submissions"
    assert "if present" not in comparison.table(result), "there is no true mask"
    known = dataclasses.replace(rows[1], parameters=5_200_000)
    result = CompareResult(rows=(rows[0], known, rows[2]), folder=Path("out"), has_plot=False)
    assert list(comparison.table(result)["weights"]) == ["", "5.20 M", "", ""]
    assert [found["level"] for found in result.to_dict()["candidates"][1]["differences"]] == [0.975] * 3


def test_a_difference_that_rounds_to_zero_has_no_minus() -> None:
    assert (signed(-0.00004), signed(-0.00006), signed(0.2)) == ("+0.0000", "-0.0001", "+0.2000")
    assert between((-0.00004, 0.1), differences=True) == "+0.0000 to +0.1000"


def test_masks_of_several_trainings_are_their_mean() -> None:
    blank = np.zeros((6, 2), bool)
    some = blank.copy()
    some[:4, 0] = True
    one, two, other = (scores(np.ones((6, 2))) for _ in range(3))
    two = dataclasses.replace(two, found=some)
    rows = comparing._rows(
        [comparing._Candidate(name="a", scores=(one, one, two)), comparing._Candidate(name="b", scores=(other,))]
    )
    assert [found.predicted_masks for found in rows[0].score.by_class] == pytest.approx([4 / 3, 0])
    result = CompareResult(rows=rows, folder=Path("out"), has_plot=False)
    assert "| 1.3 |" in markdown(result)
    assert result.to_dict()["candidates"][0]["by_class"][0]["predicted_masks"] == pytest.approx(4 / 3)


def test_runs_are_compared_on_their_holdout(trained, members, tmp_path: Path) -> None:
    other = Path(shutil.copytree(members["b"], tmp_path / "b"))
    shutil.copy(trained[1] / run_folder.THRESHOLDS, other)
    config = CompareConfig(candidates=(str(trained[1]), str(other)), out=tmp_path / "out", batch_size=2)
    result = comparing.compare(config)
    one, two = result.rows
    assert one.score == scoring.score(ScoreConfig(runs=(trained[1],)))
    assert two.score.mean_dice == scoring.score(ScoreConfig(runs=(other,))).mean_dice
    assert (
        one.parameters
        == two.parameters
        == sum(value.numel() for value in run_folder.load_network(other, model_card.read_card(other)).parameters())
    )
    assert one.training_s is not None
    assert one.training_s > 0
    assert one.images_per_s is not None
    assert result.has_plot
    assert cv2.imread(str(tmp_path / "out" / "comparison.png")) is not None
    (other / "history.csv").write_text("epoch\n1\n")
    with pytest.raises(RunError, match=r"b.history\.csv is damaged: .*elapsed_s.* Restore it, or remove it"):
        comparing.compare(config)
    (other / "history.csv").unlink()
    found = two.differences[-1]
    assert found.difference == pytest.approx(two.score.mean_dice - one.score.mean_dice)
    assert ("is worse than" in two.verdict) == (found.is_real and found.difference < 0)
    assert ("differ on" in two.verdict) == (not found.is_real)
    # they are not scored on other data than their own
    with pytest.raises(InputError, match="no such data folder: nowhere"):
        comparing.compare(dataclasses.replace(config, data=Path("nowhere")))
    # the same training settings with another seed
    card = model_card.read_card(other)
    model_card.write_card(other, dataclasses.replace(card, config=card.config | {"seed": 7}))
    again = comparing.compare(CompareConfig(candidates=(str(trained[1]), str(other)), out=tmp_path / "out"))
    assert "differ only by seed" in again.rows[1].verdict


def test_networks_are_trained_once_with_equal_settings_and_each_seed(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(images=45)
    train = TrainConfig(data=data, models=tmp_path / "models", epochs=1, average_decay=0.5)
    config = CompareConfig(
        candidates=("unet-small", "linknet-small"), train=train, seeds=(0, 3), out=tmp_path / "out", batch_size=4
    )
    searched, search = [], threshold_search.search
    monkeypatch.setattr(threshold_search, "search", lambda config, progress: searched.append(config) or search(config))
    result = comparing.compare(config)
    assert [config.batch_size for config in searched] == [4] * 4
    names = [f"{arch}-fold0-seed{seed}" for arch in ("linknet-small", "unet-small") for seed in (0, 3)]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == names
    cards = [model_card.read_card(tmp_path / "models" / name) for name in names]
    assert [(card.arch, card.config["seed"]) for card in cards] == [
        ("linknet-small", 0),
        ("linknet-small", 3),
        ("unet-small", 0),
        ("unet-small", 3),
    ]
    assert len(result.rows[0].trainings) == len(result.rows[1].trainings) == 2
    assert result.rows[0].score.mean_dice == pytest.approx(np.mean(result.rows[0].trainings))
    alone = [scoring.score(ScoreConfig(runs=(tmp_path / "models" / name,))).mean_dice for name in names]
    assert [*result.rows[1].trainings, *result.rows[0].trainings] == alone

    weights = {name: (tmp_path / "models" / name / run_folder.WEIGHTS).read_bytes() for name in names}
    (tmp_path / "models" / names[1] / run_folder.THRESHOLDS).unlink()
    (tmp_path / "models" / names[2] / run_folder.WEIGHTS).unlink()
    trained, train_one = [], training.train
    monkeypatch.setattr(
        training, "train", lambda config, progress: trained.append(config.name) or train_one(config, progress)
    )
    again = comparing.compare(config)
    assert trained == [names[2]], "only the run without weights is opened again: its checkpoint has them"
    assert [row.score for row in again.rows] == [row.score for row in result.rows]
    assert {name: (tmp_path / "models" / name / run_folder.WEIGHTS).read_bytes() for name in names} == weights
    # these networks have no encoder, so another --encoder makes no other training
    other = dataclasses.replace(train, encoder="resnet18", encoder_weights="none")
    assert comparing.compare(dataclasses.replace(config, train=other)).rows[0].score == result.rows[0].score
    monkeypatch.setattr(training, "train", None)
    with pytest.raises(InputError, match=r"seed0 was trained with other settings: epochs 1, here 2"):
        comparing.compare(dataclasses.replace(config, train=dataclasses.replace(train, epochs=2)))


def test_a_training_that_averages_its_best_epochs_is_opened_again(
    make_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average follows the last epoch: a kill in between leaves a history that looks finished."""
    train = TrainConfig(data=make_data(images=45), models=tmp_path, epochs=1, best_epochs=2)
    config = CompareConfig(candidates=("unet-small", "linknet-small"), train=train, seeds=(0,), out=tmp_path / "out")
    comparing.compare(config)
    trained, train_one = [], training.train
    monkeypatch.setattr(
        training, "train", lambda config, progress: trained.append(config.name) or train_one(config, progress)
    )
    comparing.compare(config)
    assert trained == ["unet-small-fold0-seed0", "linknet-small-fold0-seed0"]


def test_what_cannot_be_compared_is_told(tables: Path, trained) -> None:
    folder = str(trained[1])
    for candidates, more, words in (
        (("half.csv", "right.csv"), {}, "Give --truth"),
        (("half.csv", folder), {"truth": Path("truth.csv")}, r"half\.csv is one, .* is not"),
        (("unet", folder), {"truth": Path("truth.csv")}, "--truth and --images are for submissions"),
        (("half.csv", "right.csv"), {"truth": Path("truth.csv")}, "half.csv has rows for defects only"),
        (("half.csv", "right.csv"), {"truth": Path("truth.csv"), "given": ("data",)}, "--data does nothing for sub"),
        (("linknett", folder), {}, "linknett is neither a network nor the folder of a run.*Did you mean linknet"),
        (("half.csv", "gone.csv"), {"truth": Path("truth.csv")}, r"gone\.csv: no such file"),
    ):
        with pytest.raises(InputError, match=words):
            comparing.compare(CompareConfig(candidates=candidates, **more))
    assert not Path("comparisons").exists()
    for candidates in (("half.csv",), ("half.csv", "half.csv"), ("models/a", "models/a/")):
        with pytest.raises(UsageError, match="wrong"):
            CompareConfig(candidates=candidates)
