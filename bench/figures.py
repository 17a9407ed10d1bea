"""Make the figures of docs/ and README.md from synthetic steel.

    python bench/figures.py --work DIR

Runs `severstal demo DIR` unless DIR holds a demo. Then writes docs/curves.png (training of linknet),
docs/thresholds.png (its threshold search), docs/panel.png (`compare`) and docs/report*.png (screenshots of `report` in
Chromium). Like the tests of the page, it needs Chromium and websocket-client.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "report"))
import chromium

DOCS = Path(__file__).resolve().parents[1] / "docs"
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 300))))"
PRESENT = """(() => {
    const { filters } = severstal;
    const good = (image) => filters.classesOf(1, image).filter(({ dice }) => dice > 0.6 && dice < 0.95).length;
    return Array.from({ length: filters.count }, (_, image) => image).sort((a, b) => good(b) - good(a) || a - b)[0];
})()"""
"""JavaScript: the image with the most defects of medium Dice."""


def save(image, target, width, colours=None):
    """Save a PNG of at most `width`, with a palette of `colours` if given."""
    image = image.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    if colours:
        image = image.quantize(colours, dither=Image.Dither.NONE)
    image.save(target, optimize=True)
    print(f"{target}: {target.stat().st_size / 1024:.0f} kB", flush=True)


def smaller(source, target, width):
    with Image.open(source) as image:
        save(image, target, width, 256)


def screenshots(page_file, folder):
    page = chromium.Page(folder / "profile")

    def shot(name, size, *, dark=False, act=""):
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        page.call("Emulation.setEmulatedMedia", features=theme)
        page.open(page_file, size)
        page.run(f"{act};{FRAMES}")
        page.screenshot(folder / "shot.png")
        with Image.open(folder / "shot.png") as image:
            save(image, DOCS / name, 1280)

    gallery = "document.getElementById('gallery').scrollIntoView({ behavior: 'instant' })"
    shot("report.png", (1280, 800))
    shot("report-dark.png", (1280, 900), dark=True, act=gallery)
    shot("report-phone.png", (400, 850))
    shot("report-image.png", (1280, 860), act=f"severstal.viewer.open({PRESENT}, severstal.gallery.images(), null)")
    page.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    if not (options.work / "report" / "index.html").exists():
        subprocess.run([sys.executable, "-m", "severstal_cli", "demo", options.work], check=True)
    run_folder = options.work / "models" / "linknet"
    smaller(run_folder / "history.png", DOCS / "curves.png", 960)
    smaller(run_folder / "thresholds.png", DOCS / "thresholds.png", 1280)
    smaller(options.work / "comparison" / "comparison.png", DOCS / "panel.png", 1100)
    with tempfile.TemporaryDirectory() as folder:
        screenshots(options.work / "report" / "index.html", Path(folder))


if __name__ == "__main__":
    main()
