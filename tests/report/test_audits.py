"""`report` on the table of an audit: what it refuses, in one line, and what it writes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from test_audit_page import DRAWN, FINDINGS, HEIGHT, NAMES, OUTLINE, WIDTH, Box, finding, make_audit, mask

from severstal_cli import cli
from severstal_cli.config import ReportConfig
from severstal_cli.errors import InputError
from severstal_cli.report import audits
from severstal_cli.stages import reporting
from severstal_cli.steel.audit import finding_table
from severstal_cli.steel.audit.findings import Kind
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables import mask_table


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return make_audit(tmp_path)


def report(*shown: Path, **values: object) -> reporting.ReportResult:
    out = shown[0].parent / "page"
    try:
        return reporting.report(ReportConfig(shown=shown, out=out, **values))  # type: ignore[arg-type]
    except InputError:
        assert not out.exists()
        raise


def test_the_command_line_shows_an_audit(
    audit: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(audit.parent)
    monkeypatch.setattr(sys, "argv", ["severstal", "report", "audit.csv"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert capsys.readouterr().out.startswith("reports/audit/index.html: 5 suspected faults in 6 images, 0.")
    content = json.loads((audit.parent / "reports" / "audit" / "report.json").read_text())
    assert (content["findings"], content["audit"]) == (5, "audit.csv")
    # an earlier page is replaced, as that of any report
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code


def test_annotations_that_have_changed_since_are_refused(audit: Path) -> None:
    masks = DRAWN | {(NAMES[0], 0): mask(0, 0, 3, 3)}
    table = audit.parent / "data" / "train.csv"
    mask_table.write_table(table, masks, NAMES, 2, layout=mask_table.Layout.CURRENT)
    with pytest.raises(InputError, match=r"data is not the data of .*audit\.csv: its annotations or images have ch"):
        report(audit)


def test_an_audit_without_its_json_needs_the_data(audit: Path, heard) -> None:  # type: ignore[no-untyped-def]
    (audit.parent / "audit.json").unlink()
    with pytest.raises(InputError, match=r"the data of .*audit\.csv is unknown: there is no audit\.json beside it\. "):
        report(audit)
    config = ReportConfig(shown=(audit,), data=audit.parent / "data", out=audit.parent / "page")
    assert reporting.report(config, heard).findings == 5
    assert any("without audit.json nothing shows" in line for line in heard.lines)


@pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"data": 1, "data_fingerprint": "0"}', '{"data": "data"}'])
def test_a_damaged_json_is_refused(audit: Path, content: str) -> None:
    (audit.parent / "audit.json").write_text(content)
    with pytest.raises(InputError, match=r"audit\.json is (damaged|not of an audit)"):
        report(audit)


def test_an_audit_is_shown_alone_on_its_own_images(audit: Path) -> None:
    with pytest.raises(InputError, match="an audit is shown alone"):
        report(audit, audit.parent / "data" / "train.csv")
    with pytest.raises(InputError, match="an audit is shown alone"):
        report(audit.parent / "data" / "train.csv", audit)
    for option in ("truth", "images"):
        with pytest.raises(InputError, match="an audit shows images of its own data"):
            report(audit, **{option: audit.parent / "data" / "train.csv"})


def test_an_audit_without_a_finding_is_refused(audit: Path) -> None:
    finding_table.write(audit, [])
    with pytest.raises(InputError, match=r"audit\.csv has no row"):
        report(audit)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",40,20,10,10,100", ",90,20,10,10,100", r"line 3: the box ends outside the image of 64 x 96"),
        ("<img", "<igm", r"line 3: there is no image <igm"),
        (",2,,", ",3,,", r"line 3: no row of the annotations names class 3"),
        ("wrong_class", "wrong", r"line 3: Kind 'wrong' is not one of"),
        (",Score,", ",Points,", r"line 1: missing or doubled: Score"),
        (",Pixels,", ",Pixels,Decision,Decision,", r"line 1: missing or doubled: Decision"),
        ("2,<img", "2\n<img", r"line 3: 1 field where the header has 13"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(audit: Path, old: str, new: str, message: str) -> None:
    text = audit.read_text(encoding="utf-8")
    assert text.count(old) == 1
    audit.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        report(audit)


def test_class_names_are_those_of_the_option_the_audit_or_the_data(audit: Path) -> None:
    def labels() -> list[str]:
        text = (audit.parent / "page" / "data" / "index.js").read_text().removeprefix("severstal.index=")
        found: list[str] = json.loads(text)["labels"]
        return found

    report(audit)
    assert labels() == ["1 <b>scratch", "2 pit"]
    report(audit, class_names=("a", "b"))
    assert labels() == ["1 a", "2 b"]
    origin = json.loads((audit.parent / "audit.json").read_text()) | {"class_names": []}
    (audit.parent / "audit.json").write_text(json.dumps(origin))
    report(audit)
    assert labels() == ["1 <b>scratch", "2 pit"]
    with pytest.raises(InputError, match="--class-names has one name"):
        reporting.report(ReportConfig(shown=(audit,), class_names=("a",), out=audit.parent / "new"))


@pytest.mark.parametrize(
    ("box", "pixels", "expected"),
    [
        ((30, 30, 20, 20), (slice(28, 40), slice(36, 60)), (30, 28, 30, 22)),
        ((30, 30, 20, 20), (slice(35, 40), slice(35, 40)), (30, 30, 20, 20)),
        ((30, 30, 20, 20), (slice(0, 64), slice(10, 12)), (10, 0, 40, 64)),
        ((30, 30, 20, 20), (slice(0, 0), slice(0, 0)), (30, 30, 20, 20)),
    ],
)
def test_the_crop_holds_the_box_and_the_mask(box: Box, pixels: tuple[slice, slice], expected: Box) -> None:
    drawn = np.zeros((HEIGHT, WIDTH), np.bool_)
    drawn[pixels] = True
    assert audits.view(finding(OUTLINE, Kind.BOUNDARY, 0.5, box, rle.encode(drawn)), HEIGHT) == expected


def test_only_images_of_findings_are_written(audit: Path) -> None:
    finding_table.write(audit, FINDINGS[1:2])
    result = report(audit)
    assert (result.findings, result.images) == (1, 1)
    written = [path.name for path in sorted(result.page.parent.rglob("0*"))]
    assert written == ["000001.jpg", "000001.js", "000001.js"]
    [masks] = json.loads((result.page.parent / "masks" / "000001.js").read_text().split(",", 1)[1].rstrip().rstrip(")"))
    assert list(masks) == ["0"]
