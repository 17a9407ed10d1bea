"""What a person meets at the prompt: help, options read right, one line and an exit code when it goes wrong."""

import dataclasses
import errno
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from severstal_cli import __version__, cli
from severstal_cli.cli import early
from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError
from severstal_cli.stages import encoding, prediction, scoring, threshold_search, training
from severstal_cli.steel.masks.postprocess import ClassPostprocess
from severstal_cli.steel.thresholds.rule_selection import Choice

ROOT = Path(__file__).resolve().parents[1]
COMMANDS: dict[str, Any] = typer.main.get_command(cli.app).commands
PARAMETERS = [(name, parameter) for name, command in COMMANDS.items() for parameter in command.params]


Severstal = Callable[..., Any]


@pytest.fixture(autouse=True)
def any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages are replaced here: neither data nor runs are there (`test_early` is about them)."""
    for name in ("training", "runs", "prediction", "score", "comparison", "report"):
        monkeypatch.setattr(early, f"check_{name}", lambda *_, **__: None)


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs that `train` and `decode` were called with; neither does its work."""
    seen: list[Any] = []

    def stage(config: object, progress: object) -> None:
        seen.append(config)
        raise InputError("seen enough")

    monkeypatch.setattr(training, "train", stage)
    monkeypatch.setattr(encoding, "decode", stage)
    return seen


def make_train_raise(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def stage(config: object, progress: object) -> None:
        raise error

    monkeypatch.setattr(training, "train", stage)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(severstal: Severstal, name: str) -> None:
    outcome = severstal(name, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    first_line = str(COMMANDS[name].help).splitlines()[0]
    assert first_line.endswith(".")
    assert first_line in outcome.out
    assert first_line in severstal("-h").out, "the list of commands cuts this line"


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS, ids=lambda value: getattr(value, "name", value))
def test_every_option_has_help(name: str, parameter: Any) -> None:
    assert parameter.help, f"severstal {name}: {parameter.name}"
    assert parameter.help.endswith((".", ")"))


def test_the_commands_stand_in_the_order_of_the_work(severstal: Severstal) -> None:
    listed = re.findall(r"^│ ([a-z]+) ", severstal("--help").out.partition(" Data ")[2], flags=re.MULTILINE)
    assert listed == list(COMMANDS)
    wanted = ["split", "train", "thresholds", "predict", "check", "score"]
    assert [name for name in listed if name in wanted] == wanted


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name: str) -> None:
    assert re.search(rf"\bseverstal {name}\b", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_module_is_the_command_and_prints_its_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__
    command = [sys.executable, "-m", "severstal_cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == (f"severstal {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "--epohcs", "3"], "No such option: --epohcs"),
        (["train", "--epochs", "0"], "'--epochs'"),
        (["train", "--epochs", "many"], "'--epochs'"),
        (["train", "--batch-size", "0"], "'--batch-size'"),
        (["train", "--batch-size", "many"], "'--batch-size'"),
        (["decode", "table.csv", "--size", "4x4"], "Missing option '--out'"),
        (["demo"], "Missing argument 'OUT_DIR'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_2(severstal: Severstal, configs: list[Any], arguments: list[str], said: str) -> None:
    outcome = severstal(*arguments)
    assert (outcome.code, outcome.out, configs) == (2, "", [])
    assert said in outcome.err


@pytest.mark.parametrize(("text", "suffix"), [("png", ".png"), (".png", ".png"), ("", "")])
def test_a_suffix_may_lack_its_dot(
    severstal: Severstal, monkeypatch: pytest.MonkeyPatch, text: str, suffix: str
) -> None:
    seen: list[Any] = []

    def stage(config: object, progress: object) -> None:
        seen.append(config)
        raise InputError("seen enough")

    monkeypatch.setattr(encoding, "encode", stage)
    severstal("encode", "masks", "--out", "t.csv", "--suffix", text)
    assert seen[0].suffix == suffix


@pytest.mark.parametrize(("text", "size"), [("256x1600", (256, 1600)), ("1x1", (1, 1))])
def test_a_size_is_height_x_width(severstal: Severstal, configs: list[Any], text: str, size: tuple[int, int]) -> None:
    severstal("decode", "table.csv", "--out", "masks", "--size", text)
    assert configs[0].size == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("25m", 1500.0), ("1h30m", 5400.0), ("90s", 90.0), ("2h", 7200.0), ("1h1m1s", 3661.0)],
)
def test_a_time_limit_is_in_seconds(severstal: Severstal, configs: list[Any], text: str, seconds: float) -> None:
    severstal("train", "--time-limit", text)
    assert configs[0].time_limit_s == seconds


