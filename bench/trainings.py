"""Run several trainings, and print tables of their scores. Finished trainings are kept: the same command resumes.

    python bench/trainings.py ablation --data DATA --out OUT --minutes 20 --seeds 0 1 2 --arch unet --encoder resnet18
    python bench/trainings.py ablation --data DATA --out OUT --epochs 10 --seeds 0 1 2 --arch linknet
    python bench/trainings.py plain --data DATA --out OUT --minutes 30 --seeds 0 1 2 --encoder resnet18
    python bench/trainings.py study --data DATA --out OUT --minutes 30 --encoder resnet18
    python bench/trainings.py ablation --out OUT --table

Each training writes OUT/TABLE/NAME-SEED.json, a log and a run; `--table` prints the table of the finished ones.

ablation  The defaults, and the defaults with one change each (`INGREDIENTS`). Scored on the validation fold, fold
          SEED % folds, never on the holdout, because this table chooses the defaults. At threshold 0.5, and with
          thresholds tuned on the other half of the fold (`bench/fold_score.py`); differences are to the defaults with
          the same seed. The fold also chose the best epoch, so all scores are slightly too high, and most of all
          "mean of 3 epochs", which is kept only if it is better on this fold. The best of many rows is partly luck:
          try it with other seeds. With `--minutes` slower variants train less, and nothing else may run at the same
          time; with `--epochs` other load does not matter.
plain     `severstal train` and `thresholds --tta flips` with default settings against `bench/plain_script.py` in the
          same wall-clock time, scored once on the holdout. `train` gets `--minutes` minus `--reserve`, which is for
          start-up and threshold search; the table has the real minutes, including start-up but not scoring.
study     The two small networks of the original study, trained as in the study, at threshold 0.5, against our unet
          and linknet with `--minutes` of training; on the holdout. Differences from the study: one grey channel,
          normalised; AdamW without weight decay, with a cosine schedule to zero (study: Adam, constant 1e-3); Dice
          per image and class instead of pooled; random flips instead of an additional flipped copy of each image; a
          fold of our split instead of a random 15 % for the choice of the best epoch.

Intervals are 95 % intervals by Student's t over seeds: they cover other seeds (in `ablation` other folds, too), not
other images. Parallel trainings (`--jobs`) need a core for each of their threads.
"""

import argparse
import ctypes
import dataclasses
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training_tables import TABLES, Results

from severstal_cli.config import TrainConfig
from severstal_cli.learning.training import history
from severstal_cli.progress import TerminalProgress
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.masks.postprocess import ClassPostprocess

BASE: dict[str, Any] = {}
"""Settings of `TrainConfig` that all trainings of `ablation` have; the rest are defaults."""

INGREDIENTS: dict[str, dict[str, Any]] = {
    "no head": {"head_weight": 0.0},
    "batches of 4": {"batch_size": 4},
    "half size first": {"half_size_share": 0.3},
    "higher rate": {"learning_rate": 3e-3},
    "lovasz last": {"lovasz_weight": 0.5, "lovasz_share": 0.25},
    "mean of 3 epochs": {"best_epochs": 3},
    "no average": {"average_decay": 0.0},
    "no light": {"brightness": 0.0, "contrast": 0.0},
    "paste": {"paste_share": 0.3},
    "whole images last": {"whole_image_share": 0.2},
    "steps of 16": {"step_images": 16},
    "lovasz": {"lovasz_weight": 0.5},
    "more pieces on defects": {"defect_share": 0.8},
    "mixed widths": {"crop_widths_px": [128, 160, 192]},
}
"""What is changed, the most promising first; some take away what is on by default."""

STUDY: dict[str, Any] = {
    "epochs": 15,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "warmup_share": 0.0,
    "weight_decay": 0.0,
    "average_decay": 0.0,
    "crop_height_px": 100_000,
    "crop_widths_px": [100_000],
    "defect_share": 0.0,
    "bce_weight": 1.0,
    "dice_weight": 1.0,
    "best_epochs": 1,
    "class_weights": [],
    "step_images": None,
    "precision": "32-true",
} | dict.fromkeys(
    (
        "brightness",
        "contrast",
        "paste_share",
        "half_size_share",
        "whole_image_share",
        "lovasz_weight",
        "head_weight",
    ),
    0.0,
)
"""Crops larger than any image: whole images. Ingredients are switched off by name, whatever the defaults are."""

