"""The pictures of docs/ and README.md, made anew from synthetic steel.

    python bench/pictures.py --work DIR [--chromium /usr/bin/chromium]

Runs the demo in DIR, unless it is there, and writes docs/curves.png (the training of linknet), docs/thresholds.png (its
search), docs/panel.png (`compare`), and docs/report.png, docs/report-phone.png and docs/report-dark.png (`report`, as a
browser shows it).
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parents[1] / "docs"
SEVERSTAL = [sys.executable, "-m", "severstal_cli"]


def run(work, *arguments):
    print("severstal", *arguments, flush=True)
    subprocess.run([*SEVERSTAL, *map(str, arguments)], cwd=work, check=True)


def prepare(work):
    """The demo's runs, and their comparison."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "demo" / "comparison.png").exists():
        run(work, "demo", "demo")
    runs = [f"demo/models/{arch}-resnet18-fold0" for arch in ("linknet", "unet")]
    run(work, "compare", *runs, "--out", "comparison")
    return runs


def smaller(source, target, width):
    """A PNG of at most `width` and 256 colours: pictures of a page and of steel lose little by it."""
    with Image.open(source) as picture:
        found = picture.convert("RGB")
        if found.width > width:
            found = found.resize((width, round(found.height * width / found.width)), Image.Resampling.LANCZOS)
        found.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target}: {target.stat().st_size / 1024:.0f} kB", flush=True)


def screenshot(chromium, page, target, size, *, dark=False):
    """The page as a browser of this window shows it."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 f"--user-data-dir={folder}/profile", f"--window-size={size[0]},{size[1]}", f"--screenshot={shot}",
                 "--virtual-time-budget=8000"]  # fmt: skip
        dark_flags = ["--blink-settings=preferredColorScheme=0"] if dark else []
        subprocess.run([chromium, *flags, *dark_flags, page.resolve().as_uri()], check=True, capture_output=True)
        smaller(shot, target, 1280)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    options = parser.parse_args()
    runs = prepare(options.work)
    smaller(options.work / runs[0] / "history.png", DOCS / "curves.png", 960)
    smaller(options.work / runs[0] / "thresholds.png", DOCS / "thresholds.png", 1280)
    smaller(options.work / "comparison" / "comparison.png", DOCS / "panel.png", 1100)
    page = options.work / "report"
    run(options.work, "report", *runs, "--out", page.name)
    screenshot(options.chromium, page / "index.html", DOCS / "report.png", (1280, 1500))
    screenshot(options.chromium, page / "index.html", DOCS / "report-dark.png", (1280, 900), dark=True)
    screenshot(options.chromium, page / "index.html", DOCS / "report-phone.png", (400, 900))


if __name__ == "__main__":
    main()
