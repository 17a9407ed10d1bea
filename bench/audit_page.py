"""The page of an audit: time to write it, size of the folder, speed of the page.

    python bench/audit_page.py --work WORK --images 3000 --findings 5000

A small set is drawn by `severstal synth`; --images links to its images have names of their own. Each of --findings
rows is about a drawn component as if it was invented, so the table is as large as that of a real audit. The page then
opens in a headless Chromium; printed are the times to the first paint, until the page is ready, and until the first
finding is drawn, the slowest filter (until the next frame is painted), the time from a choice until the next finding is
drawn, the time to export, and the memory. Needs websocket-client and the browser, as the tests of the page do. The
cache of the images takes 0.4 MB each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "report"))
import chromium
import numpy as np

from severstal_cli.config import ReportConfig
from severstal_cli.progress import TerminalProgress
from severstal_cli.stages import reporting
from severstal_cli.steel.audit import finding_table
from severstal_cli.steel.audit.class_parts import touched
from severstal_cli.steel.audit.findings import Finding, Kind, box_of
from severstal_cli.steel.dataset import data_folder
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables import mask_table

SIZE, DRAWN = (256, 1600), 96
PAINTED = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
CHANGE = (
    "(async () => {{ const begun = performance.now(); {act}; await {painted}; return performance.now() - begun; }})()"
)
KEY = """(async () => {{
    const section = document.getElementById("finding"), before = section.dataset.shown, begun = performance.now();
    document.dispatchEvent(new KeyboardEvent("keydown", {{ key: "{key}" }}));
    while (section.dataset.shown === before || section.dataset.shown === undefined) await {painted};
    return performance.now() - begun;
}})()"""


def components(mask):
    """The 8-connected components of a mask, as RLE."""
    left = rle.decode(mask, SIZE)
    while left.any():
        seed = np.zeros(SIZE, np.bool_)
        seed[np.unravel_index(int(left.argmax()), SIZE)] = True
        part = touched(left, seed)
        yield part
        left &= ~part


def make(work, images, count):
    """A data folder of links, and the table of its audit."""
    small, data = work / "small", work / "data"
    if not small.exists():
        subprocess.run([sys.executable, "-m", "severstal_cli", "synth", str(small), "--images", str(DRAWN)], check=True)
    if not data.exists():
        table = mask_table.read_table(small / "train.csv")
        (data / "train_images").mkdir(parents=True)
        masks, names = {}, []
        sources = sorted((small / "train_images").iterdir())
        for number in range(images):
            source = sources[number % len(sources)]
            name = f"{number:05}-{source.name}"
            (data / "train_images" / name).symlink_to(source.resolve())
            names.append(name)
            for channel in range(table.classes):
                if (source.name, channel) in table.masks:
                    masks[name, channel] = table.masks[source.name, channel]
        mask_table.write_table(data / "train.csv", masks, names, table.classes, layout=mask_table.Layout.CURRENT)
    folder = data_folder.open_data_folder(data, TerminalProgress())
    known, found = {}, []
    keys = sorted(folder.masks)
    while len(found) < count:
        for name, channel in keys:
            source = name.partition("-")[2], channel
            if source not in known:
                known[source] = [
                    (rle.encode(part), box_of(part), int(part.sum()))
                    for part in components(folder.masks[name, channel])
                ]
            score = round(1 - len(found) / count, 4)
            found += [
                Finding(
                    image_id=name,
                    class_id=channel + 1,
                    kind=Kind.INVENTED,
                    score=score,
                    box=box,
                    pixels=pixels,
                    mask=mask,
                )
                for mask, box, pixels in known[source]
            ]
    finding_table.write(work / "audit.csv", found[:count])
    origin = {"data": str(data.resolve()), "data_fingerprint": folder.fingerprint, "class_names": []}
    (work / "audit.json").write_text(json.dumps(origin))


def median(values):
    return sorted(values)[len(values) // 2]


def measure(path):
    with tempfile.TemporaryDirectory() as folder:
        page = chromium.Page(Path(folder))
        page.call("Performance.enable")
        readies, paints, drawn = [], [], []
        for _ in range(5):
            readies.append(page.open(path))
            page.wait("document.getElementById('finding').dataset.shown === '0'")
            drawn.append(page.run("performance.now()"))  # later than true by up to the 20 ms between two looks
            page.run(PAINTED)
            paints.append(page.wait("performance.getEntriesByName('first-contentful-paint')[0]?.startTime"))
        print(
            f"first paint {median(paints):.0f} ms, ready {median(readies):.0f} ms (1,000), first finding drawn "
            f"{median(drawn):.0f} ms; medians of 5"
        )
        acts = [f"document.getElementById('kind-{kind}').click()" for kind in (1, 0, -1)]
        for box, values in (("class", ("0", "-1")), ("decision", ("", "accept", "all"))):
            acts += [
                f"const box = document.getElementById('{box}'); box.value = '{value}'; "
                "box.dispatchEvent(new Event('change'))"
                for value in values
            ]
        acts += [
            f"const box = document.getElementById('search'); box.value = '{text}'; "
            "box.dispatchEvent(new Event('input'))"
            for text in ("a", "ab", "")
        ]
        took = [median([page.run(CHANGE.format(act=act, painted=PAINTED)) for _ in range(3)]) for act in acts]
        print(f"slowest of {len(acts)} filters: {max(took):.0f} ms (100)")
        page.open(path)
        page.wait("document.getElementById('finding').dataset.shown === '0'")
        keys = [page.run(KEY.format(key=key, painted=PAINTED)) for key in "arsj" * 50]
        print(f"a choice until the next finding is drawn: median {median(keys):.0f} ms, slowest {max(keys):.0f} ms")
        begun = time.perf_counter()
        size = page.run("severstal.choices.table().then((text) => text.length)")
        print(f"export: {time.perf_counter() - begun:.2f} s, {size / 1e6:.1f} MB")
        page.call("HeapProfiler.collectGarbage")
        found = {one["name"]: one["value"] for one in page.call("Performance.getMetrics")["metrics"]}
        print(
            f"{found['JSHeapUsedSize'] / 1e6:.1f} MB of JavaScript heap, {page.resident_bytes() / 1e6:.0f} MB of all "
            f"processes, {found['Nodes']:.0f} nodes"
        )
        assert not page.faults, page.faults
        page.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--findings", type=int, default=5000)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    make(options.work, options.images, options.findings)
    begun, used = time.perf_counter(), time.process_time()
    result = reporting.report(ReportConfig(shown=(options.work / "audit.csv",), out=options.work / "page"))
    print(
        f"{result.findings:,} findings in {result.images:,} images: {time.perf_counter() - begun:.0f} s "
        f"({time.process_time() - used:.0f} s of CPU time), {result.size_bytes / 1e6:.0f} MB"
    )
    index = (options.work / "page" / "data" / "index.js").stat().st_size
    print(f"read before the first finding: {index / 1e3:.0f} kB of data/index.js, and 4 small files")
    measure(options.work / "page" / "index.html")


if __name__ == "__main__":
    main()
