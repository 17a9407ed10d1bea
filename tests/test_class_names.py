"""Names of classes: the file, its faults, and where the commands show them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from severstal_cli import printing
from severstal_cli.config import (
    CheckConfig,
    CompareConfig,
    PredictConfig,
    ReportConfig,
    ScoreConfig,
    SplitConfig,
    ThresholdsConfig,
    TrainConfig,
)
from severstal_cli.errors import InputError, OutputError, RunError, UsageError
from severstal_cli.learning.inference import ensemble
from severstal_cli.learning.runs import listing, model_card
from severstal_cli.stages import (
    checking,
    comparing,
    prediction,
    reporting,
    scoring,
    splitting,
    threshold_search,
    training,
)
from severstal_cli.steel import class_names, drawing
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.masks import rle
from severstal_cli.wording import class_label

ODD = "50% $x^{$ |<b>`*:skull:"
"""A name that HTML, Markdown, matplotlib and rich would each read as markup."""
FILE = f"scratch\n{ODD}\n"
TRUTH = "ImageId,ClassId,EncodedPixels\na.png,1,1 4\nb.png,2,11 10\n"

Severstal = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ground truth with names beside it, a submission, and images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text(TRUTH)
    (tmp_path / "classes.txt").write_text(FILE)
    (tmp_path / "half.csv").write_text(TRUTH.replace("11 10", "11 5"))
    (tmp_path / "right.csv").write_text(TRUTH)
    (tmp_path / "train_images").mkdir()
    for name in "abc":
        drawing.write_png(tmp_path / "train_images" / f"{name}.png", np.zeros((10, 9), np.uint8))
    return tmp_path


@pytest.fixture
def named(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the trained run and its data, with names in both."""
    data, run = (Path(shutil.copytree(path, tmp_path / path.name)) for path in trained)
    (data / "classes.txt").write_text(FILE)
    content = json.loads((run / "model.json").read_text()) | {"class_names": ["scratch", ODD], "data": str(data)}
    (run / "model.json").write_text(json.dumps(content))
    return data, run


