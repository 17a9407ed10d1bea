"""A small, seeded campaign of damage: whatever a file of ours was changed to, it ends in one line or does no harm.

The large one changed thousands of files; here each kind of file gets a few dozen changes, the same at each run.
"""

import copy
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from severstal_cli import cli
from severstal_cli.config import PredictConfig, TrainConfig
from severstal_cli.errors import OutputError, RunError, SeverstalError
from severstal_cli.kaggle import state as submitting_state
from severstal_cli.kaggle import submission_log as submissions
from severstal_cli.learning.runs import listing, model_card, run_folder
from severstal_cli.learning.training.history import read as read_history
from severstal_cli.stages import prediction, submitting, training
from severstal_cli.steel.dataset import leakage, splits
from severstal_cli.steel.tables import mask_table

CONTROL = "\x1b[2J\x1b]0;owned\x07\u202e\u2028\x00"
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 3, 10**30, -(10**400), 0.5, 1e308, float("nan"), float("inf"), "", "x", "../x", CONTROL,
    "y" * 100_000, [], {}, [[]], [1, 2], ["a"], {"a": 1}, {CONTROL: CONTROL},
)  # fmt: skip
TEXTS = (
    b"", b"null", b"[]", b"3", b'"card"', b"{", b"{}", b'{"format": 1}', b"NaN", b"\xff\xfe{", b"\x00" * 50,
    b"[" * 100_000, b'{"format":' * 100_000, b"[" * 800 + b"]" * 800, b'{"format": ' + b"1" * 5000 + b"}",
    b'{"format": 1e999}', b"\xef\xbb\xbf{}", b"{'a': 1}", CONTROL.encode() * 1000,
)  # fmt: skip


def changed(content: Any, seed: int, count: int) -> Iterator[Any]:
    """`content` with one value somewhere in it replaced, removed or added, `count` times."""
    dice = random.Random(seed)
    for _ in range(count):
        new = copy.deepcopy(content)
        places = [new]
        while places:  # walk down to a place
            place = dice.choice(places)
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = dice.choice(keys) if keys else None
            if key is not None and isinstance(place[key], dict | list) and dice.random() < 0.6:
                places = [place[key]]
                continue
            odd = copy.deepcopy(dice.choice(ODD))
            if isinstance(place, dict):
                act = dice.random()
                if act < 0.1:
                    place["spare"] = odd
                elif act < 0.2 and key is not None:
                    del place[key]
                elif key is not None:
                    place[key] = odd
            elif key is not None:
                place[key] = odd
            break
        yield new


def fails_in_one_line(act: Callable[[], object]) -> bool:
    """Whether it is refused; then in one line that a terminal can show. Any other error fails the test."""
    try:
        act()
    except SeverstalError as error:
        line = str(error)
        assert line.isprintable(), repr(line)
        assert len(line) < 800, line
        return True
    return False


def write(path: Path, content: Any) -> None:
    """JSON as Python writes it, NaN included, or bytes as they are."""
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


