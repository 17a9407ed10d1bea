"""Real steel: what synthetic steel and pretrained weights are worth on few annotated images of the competition.

    python bench/real_steel.py --real REAL --annotations TRAIN_CSV --images IMAGES_CSV --work WORK \\
        --encoder-file tu-tf_efficientnet_lite0.safetensors
    python bench/real_steel.py --work WORK --table

REAL holds train_images with train.csv, complete for them, and maybe test_images. TRAIN_CSV and IMAGES_CSV have
annotations of other images of the competition, whose images need not be there: synthetic steel is drawn under them.
Images of REAL are left out of both, so no mask of a real image is in the synthetic set, in any fold.

Only public commands of the program are run: `severstal split`, `synth`, `train`, `thresholds`, `predict` and `score`,
each in a fork of this process.
WORK gets real/ (the images, split to folds without a holdout), synthetic-TAG/, the runs in models/, submissions/ and
results.jsonl. What is done is kept: the same command resumes. `--tag` names a synthetic set and what is trained on it,
so that a changed `severstal synth` is measured beside the old one.

    nothing         empty masks
    synthetic-TAG   the run trained on synthetic steel, as it is; thresholds from its synthetic validation fold
    scratch         one run per fold of the real images, from random weights
    imagenet        one run per fold, encoder with the weights of --encoder-file
    init-TAG        one run per fold, `--init` from the synthetic run

Every real image is predicted by a run that has not seen it. "cross-fitted" is by `severstal thresholds` on all runs
of a row: each fifth of the images with thresholds of the others. "predicted" is `severstal score` of the joined
predictions, with thresholds of all folds, so it is a little too high for runs on real images, but not for `nothing`
and `synthetic`; the differences between two rows are of these. The fold that is predicted also chose the best epoch.
Epochs and crops were decided before the first training. Intervals of 95 % are over images.
"""

import argparse
import csv
import importlib
import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

from audit_runs import link
from neu_seg import Work

CROPS = {"crop_height_px": 256, "crop_widths_px": [256], "half_size_share": 0.75}
"""Settings of all trainings: small and, for three quarters of them, coarse, as one core of a busy machine has to do."""


class Forked(Work):
    """A working folder whose commands are forks of this process: on a busy core the imports of each take a minute."""

    def severstal(self, *words, resume=False):
        words = list(map(str, words))
        every = [*words, "--resume"] if resume else words
        print("severstal", *every, flush=True)
        for module in (
            "segmentation_models_pytorch",
            "severstal_cli.stages.training",
            "severstal_cli.stages.prediction",
        ):
            importlib.import_module(module)
        began, output = time.monotonic(), self.folder / "output.txt"
        child = os.fork()
        if child == 0:
            self._command(every, output)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(os.waitstatus_to_exitcode(status))
        self.append(self.commands, {"command": words, "seconds": round(time.monotonic() - began, 1)})
        return output.read_text(encoding="utf-8")

    def _command(self, words, output):
        """Run a command in this process and end it."""
        code = 1
        try:
            os.chdir(self.folder)
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            sys.argv = ["severstal", *words]
            from severstal_cli.cli import main as command

            command()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.stdout.flush()
            os._exit(code)


def prepare(work, options):
    """real/ with its split, the encoder's weights, and the settings."""
    folder = work.folder / "real"
    if not folder.exists():
        begun = folder.with_suffix(".begun")
        shutil.rmtree(begun, ignore_errors=True)
        (begun / "train_images").mkdir(parents=True)
        for path in (options.real / "train_images").iterdir():
            link(path, begun / "train_images" / path.name)
        shutil.copyfile(options.real / "train.csv", begun / "train.csv")
        begun.rename(folder)
    if not (folder / "splits.csv").exists():
        work.severstal("split", "--data", "real", "--holdout", 0, "--folds", 5)
    target = work.folder / "models" / "encoders" / f"{options.encoder}{options.encoder_file.suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(options.encoder_file, target)
    (work.folder / "crops.json").write_text(json.dumps(CROPS) + "\n", encoding="utf-8")


def draw_synthetic(work, options):
    """synthetic-TAG: steel under masks of images that are not among the real ones, and its split."""
    name = f"synthetic-{options.tag}"
    if not (work.folder / name / "train.csv").exists():
        real = {path.name for path in (work.folder / "real" / "train_images").iterdir()}
        header, *rows = options.annotations.read_text(encoding="utf-8").splitlines()
        others = [row for row in rows if row.split(",", 1)[0] not in real]
        (work.folder / "other.csv").write_text("\n".join([header, *others]) + "\n", encoding="utf-8")
        with options.images.open(newline="", encoding="utf-8") as file:
            known = sorted({row["ImageId"] for row in csv.DictReader(file)} - real)
        marked = {row.split(",", 1)[0] for row in others}
        rng = random.Random(0)
        clean = rng.sample([one for one in known if one not in marked], round(options.synthetic * options.clean))
        chosen = clean + rng.sample([one for one in known if one in marked], options.synthetic - len(clean))
        (work.folder / "chosen.csv").write_text("\n".join(["ImageId", *sorted(chosen)]) + "\n", encoding="utf-8")
        work.severstal("synth", name, "--annotations", "other.csv", "--list", "chosen.csv", "--seed", 0)
    if not (work.folder / name / "splits.csv").exists():
        work.severstal("split", "--data", name, "--holdout", 0, "--folds", 6)
    return name


