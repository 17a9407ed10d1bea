"""A submission in parts, as `predict --keep-parts` leaves it: what `check` and `score` take to read it as one table.

    python bench/parts.py TRAIN.csv [--classes 4] [--images 62500 250000]

Deals the masks of annotations, and as many clean images as they had, to as many images as each of `--images` says, and
writes them in parts, and as the truth the same masks dealt two images further. Then `severstal check` and `severstal
score` on it, each in a process of its own: seconds and most memory, imports included, and what they are a row.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from severstal_cli.steel.tables import mask_table
from severstal_cli.steel.tables.shards import Parts


def dealt(masks_of, names, shift):
    """(image_id, channel) -> runs for `names`, by turns those of each image."""
    given = (masks_of[(number + shift) % len(masks_of)] for number in range(len(names)))
    return {(name, channel): runs for name, of_image in zip(names, given, strict=True) for channel, runs in of_image}


def run(*arguments):
    """Seconds and MiB of a command, which must end well."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "severstal_cli", *map(str, arguments)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"severstal {' '.join(map(str, arguments))} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--images", type=int, nargs="+", default=[62_500, 250_000])
    options = parser.parse_args()
    by_image = defaultdict(list)
    for (image_id, channel), runs in mask_table.read_table(options.annotations).masks.items():
        by_image[image_id].append((channel, runs))
    masks_of = [of_image for found in by_image.values() for of_image in (found, [])]
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            names = [f"{number:09d}.jpg" for number in range(count)]
            parts = Parts(Path(folder) / "table.parts", [Path(folder) / name for name in names], {},
                          mask_table.Layout.ORIGINAL)  # fmt: skip
            parts.begin(resume=False)
            masks = dealt(masks_of, names, 0)
            begun = time.perf_counter()
            for number, group in parts.images.items():
                own = {(path.name, channel): runs for path in group for channel in range(options.classes)
                       if (runs := masks.get((path.name, channel))) is not None}  # fmt: skip
                parts.write(number, own, {path.name: [0.5] * options.classes for path in group}, {}, options.classes)
            seconds = time.perf_counter() - begun
            size = sum(path.stat().st_size for path in parts.folder.glob("part-?????.csv"))
            rows = count * options.classes
            print(f"{rows:,} rows, {len(masks):,} masks, {len(parts.images)} parts, {size / 1e6:.0f} MB: "
                  f"written in {seconds:.1f} s", flush=True)  # fmt: skip
            truth = Path(folder) / "train.csv"
            mask_table.write_table(truth, dealt(masks_of, names, 2), names, options.classes,
                               layout=mask_table.Layout.CURRENT, empty_rows=False)  # fmt: skip
            for arguments in (["check", parts.folder], ["score", parts.folder, "--truth", truth]):
                seconds, peak = run(*arguments)
                print(f"    {arguments[0]}: {seconds:.1f} s, {peak:,.0f} MiB; a row {1e6 * seconds / rows:.1f} µs, "
                      f"{peak * 2**20 / rows:.0f} bytes", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