@pytest.mark.parametrize(("text", "fold"), [("0", 0), ("4", 4), ("none", None)])
def test_a_fold_is_a_number_or_none(severstal: Severstal, configs: list[Any], text: str, fold: int | None) -> None:
    severstal("train", "--fold", text)
    assert configs[0].fold == fold


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("", (8, None)),
        ("--batch-size 3", (3, None)),
        ("--batch-size auto --step-images 16", (None, 16)),
    ],
)
def test_a_batch_is_a_number_or_auto(
    severstal: Severstal, configs: list[Any], options: str, settings: tuple[int | None, int | None]
) -> None:
    severstal("train", *options.split())
    assert (configs[0].batch_size, configs[0].step_images) == settings


def test_auto_is_null_in_a_file(severstal: Severstal, configs: list[Any], tmp_path: Path) -> None:
    (tmp_path / "some.json").write_text('{"batch_size": null, "paste_share": 0.1}')
    severstal("train", "--config", str(tmp_path / "some.json"))
    severstal("train", "--config", str(tmp_path / "some.json"), "--batch-size", "4")
    assert configs[0] == TrainConfig(batch_size=None, paste_share=0.1)
    assert configs[1].batch_size == 4


def test_settings_of_a_file_are_taken_and_options_win(severstal: Severstal, configs: list[Any], tmp_path: Path) -> None:
    severstal(
        "train", "--arch", "linknet", "--time-limit", "5m", "--fold", "none", "--data", "steel", "--name", "first"
    )
    card = {"arch": "linknet", "config": json.loads(json.dumps(dataclasses.asdict(configs[0]), default=str))}
    card["config"] |= {"class_weights": [1, 2.5], "paste_share": 0.25}
    (tmp_path / "model.json").write_text(json.dumps(card))
    card["config"] |= {"noise": 0.0, "gamma": 0, "turn_deg": 10.0, "compile": True}  # of an earlier version
    (tmp_path / "model.json").write_text(json.dumps(card))
    severstal("train", "--config", str(tmp_path / "model.json"))
    again = dataclasses.replace(configs[0], name=None, class_weights=(1.0, 2.5), paste_share=0.25)
    assert configs[1] == again
    severstal("train", "--config", str(tmp_path / "model.json"), "--fold", "2", "--arch", "unet", "--name", "second")
    assert configs[2] == dataclasses.replace(again, fold=2, arch="unet", name="second")
    (tmp_path / "some.json").write_text('{"weight_decay": 0.1}')
    severstal("train", "--config", str(tmp_path / "some.json"), "--epochs", "3")
    assert configs[3] == TrainConfig(weight_decay=0.1, epochs=3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot read "),
        ("[1]", "holds no settings"),
        ('{"config": 3}', "holds no settings"),
        ('{"nose": 1}', "has an unknown setting: nose. See TrainConfig"),
        ('{"epochs": "many"}', "epochs is 'many', not a whole number"),
        ('{"epochs": true}', "epochs is True, not"),
        ('{"contrast": null}', "contrast is None, not a number"),
        ('{"contrast": NaN}', "contrast is nan, not a finite number"),
        ('{"noise": 0.1}', "has a setting that was removed: noise 0.1. Leave it out: this version trains as with 0.0"),
        ('{"first_layer_rate": 0.3}', "has a setting that was removed: first_layer_rate 0.3"),
        ('{"time_limit_s": -Infinity}', "time_limit_s is -inf, not a finite number"),
        ('{"data": 1}', "data is 1, not a path"),
        ('{"class_weights": ["a"]}', "class_weights[0] is 'a', not a number"),
    ],
)
def test_a_file_of_wrong_settings_is_one_line(
    severstal: Severstal, configs: list[Any], tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "some.json").write_text(content)
    outcome = severstal("train", "--config", str(tmp_path / "some.json"))
    assert (outcome.code, outcome.out, configs) == (1, "", [])
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        *((["decode", "t.csv", "--out", "m", "--size", text], "is not HEIGHTxWIDTH, as in 256x1600")
          for text in ("256", "256x", "x1600", "0x5", "5x0", "-5x5", "256x1600x3", "256,1600", "2.5x3", "")),
        *((["train", "--time-limit", text], "is no time, as in 25m, 1h30m or 90s")
          for text in ("", "m", "5x", "-5m", "1.5h", "30m1h", "5 m", "1h30")),
        *((["train", "--time-limit", text], "has no unit: give hours, minutes or seconds, as in 2h, 25m or 90s")
          for text in ("4", "90", "0", "1.5")),
        *((["download", "--stall", "60"], "has no unit"), (["compare", "a", "b", "--time-limit", "4"], "has no unit")),
        *((["train", "--fold", text], "is neither the number of a fold, nor all, nor none")
          for text in ("", "-1", "1.5", "ALL", "None")),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_be_read_is_quoted(
    severstal: Severstal, configs: list[Any], arguments: list[str], said: str
) -> None:
    outcome = severstal(*arguments)
    assert (outcome.code, outcome.out, configs) == (2, "", [])
    assert f"{arguments[-1]!r} {said}" in outcome.err


