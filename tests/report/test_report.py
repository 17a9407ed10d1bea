"""The content of a report, without a browser."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from severstal_cli.config import PredictConfig, ReportConfig, ScoreConfig
from severstal_cli.errors import InputError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import held_out
from severstal_cli.report import charts, content, page, sources
from severstal_cli.stages import prediction, reporting, scoring
from severstal_cli.steel.images import decoding
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables import mask_table


def index_of(folder: Path):
    text = (folder / "data" / "index.js").read_text()
    return json.loads(text.removeprefix("severstal.index="))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of float32, the same whatever the batch."""
    monkeypatch.setattr(held_out, "open_device", lambda: open_device("32-true"))


@pytest.mark.usefixtures("exact")
def test_a_run_is_shown_with_the_scores_of_score(trained, tmp_path: Path) -> None:
    data, run = trained
    out = tmp_path / "out"
    result = reporting.report(ReportConfig(shown=(run,), out=out))
    scored = scoring.score_runs(ScoreConfig(runs=(run,)))
    summary = scored.summary()
    assert (result.page, result.images) == (out / "index.html", len(scored.image_ids))
    assert result.scores == {run.name: summary}
    [candidate] = json.loads((out / "report.json").read_text())["candidates"]
    assert candidate == {"name": run.name, "score": json.loads(json.dumps(summary.to_dict()))}
    assert f"{summary.mean_dice:.4f}" in result.page.read_text()
    assert result.size_bytes == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    index = index_of(out)
    areas, truth, shared = (
        np.array(index["candidates"][0][name] if name != "truth" else index[name])
        for name in ("area", "truth", "overlap")
    )
    dice = np.where(areas + truth > 0, 2 * shared / np.maximum(areas + truth, 1), 1.0)
    np.testing.assert_array_equal(dice.reshape(-1, 2), scored.dice)
    written = sorted((out / "images").iterdir())
    assert [path.name for path in written] == [f"{row + 1:06d}.jpg" for row in range(result.images)]
    for name, path in zip(index["names"], written, strict=True):
        apart = decoding.read_grey(path).astype(int) - decoding.read_grey(data / "train_images" / name)
        assert np.abs(apart).mean() < 8


@pytest.mark.usefixtures("exact")
def test_the_validation_fold_can_be_shown(trained, tmp_path: Path) -> None:
    result = reporting.report(ReportConfig(shown=(trained[1],), out=tmp_path / "out", part="validation"))
    part = held_out.open_validation([trained[1]], None, reporting.SILENT)
    assert index_of(tmp_path / "out")["names"] == list(part.image_ids)
    assert "fold 0 of data" in result.page.read_text()


@pytest.mark.usefixtures("exact")
def test_a_submission_beside_a_run_is_scored_on_the_same_images(trained, tmp_path: Path) -> None:
    data, run = trained
    truth = mask_table.read_table(data / "train.csv")
    holdout = held_out.open_holdout([run], None, reporting.SILENT).image_ids
    masks = {key: mask for key, mask in truth.masks.items() if key[0] in holdout}
    mask_table.write_table(tmp_path / "true.csv", masks, holdout, 2, layout=mask_table.Layout.ORIGINAL)
    result = reporting.report(ReportConfig(shown=(run, tmp_path / "true.csv"), out=tmp_path / "out"))
    found = result.scores["true"]
    assert found is not None
    assert found.mean_dice == 1.0
    index = index_of(tmp_path / "out")
    assert [one["name"] for one in index["candidates"]] == [run.name, "true"]
    assert index["candidates"][1]["rules"] is None
    assert index["candidates"][1]["overlap"] == index["truth"]


def test_a_submission_has_its_images_from_data_and_its_scores_from_beside_it(trained, tmp_path: Path) -> None:
    data, run = trained
    out = tmp_path / "submission.csv"
    holdout = held_out.open_holdout([run], None, reporting.SILENT).image_ids
    prediction.predict(
        PredictConfig(images=tuple(data / "train_images" / name for name in holdout), runs=(run,), out=out)
    )
    result = reporting.report(ReportConfig(shown=(out,), data=data, out=tmp_path / "out"))
    found = result.scores["submission"]
    assert found is not None
    assert found == scoring.score(ScoreConfig(submission=out, truth=data / "train.csv"))
    index = index_of(tmp_path / "out")
    with (tmp_path / "submission.scores.csv").open() as file:
        scores = {(row["ImageId"], int(row["ClassId"])): float(row["Score"]) for row in csv.DictReader(file)}
    wanted = [round(scores[name, class_id], 4) for name in index["names"] for class_id in (1, 2)]
    assert index["candidates"][0]["confidence"] == wanted