def train(work, options, name, data, epochs, fold, *more):
    """The finished runs of this name."""
    words = [
        "train",
        "--data",
        data,
        "--arch",
        options.network,
        "--encoder",
        options.encoder,
        "--fold",
        fold,
        "--epochs",
        epochs,
        "--batch-size",
        4,
        "--config",
        "crops.json",
        *more,
        "--name",
        name,
    ]
    if not any(entry["command"] == list(map(str, words)) for entry in work.entries(work.commands)):
        begun = any((work.folder / "models").glob(f"{name}*/training.ckpt"))
        work.severstal(*words, resume=begun)


def folds_of(work):
    """Fold -> names of its images."""
    folds = {}
    with (work.folder / "real" / "splits.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            folds.setdefault(int(row["Part"]), []).append(row["ImageId"])
    return folds


def judge_folds(work, name):
    """Thresholds of the runs of all folds, and each image predicted by the run that left it out."""
    runs = [f"models/{name}-fold{fold}" for fold in sorted(folds_of(work))]
    thresholds = f"submissions/{name}-thresholds.json"
    if not (work.folder / thresholds).exists():
        work.severstal("thresholds", *runs, "--out", thresholds)
    lines = []
    for (_, names), run in zip(sorted(folds_of(work).items()), runs, strict=True):
        out = f"submissions/{Path(run).name}.csv"
        if not (work.folder / out).exists():
            images = [f"real/train_images/{one}" for one in names]
            work.severstal("predict", *images, "--model", run, "--thresholds", thresholds, "--out", out)
        header, *rows = (work.folder / out).read_text(encoding="utf-8").splitlines()
        lines += rows
    (work.folder / "submissions" / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return json.loads((work.folder / thresholds).read_text(encoding="utf-8"))


def score(work, name, *more):
    """What `severstal score` has for submissions/NAME.csv on all real images."""
    submission = f"submissions/{name}.csv"
    return json.loads(
        work.severstal(
            "score", submission, "--truth", "real/train.csv", "--images", "real/train_images", *more, "--json"
        )
    )


def ingredient(work, options, name):
    """Train, predict and score one row of the table, unless that was done."""
    if any(entry["name"] == name for entry in work.entries(work.scores)):
        return
    searched = None
    if name == "nothing":
        names = sorted(path.name for path in (work.folder / "real" / "train_images").iterdir())
        rows = [f"{one}_{class_id}," for one in names for class_id in (1, 2, 3, 4)]
        text = "\n".join(["ImageId_ClassId,EncodedPixels", *rows]) + "\n"
        (work.folder / "submissions" / "nothing.csv").write_text(text, encoding="utf-8")
    elif name.startswith("synthetic"):
        train(work, options, name, draw_synthetic(work, options), options.synthetic_epochs, 0)
        if not (work.folder / "models" / name / "thresholds.json").exists():
            work.severstal("thresholds", f"models/{name}")
        if not (work.folder / "submissions" / f"{name}.csv").exists():
            out = f"submissions/{name}.csv"
            work.severstal("predict", "real/train_images", "--model", f"models/{name}", "--out", out)
    else:
        start = {"scratch": ("--encoder-weights", "none"), "imagenet": ()}
        more = start.get(name, ("--init", f"models/synthetic-{options.tag}"))
        train(work, options, name, "real", options.epochs, "all", *more)
        searched = judge_folds(work, name)
    entry = {"name": name, "predicted": score(work, name), "thresholds": searched}
    if name.startswith("init"):
        against = ("--against", "submissions/imagenet.csv")
        entry["against_imagenet"] = score(work, name, *against)
    work.append(work.scores, entry)


def table(work):
    """The lines of a Markdown table."""
    yield "| | cross-fitted | at 0.5 | predicted |"
    yield "|---" * 4 + "|"
    for entry in work.entries(work.scores):
        found, searched = entry["predicted"], entry["thresholds"]
        cells = (
            [
                shown(searched["mean_dice_held_out"], searched["interval_held_out"]),
                f"{searched['mean_dice_default']:.4f}",
            ]
            if searched
            else ["", ""]
        )
        yield f"| {entry['name']} | " + " | ".join([*cells, shown(found["mean_dice"], found["interval"])]) + " |"


def shown(value, interval):
    return f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--real", type=Path, help="folder of real images with complete annotations; needed once")
    parser.add_argument("--annotations", type=Path, help="train.csv with masks of other images")
    parser.add_argument("--images", type=Path, help="CSV with the ImageId that these masks are complete for")
    parser.add_argument("--encoder-file", type=Path, help="ImageNet weights of the encoder")
    parser.add_argument("--network", default="unet")
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0")
    parser.add_argument("--synthetic", type=int, default=360, help="number of synthetic images")
    parser.add_argument("--clean", type=float, default=0.3, help="share of clean synthetic images")
    parser.add_argument("--synthetic-epochs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6, help="of each training on real images")
    parser.add_argument("--tag", default="first", help="name of the synthetic set")
    parser.add_argument("--rows", nargs="+", help="default: nothing, synthetic-TAG, imagenet, init-TAG, scratch")
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and end")
    options = parser.parse_args()
    work = Forked(options.work.resolve())
    work.scores = work.folder / "results.jsonl"
    if not options.table:
        for name in ("real", "annotations", "images", "encoder_file"):
            if getattr(options, name) is None:
                sys.exit(f"--{name.replace('_', '-')} is missing")
        (work.folder / "submissions").mkdir(parents=True, exist_ok=True)
        prepare(work, options)
        draw_synthetic(work, options)
        every = ("nothing", f"synthetic-{options.tag}", "imagenet", f"init-{options.tag}", "scratch")
        for name in options.rows or every:
            ingredient(work, options, name)
    print("\n".join(table(work)))


if __name__ == "__main__":
    main()
