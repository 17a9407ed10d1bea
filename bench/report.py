"""`severstal report` at the competition's size: time beyond prediction, size of the folder, speed of the page.

    severstal synth set --images 2100
    severstal split --data set --holdout 0.898
    severstal train --data set --arch linknet --encoder resnet18 --encoder-weights none --time-limit 5m
    severstal thresholds models/linknet-resnet18-fold0
    python bench/report.py models/linknet-resnet18-fold0 --out report [--page-alone]

Times the prediction of the holdout alone, then the whole report. Then opens the page in a headless Chromium and prints
the time to the first paint and until the page is ready, the slowest filter, sort and search (each until the next frame
is painted), and the memory of the page after scrolling through all images several times. Needs websocket-client and the
browser, as the tests of the page do. --page-alone measures an existing report.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "report"))
import chromium

from severstal_cli.config import ReportConfig
from severstal_cli.learning.inference import ensemble, held_out
from severstal_cli.progress import SILENT, TerminalProgress
from severstal_cli.stages import reporting

PAINTED = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
CHANGE = """(async () => {{
    const box = document.getElementById("{box}");
    const begun = performance.now();
    {act};
    await {painted};
    return performance.now() - begun;
}})()"""


def build(run, out):
    subset = held_out.open_holdout([run], None, SILENT)
    views = ensemble.read([run]).views
    begun = time.perf_counter()
    count = sum(1 for _ in subset.levels(views=views, exclusive=False, batch_size=8, progress=TerminalProgress()))
    alone = time.perf_counter() - begun
    begun = time.perf_counter()
    result = reporting.report(ReportConfig(shown=(run,), out=out), TerminalProgress())
    whole = time.perf_counter() - begun
    print(
        f"{count} images: prediction {alone:.0f} s, report {whole:.0f} s, {whole - alone:+.0f} s beyond prediction (60)"
    )
    print(f"{result.size_bytes / 1e6:.0f} MB (250)", flush=True)


def changes():
    """Uses of the controls above the gallery: name, id of the control, script."""
    for kind in ("right", "partial", "missed", "false", "all"):
        yield f"kind {kind}", f"kind-{kind}", "box.click()"
    for box, values in (
        ("class", ("0", "-2", "-1")),
        ("order", ("name", "worst", "best", "unconfident", "confident", "set")),
    ):
        for value in values:
            yield f"{box} {value}", box, f'box.value = "{value}"; box.dispatchEvent(new Event("change"))'
    for text in ("a", "ab", ""):
        yield f"search {text!r}", "search", f'box.value = "{text}"; box.dispatchEvent(new Event("input"))'


def memory(page):
    """MB of JavaScript heap and of all processes, and nodes of the document, after garbage collection."""
    page.call("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in page.call("Performance.getMetrics")["metrics"]}
    return found["JSHeapUsedSize"] / 1e6, page.resident_bytes() / 1e6, int(found["Nodes"])


def scroll(page):
    """Scroll through all images by one window at a time, and wait for each paint."""
    height, window = page.run("[document.documentElement.scrollHeight, innerHeight]")
    for top in range(0, height, window):
        page.run(f"scrollTo({{ top: {top}, behavior: 'instant' }}); {PAINTED}")


def measure(path):
    with tempfile.TemporaryDirectory() as folder:
        page = chromium.Page(Path(folder))
        page.call("Performance.enable")
        readies, paints = [], []
        for _ in range(5):
            readies.append(page.open(path))
            page.run(PAINTED)
            paints.append(page.run("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        print(f"first paint {sorted(paints)[2]:.0f} ms, ready {sorted(readies)[2]:.0f} ms (1,000); medians of 5")
        page.run(f"document.getElementById('gallery').scrollIntoView({{ behavior: 'instant' }}); {PAINTED}")
        took = {}
        for name, box, act in list(changes()) * 3:
            took.setdefault(name, []).append(page.run(CHANGE.format(box=box, act=act, painted=PAINTED)))
        slowest = max(took, key=lambda name: sorted(took[name])[1])
        print(f"slowest of {len(took)} filters, sorts and searches: {slowest}, {sorted(took[slowest])[1]:.0f} ms (100)")
        page.run(f"document.getElementById('reset').click(); {PAINTED}")
        print("MB of JavaScript heap, MB of all processes, nodes of the document:")
        for when in ("at first", "after all images", "after all of them again", "and again"):
            print("    {:22} {:6.1f} {:7.0f} {:6}".format(when, *memory(page)), flush=True)
            scroll(page)
        assert not page.faults, page.faults
        page.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page-alone", action="store_true")
    options = parser.parse_args()
    if not options.page_alone:
        build(options.run, options.out)
    measure(options.out / "index.html")


if __name__ == "__main__":
    main()