FULL = (
    "severstal: the memory is full. Free some, or raise its limit (ulimit -v, a container's), or give a smaller "
    "--batch-size where that is above 1"
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("no folder", "steel/", "Make it"), "severstal: no folder: steel/. Make it"),
        (OSError(errno.ENOSPC, "No space left on device", "a.csv"),
         "severstal: cannot use a.csv: No space left on device. Free some space or name another folder"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a.csv"),
         "severstal: cannot use a.csv: File name too long. Give a shorter one"),
        (PermissionError(errno.EACCES, "Permission denied", b"a\xff\x1b[1m.csv"),
         r"severstal: cannot use a\xff\x1b[1m.csv: Permission denied. Check the path and its permissions"),
        (MemoryError("8 GiB"), FULL),
        (RuntimeError("cannot cache function 'x': no locator available for file 'y'"),
         "severstal: numba cannot write its compiled code anywhere. Set NUMBA_CACHE_DIR to a writable folder"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: you tried to allocate 9 bytes"),
         FULL),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to"), FULL),
        (RuntimeError("std::bad_alloc"), FULL),
        (RuntimeError("can't start new thread"), FULL),
        (RuntimeError("unable to mmap 98 bytes from file </x>: Cannot allocate memory (12)"), FULL),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), FULL),
        (ImportError("libx.so: failed to map segment from shared object"), FULL),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_fault_is_one_line(
    severstal: Severstal, monkeypatch: pytest.MonkeyPatch, error: BaseException, line: str
) -> None:
    make_train_raise(monkeypatch, error)
    assert severstal("train") == (1, "", line + "\n")


def test_a_wrong_setting_is_one_line(severstal: Severstal) -> None:
    outcome = severstal("split", "--holdout", "2")
    assert (outcome.code, outcome.out) == (2, "")
    assert re.fullmatch(r"severstal: wrong holdout: 2\.0\..*\n", outcome.err)


def test_the_traceback_is_there_for_those_who_ask(severstal: Severstal, monkeypatch: pytest.MonkeyPatch) -> None:
    make_train_raise(monkeypatch, InputError("no folder"))
    assert severstal("train").code == 1
    monkeypatch.setenv("SEVERSTAL_DEBUG", "1")
    with pytest.raises(InputError, match="no folder"):
        cli.main()


@pytest.mark.parametrize("error", [ValueError("a wrong argument"), RuntimeError("two shapes differ")], ids=repr)
def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    make_train_raise(monkeypatch, error)
    monkeypatch.setattr(sys, "argv", ["severstal", "train"])
    with pytest.raises(type(error), match=str(error)):
        cli.main()


def test_an_interrupted_training_tells_how_to_go_on(severstal: Severstal, monkeypatch: pytest.MonkeyPatch) -> None:
    make_train_raise(monkeypatch, KeyboardInterrupt())
    outcome = severstal("train", "--name", "mine")
    assert (outcome.code, outcome.out) == (130, "")
    printed, last = outcome.err.split("\n\n")
    assert printed.startswith("\nmodels/mine: ")
    assert "--resume" in printed
    assert last == "severstal: interrupted\n"


