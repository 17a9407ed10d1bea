"""The page in a real browser: every control, its Dice against that of `score`, odd names."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from severstal_cli.config import ReportConfig, ScoreConfig
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import held_out
from severstal_cli.learning.runs import run_folder
from severstal_cli.progress import SILENT
from severstal_cli.report.levels import steps_of
from severstal_cli.stages import reporting, scoring
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.masks.postprocess import ClassPostprocess
from severstal_cli.steel.scoring import dice

ODD = (
    "a b.png",
    "a#1.png",
    "50%.png",
    "quote\"'s.png",
    "<script>alert(1)<script>.png",
    "<img src=x onerror=alert(1)>.png",
    "{{ 7 * 7 }}.png",
    "ümläut.png",
    "&amp;.png",
)


@pytest.fixture(scope="module")
def shown(trained, members, tmp_path_factory: pytest.TempPathFactory):
    """A report of two runs, the second with its own post-processing, and the run folders."""
    root = tmp_path_factory.mktemp("report")
    other = Path(shutil.copytree(members["b"], root / "other"))
    content = json.loads((trained[1] / run_folder.THRESHOLDS).read_text())
    content["rules"] = [
        ClassPostprocess(pixel_threshold=100, min_component_px=30, min_mask_px=60).to_dict(),
        ClassPostprocess(pixel_threshold=128, min_image_score=150).to_dict(),
    ]
    (other / run_folder.THRESHOLDS).write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out, "open_device", lambda: open_device("32-true"))
        result = reporting.report(ReportConfig(shown=(trained[1], other), out=root / "out"))
    return result, (trained[1], other)


BEYOND = """(() => {
    const page = document.documentElement;
    if (page.scrollWidth <= page.clientWidth) return [];
    return [page.scrollWidth, ...[...document.querySelectorAll("body *")]
        .filter((one) => one.getBoundingClientRect().right > page.clientWidth && !one.closest(".scroll"))
        .map((one) => `${one.tagName} ${one.className} ${one.getBoundingClientRect().right}`)];
})()"""
"""Elements wider than the window, if the page scrolls sideways."""


PLACE = "severstal.gallery.images().indexOf(Number(document.getElementById('viewer').dataset.shown))"
"""The position in the gallery of the image that the viewer shows."""


def settled(page, image):
    page.wait(f"document.getElementById('viewer').dataset.shown === '{image}'")


def test_the_dice_beside_the_slider_equals_that_of_score(page, shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "open_device", lambda: open_device("32-true"))
    result, runs = shown
    page.open(result.page)
    for number, folder in enumerate(runs):
        scored = scoring.score_runs(ScoreConfig(runs=(folder,)))
        subset = held_out.open_holdout([folder], None, SILENT)
        thresholds = run_folder.read_thresholds(folder / run_folder.THRESHOLDS, classes=2)
        levels = dict(subset.levels(views="none", exclusive=False, batch_size=8, progress=SILENT))
        for image, image_id in enumerate(scored.image_ids):
            page.run(f"severstal.viewer.open({image}, severstal.gallery.images(), null)")
            settled(page, image)
            dice_shown = page.run(
                f"[...document.querySelectorAll('[data-table=\"{number}\"] .dice')]"
                ".map((cell) => Number(cell.dataset.dice))"
            )
            assert dice_shown == scored.dice[image].tolist()
            for channel, rule in enumerate(thresholds.rules):
                steps = steps_of(rule)
                for place in (0, len(steps) // 2, len(steps) - 1):
                    page.run(f"""(() => {{
                        const row = document.querySelector('[data-table="{number}"] [data-channel="{channel}"]');
                        const slider = row.querySelector("input");
                        slider.value = {place};
                        slider.dispatchEvent(new Event("input"));
                    }})()""")
                    found = page.run(f"""Number(document.querySelector(
                        '[data-table="{number}"] [data-channel="{channel}"] .dice').dataset.dice)""")
                    moved = ClassPostprocess(**{**rule.to_dict(), "pixel_threshold": int(steps[place])})
                    shown_levels = postprocess.make_exclusive(levels[image_id])
                    [mask] = postprocess.levels_to_rle(shown_levels[[channel]], [moved])
                    true = subset.data_folder.masks.get((image_id, channel), rle.EMPTY)
                    assert found == dice.dice(mask, true)
            page.run("document.getElementById('reset-thresholds').click()")
    page.key("Escape")
    page.wait("!document.getElementById('viewer').open")


def gallery(page):
    """Scroll to the gallery, whose cards are in the document only while they are visible."""
    page.run("document.getElementById('gallery').scrollIntoView({ behavior: 'instant' })")
    page.wait("document.querySelectorAll('#cards .card').length")


def test_every_control_works(page, shown) -> None:
    result, _ = shown
    page.open(result.page)
    images = result.images
    count = "document.getElementById('count').textContent"
    cards = "document.querySelectorAll('#cards .card').length"
    assert page.run(count) == f"All {images} images"
    gallery(page)
    assert page.run(cards) <= images
    # filters
    for kind in ("right", "partial", "missed", "false"):
        page.run(f"document.getElementById('kind-{kind}').click()")
        many = int(page.run(f"document.querySelector('label[for=kind-{kind}] .many').textContent"))
        assert page.run(count).split()[0] == ("All" if many == images else str(many))
    page.run("document.getElementById('kind-all').click()")
    for value in ("0", "1", "-2", "-1"):
        page.run(f"""(() => {{ const box = document.getElementById("class"); box.value = "{value}";
                     box.dispatchEvent(new Event("change")); }})()""")
        assert page.run(count) != f"All {images} images" or value == "-1"
    # orders, against the scores
    scored = [scoring.score_runs(ScoreConfig(runs=(folder,))) for folder in shown[1]]
    names = "severstal.gallery.images().map((image) => severstal.index.names[image])"
    for order in ("name", "best", "worst", "unconfident", "confident", "set"):
        page.run(f"""(() => {{ const box = document.getElementById("order"); box.value = "{order}";
                     box.dispatchEvent(new Event("change")); }})()""")
        found = page.run(names)
        assert sorted(found) == sorted(scored[0].image_ids)
        if order in ("best", "worst"):
            means = [scored[0].dice[scored[0].image_ids.index(name)].mean() for name in found]
            assert means == sorted(means, reverse=order == "best")
    # search, and back
    page.run("document.body.focus()")
    page.key("/")
    assert page.run("document.activeElement.id") == "search"
    page.call("Input.insertText", text=scored[0].image_ids[0])
    assert page.run(names) == [scored[0].image_ids[0]]
    page.run("""(() => { const box = document.getElementById("search"); box.value = "nowhere";
                box.dispatchEvent(new Event("input")); })()""")
    assert not page.run("document.getElementById('nothing').hidden")
    page.run("document.getElementById('reset').click()")
    assert page.run(count) == f"All {images} images"
    # the other model
    page.run("""(() => { const box = document.getElementById("candidate"); box.value = "1";
                box.dispatchEvent(new Event("change")); })()""")
    assert page.run("severstal.gallery.state.candidate") == 1
    # themes
    colours = set()
    for _ in range(3):
        page.run("document.getElementById('theme').click()")
        colours.add(page.run("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
    # by keyboard through the gallery and into an image
    gallery(page)
    page.run("document.querySelector('#cards .card').focus()")
    page.key("ArrowRight")
    page.key("Enter")
    page.wait("document.getElementById('viewer').open")
    settled(page, page.run("severstal.gallery.images()[1]"))
    page.key("ArrowRight")
    settled(page, page.run("severstal.gallery.images()[2]"))
    page.key("k")
    settled(page, page.run("severstal.gallery.images()[1]"))
    page.run("document.getElementById('next').click()")
    settled(page, page.run("severstal.gallery.images()[2]"))
    page.run("document.getElementById('previous').click()")
    settled(page, page.run("severstal.gallery.images()[1]"))
    for key, box in (("t", "#truth"), ("s", "#apart"), ("1", '[data-candidate="0"]'), ("2", '[data-candidate="1"]')):
        before = page.run(f"document.querySelector('#viewer {box}').checked")
        page.key(key)
        assert page.run(f"document.querySelector('#viewer {box}').checked") != before
        page.key(key)
        settled(page, page.run("severstal.gallery.images()[1]"))
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # the panels fit
    before = page.run("document.getElementById('zoom').textContent")
    zoom = "document.getElementById('zoom').textContent"
    for nearer, farther in (("zoom-in", "zoom-out"), ("zoom-in", "zoom-fit")):
        page.run(f"document.getElementById('{nearer}').click()")
        assert page.run(zoom) != before
        page.run(f"document.getElementById('{farther}').click()")
        assert page.run(zoom) == before
    for key in ("+", "=", "-"):
        page.key(key)
    assert page.run(zoom) != before
    page.key("0")
    assert page.run(zoom) == before
    page.run("document.getElementById('postprocess').click()")
    page.run("document.getElementById('postprocess').click()")
    page.key("?")
    assert page.run("document.getElementById('keys').open")
    page.run("document.getElementById('close').click()")
    page.wait("!document.getElementById('viewer').open")
    assert page.run("document.activeElement.className") == "card"


def kinds_of(scored):
    """Number of images per kind, from `score`: right in all classes, or another kind in any class."""
    true, found, dice = scored.there, scored.found, scored.dice
    of = {"partial": (dice > 0) & (dice < 0.7), "missed": true & (dice == 0), "false": found & (dice == 0)}
    return {"right": int((dice >= 0.7).all(axis=1).sum())} | {
        kind: int(each.any(axis=1).sum()) for kind, each in of.items()
    }


def test_the_kinds_agree_with_the_scores(page, shown) -> None:
    result, runs = shown
    page.open(result.page)
    for number, folder in enumerate(runs):
        page.run(f"""(() => {{ const box = document.getElementById("candidate"); box.value = "{number}";
                     box.dispatchEvent(new Event("change")); }})()""")
        wanted = kinds_of(scoring.score_runs(ScoreConfig(runs=(folder,))))
        for kind, many in wanted.items():
            page.run(f"document.getElementById('kind-{kind}').click()")
            assert page.run("severstal.gallery.images().length") == many, kind


def test_each_kind_is_distinguished(page, tmp_path: Path) -> None:
    """Images a to f: right, clean and right, partial, missed, missed with a mask elsewhere, false alarm."""
    folder = tmp_path / "images"
    folder.mkdir()
    true = {"a": "1 40", "c": "1 40", "d": "1 40", "e": "1 40"}
    found = {"a": "1 40", "c": "21 40", "e": "401 40", "f": "1 40"}
    for name in "abcdef":
        cv2.imwrite(str(folder / f"{name}.png"), np.full((20, 80), 90, np.uint8))
    for path, masks in (("truth.csv", true), ("s.csv", found)):
        rows = [f"{name}.png_1,{masks.get(name, '')}" for name in "abcdef"]
        (tmp_path / path).write_text("\n".join(["ImageId_ClassId,EncodedPixels", *rows, ""]))
    result = reporting.report(
        ReportConfig(shown=(tmp_path / "s.csv",), truth=tmp_path / "truth.csv", images=folder, out=tmp_path / "out")
    )
    page.open(result.page)
    shown = "severstal.gallery.images().map((image) => severstal.index.names[image][0]).join('')"
    for kind, names in (("right", "ab"), ("partial", "c"), ("missed", "de"), ("false", "ef"), ("all", "abcdef")):
        page.run(f"document.getElementById('kind-{kind}').click()")
        assert page.run(shown) == names, kind
    ends = "[...document.querySelectorAll('#{} .name')].map((one) => one.textContent[0]).join('')"
    assert page.run(ends.format("worst")) == "defc"
    assert page.run(ends.format("best")) == "a"
    page.run("severstal.viewer.open(0, severstal.gallery.images(), null)")
    settled(page, 0)
    wide = page.run("document.getElementById('viewer').clientWidth")
    assert page.run("document.querySelector('.stage').clientWidth") > wide - 80


COLOURED = """(() => {
    const canvas = document.querySelector("#panels canvas");
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((value, at) => at % 4 === 3 && value).length;
})()"""
"""Number of pixels of the first panel that are not transparent."""


def test_ground_truth_and_masks_are_drawn_and_can_be_hidden(page, shown) -> None:
    result, runs = shown
    page.open(result.page)
    scored = scoring.score_runs(ScoreConfig(runs=(runs[0],)))
    image = int(np.flatnonzero((scored.there & scored.found).any(axis=1))[0])
    page.run(f"severstal.viewer.open({image}, severstal.gallery.images(), null)")
    settled(page, image)
    both = page.run(COLOURED)
    page.key("t")
    outline = page.run(COLOURED)
    page.key("t")
    page.key("1")
    tint = page.run(COLOURED)
    assert 0 < outline < both
    assert 0 < tint < both
    page.key("t")
    assert page.run(COLOURED) == 0
    page.key("1")
    channel = int(np.flatnonzero(scored.found[image])[0])
    slider = f"""document.querySelector('[data-table="0"] [data-channel="{channel}"] input')"""
    page.run(f"{slider}.value = {slider}.max; {slider}.dispatchEvent(new Event('input'))")
    assert page.run(COLOURED) < outline  # disabled


def test_post_processing_can_be_switched_off(page, shown) -> None:
    """The second run drops components below 30 pixels and masks below 60: without that there are as many or more."""
    result, _ = shown
    page.open(result.page)
    found = """[...document.querySelectorAll('[data-table="1"] .predicted')]
        .map((one) => Number(one.textContent.replace(",", "")))"""
    more = 0
    for image in range(result.images):
        page.run(f"severstal.viewer.open({image}, severstal.gallery.images(), null)")
        settled(page, image)
        for place in range(0, 30, 2):
            for channel in (0, 1):
                slider = f"""document.querySelector('[data-table="1"] [data-channel="{channel}"] input')"""
                page.run(f"{slider}.value = {place}; {slider}.dispatchEvent(new Event('input'))")
            kept = page.run(found)
            page.run("document.getElementById('postprocess').click()")
            free = page.run(found)
            page.run("document.getElementById('postprocess').click()")
            assert all(one <= other for one, other in zip(kept, free, strict=True))
            more += sum(free) - sum(kept)
    assert more > 0


def test_least_recently_used_levels_are_evicted(page, shown) -> None:
    result, _ = shown
    page.open(result.page)
    state = """(() => {
        const kept = [...severstal.loader.cached.levels];
        return [kept.map(([key]) => key), kept.reduce((sum, [, one]) => sum + one.size, 0)];
    })()"""

    def look(image: int) -> tuple[list[str], int]:
        page.run(f"severstal.viewer.open({image}, severstal.gallery.images(), null)")
        settled(page, image)
        keys, size = page.run(state)
        return keys, size

    for image in range(4):
        keys, size = look(image)
    assert len(keys) >= 8
    assert size > 0
    page.run(f"severstal.loader.limits.levels = {size - 1}")
    keys, left = look(4)
    assert left < size
    assert "levels/000001-0" not in keys
    assert "levels/000005-0" in keys
    page.run("severstal.loader.limits.levels = 0")
    assert len(look(5)[0]) == 1


def test_a_missing_file_hides_the_figures_of_the_previous_image(page, shown, tmp_path: Path) -> None:
    result, _ = shown
    folder = Path(shutil.copytree(result.page.parent, tmp_path / "out"))
    for path in (*folder.glob("masks/000002.js"), *folder.glob("levels/000002-*.js")):
        path.unlink()
    page.open(folder / result.page.name)
    seen = "getComputedStyle(document.querySelector('[data-table]')).visibility"
    page.run("severstal.viewer.open(0, severstal.gallery.images(), null)")
    settled(page, 0)
    assert page.run(seen) == "visible"
    page.run("severstal.viewer.open(1, severstal.gallery.images(), null)")
    page.wait("document.getElementById('status').textContent.endsWith('is missing or damaged')")
    assert page.run(seen) == "hidden"
    page.run("severstal.viewer.open(0, severstal.gallery.images(), null)")
    settled(page, 0)
    assert page.run(seen) == "visible"
    assert page.faults, "the console reports the missing file"
    assert all("000002" in fault for fault in page.faults)
    page.faults.clear()


def test_keys_work_at_both_ends_and_beside_the_controls(page, shown) -> None:
    result, _ = shown
    page.open(result.page)
    gallery(page)
    page.run("document.querySelector('#cards [data-number=\"0\"]').focus()")
    page.key("Enter")
    settled(page, page.run("severstal.gallery.images()[0]"))
    page.key("ArrowLeft")  # there is none before it
    assert page.run(PLACE) == 0
    page.key("ArrowRight")
    settled(page, page.run("severstal.gallery.images()[1]"))
    assert page.run(PLACE) == 1
    page.run("document.querySelector('#sliders input').focus()")
    for place in (2, 3):
        page.key("j")
        settled(page, page.run(f"severstal.gallery.images()[{place}]"))
    for place in range(4, result.images):
        page.run("document.getElementById('next').focus()")
        page.key("Enter")
        settled(page, page.run(f"severstal.gallery.images()[{place}]"))
    page.key("ArrowRight")  # there is none after it
    assert page.run(PLACE) == result.images - 1
    page.run("document.activeElement.blur()")
    page.key("ArrowLeft")
    settled(page, page.run(f"severstal.gallery.images()[{result.images - 2}]"))
    assert page.run(PLACE) == result.images - 2


def test_the_gallery_holds_visible_cards_only(page, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    rows = ["ImageId,ClassId,EncodedPixels"]
    for number in range(240):
        cv2.imwrite(str(folder / f"{number:03}.png"), np.full((20, 40), number, np.uint8))
        rows.append(f"{number:03}.png,1,{1 + number} 9")
    (tmp_path / "s.csv").write_text("\n".join(rows) + "\n")
    result = reporting.report(ReportConfig(shown=(tmp_path / "s.csv",), images=folder, out=tmp_path / "out"))
    page.open(result.page)
    gallery(page)
    seen = set()
    height = page.run("document.documentElement.scrollHeight")
    for top in range(0, height, 450):
        page.run(
            f"scrollTo({{ top: {top}, behavior: 'instant' }}); new Promise((done) => "
            "requestAnimationFrame(() => setTimeout(done)))"
        )
        shown = page.run("[...document.querySelectorAll('#cards .card')].map((one) => Number(one.dataset.number))")
        assert len(shown) <= 60
        seen |= set(shown)
        if shown:  # Tab reaches one of them
            assert page.run("[...document.querySelectorAll('#cards .card')].filter((one) => one.tabIndex === 0).length")
    assert seen == set(range(240))


def test_every_control_has_an_accessible_name(page, shown) -> None:
    page.open(shown[0].page)
    page.run("severstal.viewer.open(0, severstal.gallery.images(), null)")
    settled(page, 0)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = [
        node
        for node in nodes
        if node.get("role", {}).get("value")
        in ("button", "checkbox", "slider", "combobox", "radio", "searchbox", "dialog")
    ]
    assert len(controls) > 8
    assert all(node["name"]["value"].strip() for node in controls)


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(page, shown, width: int) -> None:
    page.open(shown[0].page, (width, 900))
    assert page.run(BEYOND) == []
    gallery(page)
    assert page.run(BEYOND) == []
    page.run("severstal.viewer.open(0, severstal.gallery.images(), null)")
    settled(page, 0)
    assert page.run("document.getElementById('viewer').scrollWidth") <= width


def test_odd_names_are_harmless(page, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ODD:
        done, data = cv2.imencode(".png", np.full((40, 60), 90, np.uint8))
        assert done
        (folder / name).write_bytes(data.tobytes())
    for table in ("one.csv", "two.csv"):
        with (tmp_path / table).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("ImageId", "ClassId", "EncodedPixels"))
            writer.writerows((name, 1, "41 20 81 20") for name in ODD)
    result = reporting.report(
        ReportConfig(shown=(tmp_path / "one.csv",), truth=tmp_path / "two.csv", images=folder, out=tmp_path / "out")
    )
    page.open(result.page)
    assert sorted(page.run("severstal.index.names")) == sorted(ODD)
    gallery(page)
    assert sorted(page.run("[...document.querySelectorAll('#cards .name')].map((one) => one.textContent)")) == sorted(
        ODD
    )
    for image, name in enumerate(page.run("severstal.index.names")):
        page.run(f"severstal.viewer.open({image}, severstal.gallery.images(), null)")
        settled(page, image)
        assert page.run("document.getElementById('viewer-name').textContent") == name
        assert page.run("document.querySelector('#panels img').complete")
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0
    assert page.run("Number(document.querySelector('.mean').dataset.dice)") == 1.0


def test_a_submission_without_truth_is_shown_and_not_scored(page, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((40, 60), 90, np.uint8))
    (tmp_path / "s.csv").write_text("ImageId,ClassId,EncodedPixels\na.png,2,41 20\n")
    result = reporting.report(ReportConfig(shown=(tmp_path / "s.csv",), images=folder, out=tmp_path / "out"))
    assert result.scores == {"s": None}
    page.open(result.page)
    assert "nothing is scored" in page.run("document.body.textContent")
    page.run("severstal.viewer.open(0, severstal.gallery.images(), null)")
    settled(page, 0)
    assert page.run("document.querySelectorAll('#viewer input[type=range]').length") == 0
    assert page.run("document.querySelector('[data-channel=\"1\"] .predicted').textContent") == "20"