def test_a_label_is_the_number_and_the_name() -> None:
    assert class_label(2) == "3"
    assert class_label(1, ("scratch", "all")) == "2 all"
    assert class_label(2, ("scratch", "all")) == "3"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"scratch\ndent\n", ("scratch", "dent")),
        (b"\xef\xbb\xbfscratch\r\n dent\t\r\n\r\n", ("scratch", "dent")),
        (b"scratch\rdent", ("scratch", "dent")),
        ("刮痕\nu\u0308ber".encode(), ("刮痕", "\u00fcber")),
    ],
)
def test_a_file_of_names_is_read(tmp_path: Path, content: bytes, names: tuple[str, ...]) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    assert class_names.read(path) == names
    assert class_names.parse(str(path)) == names
    path.write_text(class_names.to_text(names), encoding="utf-8")
    assert class_names.read(path) == names


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "it has no names"),
        (b"\n \n", "it has no names"),
        (b"a\n\nb\n", "the name of class 2 is empty"),
        (b"a\nb\na\n", "classes 1 and 3 have the same name, a"),
        (b"a\n\x1b[2Jb\n", r"the name of class 2 has characters that cannot be shown, '\\x1b[2Jb'"),
        ("a\nb\u202ec\n".encode(), "the name of class 2 has characters that cannot be shown"),
        ("a\nb\u2028c\n".encode(), "the name of class 2 has characters that cannot be shown"),
        (b"a\x00b\n", "the name of class 1 has characters that cannot be shown"),
        (b"a\n" + b"b" * 101, "the name of class 2 has 101 characters, at most 100"),
        (b"\n".join(b"%d" % number for number in range(255)), "255 names, but at most 254 classes are possible"),
        ("a\nb".encode("utf-16"), "it is not UTF-8 text"),
        (b"a" * (1 << 18), "the name of class 1 has 262,144 characters"),
        (b"a" * (1 << 19), "more than 262,144 bytes"),
    ],
)
def test_a_wrong_file_takes_one_line(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        class_names.names_for(tmp_path / "train.csv", 2)
    line = str(raised.value)
    assert line.startswith(f"{path}: {fault}".replace("\\\\", "\\"))
    assert line.isprintable()


def test_no_file_is_no_names_but_a_folder_or_a_dead_link_is_wrong(tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    assert class_names.names_for(table, 2) == ()
    (tmp_path / "classes.txt").symlink_to("gone")
    with pytest.raises(InputError, match=r"classes\.txt: no such file"):
        class_names.names_for(table, 2)
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "classes.txt").mkdir()
    with pytest.raises(InputError, match=r"classes\.txt: it is no file"):
        class_names.names_for(table, 2)


def test_there_must_be_a_name_for_each_class(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("a\nb\n")
    table = tmp_path / "train.csv"
    assert class_names.names_for(table, 1) == class_names.names_for(table, 2) == ("a", "b")
    assert class_names.names_for(table, 3, ("c", "d", "e")) == ("c", "d", "e")
    with pytest.raises(InputError, match=r"classes\.txt has 2 names: .*train\.csv has 3 classes\. Name every class"):
        class_names.names_for(table, 3)
    with pytest.raises(InputError, match="--class-names has one name: "):
        class_names.names_for(table, 3, ("a",))


def test_the_option_takes_a_file_or_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names").write_text("a\nb\n")
    assert class_names.parse("names") == class_names.parse("a, b") == ("a", "b")
    for missing in ("gone.txt", "no/names"):
        with pytest.raises(InputError, match="no such file"):
            class_names.parse(missing)
    for wrong in ("", "a,,b", "a,a", "a,\x1b"):
        with pytest.raises(UsageError, match="wrong class names"):
            class_names.parse(wrong)


def test_the_card_of_a_run_has_the_names_and_may_lack_them(make_data: Callable[..., Path], tmp_path: Path) -> None:
    data = make_data(images=12)
    without = open_data_folder(data)
    (data / "classes.txt").write_text(f"{FILE}more\n")
    assert open_data_folder(data).fingerprint == without.fingerprint
    config = TrainConfig(data=data, arch="unet-small", epochs=1, models=tmp_path / "models")
    run = training.train(config).folder
    assert model_card.read_card(run).class_names == ("scratch", ODD)
    content = json.loads((run / "model.json").read_text())
    del content["class_names"]
    (run / "model.json").write_text(json.dumps(content))
    assert model_card.read_card(run).class_names == ()
    for wrong, fault in (
        (["a"], "class_names has 1 names, not 2"),
        (["a", "a"], "classes 1 and 2 have the same name"),
        (["a", "\x1b[2J"], "characters that cannot be shown"),
        ("ab", "class_names is 'ab', not a list"),
        ([1, 2], "not a text"),
    ):
        (run / "model.json").write_text(json.dumps(content | {"class_names": wrong}))
        with pytest.raises(RunError, match=fault):
            model_card.read_card(run)


def test_score_shows_names(tables: Path, severstal: Severstal) -> None:
    arguments = ("score", "half.csv", "--truth", "train.csv", "--images", "train_images", "--against", "right.csv")
    code, out, _ = severstal(*arguments)
    assert code == 0
    assert out.count("1 scratch") == out.count(f"2 {ODD}") == 2  # the scores, and the differences
    code, out, _ = severstal(*arguments, "--json")
    content = json.loads(out)
    assert content["class_names"] == ["scratch", ODD]
    code, out, _ = severstal(*arguments, "--class-names", "dent,rust,more")
    assert "2 rust" in out
    assert "scratch" not in out
    code, out, err = severstal(*arguments, "--class-names", "dent")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "severstal: --class-names has one name: train.csv has 2 classes. Name every class"
    (tables / "classes.txt").unlink()
    code, out, _ = severstal(*arguments, "--json")
    assert "class_names" not in json.loads(out)
    assert "class_names" not in json.loads(out)["against"]


def test_check_shows_names(tables: Path) -> None:
    (tables / "sample.csv").write_text("ImageId,ClassId,EncodedPixels\na.png,1,1 1\nb.png,1,1 1\n")
    (tables / "both.csv").write_text("ImageId,ClassId,EncodedPixels\na.png,1,1 4\na.png,2,4 4\nb.png,3,1 1\n")
    config = CheckConfig(submission=tables / "both.csv", sample=tables / "sample.csv")
    result = checking.check(config)
    messages = [fault.message for fault in result.faults]
    assert f"a.png: classes 1 scratch and 2 {ODD} share 1 pixels (other row: line 2)" in messages
    assert "class 3 has no name: there are 2 names of classes" in messages
    verdict = list(printing.check_lines(result, every=True))[-1]
    assert verdict.endswith(f", 3 classes: 1 scratch, 2 {ODD}, 3")
    (tables / "original.csv").write_text("ImageId_ClassId,EncodedPixels\na.png_1,1 4\n")
    sample = "ImageId_ClassId,EncodedPixels\na.png_1,1 1\na.png_2,1 1\n"
    (tables / "sample.csv").write_text(sample)
    result = checking.check(CheckConfig(submission=tables / "original.csv", sample=tables / "sample.csv"))
    assert [fault.message for fault in result.faults] == [f"a.png has no row for class 2 {ODD}"]


def test_compare_shows_names_as_they_are(
    tables: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    config = CompareConfig(candidates=("half.csv", "right.csv"), truth=Path("train.csv"), images=Path("train_images"))
    result = comparing.compare(config)
    assert result.has_plot
    printing.print_comparison(result)
    assert "class 1 scratch" in capsys.readouterr().out
    lines = (result.folder / "comparison.md").read_text().splitlines()
    header = next(line for line in lines if "class 1 scratch" in line)
    assert r"| class 2 50\% \$x\^\{\$ \|\<b\>\`\*\:skull\: |" in header
    assert json.loads((result.folder / "comparison.json").read_text())["candidates"][0]["class_names"][1] == ODD


def test_overlay_panels_name_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(drawing, "panel", lambda rows: titles.extend(title for row in rows for title, _ in row))
    mask = rle.encode(np.ones((4, 4), np.bool_))
    columns = [("truth", {("a.png", 1): mask})]
    drawing.by_class(columns, ["a.png"], 2, lambda _: np.zeros((4, 4), np.uint8), ("scratch", "dent"))
    drawing.by_class(columns, ["a.png"], 2, lambda _: np.zeros((4, 4), np.uint8), ("scratch", "dent" * 20))
    assert titles[0] == "class 2 dent: a.png"
    assert len(titles[2]) == len("class : a.png") + drawing.LONGEST_LABEL


def test_split_shows_names(
    make_data: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    data = make_data(images=24)
    (data / "classes.txt").write_text("scratch\n$x^{$ 刮痕\n")
    result = splitting.split(SplitConfig(data=data, folds=2))
    printing.print_split(result)
    out = capsys.readouterr().out
    assert "class 1 scratch" in " ".join(out.split())
    assert result.path.with_suffix(".png").is_file()


def test_thresholds_and_score_of_a_run_show_names(
    named: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    data, run = named
    (data / "classes.txt").write_text("dent\n$x^{$ 刮痕\n")  # as they are now, and no markup on the plot
    result = threshold_search.search(ThresholdsConfig(runs=(run,), data=data))
    printing.print_thresholds(result)
    assert "1 dent" in capsys.readouterr().out
    assert (run / "thresholds.png").is_file()
    (data / "classes.txt").unlink()  # the run knows its names
    score = scoring.score(ScoreConfig(runs=(run,), data=data))
    printing.print_score("a", score)
    assert f"2 {ODD}" in capsys.readouterr().out
    assert json.loads((run / "score.json").read_text())["class_names"] == ["scratch", ODD]


def test_predict_and_models_show_the_names_of_the_run(
    named: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    data, run = named
    config = PredictConfig(images=(data / "train_images",), runs=(run,), out=tmp_path / "out" / "submission.csv")
    line = printing.prediction_line(prediction.predict(config))
    assert "masks of class 1 scratch: " in line
    assert f", class 2 {ODD}: " in line
    printing.print_runs(run.parent, [(run, model_card.read_card(run), listing.facts_of(run))])
    assert f"1 scratch, 2 {ODD}" in capsys.readouterr().out


def test_runs_that_name_their_classes_otherwise_are_reported(named: tuple[Path, Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(named[1], tmp_path / "other"))
    content = json.loads((other / "model.json").read_text()) | {"class_names": [ODD, "scratch"]}
    (other / "model.json").write_text(json.dumps(content))
    [line] = [note for note in ensemble.read([named[1], other]).notes() if "names" in note]
    assert line == f"warning: {named[1]} names its classes scratch, {ODD}, {other} names them {ODD}, scratch"


def test_the_page_shows_names_as_text(named: tuple[Path, Path], tables: Path) -> None:
    data, run = named
    (data / "classes.txt").unlink()
    for config, names in (
        (ReportConfig(shown=(run,), data=data, out=tables / "run"), ["1 scratch", f"2 {ODD}"]),
        (ReportConfig(shown=(run,), data=data, out=tables / "run2", class_names=("<i>", "b")), ["1 <i>", "2 b"]),
        (
            ReportConfig(
                shown=(tables / "half.csv",),
                truth=tables / "train.csv",
                images=tables / "train_images",
                out=tables / "submission",
            ),
            ["1 scratch", f"2 {ODD}"],
        ),
    ):
        folder = reporting.report(config).page.parent
        index = json.loads((folder / "data" / "index.js").read_text().removeprefix("severstal.index="))
        assert index["labels"] == names
        html = (folder / "index.html").read_text()
        assert names[1].replace("<", "&lt;").replace(">", "&gt;") in html
        assert "<b>" not in html
        assert "<i>" not in html


def test_encode_writes_the_names_beside_train_csv(tmp_path: Path, severstal: Severstal) -> None:
    shape = {"label": "dent", "shape_type": "rectangle", "points": [[1, 1], [3, 3]]}
    given = tmp_path / "labelme" / "a.json"
    given.parent.mkdir()
    content = {"version": "5", "shapes": [shape], "imagePath": "a.jpg", "imageHeight": 12, "imageWidth": 20}
    given.write_text(json.dumps(content))
    names = tmp_path / "names"
    names.write_text("scratch\ndent\n")
    table = tmp_path / "data" / "train.csv"
    code, out, _ = severstal("encode", given.parent, "--out", table, "--class-names", names)
    assert (code, out.splitlines()[1]) == (0, "class 1 = scratch (0 masks), class 2 = dent (1 mask)")
    written = table.parent / "classes.txt"
    assert class_names.names_for(table, 2) == ("scratch", "dent")
    table.unlink()
    written.write_text("dent\nscratch\n")
    code, _, err = severstal("encode", given.parent, "--out", table, "--class-names", "scratch,dent")
    assert code == 1
    assert "classes.txt exists already: it has other names" in err
    assert not table.exists()
    code, _, _ = severstal("encode", given.parent, "--out", table, "--class-names", "scratch,dent", "--overwrite")
    assert code == 0
    assert written.read_text() == "scratch\ndent\n"
    severstal("encode", given.parent, "--out", tmp_path / "other" / "masks.csv")
    assert not (tmp_path / "other" / "classes.txt").exists()
    with pytest.raises(OutputError, match="it has other names"):
        class_names.path_beside(table, ("a",), 1, False)
    assert class_names.path_beside(table, ("a", "b"), 3, True) is None  # class 3 has no name