def test_an_interrupted_command_is_one_line(severstal: Severstal, monkeypatch: pytest.MonkeyPatch) -> None:
    def stage(config: object, progress: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(encoding, "decode", stage)
    outcome = severstal("decode", "table.csv", "--out", "masks", "--size", "4x4")
    assert outcome == (130, "", "\nseverstal: interrupted\n")


def test_runs_weights_and_thresholds_reach_the_stages(severstal: Severstal, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def stage(config: object, progress: object) -> None:
        seen.append(config)
        raise InputError("seen enough")

    for module, name in ((threshold_search, "search"), (prediction, "predict"), (scoring, "score")):
        monkeypatch.setattr(module, name, stage)
    severstal("thresholds", "a", "b", "--weights", "2,0.5", "--out", "e.json")
    severstal("thresholds", "a")
    severstal("predict", "images", "--model", "a", "--model", "b", "--weights", "2,1", "--thresholds", "e.json")
    severstal("predict", "images", "--thresholds", "e.json")
    severstal("score", "--model", "a", "--model", "b", "--thresholds", "e.json")
    a, b, file = Path("a"), Path("b"), Path("e.json")
    assert [(config.runs, getattr(config, "weights", None)) for config in seen] == [
        ((a, b), (2.0, 0.5)),
        ((a,), ()),
        ((a, b), (2.0, 1.0)),
        ((), ()),
        ((a, b), None),
    ]
    assert [seen[0].out, *(config.thresholds for config in seen[2:])] == [file] * 4


def choice(held_out: float | None, **rule: int) -> Choice:
    return Choice(
        rule=ClassPostprocess(**rule),
        mean_dice=0.9,
        mean_dice_default=0.8,
        mean_dice_never=0.7,
        images=9,
        present=2,
        mean_dice_held_out=held_out,
    )


@pytest.mark.parametrize(("held_out", "printed"), [(0.85, True), (0.8, True), (None, False)])
def test_what_was_searched_is_shown_with_the_next_command(
    severstal: Severstal, monkeypatch: pytest.MonkeyPatch, held_out: float | None, printed: bool
) -> None:
    choices = (choice(held_out, pixel_threshold=51, min_image_score=204), choice(held_out))
    interval = None if held_out is None else (0.75, 0.95)
    result = threshold_search.ThresholdsResult(
        path=Path("e.json"),
        images=9,
        choices=choices,
        counted=(0, 1),
        mean_dice_held_out=held_out,
        interval_held_out=interval,
    )
    monkeypatch.setattr(threshold_search, "search", lambda config, progress: result)
    out = severstal("thresholds", "a", "b", "--out", "e.json").out
    rows = [line.split() for line in out.splitlines()]
    assert ["1", "0.200", "1", "1", "0.800", "0.8000", "0.9000", "0.7000"] in rows
    assert ["2", "0.502", "1", "1", "0.8000", "0.9000", "0.7000"] in rows
    assert (f"estimate for new images: {held_out or 0:.4f}, 95 % interval 0.7500 to 0.9500" in out) == printed
    assert ("all of these images are near-duplicates of each other" in " ".join(out.split())) == (held_out is None)
    assert ("no gain over a threshold of 0.5" in " ".join(out.split())) == (held_out == 0.8)
    assert out.endswith("wrote e.json; next: severstal predict IMAGES --thresholds e.json\n")
    assert severstal("thresholds", "a").out.endswith("next: severstal predict IMAGES --model a\n")


def test_all_folds_are_trained_and_their_mean_told(severstal: Severstal, monkeypatch: pytest.MonkeyPatch) -> None:
    def folds(config: Any, progress: object) -> list[training.TrainResult]:
        assert config.fold is None
        return [
            training.TrainResult(
                folder=Path(f"models/a-fold{fold}"),
                epochs=2,
                best_epoch=2,
                averaged=(1, 2)[: fold * 2],
                validation_dice=dice,
                nothing_dice=0.75,
                seconds=9.0,
            )
            for fold, dice in enumerate((0.875, 0.925))
        ]

    monkeypatch.setattr(training, "train_folds", folds)
    outcome = severstal("train", "--fold", "all")
    assert (outcome.code, outcome.out.splitlines()) == (
        0,
        [
            "models/a-fold0: 2 epochs in 9 s, best epoch 2 with validation Dice 0.8750 (predicting nothing 0.7500)",
            "models/a-fold1: 2 epochs in 9 s, mean of epochs 1, 2 with validation Dice 0.9250 "
            "(predicting nothing 0.7500)",
            "2 folds: mean validation Dice 0.9000",
        ],
    )


@pytest.fixture
def submissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`good.csv` finds 12 of 24 defects, `all.csv` 20, `truth.csv`; the first has a row for every image and class."""
    monkeypatch.chdir(tmp_path)
    names = [f"{number:02}.png" for number in range(30)]
    rows = [f"{name},1,1 4\n" for name in names[:24]]
    tables = {"truth": rows, "all": rows[:20]}
    for name, own in tables.items():
        (tmp_path / f"{name}.csv").write_text("ImageId,ClassId,EncodedPixels\n" + "".join(own))
    (tmp_path / "good.csv").write_text(
        "ImageId_ClassId,EncodedPixels\n"
        + "".join(f"{name}_1,{'1 4' if number < 12 else ''}\n" for number, name in enumerate(names))
    )


@pytest.mark.usefixtures("submissions")
def test_submissions_are_compared_on_the_command_line(severstal: Severstal) -> None:
    outcome = severstal("compare", "good.csv", "all.csv", "--truth", "truth.csv", "--out", "here")
    assert (outcome.code, outcome.err.splitlines()[0]) == (
        0,
        "scoring the 30 images of good.csv; choose others by --images DIR or LIST.csv",
    )
    printed = " ".join(outcome.out.split())
    assert "30 images with 24 true masks" in printed
    assert re.search(r"good 0\.6000 0\.4\d+ to 0\.7\d+ 0\.5000 12 all 0\.8667", printed)
    assert re.search(r"all is better than good by 0\.2667 \(\+0\.0\d+ to \+0\.4\d+, 95 % interval\)", printed)
    assert outcome.out.endswith("wrote here/comparison.md, .json\n")
    content = json.loads(severstal("compare", "good.csv", "all.csv", "--truth", "truth.csv", "--json").out)
    assert content == json.loads(Path("here/comparison.json").read_text())
    idle = severstal("compare", "good.csv", "all.csv", "--truth", "truth.csv", "--time-limit", "5m")
    assert (idle.code, idle.out) == (1, "")
    assert "--time-limit does nothing for submissions" in idle.err


@pytest.mark.usefixtures("submissions")
def test_a_submission_is_scored_against_another_on_the_command_line(severstal: Severstal) -> None:
    outcome = severstal("score", "all.csv", "--truth", "truth.csv", "--against", "good.csv")
    printed = " ".join(outcome.out.split())
    assert re.search(r"0\.\d+ to 0\.\d+: 95 % interval of the mean, perhaps too narrow: near-duplicates are", printed)
    assert re.search(r"all 0\.8667 0\.6000 \+0\.2667 \+0\.\d+ to \+0\.\d+ (>99\.9|99\.\d) %", printed)
    assert "significantly better; this compares these two models, not their training settings" in printed
    content = json.loads(severstal("score", "all.csv", "--truth", "truth.csv", "--against", "good.csv", "--json").out)
    assert content["difference"] == pytest.approx(8 / 30)
    Path("three.csv").write_text("ImageId\n00.png\n12.png\n29.png\n")
    few = severstal("score", "all.csv", "--truth", "truth.csv", "--images", "three.csv", "--against", "good.csv").out
    assert "too few images for an interval" in few
    assert "their scores differ on one image, near-duplicates counted once: too few to decide" in " ".join(few.split())


def test_runs_are_compared_on_the_command_line(
    severstal: Severstal, trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, folder = trained
    shutil.copytree(folder, "other")
    outcome = severstal("compare", str(folder), "other", "--data", str(data), "--out", "here")
    assert outcome.code == 0, outcome.err
    printed = " ".join(outcome.out.split())
    assert "other and unet-small-fold0: their scores differ on no image" in printed
    assert outcome.out.endswith("wrote here/comparison.md, .json, .png\n")
    for option in ("--seeds", "--epochs"):
        assert f"{option} does nothing for trained runs" in severstal("compare", str(folder), "other", option, "1").err
    assert "no such data folder: gone" in severstal("compare", str(folder), "other", "--data", "gone").err
