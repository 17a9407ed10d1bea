"""The page of an audit in a real browser: choices, their export for `audit --apply`, filters, drawing, odd names."""

import csv
import json
import re
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from severstal_cli import cli
from severstal_cli.config import ReportConfig
from severstal_cli.stages import reporting
from severstal_cli.steel.audit import finding_table
from severstal_cli.steel.audit.findings import Finding, Kind
from severstal_cli.steel.dataset import data_folder
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables import mask_table

HEIGHT, WIDTH = 64, 96
INVENTED, SWAPPED, MISSED, OUTLINE, COPY, TWIN = NAMES = (
    'a, "b".png',
    "<img src=x onerror=alert(1)>.png",
    "{{ 7 * 7 }}.png",
    "ümläut.png",
    "50%#1.png",
    "&amp;.png",
)
CLASSES = ("<b>scratch", "pit")
KINDS = ("Missed", "Invented", "Wrong class", "Boundary", "Disagreement")
Box = tuple[int, int, int, int]


def mask(x: int, y: int, width: int, height: int) -> rle.RLE:
    pixels = np.zeros((HEIGHT, WIDTH), np.bool_)
    pixels[y : y + height, x : x + width] = True
    return rle.encode(pixels)


def finding(name: str, kind: Kind, score: float, box: Box, drawn: rle.RLE | None = None, **values: object) -> Finding:
    return Finding(image_id=name, class_id=1, kind=kind, score=score, box=box, pixels=box[2] * box[3],
                   mask=mask(*box) if drawn is None else drawn, **values)  # type: ignore[arg-type] # fmt: skip


FINDINGS = (
    finding(INVENTED, Kind.INVENTED, 0.9, (10, 10, 20, 15)),
    finding(SWAPPED, Kind.WRONG_CLASS, 0.8, (40, 20, 10, 10), predicted_class_id=2),
    finding(MISSED, Kind.MISSED, 0.7, (70, 40, 12, 8)),
    finding(OUTLINE, Kind.BOUNDARY, 0.6, (30, 30, 20, 20), mask(36, 30, 20, 20)),
    finding(COPY, Kind.DISAGREEMENT, 0.5, (5, 5, 9, 9), other_image_id=TWIN),
)
DRAWN = {
    (INVENTED, 0): mask(10, 10, 20, 15),
    (SWAPPED, 0): mask(40, 20, 10, 10),
    (MISSED, 1): mask(0, 0, 6, 6),
    (OUTLINE, 0): mask(30, 30, 20, 20),
    (TWIN, 0): mask(5, 5, 9, 9),
}