BENCH = Path(__file__).parent
LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Job:
    """A training, and how it is scored: "fold", "searched" or "half" (the holdout), or "plain", which scores itself."""

    name: str
    seed: int
    scored: str
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        return f"{self.name.replace(' ', '_')}-{self.seed}"

    def asked(self, options: argparse.Namespace) -> dict[str, Any]:
        """All that its result depends on; it must be the same when a harness goes on."""
        there = {"scored": self.scored, "minutes": options.minutes, "threads": options.threads, "jobs": options.jobs}
        defaults = {} if self.scored == "plain" else dataclasses.asdict(TrainConfig())
        return json.loads(json.dumps(there | {"settings": dict(self.settings), "defaults": defaults}, default=str))


def jobs_of(options: argparse.Namespace, folds: int) -> list[Job]:
    """All seeds of a name come apart: a table of what is there soon has every name."""
    jobs = []
    for seed in options.seeds:
        common = {"data": str(options.data.resolve()), "encoder": options.encoder, "seed": seed}
        ours = common | {"encoder_weights": options.encoder_weights, "epochs": 1000}  # the time is over before
        if options.kind == "ablation":
            fixed = ours | {"arch": options.arch, "fold": seed % folds}
            fixed |= {"epochs": options.epochs} if options.epochs else {"time_limit_s": 60 * options.minutes}
            for name, extra in {"base": {}, **INGREDIENTS}.items():
                jobs.append(Job(name, seed, "fold", fixed | BASE | extra))
            continue
        limit_s = 60 * (options.minutes - (options.reserve if options.kind == "plain" else 0))
        for arch in ("unet", "linknet"):
            if options.kind == "study":
                jobs.append(Job(f"{arch}-small", seed, "half", common | {"arch": f"{arch}-small"} | STUDY))
            jobs.append(Job(arch, seed, "searched", ours | {"arch": arch, "time_limit_s": limit_s}))
            if options.kind == "plain":
                jobs.append(Job(f"{arch}-plain", seed, "plain", common | {"arch": arch}))
    known = {job.name for job in jobs}
    if unknown := set(options.only or known) - known:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return [job for job in jobs if options.only is None or job.name in options.only]


def is_done(job: Job, options: argparse.Namespace, place: Path) -> bool:
    path = place / f"{job.key}.json"
    if not path.exists():
        return False
    before, now = json.loads(path.read_text())["asked"], job.asked(options)
    # a setting that is newer than the result was off then
    common = before["defaults"].keys() & now["defaults"].keys()
    before["defaults"], now["defaults"] = ({name: one["defaults"][name] for name in common} for one in (before, now))
    if before != now:
        sys.exit(f"{path} was made otherwise: {before}, now {now}; give another --out, or remove it")
    return True


