"""`severstal report` at the competition's size: time beyond the network, size of the folder, and how quick its page is.

    severstal synth set --images 2100
    severstal split --data set --holdout 0.898
    severstal train --data set --arch linknet --encoder resnet18 --encoder-weights none --time-limit 5m
    severstal thresholds models/linknet-resnet18-fold0
    python bench/report.py models/linknet-resnet18-fold0 --out report [--page-alone]

Times the levels of the holdout as the network gives them, then the report with them; then opens the page in a headless
Chromium: time to the first paint and until all works, the slowest filter, order and search of all, each until the next
frame is painted, and what the page holds after scrolling through all images, and through them again. Needs
websocket-client and the browser, as the tests of the page do. --page-alone looks at a report that is there.
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
    part = held_out.open_holdout([run], None, SILENT)
    views = ensemble.read([run]).views
    begun = time.perf_counter()
    count = sum(1 for _ in part.levels(views=views, batch_size=8, progress=TerminalProgress()))
    alone = time.perf_counter() - begun
    begun = time.perf_counter()
    result = reporting.report(ReportConfig(shown=(run,), out=out), TerminalProgress())
    whole = time.perf_counter() - begun
    print(f"{count} images: the network {alone:.0f} s, the report {whole:.0f} s, {whole - alone:+.0f} s beyond it (60)")
    print(f"{result.size_bytes / 1e6:.0f} MB (250)", flush=True)


def changes():
    """What a person does above the gallery: a name, the control, and what is done to it."""
    for kind in ("right", "partial", "missed", "false", "all"):
        yield f"kind {kind}", f"kind-{kind}", "box.click()"
    for box, values in (("class", ("0", "-2", "-1")),
                        ("order", ("name", "worst", "best", "unconfident", "confident", "set"))):  # fmt: skip
        for value in values:
            yield f"{box} {value}", box, f'box.value = "{value}"; box.dispatchEvent(new Event("change"))'
    for text in ("a", "ab", ""):
        yield f"search {text!r}", "search", f'box.value = "{text}"; box.dispatchEvent(new Event("input"))'


def memory(page):
    """Megabytes of scripts and of the page's processes, and nodes of the document, after a collection."""
    page.call("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in page.call("Performance.getMetrics")["metrics"]}
    return found["JSHeapUsedSize"] / 1e6, page.resident_bytes() / 1e6, int(found["Nodes"])


def scroll(page):
    """Through all images, a window at a time, each painted."""
    height, window = page.run("[document.documentElement.scrollHeight, innerHeight]")
    for top in range(0, height, window):
        page.run(f"scrollTo({{ top: {top}, behavior: 'instant' }}); {PAINTED}")


def look(path):
    with tempfile.TemporaryDirectory() as folder:
        page = chromium.Page(Path(folder))
        page.call("Performance.enable")
        readies, paints = [], []
        for _ in range(5):
            readies.append(page.open(path))
            page.run(PAINTED)
            paints.append(page.run("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        print(
            f"first paint {sorted(paints)[2]:.0f} ms, all there {sorted(readies)[2]:.0f} ms (1,000); of 5, the median"
        )
        page.run(f"document.getElementById('gallery').scrollIntoView({{ behavior: 'instant' }}); {PAINTED}")
        took = {}
        for name, box, act in list(changes()) * 3:
            took.setdefault(name, []).append(page.run(CHANGE.format(box=box, act=act, painted=PAINTED)))
        slowest = max(took, key=lambda name: sorted(took[name])[1])
        print(
            f"slowest of {len(took)} filters, orders and searches: {slowest}, {sorted(took[slowest])[1]:.0f} ms (100)"
        )
        page.run(f"document.getElementById('reset').click(); {PAINTED}")
        print("megabytes of scripts, of all processes, nodes of the document:")
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
    look(options.out / "index.html")


if __name__ == "__main__":
    main()