def make_audit(root: Path) -> Path:
    """A data folder and the table of its audit, one finding of each kind, in the order of `FINDINGS`."""
    images = root / "data" / "train_images"
    images.mkdir(parents=True)
    for name in NAMES:
        done, encoded = cv2.imencode(".png", np.full((HEIGHT, WIDTH), 90, np.uint8))
        assert done
        (images / name).write_bytes(encoded.tobytes())
    mask_table.write_table(root / "data" / "train.csv", DRAWN, NAMES, 2, layout=mask_table.Layout.CURRENT)
    (root / "data" / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    finding_table.write(root / "audit.csv", FINDINGS)
    write_origin(root)
    return root / "audit.csv"


def write_origin(root: Path) -> None:
    folder = data_folder.open_data_folder(root / "data")
    origin = {"data": str(root / "data"), "data_fingerprint": folder.fingerprint, "class_names": list(CLASSES)}
    (root / "audit.json").write_text(json.dumps(origin))


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_audit(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def shown(audit: Path) -> Path:
    return reporting.report(ReportConfig(shown=(audit,), out=audit.parent / "page")).page


def opened(page, path: Path, size: tuple[int, int] = (1280, 900), *, forget: bool = True) -> None:  # type: ignore[no-untyped-def]
    """Open a page, without choices of an earlier visit unless not `forget`."""
    page.open(path, size)
    if forget:
        page.run("localStorage.clear()")
        page.open(path, size)
    settled(page, 0)


def settled(page, number: int) -> None:  # type: ignore[no-untyped-def]
    page.wait(f"document.getElementById('finding').dataset.shown === '{number}'")


def press(page, keys: str) -> None:  # type: ignore[no-untyped-def]
    for key in keys:
        page.key(key)


CHOICES = "severstal.index.rank.map((_, finding) => severstal.choices.of(finding))"
SHOWN = "[...severstal.findings.all()]"
TITLE = "document.getElementById('finding-title').textContent"


def set_value(page, box: str, value: str, event: str = "change") -> None:  # type: ignore[no-untyped-def]
    page.run(f"""(() => {{ const box = document.getElementById("{box}"); box.value = {json.dumps(value)};
                 box.dispatchEvent(new Event("{event}")); }})()""")


def exported(page, folder: Path) -> Path:  # type: ignore[no-untyped-def]
    """Click on Export, and return the downloaded file."""
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.run("document.getElementById('export').click()")
    target, deadline = folder / "decisions.csv", time.monotonic() + 300
    while not target.exists() or not target.stat().st_size:  # Chromium makes an empty one first
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return target


def test_keys_choose_and_move_and_a_reload_keeps_the_choices(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    press(page, "ars")
    settled(page, 3)
    assert page.run(CHOICES) == ["accept", "reject", "skip", "", ""]
    assert page.run("document.getElementById('progress').textContent") == "3 of 5 decided: 1 accept, 1 reject, 1 skip"
    press(page, "u")  # undoes the last one, and shows it
    settled(page, 2)
    assert page.run(CHOICES) == ["accept", "reject", "", "", ""]
    page.key("ArrowLeft")
    settled(page, 1)
    assert page.run("document.querySelector('[data-choice=reject]').ariaPressed") == "true"
    press(page, "a")  # another choice replaces the first
    settled(page, 2)
    press(page, "k")
    settled(page, 1)
    press(page, "a")  # the same choice again removes it
    assert page.run(CHOICES) == ["accept", "", "", "", ""]
    press(page, "jjj")
    settled(page, 4)
    press(page, "jr")  # the last one stays
    settled(page, 4)
    opened(page, shown, forget=False)
    assert page.run(CHOICES) == ["accept", "", "", "", "reject"]
    assert page.run("document.querySelectorAll('.mark.accept, .mark.reject').length") == 2
    page.run("document.querySelector('[data-choice=skip]').click()")
    settled(page, 1)
    assert page.run(CHOICES) == ["skip", "", "", "", "reject"]


def test_every_choice_can_be_undone_even_if_its_finding_is_filtered_out(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    press(page, "aa")
    page.run("document.getElementById('kind-3').click()")
    settled(page, 3)
    press(page, "uuu")
    settled(page, 0)
    assert page.run(CHOICES) == [""] * 5


def test_the_export_is_the_table_with_decisions_and_apply_takes_it(  # type: ignore[no-untyped-def]
    page, shown: Path, audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(page, shown)
    press(page, "araas")
    page.wait(f"{CHOICES}[4] === 'skip'")
    decisions = exported(page, tmp_path)
    with audit.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with decisions.open(newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    choices = ["accept", "reject", "accept", "accept", "skip"]
    assert found == [[*header, "Decision"], *([*row, choice] for row, choice in zip(rows, choices, strict=True))]

    new = tmp_path / "new" / "train.csv"
    monkeypatch.setattr(
        sys,
        "argv",
        ["severstal", "audit", "--apply", str(decisions), "--data", str(audit.parent / "data"), "--out", str(new)],
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert "accepted: 1 boundary, 1 invented, 1 missed; not applied: 1 reject, 1 skip" in capsys.readouterr().out
    masks = mask_table.read_table(new).masks
    expected = {
        (SWAPPED, 0): mask(40, 20, 10, 10),
        (MISSED, 0): mask(70, 40, 12, 8),
        (MISSED, 1): mask(0, 0, 6, 6),
        (OUTLINE, 0): mask(36, 30, 20, 20),
        (TWIN, 0): mask(5, 5, 9, 9),
    }
    assert {key: runs.tolist() for key, runs in masks.items()} == {k: v.tolist() for k, v in expected.items()}


def test_a_table_with_decisions_starts_with_them_and_is_exported_with_the_later_ones(  # type: ignore[no-untyped-def]
    page, audit: Path, tmp_path: Path
) -> None:
    with audit.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    given = ["Accept", "", "skip", " reject", ""]
    with (tmp_path / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Note", "Decision", *header])
        writer.writerows(["mine, too", choice, *row] for choice, row in zip(given, rows, strict=True))
    config = ReportConfig(shown=(tmp_path / "mine.csv",), data=audit.parent / "data", out=tmp_path / "page")
    opened(page, reporting.report(config).page)
    assert page.run(CHOICES) == ["accept", "", "skip", "reject", ""]
    press(page, "r")
    settled(page, 1)
    with exported(page, tmp_path).open(newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    assert found[0] == ["Note", *header, "Decision"]
    assert [row[-1] for row in found[1:]] == ["reject", "", "skip", "reject", ""]
    assert [row[1:-1] for row in found[1:]] == rows


def test_choices_are_those_of_one_audit(page, shown: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    press(page, "a")
    settled(page, 1)
    audit = make_audit(tmp_path)
    again = reporting.report(ReportConfig(shown=(audit,), out=tmp_path / "again"))  # the same table of the same data
    opened(page, again.page, forget=False)
    assert page.run(CHOICES) == ["accept", "", "", "", ""]
    finding_table.write(audit, FINDINGS[:4])
    other = reporting.report(ReportConfig(shown=(audit,), out=tmp_path / "other"))
    opened(page, other.page, forget=False)
    assert page.run(CHOICES) == [""] * 4
    finding_table.write(audit, FINDINGS)
    masks = DRAWN | {(COPY, 1): mask(50, 50, 5, 5)}
    mask_table.write_table(tmp_path / "data" / "train.csv", masks, NAMES, 2, layout=mask_table.Layout.CURRENT)
    write_origin(tmp_path)
    changed = reporting.report(ReportConfig(shown=(audit,), out=tmp_path / "changed"))
    opened(page, changed.page, forget=False)
    assert page.run(CHOICES) == [""] * 5


def test_choices_of_another_tab_are_taken_over(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    press(page, "a")
    settled(page, 1)
    page.run("""(() => { const key = `severstal-audit-${severstal.index.key}`;
        dispatchEvent(new StorageEvent("storage", { key, newValue: "00210" }));
        dispatchEvent(new StorageEvent("storage", { key: "another", newValue: "11111" })); })()""")
    assert page.run(CHOICES) == ["", "", "reject", "accept", ""]
    press(page, "u")  # nothing of this tab is left to undo
    assert page.run(CHOICES) == ["", "", "reject", "accept", ""]


def test_a_browser_that_keeps_nothing_says_so(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    assert page.run("document.getElementById('storage').hidden")
    broken = page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="Storage.prototype.setItem = () => { throw new Error('full'); };",
    )
    try:
        opened(page, shown, forget=False)
        assert not page.run("document.getElementById('storage').hidden")
        press(page, "a")
        settled(page, 1)
        assert page.run(CHOICES) == ["accept", "", "", "", ""]
    finally:
        page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=broken["identifier"])


def test_damaged_choices_of_the_browser_are_ignored(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    for kept in ("1", "19000", "<b>ab", "1000000"):
        page.run(f"localStorage.setItem(`severstal-audit-${{severstal.index.key}}`, {json.dumps(kept)})")
        opened(page, shown, forget=False)
        assert page.run(CHOICES) == [""] * 5


def test_filters_count_and_select_findings(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    count = "document.getElementById('count').textContent"
    many = "[...document.querySelectorAll('#kinds .many')].map((one) => Number(one.textContent))"
    assert page.run(many) == [5, 1, 1, 1, 1, 1]
    for kind, expected in enumerate((2, 0, 1, 3, 4)):
        page.run(f"document.getElementById('kind-{kind}').click()")
        settled(page, expected)
        assert page.run(SHOWN) == [expected]
        assert page.run(count) == "1 of 5 findings"
        assert page.run(TITLE) == f"{expected + 1}. {KINDS[kind]}: class 1 {CLASSES[0]}"
    page.run("document.getElementById('kind--1').click()")
    set_value(page, "class", "1")  # what may be of class 2
    settled(page, 1)
    assert page.run(SHOWN) == [1]
    assert page.run(many) == [1, 0, 0, 1, 0, 0]
    set_value(page, "class", "0")
    assert page.run(count) == "All 5 findings"
    set_value(page, "class", "-1")
    press(page, "r")
    settled(page, 2)
    for choice, expected in (("reject", [1]), ("accept", []), ("", [0, 2, 3, 4]), ("all", [0, 1, 2, 3, 4])):
        set_value(page, "decision", choice)
        assert page.run(SHOWN) == expected
    for text, expected in (("a, ", [0]), ("50% &AMP", [4]), ("amp;", [4]), ("4", [3]), ("nowhere", [])):
        set_value(page, "search", text, "input")
        assert page.run(SHOWN) == expected
    assert page.run("document.getElementById('work').hidden")
    press(page, "a")  # nothing is shown, so nothing is accepted
    assert page.run(CHOICES) == ["", "reject", "", "", ""]
    page.run("document.getElementById('reset').click()")
    assert page.run(count) == "All 5 findings"


def test_keys_choose_after_a_click_on_a_kind(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    page.run("(() => { const box = document.getElementById('kind-2'); box.focus(); box.click(); })()")
    settled(page, 1)
    press(page, "a")
    page.key("ArrowRight")  # moves to the next kind, as in any group of radio buttons
    settled(page, 3)
    assert page.run(CHOICES) == ["", "accept", "", "", ""]


def test_typing_in_the_search_chooses_nothing(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    page.key("/")
    assert page.run("document.activeElement.id") == "search"
    press(page, "ars")
    assert page.run("document.getElementById('search').value") == "ars"
    assert page.run(CHOICES) == [""] * 5


PIXEL = """(() => {{
    const copy = document.createElement("canvas").getContext("2d", {{ willReadFrequently: true }});
    copy.drawImage(document.querySelectorAll("#panels canvas")[{panel}], -{x}, -{y});
    return [...copy.getImageData(0, 0, 1, 1).data];
}})()"""
ORANGE, BLUE = [0xE6, 0x9F, 0x00], [0x56, 0xB4, 0xE9]


def near(found: list[int], colour: list[int], *, opaque: bool) -> bool:
    """A canvas stores colours multiplied by their opacity, so those of a tint come back rounded."""
    right = max(abs(a - b) for a, b in zip(found, colour, strict=False)) < 5
    return right and (found[3] == 255 if opaque else 0 < found[3] < 200)


def pixel(page, panel: int, x: int, y: int) -> list[int]:  # type: ignore[no-untyped-def]
    found: list[int] = page.run(PIXEL.format(panel=panel, x=x, y=y))
    return found


def test_annotation_and_outline_are_drawn_and_can_be_hidden(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    assert page.run("document.querySelectorAll('#panels canvas')[1].width") == WIDTH
    assert near(pixel(page, 1, 10, 10), ORANGE, opaque=True)  # outline of the invented component
    assert near(pixel(page, 1, 20, 17), ORANGE, opaque=False)  # tint of the annotation
    assert pixel(page, 0, 20, 17)[3] == pixel(page, 1, 31, 17)[3] == 0
    press(page, "o")
    assert near(pixel(page, 1, 10, 10), ORANGE, opaque=False)
    press(page, "do")
    assert near(pixel(page, 1, 10, 10), ORANGE, opaque=True)
    assert pixel(page, 1, 20, 17)[3] == 0
    press(page, "dj")
    settled(page, 1)  # wrong class: the outline has the colour of the other class
    assert near(pixel(page, 1, 40, 20), BLUE, opaque=True)
    assert near(pixel(page, 1, 45, 25), ORANGE, opaque=False)
    press(page, "j")
    settled(page, 2)  # missed: nothing is drawn there, and a mask of another class is fainter
    assert near(pixel(page, 1, 70, 40), ORANGE, opaque=True)
    assert pixel(page, 1, 76, 44)[3] == 0
    assert near(pixel(page, 1, 3, 3), BLUE, opaque=False)
    faint = pixel(page, 1, 3, 3)[3]
    press(page, "j")
    settled(page, 3)  # boundary: drawn and predicted component
    assert pixel(page, 1, 31, 40)[3] > faint
    assert near(pixel(page, 1, 55, 40), ORANGE, opaque=True)
    press(page, "j")
    settled(page, 4)  # disagreement: own mask is empty, the near-duplicate has its own panel
    assert page.run("document.querySelectorAll('#panels figure').length") == 3
    assert near(pixel(page, 1, 5, 5), ORANGE, opaque=True)
    assert pixel(page, 1, 9, 9)[3] == 0
    assert near(pixel(page, 2, 9, 9), ORANGE, opaque=False)


def test_the_box_is_at_its_place_and_in_sight(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    for number, one in enumerate(FINDINGS):
        settled(page, number)
        found = page.run("""[...document.querySelectorAll("#panels .stage")].slice(0, 1).map((stage) => {
            const box = stage.querySelector(".box"), style = getComputedStyle(box);
            const sheet = stage.querySelector(".sheet").getBoundingClientRect(), own = stage.getBoundingClientRect();
            return { left: box.offsetLeft + 5, top: box.offsetTop + 5, scale: severstal.zooming.scale(),
                     width: parseFloat(style.width), height: parseFloat(style.height),
                     x: sheet.left - own.left, y: sheet.top - own.top, room: [own.width, own.height] };
        })[0]""")
        x, y, width, height = (side * found["scale"] for side in one.box)
        expected = {"left": x, "top": y, "width": width, "height": height}
        assert all(abs(found[name] - side) < 2 for name, side in expected.items()), (number, found)
        assert found["x"] + x >= -1
        assert found["y"] + y >= -1
        assert found["x"] + x + width <= found["room"][0] + 1
        assert found["y"] + y + height <= found["room"][1] + 1
        press(page, "j")


def test_odd_names_are_harmless(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    for number, name in enumerate(NAMES[:5]):
        settled(page, number)
        assert page.run("document.getElementById('image-name').textContent").startswith(
            f"{name} · score 0.{9 - number}"
        )
        assert page.run("document.querySelector('#panels img').naturalWidth") == WIDTH
        press(page, "j")
    assert TWIN in page.run("document.getElementById('fault').textContent")
    assert page.run("[...document.querySelectorAll('#findings .name')].map((one) => one.textContent)") == list(
        NAMES[:5]
    )
    assert page.run("document.querySelectorAll('img[src=x], b').length") == 0


def test_a_missing_file_takes_no_choice(page, audit: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = reporting.report(ReportConfig(shown=(audit,), out=tmp_path / "page"))
    (tmp_path / "page" / "masks" / "000002.js").unlink()
    opened(page, result.page)
    press(page, "j")
    page.wait("document.getElementById('finding').dataset.unknown === ''")
    assert "masks/000002.js is missing" in page.run("document.getElementById('fault').textContent")
    press(page, "a")
    assert page.run(CHOICES) == [""] * 5
    press(page, "j")
    settled(page, 2)
    page.faults[:] = [fault for fault in page.faults if "ERR_FILE_NOT_FOUND" not in fault]


def test_the_list_holds_visible_rows_only(page, audit: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    many = [FINDINGS[number % 5] for number in range(1000)]
    finding_table.write(tmp_path / "audit.csv", many)
    result = reporting.report(
        ReportConfig(shown=(tmp_path / "audit.csv",), data=audit.parent / "data", out=tmp_path / "page")
    )
    assert (result.findings, result.images) == (1000, 6)
    opened(page, result.page)
    rows = "[...document.querySelectorAll('#findings .rank')].map((one) => Number(one.textContent))"
    assert 5 < len(page.run(rows)) < 60
    assert page.run("severstal.loader.cached.rows.size") == 1
    page.run("document.getElementById('list').scrollTop = 600 * 52")
    page.wait(f"{rows}.includes(605) && !{rows}.includes(1)")
    page.run("document.getElementById('list').querySelectorAll('button')[5].click()")
    page.wait("document.getElementById('finding').dataset.shown > 590")
    # a mask in another file of rows than the first
    assert page.run("severstal.loader.cached.rows.size") == 2
    press(page, "a")
    page.wait("document.getElementById('progress').textContent.startsWith('1 of 1,000')")
    with exported(page, tmp_path).open(newline="", encoding="utf-8") as file:
        assert [row["Rank"] for row in csv.DictReader(file)] == [str(rank) for rank in range(1, 1001)]


def test_every_control_has_an_accessible_name(page, shown: Path) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = [
        node
        for node in nodes
        if node.get("role", {}).get("value") in ("button", "checkbox", "combobox", "radio", "searchbox")
    ]
    assert len(controls) > 20
    assert all(node["name"]["value"].strip() for node in controls)


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(page, shown: Path, width: int) -> None:  # type: ignore[no-untyped-def]
    opened(page, shown, (width, 900))
    for number in range(5):
        settled(page, number)
        beyond = page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert beyond <= 0
        press(page, "j")


def test_the_page_refers_to_nothing_outside_its_folder(shown: Path) -> None:
    for path in shown.parent.rglob("*"):
        if path.suffix in (".html", ".js", ".css"):
            assert "//" not in re.sub(r"// |//\n", "", path.read_text(encoding="utf-8")), path