def run_job(job: Job, options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Train, score, write the result; what a killed harness left of it is removed first."""
    folder, log = place / job.key, place / f"{job.key}.log"
    shutil.rmtree(folder, ignore_errors=True)
    log.unlink(missing_ok=True)

    def call(*command: object) -> str:
        with log.open("a") as file:
            done = subprocess.run(
                [sys.executable, *map(str, command)],
                check=False,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
                # a training whose harness was killed must not go on beside the next one; Linux only
                preexec_fn=lambda: LIBC.prctl(1, signal.SIGKILL),
            )
            file.write(done.stdout)
        if done.returncode:
            raise RuntimeError(f"{job.key} failed, see {log}")
        return done.stdout

    began = time.monotonic()
    if job.scored == "plain":
        words = [f"--{name}={job.settings[name]}" for name in ("data", "arch", "encoder", "seed")]
        out = call(
            BENCH / "plain_script.py",
            *words,
            f"--splits={splits.splits_path(options.data)}",
            f"--minutes={options.minutes}",
        )
        found = json.loads(out.splitlines()[-1])
        wall_s = time.monotonic() - began - found["score_s"]
    else:
        settings = place / f"{job.key}.settings"
        settings.write_text(json.dumps(dict(job.settings), indent=2))
        call("-m", "severstal_cli", "train", "--config", settings, "--models", place, "--name", job.key)
        if job.scored == "searched":
            call("-m", "severstal_cli", "thresholds", folder, "--tta", "flips")
        wall_s = time.monotonic() - began
        found = facts_of(folder) | scores_of(job, folder, call)
        (folder / "training.ckpt").unlink()  # of a table of trainings they are most of the bytes
    result = {"name": job.name, "seed": job.seed, "wall_s": wall_s, **found, "asked": job.asked(options)}
    path = place / f"{job.key}.json"
    path.with_suffix(".part").write_text(json.dumps(result, indent=2) + "\n")
    path.with_suffix(".part").replace(path)
    return result


def facts_of(folder: Path) -> dict[str, Any]:
    rows = history.read(folder)
    return {"epochs": len(rows), "images_per_s": statistics.median(row.images_per_s for row in rows)}


def scores_of(job: Job, folder: Path, call: Any) -> dict[str, Any]:
    if job.scored == "fold":
        return json.loads(call(BENCH / "fold_score.py", folder).splitlines()[-1])
    if job.scored == "half":
        rules = [ClassPostprocess().to_dict()] * json.loads((folder / "model.json").read_text())["classes"]
        content = {"format": 1, "exclusive": False, "tta": "none", "rules": rules}
        (folder / "thresholds.json").write_text(json.dumps(content))
    found = json.loads(call("-m", "severstal_cli", "score", "--model", folder, "--json").splitlines()[-1])
    return {"dice": found["mean_dice"], "dice_present": found["mean_dice_present"], "nothing": found["all_empty"]}


def print_table(kind: str, place: Path) -> None:
    results: Results = {}
    for result in sorted((json.loads(path.read_text()) for path in place.glob("*.json")), key=lambda one: one["seed"]):
        results.setdefault(result["name"], {})[result["seed"]] = result
    print(TABLES[kind](results) if results else f"nothing is done yet in {place}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=TABLES)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and end")
    parser.add_argument("--minutes", type=float, default=30.0, help="of each training")
    parser.add_argument("--epochs", type=int, help="of each training of ablation, instead of --minutes")
    parser.add_argument("--reserve", type=float, default=1.0, help="minutes of these for start and search, in plain")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these, by their names in the table")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each training")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--arch", default="unet", help="in ablation; the others take unet and linknet")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--encoder-weights", default="none", help="of ours; the plain script has none")
    options = parser.parse_args()
    place = options.out / options.kind
    if options.table:
        print_table(options.kind, place)
        return
    if options.data is None:
        parser.error("--data is missing")
    data_folder = open_data_folder(options.data, TerminalProgress())  # decodes the images before the first training
    split = splits.ensure_splits(data_folder, TerminalProgress())
    place.mkdir(parents=True, exist_ok=True)
    jobs = jobs_of(options, len(set(split.parts.values()) - {splits.HOLDOUT}))
    missing = [job for job in jobs if not is_done(job, options, place)]
    print(f"{len(jobs)} trainings, {len(jobs) - len(missing)} of them done", flush=True)
    failed = False
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            for future in as_completed([pool.submit(run_job, job, options, place) for job in missing]):
                error = future.exception()
                failed |= error is not None
                print(error or summary(future.result()), flush=True)
        except KeyboardInterrupt:
            os._exit(130)  # at once, and what runs with it
    print_table(options.kind, place)
    sys.exit(1 if failed else 0)


def summary(result: dict[str, Any]) -> str:
    scores = ", ".join(f"{name} {result[name]:.4f}" for name in ("dice", "searched") if name in result)
    return f"{result['name']}, seed {result['seed']}: {scores}; {result['wall_s'] / 60:.1f} min"


if __name__ == "__main__":
    main()
