"""Peak memory of a prediction for several numbers of images, and the speed of an ensemble.

    python bench/prediction_scale.py IMAGES RUN [RUN...] [--counts 500 5500] [--tta none] [--batch-size 8]

For each of `--counts`, `severstal predict` runs in a process of its own on that many images of the folder, and its
images/s and peak memory are printed. For an ensemble as in the competition give 9 runs and `--tta hflip,vflip`; the
last line estimates the time for the competition's 5,506 images.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

COMPETITION_IMAGES = 5506


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 5500])
    parser.add_argument("--tta", default="none")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    paths = sorted(options.data_folder.resolve().iterdir())
    peaks = []
    for count in options.counts:
        if len(paths) < count:
            sys.exit(f"{options.data_folder} has {len(paths)} images, {count} are asked for")
        with tempfile.TemporaryDirectory() as folder:
            images, out = Path(folder) / "images", Path(folder) / "submission.csv"
            images.mkdir()
            for path in paths[:count]:
                (images / path.name).symlink_to(path)
            runs = [part for run in options.runs for part in ("--model", run)]
            command = [
                sys.executable,
                "-m",
                "severstal_cli",
                "predict",
                images,
                *runs,
                "--tta",
                options.tta,
                "--out",
                out,
                "--engine",
                options.engine,
                "--batch-size",
                str(options.batch_size),
            ]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"{' '.join(map(str, command))} ended with {os.waitstatus_to_exitcode(status)}")
            metadata = json.loads(out.with_suffix(".json").read_text())
        peaks.append(usage.ru_maxrss / 1024)
        rate = metadata["images_per_s"]
        print(
            f"{count} images, {len(options.runs)} runs by {metadata['engines'][0]}, views {metadata['tta']}: "
            f"{rate:.2f} images/s, at most {peaks[-1]:,.0f} MiB",
            flush=True,
        )
    if len(peaks) > 1:
        print(f"memory of the last over the first: {peaks[-1] / peaks[0]:.3f}")
    print(f"{COMPETITION_IMAGES:,} images: {COMPETITION_IMAGES / rate / 3600:.2f} hours")


if __name__ == "__main__":
    main()
