"""audit.csv: what is written is read again, and a row that was changed is refused with its line."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from severstal_cli.errors import InputError
from severstal_cli.steel.audit import finding_table
from severstal_cli.steel.audit.findings import Finding, Kind
from severstal_cli.steel.masks import rle

RUNS = rle.from_text("4 3 10 3")
FOUND = [
    Finding(image_id="b.png", class_id=2, kind=Kind.MISSED, score=0.75, box=(0, 3, 2, 3), pixels=6, mask=RUNS),
    Finding(image_id="a,b.png", class_id=1, kind=Kind.WRONG_CLASS, score=0.5, box=(0, 3, 2, 3), pixels=6, mask=RUNS,
            predicted_class_id=3),
    Finding(image_id="c.png", class_id=1, kind=Kind.DISAGREEMENT, score=0.25, box=(0, 0, 1, 1), pixels=1,
            mask=rle.EMPTY, other_image_id="d.png"),
]  # fmt: skip


def write(path: Path, choices: list[str], change: Callable[[list[dict[str, str]]], object] = lambda _: None) -> Path:
    """The rows of `FOUND` with these decisions."""
    finding_table.write(path, FOUND)
    with path.open(newline="") as file:
        rows = [row | {"Decision": choice} for row, choice in zip(csv.DictReader(file), choices, strict=True)]
    change(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_table_has_the_documented_columns(tmp_path: Path) -> None:
    finding_table.write(tmp_path / "audit.csv", FOUND)
    assert (tmp_path / "audit.csv").read_text() == (
        "Rank,ImageId,ClassId,Kind,Score,X,Y,Width,Height,Pixels,PredictedClassId,OtherImageId,EncodedPixels\n"
        "1,b.png,2,missed,0.7500,0,3,2,3,6,,,4 3 10 3\n"
        '2,"a,b.png",1,wrong_class,0.5000,0,3,2,3,6,3,,4 3 10 3\n'
        "3,c.png,1,disagreement,0.2500,0,0,1,1,1,,d.png,\n"
    )


def test_rows_are_ranked_by_score_whatever_their_order() -> None:
    assert finding_table.ranked(FOUND[::-1]) == FOUND


def test_decisions_are_the_findings_with_a_choice(tmp_path: Path) -> None:
    decisions = finding_table.read_decisions(write(tmp_path / "d.csv", ["accept", "Reject ", ""]))
    assert [(each.line, each.choice) for each in decisions] == [(2, "accept"), (3, "reject"), (4, "skip")]
    for decision, finding in zip(decisions, FOUND, strict=True):
        read = decision.finding
        assert read.mask.tolist() == finding.mask.tolist()
        for name in ("image_id", "class_id", "kind", "score", "box", "pixels", "predicted_class_id", "other_image_id"):
            assert getattr(read, name) == getattr(finding, name)


def test_columns_may_have_any_order_and_rows_may_be_left_out(tmp_path: Path) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        del rows[0]
        rows[:] = [{"note": "x"} | dict(reversed(row.items())) for row in reversed(rows)]

    decisions = finding_table.read_decisions(write(tmp_path / "d.csv", ["accept", "accept", "skip"], change))
    assert [(each.finding.image_id, each.choice) for each in decisions] == [("c.png", "skip"), ("a,b.png", "accept")]


@pytest.mark.parametrize(
    ("row", "values", "said"),
    [
        (0, {"Decision": "yes"}, "line 2: Decision 'yes' is not accept, reject or skip"),
        (0, {"Kind": "odd"}, "line 2: Kind 'odd' is not one of missed, invented, wrong_class, boundary, disagreement"),
        (0, {"Pixels": "7"}, "line 2: EncodedPixels has 6 pixels, and Pixels is 7: the row was changed"),
        (0, {"EncodedPixels": ""}, "line 2: EncodedPixels is empty in a row of kind missed"),
        (0, {"EncodedPixels": "4 3 10"}, "line 2: EncodedPixels: run 2"),
        (0, {"X": "-1"}, "line 2: X '-1' is not a whole number from 0"),
        (0, {"Score": "nan"}, "line 2: Score 'nan' is not a number from 0 to 1"),
        (0, {"ClassId": "0"}, "line 2: ClassId 0 is below 1"),
        (0, {"ImageId": "../b.png"}, "line 2: ImageId '../b.png' is a path"),
        (0, {"PredictedClassId": "1"}, "line 2: PredictedClassId is '1' in a row of kind missed"),
        (1, {"PredictedClassId": ""}, "line 3: PredictedClassId is '' in a row of kind wrong_class"),
        (1, {"PredictedClassId": "1"}, "line 3: PredictedClassId and ClassId are both 1"),
        (2, {"OtherImageId": ""}, "line 4: OtherImageId is '' in a row of kind disagreement"),
        (0, {"EncodedPixels": "1 1 " * 8191 + "1 1"}, "32,767 characters: Excel cuts fields there"),
    ],
    ids=str,
)
def test_a_changed_row_is_refused_with_its_line(tmp_path: Path, row: int, values: dict[str, str], said: str) -> None:
    path = write(tmp_path / "d.csv", ["accept", "skip", "skip"], lambda rows: rows[row].update(values))
    with pytest.raises(InputError) as error:
        finding_table.read_decisions(path)
    assert said in str(error.value)


def test_a_table_without_decisions_is_refused(tmp_path: Path) -> None:
    finding_table.write(tmp_path / "audit.csv", FOUND)
    with pytest.raises(InputError, match=r"line 1: missing or doubled: Decision. Add a column Decision to audit.csv"):
        finding_table.read_decisions(tmp_path / "audit.csv")
    (tmp_path / "train.csv").write_text("ImageId,ClassId,EncodedPixels,Decision\na.png,1,1 1,accept\n")
    with pytest.raises(InputError, match=r"missing or doubled: Rank,Kind.* Give audit.csv with a column Decision"):
        finding_table.read_decisions(tmp_path / "train.csv")


def test_different_decisions_on_one_finding_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "decisions.csv", ["accept", "skip", "skip"])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1].replace("accept", "reject")]) + "\n")
    with pytest.raises(InputError, match=rf"lines 2 and {len(lines) + 1}.*accept and reject"):
        finding_table.read_decisions(path)
    path.write_text("\n".join([*lines, lines[1]]) + "\n")
    assert finding_table.read_decisions(path)[-1].choice == "accept"


def test_decimal_commas_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", ["accept", "skip", "skip"], lambda rows: rows[0].update(Score="0,7500", X="0,0"))
    assert finding_table.read_decisions(path)[0].finding.score == 0.75


def test_a_mask_that_is_cut_at_a_blank_is_refused(tmp_path: Path) -> None:
    cut = ("1 1 " * 8192)[: 32_767 - 1] + " "
    path = write(tmp_path / "d.csv", ["accept", "skip", "skip"], lambda rows: rows[0].update(EncodedPixels=cut))
    with pytest.raises(InputError, match="32,767 characters: Excel cuts fields there"):
        finding_table.read_decisions(path)
