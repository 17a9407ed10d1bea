"""`check` and `score` on a submission of a million rows: seconds and peak memory.

    python bench/large_table.py TRAIN.csv [--classes 4] [--images 62500 250000]

Writes a submission for each number of `--images`, with the masks of the annotations and as many clean images,
and a ground truth with the same masks two images further. Then runs `severstal check` and `severstal score` on them,
each in its own process, imports included.
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


def assigned(masks_of, names, shift):
    """(image_id, channel) -> RLE for `names`, with the masks of each annotated image in turn."""
    chosen = (masks_of[(number + shift) % len(masks_of)] for number in range(len(names)))
    return {(name, channel): runs for name, of_image in zip(names, chosen, strict=True) for channel, runs in of_image}


def run(*arguments):
    """Seconds and MiB of a command, which must succeed."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "severstal_cli", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
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
    masks_of = [of_image for annotated in by_image.values() for of_image in (annotated, [])]
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            names = [f"{number:09d}.jpg" for number in range(count)]
            submission, truth = Path(folder) / "submission.csv", Path(folder) / "train.csv"
            masks = assigned(masks_of, names, 0)
            begun = time.perf_counter()
            rows = mask_table.write_table(submission, masks, names, options.classes, layout=mask_table.Layout.ORIGINAL)
            seconds, size = time.perf_counter() - begun, submission.stat().st_size
            print(f"{rows:,} rows, {len(masks):,} masks, {size / 1e6:.0f} MB: written in {seconds:.1f} s", flush=True)
            mask_table.write_table(
                truth,
                assigned(masks_of, names, 2),
                names,
                options.classes,
                layout=mask_table.Layout.CURRENT,
                empty_rows=False,
            )
            for arguments in (["check", submission], ["score", submission, "--truth", truth]):
                seconds, peak = run(*arguments)
                print(
                    f"    {arguments[0]}: {seconds:.1f} s, {peak:,.0f} MiB; per row {1e6 * seconds / rows:.1f} µs, "
                    f"{peak * 2**20 / rows:.0f} bytes",
                    flush=True,
                )


if __name__ == "__main__":
    main()