@pytest.fixture
def models(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    """A folder with the run `good`."""
    shutil.copytree(trained[1], tmp_path / "models" / "good")
    return tmp_path / "models"


def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a command line; a traceback fails the test."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SEVERSTAL_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", ["severstal", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capfd.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


def odd_cards(good: dict[str, Any]) -> list[Any]:
    return [
        *TEXTS,
        *changed(good, 1, 150),
        *(good | {name: odd} for name in ("arch", "encoder", "seen") for odd in ODD),
    ]


def test_cards(models: Path) -> None:
    path = models / "good" / model_card.CARD
    refused = 0
    for card in odd_cards(json.loads(path.read_text())):
        write(path, card)

        def read() -> None:
            run_folder.load_network(path.parent, model_card.read_card(path.parent)).state_dict()

        refused += fails_in_one_line(read)
    assert refused > 150


def test_models_lists_damaged_runs_and_predict_takes_the_best_of_the_others(
    trained: tuple[Path, Path], models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    good = json.loads((models / "good" / model_card.CARD).read_text())
    cards: dict[str, Any] = {
        "deep": b"[" * 100_000,
        "digits": b'{"format": ' + b"1" * 5000 + b"}",
        "list": good | {"arch": ["unet"]},
        "nan": good | {"validation_dice": float("nan")},
        "bytes": b"\xff\xfe",
        "control": good | {"arch": CONTROL},
        "huge": good | {"data": ["y" * 100_000]},
        "bool": good | {"classes": True},
    }
    for name, card in cards.items():
        (models / name).mkdir()
        write(models / name / model_card.CARD, card)
    (models / "folder" / model_card.CARD).mkdir(parents=True)
    (models / "loop").mkdir()
    (models / "loop" / model_card.CARD).symlink_to(model_card.CARD)  # ELOOP: as little to be read as without permission
    code, out, _ = command(monkeypatch, capfd, "models", "--models", str(models))
    assert code == 0
    assert "\x1b" not in out and "\u202e" not in out and "\x07" not in out  # noqa: PT018 (one question)
    assert len(out) < 10_000
    found = listing.find_runs(models)
    assert [folder.name for folder, _ in found.trained] == ["good"]
    assert {folder.name for folder, _ in found.damaged} == {*cards, "folder", "loop"}
    for name in (*cards, "folder", "loop"):
        assert f"{models / name}" in "".join(out.split("\n"))
    assert out.count(" damaged ") >= len(cards) + 2
    code, out, err = command(
        monkeypatch,
        capfd,
        "predict",
        str(trained[0] / "train_images"),
        "--models",
        str(models),
        "--out",
        str(models / "s.csv"),
    )
    assert code == 0, err
    assert err.count("is skipped") == len(cards) + 2
    assert f"predicting with {models / 'good'}" in err
    assert "\x1b" not in err


def test_a_file_that_cannot_be_read_is_not_called_damaged(models: Path) -> None:
    good = models / "good"
    card = model_card.read_card(good)
    for name, read in (
        (model_card.CARD, lambda: model_card.read_card(good)),
        (run_folder.CHECKPOINT, lambda: run_folder.read_checkpoint(good)),
        (run_folder.THRESHOLDS, lambda: run_folder.read_thresholds(good / run_folder.THRESHOLDS)),
        (run_folder.WEIGHTS, lambda: run_folder.load_network(good, card)),
    ):
        kept = (good / name).rename(models / "kept")
        (good / name).mkdir()
        with pytest.raises(RunError, match=rf"^cannot read .*{name}: Is a directory\. Move that folder away$"):
            read()
        (good / name).rmdir()
        kept.rename(good / name)


def test_permission_is_no_damage(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = models / "good" / run_folder.CHECKPOINT, Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == run_folder.CHECKPOINT:
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError) as caught:
        run_folder.read_checkpoint(path.parent)
    assert str(caught.value) == f"cannot read {path}: Permission denied. Change its permissions"


def test_thresholds(models: Path) -> None:
    path = models / "good" / run_folder.THRESHOLDS
    good = json.loads(path.read_text())
    needed = {name: good[name] for name in ("rules", "exclusive", "tta")} | {"runs": ["a", "b"], "weights": [1.0, 2.0]}
    refused = 0
    for content in (*TEXTS, *changed(needed, 2, 200)):
        write(path, content)
        refused += fails_in_one_line(lambda: run_folder.read_thresholds(path))
    assert refused > 150


def odd_checkpoints(good: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for part in ("card", "history", "state"):
        yield good | {part: None}
        yield {name: value for name, value in good.items() if name != part}
    for history in ([1], [{}], [good["history"][0] | {"loss": "low"}], good["history"][1:]):
        yield good | {"history": history}
    state = good["state"]
    for name in state:
        for odd in (None, "x", [1], {"a": 1}, float("nan")):
            yield good | {"state": state | {name: odd}}
    optimizer = state["optimizer"]
    first = next(iter(optimizer["state"].values()))
    for moments in ({"step": 1}, {}, None, first | {"exp_avg": torch.zeros(3)}, first | {"exp_avg": "x"}):
        yield good | {"state": state | {"optimizer": optimizer | {"state": {0: moments}}}}
    yield good | {"state": state | {"optimizer": optimizer | {"state": {99: first}}}}
    weights = state["average"]
    for odd in (
        {"dice": "x", "epoch": 1, "weights": weights},
        {"dice": 1.0, "epoch": 1, "weights": {}},
        3,
        {"dice": 1.0, "epoch": None, "weights": weights},
    ):
        yield good | {"state": state | {"best": [odd]}}
    name = next(iter(weights))
    for odd in (weights[name].double(), weights[name][:1], "x"):
        yield good | {"state": state | {"average": weights | {name: odd}}}
    for card in changed(good["card"], 3, 25):
        yield good | {"card": card}


def test_checkpoints(trained: tuple[Path, Path], models: Path) -> None:
    folder = models / "good"
    good = run_folder.read_checkpoint(folder)
    config = TrainConfig(
        data=trained[0], models=models, name="good", arch="unet-small", epochs=3, average_decay=0.5, resume=True
    )
    assert not fails_in_one_line(lambda: training.train(config))
    refused = tried = 0
    for tried, content in enumerate(odd_checkpoints(good), start=1):  # noqa: B007 (counted)
        torch.save(content, folder / run_folder.CHECKPOINT)
        refused += fails_in_one_line(lambda: training.train(config))
    for content in (b"", b"PK\x03\x04", (trained[1] / run_folder.CHECKPOINT).read_bytes()[:5000]):
        (folder / run_folder.CHECKPOINT).write_bytes(content)
        assert fails_in_one_line(lambda: training.train(config))
    assert refused > tried // 2


def test_optimisers_settings_are_those_of_the_command(trained: tuple[Path, Path], models: Path) -> None:
    folder = models / "good"
    good = run_folder.read_checkpoint(folder)
    for group in good["state"]["optimizer"]["param_groups"]:
        group |= {"betas": "x", "eps": None}
    torch.save(good, folder / run_folder.CHECKPOINT)
    config = TrainConfig(
        data=trained[0], models=models, name="good", arch="unet-small", epochs=4, average_decay=0.5, resume=True
    )
    assert training.train(config).epochs == 4


def test_split_tables(trained: tuple[Path, Path], tmp_path: Path) -> None:
    good = (trained[0] / "splits.csv").read_bytes()
    dice = random.Random(4)
    lines = good.splitlines(keepends=True)
    odd: list[bytes] = [good[: len(good) // 2], b"", b"\xff", good.replace(b",", b";"), good.replace(b"\n", b"")]
    for _ in range(150):
        new = list(lines)
        cells = new[at := dice.randrange(len(new))].rstrip(b"\n").split(b",")
        cells[dice.randrange(len(cells))] = dice.choice(
            [b"", b"-1", b"9" * 5000, CONTROL.encode(), b'"', b"\xff", b"x" * 100_000, b"holdout", b"1e9", "²".encode()]
        )
        new[at] = b",".join(cells) + b"\n"
        odd.append(b"".join(new))
    path, refused = tmp_path / "splits.csv", 0
    image_ids = [image.name for image in (trained[0] / "train_images").iterdir()]
    for content in odd:
        path.write_bytes(content)
        refused += fails_in_one_line(lambda: splits.read_splits(path, image_ids))
    assert refused > 100


def test_plans_of_parts_and_what_belongs_to_a_submission(trained: tuple[Path, Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for image in sorted((trained[0] / "train_images").iterdir())[:2]:
        shutil.copy(image, images)
    config = PredictConfig(images=(images,), runs=(trained[1],), out=tmp_path / "s.csv", engine="torch")
    written = prediction.predict(config)
    refused = 0
    with pytest.MonkeyPatch.context() as patch:  # killed before the shards are merged
        patch.setattr(prediction, "_merge", lambda *_: written)
        prediction.predict(config)
        for name in ("plan.json", "part-00001.json"):
            path = tmp_path / "s.parts" / name
            good = path.read_bytes()
            for content in (*TEXTS, *changed(json.loads(good), 5, 15)):
                write(path, content)
                if name == "plan.json":
                    refused += fails_in_one_line(lambda: prediction.predict(replace(config, resume=True)))
            path.write_bytes(good)
    assert refused > 20
    metadata = json.loads((tmp_path / "s.json").read_text())
    for content in (*TEXTS, *changed(metadata, 6, 80)):
        write(tmp_path / "s.json", content)
        for folder_name, record in leakage.records_of(tmp_path / "s.csv"):
            assert isinstance(folder_name, str)
            assert isinstance(record["data"], str)
    write(tmp_path / "s.json", TEXTS[11])
    assert prediction.predict(replace(config, resume=True)).images == 2


def test_scores_of_a_run(tmp_path: Path) -> None:
    path, refused = tmp_path / run_folder.SCORE, 0
    assert submitting._holdout_dice((tmp_path,)) is None
    for content in (*TEXTS, *({"mean_dice": odd} for odd in ODD)):
        write(path, content)
        refused += fails_in_one_line(lambda: submitting._holdout_dice((tmp_path,)))
    assert refused == len(TEXTS) + sum(
        isinstance(odd, bool) or odd not in (-1, 0, 3, 10**30, 0.5, 1e308) for odd in ODD
    )
    write(path, {"mean_dice": 0.75})
    assert submitting._holdout_dice((tmp_path,)) == 0.75


def test_logs_and_histories(trained: tuple[Path, Path], tmp_path: Path) -> None:
    submissions.record(tmp_path, 7, {"name": "a", "public": 0.9})
    path, refused = tmp_path / submissions.NAME, 0
    good = path.read_bytes()
    dice = random.Random(7)
    for _ in range(100):
        at = dice.randrange(len(good))
        odd = dice.choice([b'"', b"\x00", b"\r", b",,,,,,,,,,,,,,,", b"\xff", b"x" * 200_000])
        path.write_bytes(good[:at] + odd + good[at:])
        refused += fails_in_one_line(lambda: submissions.read(tmp_path))
    assert refused > 30
    for content in (*TEXTS, *changed({"user": "a", "fingerprint": "f", "scores": {"status": "complete"}}, 8, 60)):
        write(tmp_path / submitting_state.NAME, content)
        found = submitting_state.load(submitting_state.State, tmp_path)
        assert found is None or isinstance(found.user, str)
    table = (trained[1] / "history.csv").read_bytes()
    for odd in (b"nan", b"x", b"1e999", b"\xff", b"\x00", b'"', CONTROL.encode()):
        (tmp_path / "history.csv").write_bytes(table.replace(b"\n1,", b"\n1," + odd, 1))
        assert fails_in_one_line(lambda: read_history(tmp_path))


def test_tables(trained: tuple[Path, Path], tmp_path: Path) -> None:
    good = (trained[0] / "train.csv").read_bytes()
    dice, path, refused = random.Random(9), tmp_path / "t.csv", 0
    for _ in range(200):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(data))
            data[at : at + dice.randrange(3)] = dice.choice(
                [b"", b",", b"\n", b'"', b"\x00", b"\x1b", b"\xff", b"9" * 30]
            )
        path.write_bytes(bytes(data))
        refused += fails_in_one_line(lambda: mask_table.read_table(path))
    assert refused > 100


def test_what_a_writer_cannot_write_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        submissions.record(tmp_path / CONTROL.replace("\0", "") / ("y" * 300), 1, {})
    assert str(caught.value).isprintable()
