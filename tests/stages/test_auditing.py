"""`audit` and `audit --apply` on the command line: each image by runs that have not seen it, nothing overwritten."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from severstal_cli.config import TrainConfig
from severstal_cli.learning.inference import held_out
from severstal_cli.learning.runs import model_card
from severstal_cli.progress import SILENT
from severstal_cli.stages import training
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.dataset.splits import read_splits
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables import mask_table

Severstal = Callable[..., tuple[int, str, str]]
SIZE = (64, 96)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def decide(source: Path, target: Path, choose: Callable[[dict[str, str]], str]) -> Path:
    rows = [row | {"Decision": choose(row)} for row in rows_of(source)]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return target


def masks_of(data: Path) -> dict[tuple[str, int], rle.RLE]:
    return dict(mask_table.read_table(data / "train.csv").masks)


@pytest.fixture
def perfect(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], rle.RLE]:
    """The runs predict these masks: those of train.csv, but for a fault of each kind. Images of fold 0 by name."""
    data, _ = trained
    truth = masks_of(data)
    fold = read_splits(data / "splits.csv").ids_of("0")
    drawn = sorted(key for key in truth if key[0] in fold)
    clean = [name for name in fold if not any((name, channel) in truth for channel in range(2))]
    dropped, swapped, wide = drawn[:3]
    truth[clean[0], 1] = truth[drawn[3]]  # nobody drew it
    del truth[dropped]  # no run sees it
    truth[swapped[0], 1 - swapped[1]] = truth.pop(swapped)
    mask = rle.decode(truth[wide], SIZE)
    columns = np.flatnonzero(mask.any(axis=0))
    mask[:, columns[len(columns) // 2 :]] = False
    truth[wide] = rle.encode(mask)

    def levels(self: held_out.Subset, **_: object) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for name in self.image_ids:
            masks = [rle.decode(truth.get((name, channel), rle.EMPTY), SIZE) for channel in range(2)]
            yield name, np.stack(masks).astype(np.uint8) * 255

    monkeypatch.setattr(held_out.Subset, "levels", levels)
    return truth


def test_each_kind_is_found_and_accepting_all_gives_the_predicted_masks(
    severstal: Severstal, trained: tuple[Path, Path], perfect: dict[tuple[str, int], rle.RLE], tmp_path: Path
) -> None:
    data, run = trained
    out = tmp_path / "audits" / "a.csv"
    code, printed, _ = severstal("audit", run, "--out", out)
    assert code == 0
    rows = rows_of(out)
    assert {row["Kind"]: float(row["Score"]) for row in rows if row["Kind"] != "boundary"} == {
        "missed": 1.0,
        "invented": 1.0,
        "wrong_class": 1.0,
    }
    assert [row["Rank"] for row in rows] == ["1", "2", "3", "4"]
    assert 0.4 < float(rows[3]["Score"]) < 0.6
    assert re.search(r"suspected faults in \d+ images", printed)
    assert re.search(r"all +4 +[34] *\n", printed)
    assert f"severstal audit --apply {out} --data {data} --out NEW_TRAIN.csv" in printed

    before = (data / "train.csv").read_bytes()
    decisions = decide(out, tmp_path / "decisions.csv", lambda row: "accept")
    new = tmp_path / "new" / "train.csv"
    code, printed, _ = severstal("audit", "--apply", decisions, "--data", data, "--out", new)
    assert code == 0
    assert printed.startswith(f"{new}: ")
    assert "accepted: 1 boundary, 1 invented, 1 missed, 1 wrong_class" in printed
    assert (data / "train.csv").read_bytes() == before
    written = mask_table.read_table(new)
    assert {key: rle.to_text(runs) for key, runs in written.masks.items()} == {
        key: rle.to_text(runs) for key, runs in perfect.items()
    }
    old = mask_table.read_table(data / "train.csv")
    assert (written.layout, written.columns, written.class_ids) == (old.layout, old.columns, old.class_ids)
    assert len(written.lines) == len(written.masks), "rows for defects only, as in the old table"


def test_rejected_and_skipped_rows_change_nothing(
    severstal: Severstal, trained: tuple[Path, Path], perfect: object, tmp_path: Path
) -> None:
    data, run = trained
    severstal("audit", run, "--out", tmp_path / "a.csv")
    choices = {"missed": "accept", "invented": "reject", "wrong_class": "skip", "boundary": ""}
    decisions = decide(tmp_path / "a.csv", tmp_path / "d.csv", lambda row: choices[row["Kind"]])
    code, printed, _ = severstal("audit", "--apply", decisions, "--data", data, "--out", tmp_path / "n.csv")
    assert (code, "accepted: 1 missed; not applied: 1 reject, 2 skip" in printed) == (0, True)
    old, new = masks_of(data), mask_table.read_table(tmp_path / "n.csv").masks
    assert set(new) - set(old) == {
        (row["ImageId"], int(row["ClassId"]) - 1) for row in rows_of(decisions) if row["Decision"] == "accept"
    }
    assert all(np.array_equal(new[key], runs) for key, runs in old.items())


def test_a_run_trained_on_the_new_table_records_both_fingerprints(
    severstal: Severstal, trained: tuple[Path, Path], perfect: object, tmp_path: Path
) -> None:
    data, run = trained
    severstal("audit", run, "--out", tmp_path / "a.csv")
    decisions = decide(tmp_path / "a.csv", tmp_path / "d.csv", lambda row: "accept")
    new = tmp_path / "new"
    shutil.copytree(data, new)
    (new / "train.csv").unlink()
    assert severstal("audit", "--apply", decisions, "--data", data, "--out", new / "train.csv")[0] == 0
    folder = training.train(
        TrainConfig(data=new, arch="unet-small", epochs=1, models=tmp_path / "models", average_decay=0.5)
    ).folder
    card, before = model_card.read_card(folder), model_card.read_card(run)
    assert (card.data_fingerprint, card.data_origin) == (open_data_folder(new).fingerprint, before.data_fingerprint)
    assert card.data_fingerprint != before.data_fingerprint
    assert before.data_origin is None
    # what was written for other annotations says nothing about these
    shutil.copyfile(data / "train.csv", new / "train.csv")
    assert open_data_folder(new).origin is None


def test_each_image_is_judged_by_the_runs_that_have_not_seen_it(
    severstal: Severstal, members: dict[str, Path], trained: tuple[Path, Path], tmp_path: Path
) -> None:
    """Levels of `held_out` for each fold by its runs; the holdout by all."""
    split = read_splits(trained[0] / "splits.csv")
    subset = held_out.open_unseen([members["a"], members["c"]], None, SILENT)
    assert {share.part: share.members for share in subset.shares} == {"0": (0,), "1": (1,), "holdout": (0, 1)}
    code, _, err = severstal("audit", members["a"], members["c"], "--out", tmp_path / "a.csv")
    assert code == 0
    wanted = {name for part in ("0", "1", "holdout") for name in split.ids_of(part)}
    assert {row["ImageId"] for row in rows_of(tmp_path / "a.csv")} <= wanted
    left = len(split.parts) - len(wanted)
    assert f"not audited: {left} images of subsets 2, 3, 4, which all of these runs were trained on" in err
    metadata = json.loads((tmp_path / "a.json").read_text())
    assert metadata["images"] == len(wanted)
    assert metadata["data_fingerprint"] == open_data_folder(trained[0]).fingerprint
    every = held_out.open_unseen([members["every"]], None, SILENT)
    assert [share.part for share in every.shares] == ["holdout"]


def apply_table(
    name: str, layout: mask_table.Layout, data: Path, masks: dict[tuple[str, int], rle.RLE], **options: Any
):  # type: ignore[no-untyped-def]
    names = sorted(path.name for path in (data / "train_images").iterdir())
    mask_table.write_table(data / name, masks, names, 2, layout=layout, **options)


FIELDS = "Rank,ImageId,ClassId,Kind,Score,X,Y,Width,Height,Pixels,PredictedClassId,OtherImageId,EncodedPixels,Decision"


@pytest.mark.parametrize("layout", list(mask_table.Layout))
@pytest.mark.parametrize("empty_rows", [True, False])
def test_the_new_table_has_the_layout_of_the_old_one(
    severstal: Severstal, make_data: Callable[..., Path], tmp_path: Path, layout: mask_table.Layout, empty_rows: bool
) -> None:
    """One mask is dropped, one is drawn on a clean image; a class without masks keeps a row."""
    data = make_data(images=6)
    names = sorted(path.name for path in (data / "train_images").iterdir())
    first, second = rle.from_text("1 2"), rle.from_text("9 3")
    columns = tuple(reversed(layout.form.columns))
    apply_table(
        "train.csv", layout, data, {(names[1], 1): first, (names[2], 0): second}, columns=columns, empty_rows=empty_rows
    )
    (tmp_path / "d.csv").write_text(
        f"{FIELDS}\n1,{names[1]},2,invented,1,0,0,1,2,2,,,1 2,accept\n2,{names[0]},1,missed,1,0,0,1,1,1,,,1 1,accept\n"
    )
    code, _, err = severstal("audit", "--apply", tmp_path / "d.csv", "--data", data, "--out", tmp_path / "n.csv")
    assert (code, err) == (0, err)
    new = mask_table.read_table(tmp_path / "n.csv")
    assert (new.layout, new.columns, new.class_ids) == (layout, columns, (1, 2))
    assert {key: rle.to_text(runs) for key, runs in new.masks.items()} == {(names[0], 0): "1 1", (names[2], 0): "9 3"}
    old = mask_table.read_table(data / "train.csv")
    if empty_rows:
        assert set(new.lines) == set(old.lines)
    else:
        # rows for defects, the whole new image in the original layout, and one row that keeps the class
        wanted = {(names[2], 0), (names[0], 0)}
        wanted |= {(names[0], 1), (names[1], 1)} if layout is mask_table.Layout.ORIGINAL else set()
        assert wanted <= set(new.lines)
        assert {channel for _, channel in new.lines} == {0, 1}


def test_nothing_is_written_where_one_row_is_refused(
    severstal: Severstal, trained: tuple[Path, Path], perfect: object, tmp_path: Path
) -> None:
    data, run = trained
    severstal("audit", run, "--out", tmp_path / "a.csv")
    decisions = decide(tmp_path / "a.csv", tmp_path / "d.csv", lambda row: "accept")
    decisions.write_text(decisions.read_text() + decisions.read_text().splitlines()[1] + "\n")
    code, out, err = severstal("audit", "--apply", decisions, "--data", data, "--out", tmp_path / "n.csv")
    assert (code, out) == (1, "")
    assert re.fullmatch(
        r"severstal: \S+d.csv, lines 2 and 6: both change the same pixels of \S+, class \d. Accept one of them\n",
        err.splitlines(keepends=True)[-1],
    )
    assert not (tmp_path / "n.csv").exists()
    assert not (tmp_path / "n.json").exists()


def test_decisions_on_another_table_are_refused(
    severstal: Severstal, trained: tuple[Path, Path], perfect: object, make_data: Callable[..., Path], tmp_path: Path
) -> None:
    severstal("audit", trained[1], "--out", tmp_path / "a.csv")
    decisions = decide(tmp_path / "a.csv", tmp_path / "d.csv", lambda row: "accept")
    other = make_data(images=45, seed=3)
    code, _, err = severstal("audit", "--apply", decisions, "--data", other, "--out", tmp_path / "n.csv")
    assert code == 1
    assert "is not in these annotations. They are of another table, or were changed since the audit" in err
    assert not (tmp_path / "n.csv").exists()
    # accepted twice
    new = tmp_path / "again"
    shutil.copytree(trained[0], new)
    severstal("audit", "--apply", decisions, "--data", trained[0], "--out", new / "train.csv", "--overwrite")
    code, _, err = severstal("audit", "--apply", decisions, "--data", new, "--out", tmp_path / "n.csv")
    assert (code, "is not in these annotations" in err) == (1, True)


def test_the_annotations_are_never_overwritten(
    severstal: Severstal, trained: tuple[Path, Path], perfect: object, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(trained[0], data)
    severstal("audit", trained[1], "--out", tmp_path / "a.csv")
    decisions = decide(tmp_path / "a.csv", tmp_path / "d.csv", lambda row: "accept")
    before = (data / "train.csv").read_bytes(), decisions.read_bytes()
    (tmp_path / "link.csv").symlink_to(data / "train.csv")
    for out, said in (
        (data / "train.csv", "it is the audited annotations"),
        (data / "train_images" / ".." / "train.csv", "it is the audited annotations"),
        (tmp_path / "link.csv", "it is the audited annotations"),
        (decisions, "it is the decisions"),
    ):
        code, _, err = severstal("audit", "--apply", decisions, "--data", data, "--out", out, "--overwrite")
        assert (code, said in err) == (2, True)
    assert ((data / "train.csv").read_bytes(), decisions.read_bytes()) == before


def test_only_a_file_of_the_same_kind_is_overwritten(
    severstal: Severstal, trained: tuple[Path, Path], perfect: object, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(trained[0], data)
    audit = tmp_path / "a.csv"
    severstal("audit", trained[1], "--out", audit)
    decisions = decide(audit, tmp_path / "d.csv", lambda row: "accept")
    (tmp_path / "notes.csv").write_bytes(b"\x00\xff")
    kept = {
        path: path.read_bytes()
        for path in (audit, decisions, data / "train.csv", data / "splits.csv", tmp_path / "notes.csv")
    }
    for out in (data / "train.csv", data / "splits.csv", decisions, tmp_path / "notes.csv"):
        code, _, err = severstal("audit", trained[1], "--out", out, "--overwrite")
        assert (code, f"{out} would be overwritten: it is no audit without decisions. Give another" in err) == (2, True)
    apply = "audit", "--apply", decisions, "--data", trained[0], "--overwrite", "--out"
    for out in (audit, data / "splits.csv", tmp_path / "notes.csv"):
        code, _, err = severstal(*apply, out)
        assert (code, f"{out} would be overwritten: it is no table of annotations" in err) == (2, True)
    assert {path: path.read_bytes() for path in kept} == kept
    assert not list(data.glob("*.json"))
    assert severstal(*apply, data / "train.csv")[0] == 0
    assert severstal("audit", trained[1], "--out", audit, "--overwrite")[0] == 0
    shutil.copy(trained[1] / "thresholds.json", tmp_path / "t.json")
    code, _, err = severstal("audit", trained[1], "--out", tmp_path / "t.csv")
    assert (code, "exists and is of another command" in err) == (1, True)