def test_submissions_are_reported_without_torch(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.full((20, 30), 90, np.uint8))
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("ImageId,ClassId,EncodedPixels\na.png,1,41 20\n")
    arguments = ["report", "one.csv", "two.csv", "--truth", "two.csv", "--images", "images", "--out", "out"]
    code = f"""if True:
        import sys
        from severstal_cli.cli import main
        sys.argv[1:] = {arguments}
        try:
            main()
        finally:
            print(sorted({{"torch", "lightning_fabric"}} & set(sys.modules)), file=sys.stderr)"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (tmp_path / "out" / "index.html").is_file(), done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_images_without_a_row_are_logged_and_count_as_empty(trained, tmp_path: Path, heard) -> None:
    data = trained[0]
    (tmp_path / "few.csv").write_text("ImageId,ClassId,EncodedPixels\n000000001.png,1,1 3\n")
    result = reporting.report(
        ReportConfig(shown=(tmp_path / "few.csv",), images=data / "train_images", out=tmp_path / "out"), heard
    )
    assert "nothing is scored without --truth" in heard.lines
    assert any(line.startswith("44 of 45 images have no row in") for line in heard.lines)
    assert (result.images, result.scores) == (45, {"few": None})
    assert sorted((tmp_path / "out" / "masks").iterdir()) == [tmp_path / "out" / "masks" / "000002.js"]


def test_ground_truth_of_other_images_or_with_gaps_is_refused(trained, tmp_path: Path) -> None:
    data, _ = trained
    rows = (data / "train.csv").read_text()
    for text, message in (
        (rows.replace(".png", ".jpg"), r"truth\.csv, line \d+: it names \d+\.jpg: the image is \d+\.png"),
        (rows.replace(".png", "x.png"), r"truth\.csv names none of the images to show: it names \d+x\.png"),
        (rows.replace(",2,", ",5,"), r"truth\.csv: no row names class 2 to 4: it names 1 and 5\. Number the classes"),
    ):
        (tmp_path / "truth.csv").write_text(text)
        config = ReportConfig(
            shown=(data / "train.csv",),
            truth=tmp_path / "truth.csv",
            images=data / "train_images",
            out=tmp_path / "report",
        )
        with pytest.raises(InputError, match=message):
            reporting.report(config)
        assert not (tmp_path / "report").exists()


def test_classes_that_the_ground_truth_does_not_name_are_treated_as_by_score(trained, tmp_path: Path) -> None:
    data, _ = trained
    whole = mask_table.read_table(data / "train.csv")
    ids = [path.name for path in sorted((data / "train_images").iterdir())]
    rows = [f"{name}_{k},{'1 3' if k == 1 else ''}\n" for name in ids for k in range(1, whole.classes + 2)]
    submission = tmp_path / "s.csv"
    submission.write_text("ImageId_ClassId,EncodedPixels\n" + "".join(rows))
    config = ReportConfig(
        shown=(submission,), truth=data / "train.csv", images=data / "train_images", out=tmp_path / "report"
    )
    found = reporting.report(config).scores["s"]
    scored = scoring.score(ScoreConfig(submission=submission, truth=data / "train.csv", images=data / "train_images"))
    assert found is not None
    assert (found.mean_dice, len(found.by_class)) == (scored.mean_dice, whole.classes)
    submission.write_text(submission.read_text().replace(f"_{whole.classes + 1},", f"_{whole.classes + 1},1 1", 1))
    with pytest.raises(InputError, match=f"it names class {whole.classes + 1}"):
        reporting.report(dataclasses.replace(config, out=tmp_path / "other"))


def test_the_page_refers_to_nothing_outside_its_folder(trained, tmp_path: Path) -> None:
    shutil.copy(trained[0] / "train.csv", tmp_path / "s.csv")
    result = reporting.report(ReportConfig(shown=(tmp_path / "s.csv",), data=trained[0], out=tmp_path / "out"))
    for path in result.page.parent.rglob("*"):
        if path.suffix in (".html", ".js", ".css"):
            assert "//" not in path.read_text().replace("// ", "").replace("//\n", ""), path


def test_html_in_names_is_escaped() -> None:
    made = content.Content(
        title="<b>",
        image_ids=("<script>",),
        sizes=np.array([[2, 3]]),
        classes=1,
        true={},
        groups=None,
        candidates=(content.Candidate(name="<i>&\"'", masks={("<script>", 0): rle.encode(np.ones((2, 3), np.uint8))}),),
    )
    scores = made.scores()
    text = page._render(made, scores, [found and found.summary() for found in scores])
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;i&gt;&amp;&#34;&#39;" in text


def test_the_page_takes_class_colours_from_the_palette_of_all_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page.drawing, "PALETTE", ("#123456", "#abcdef"))
    made = content.Content(
        title="t",
        image_ids=("a",),
        sizes=np.array([[2, 3]]),
        classes=3,
        true=None,
        groups=None,
        candidates=(content.Candidate(name="s", masks={}),),
    )
    assert page.index(made)["colours"] == ["#123456", "#abcdef", "#123456"]
    assert page._render(made, [None], [None]).count("--colour: #123456") == 2


def test_the_confusion_matrix_counts_images() -> None:
    true = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], bool)
    found = np.array([[1, 0], [0, 1], [0, 0], [0, 1]], bool)
    assert page.confusion(true, found) == [[1, 1, 0], [0, 1, 0], [0, 1, 1]]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["models/unet", "models/linknet"], ["unet", "linknet"]),
        (["a/s.csv", "b/s.csv"], ["a-s", "b-s"]),
        (["a/s.csv", "../a/s.csv"], ["a-s-1", "a-s-2"]),
    ],
)
def test_names_are_short_and_different(paths: list[str], names: list[str]) -> None:
    assert sources.short_names([Path(path) for path in paths]) == names


def test_a_curve_fits_its_chart_and_skips_missing_values() -> None:
    chart = charts.curves("Dice", [1, 2, 3], [("all", [0.2, None, 0.6]), ("none", [None, None, None])])
    assert chart is not None
    assert [name for name, _ in chart.lines] == ["all"]
    points = [tuple(map(float, pair.split(","))) for pair in chart.lines[0][1].split()]
    assert len(points) == 2
    assert points[0][0] < points[1][0] <= charts.WIDTH
    assert charts.HEIGHT > points[0][1] > points[1][1] > 0
    assert [tick.label for tick in chart.y_ticks] == ["0.20", "0.40", "0.60"]
    assert chart.summary == "Dice over epochs 1 to 3: all from 0.200 to 0.600"


def test_a_curve_of_one_epoch_and_one_value_is_drawn() -> None:
    chart = charts.curves("loss", [1], [("loss", [2.0])])
    assert chart is not None
    assert chart.lines[0][1].count(",") == 1
    assert charts.curves("loss", [1], [("loss", [None])]) is None


def test_images_are_greyscale_jpeg(trained, tmp_path: Path) -> None:
    shutil.copy(trained[0] / "train.csv", tmp_path / "s.csv")
    result = reporting.report(ReportConfig(shown=(tmp_path / "s.csv",), data=trained[0], out=tmp_path / "out"))
    first = cv2.imread(str(result.page.parent / "images" / "000001.jpg"), cv2.IMREAD_UNCHANGED)
    assert first.shape == (64, 96)


def test_a_linked_plot_of_a_run_is_not_copied(trained, tmp_path: Path) -> None:
    data, run = trained
    mine = Path(shutil.copytree(run, tmp_path / "run"))
    (tmp_path / "secret").write_text("secret")
    (mine / "thresholds.png").unlink()
    (mine / "thresholds.png").symlink_to(tmp_path / "secret")
    reporting.report(ReportConfig(shown=(mine,), data=data, out=tmp_path / "out"))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.read_bytes() == b"secret"]
