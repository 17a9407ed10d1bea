"""NEU-Seg: ours beside a published table. What is done is kept: the same command resumes.

    python bench/neu_seg.py --data NEU_SEG --work WORK --encoder-file tu-tf_efficientnet_lite0.safetensors
    python bench/neu_seg.py --data NEU_SEG --work WORK --networks unet --weights none --seeds 0 1 2 --time-limit 150m
    python bench/neu_seg.py --data NEU_SEG --work WORK --folds 0 1 2 3 4 --validation-only
    python bench/neu_seg.py --data NEU_SEG --work WORK --images 363 --epochs 32 --validation-only
    python bench/neu_seg.py --work WORK --average unet-lite0-fold0-seed0 linknet-wide-lite0-fold0-seed0
    python bench/neu_seg.py --work WORK --average RUN RUN --tta flips,scales --validation-only
    python bench/neu_seg.py --work WORK --table
    python bench/neu_seg.py --data NEU_SEG --work WORK --study --networks unet linknet --seeds 0 1 2 --epochs 4

NEU_SEG holds train_images, train.csv, test_images and test.csv: 3,630 and 840 images of hot-rolled strip, 200 x 200,
classes 1 inclusion, 2 patch, 3 scratch. WORK gets a copy of it in data/ and test/ (300 names stand in both parts, for
different images), its split to five folds without a holdout (the set has a test part of its own), the runs in models/,
submissions/, and two logs. Only public commands of the program are run:
`severstal split`, `train`, `thresholds`, `predict` and `score`.

Each network is trained with each of `--weights`, of `--seeds` and on each of `--folds`. Of each run the thresholds are
searched on its own fold, with flips; it predicts the test images with flips, and is scored on them once. Several folds
of a seed are averaged as well: thresholds on all of them, each image by the run that left it out. A run is resumed
where a kill left it; a finished one is left as it is. Other settings take another `--tag`.

`--images` is for the learning curve over images: the training images are so many of the other folds, in an order that
their names give, so that fewer images are a part of more. The validation fold is the whole one.

The test part is scored once for each configuration. WORK/test_scores.jsonl has a line for every score ever made, and
the table has a row for each line. Choose by the validation scores, best with `--validation-only`, which leaves the test
images unread; what is chosen by test scores is no longer measured by them.

`--study` is the question that this project began with. WORK/study holds both parts, the test part as the holdout set,
and `severstal compare` trains each network with each seed on fold 0 and tests the differences on the test part.

"all 840" is the mean Dice over all test images and its interval of 95 % over images. "the 210": the code of the
published table scores the first image of each batch of four, so the 1st, 5th, 9th, ... of the sorted names. Some 11
test images have a near-duplicate in the train part, for everybody. "validation" is cross-fitted: each fifth of the
fold with thresholds of the others; the same fold chose the best epoch, so it is a little too high.
Minutes are those of the training with its validations, on this machine, with what ran beside it. On a shared machine
pin a training to a core: `OMP_NUM_THREADS=1 taskset -c 1 python bench/neu_seg.py ...`.
"""

import argparse
import csv
import hashlib
import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

SOURCE = "Sime et al., Multimedia Tools and Applications 83, 2024, doi 10.1007/s11042-023-15307-y"

PUBLISHED = (
    ("U-Net SE-ResNeXt", "ImageNet", 0.9308),
    ("ENet", "none", 0.9268),
    ("PSPNet", "ImageNet", 0.9212),
    ("BiSeNet", "ImageNet", 0.9181),
    ("DeepLabV3+", "ImageNet", 0.9342),
    ("FPN efficientnet-b5", "ImageNet", 0.9431),
    ("SegFormer-B0", "ImageNet", 0.9445),
    ("UperNet MiT-B4", "ImageNet", 0.9522),
)
"""(network, weights of the encoder, mean Dice) of `SOURCE`: 300 epochs on a GPU, threshold 0.5, on the 210."""

PUBLISHED_EPOCHS = 300
PUBLISHED_BATCH = 4
TEST_IMAGES = 840
NOTHING = (0.5726, 0.5698)
"""Mean Dice of predicting nothing, on all test images and on the 210: the share of empty masks."""

HEADER = ("network", "weights", "epochs", "minutes", "validation", "all 840", "the 210")


def scored_by_them(names):
    """Of the names of the test images, those that the published table is of."""
    return sorted(names)[::PUBLISHED_BATCH]


def run_name(network, encoder, weights, fold, seed, tag="", images=None):
    """The folder of a run: `unet-lite0-fold0-seed0`, without pretrained weights `unet-lite0-scratch-fold0-seed0`.

    fold: a number, or several as a text of their digits, which names their average.
    images: number of training images, where it is not all.
    """
    short = encoder.removeprefix("tu-").removeprefix("tf_").removeprefix("efficientnet_")
    parts = [network, short, *(["scratch"] if weights == "none" else []), *([tag] if tag else [])]
    parts += [f"{images}images"] if images else []
    return "-".join([*parts, f"fold{fold}", f"seed{seed}"])


def table(entries):
    """The lines of a Markdown table: a row for each entry of test_scores.jsonl beside the published, by the 210."""
    rows = [
        (value, (name, weights, str(PUBLISHED_EPOCHS), "", "", "", f"{value:.4f}"))
        for name, weights, value in PUBLISHED
    ]
    rows += [(entry["by_them"]["mean_dice"], _row(entry)) for entry in entries]
    rows.append((NOTHING[1], ("predicting nothing", "", "", "", "", *(f"{value:.4f}" for value in NOTHING))))
    yield "| " + " | ".join(HEADER) + " |"
    yield "|---" * len(HEADER) + "|"
    yield from ("| " + " | ".join(row) + " |" for _, row in sorted(rows, key=lambda one: -one[0]))
    yield f"\nWithout a validation score: {SOURCE}, 210 images, threshold 0.5."


def _row(entry):
    scores = (
        f"{part['mean_dice']:.4f} ({part['interval'][0]:.4f} to {part['interval'][1]:.4f})"
        for part in (entry["all"], entry["by_them"])
    )
    epochs, minutes = "+".join(map(str, entry["epochs"])), f"{entry['minutes']:.0f}"
    return f"**`{entry['name']}`**", entry["weights"], epochs, minutes, f"{entry['validation']:.4f}", *scores


class Work:
    """The working folder: its files, its logs, and the commands that are run in it."""

    def __init__(self, folder):
        self.folder = folder
        self.commands, self.scores = folder / "commands.jsonl", folder / "test_scores.jsonl"

    def entries(self, path):
        """What a log has, a JSON object a line."""
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def append(self, path, entry):
        """Log an entry; a kill leaves the log with it or without it."""
        whole = path.with_suffix(".new")
        lines = [json.dumps(one) + "\n" for one in (*self.entries(path), entry)]
        whole.write_text("".join(lines), encoding="utf-8")
        whole.replace(path)

    def severstal(self, *words, resume=False):
        """Run a command of the program in the folder, and log it once it is done. Returns what it printed."""
        words = list(map(str, words))
        every = [*words, "--resume"] if resume else words
        print("severstal", *every, flush=True)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "severstal_cli", *every],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(done.returncode)
        if "--json" not in words:
            print(done.stdout, flush=True)
        self.append(self.commands, {"command": words, "seconds": round(time.monotonic() - began, 1)})
        return done.stdout

    def is_older(self, path, *sources):
        """Whether a file must be made, again or at all."""
        made, *others = (self.folder / one for one in (path, *sources))
        return not made.exists() or any(other.stat().st_mtime_ns > made.stat().st_mtime_ns for other in others)


def prepare(work, options):
    """The data, its split, the list of the 210, and the encoder's weights, as far as they are not there."""
    for part, folder in (("train", "data"), ("test", "test")):
        if not (work.folder / folder).exists():
            if options.data is None:
                sys.exit("--data is missing: the folder of NEU-Seg")
            copy_part(options.data, part, work.folder / folder)
    if not (work.folder / "data" / "splits.csv").exists():
        work.severstal("split", "--data", "data", "--holdout", 0)
    names = [path.name for path in (work.folder / "test" / "test_images").iterdir()]
    if len(names) != TEST_IMAGES:
        sys.exit(f"the test part has {len(names)} images, NEU-Seg {TEST_IMAGES}: give the published split")
    (work.folder / "the_210.csv").write_text("\n".join(["ImageId", *scored_by_them(names)]) + "\n", encoding="utf-8")
    if options.encoder_file is not None:
        target = work.folder / "models" / "encoders" / f"{options.encoder}{options.encoder_file.suffix}"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(options.encoder_file, target)


def some_images(rows, fold, images):
    """The rows of a splits.csv (ImageId,Part,...) of the fold, and of `images` images of the other folds."""
    parts = {row: row.split(",")[:2] for row in rows}
    others = sorted((row for row in rows if parts[row][1] != str(fold)), key=_order)
    if not 0 < images <= len(others):
        sys.exit(f"--images {images}: fold {fold} leaves {len(others)} images for training")
    chosen = set(others[:images])
    return [row for row in rows if row in chosen or parts[row][1] == str(fold)]


def _order(row):
    return hashlib.sha256(row.split(",")[0].encode()).hexdigest()


def data_with(work, fold, images):
    """The data folder of a training: all images, or the validation fold and so many of the others."""
    if images is None:
        return "data"
    folder = work.folder / f"data-fold{fold}-{images}images"
    if not folder.exists():
        header, *rows = (work.folder / "data" / "splits.csv").read_text(encoding="utf-8").splitlines()
        rows = some_images(rows, fold, images)
        names = {row.split(",")[0] for row in rows}
        begun = folder.with_suffix(".begun")
        shutil.rmtree(begun, ignore_errors=True)
        (begun / "train_images").mkdir(parents=True)
        for name in names:
            shutil.copyfile(work.folder / "data" / "train_images" / name, begun / "train_images" / name)
        top, *masks = (work.folder / "data" / "train.csv").read_text(encoding="utf-8").splitlines()
        masks = [mask for mask in masks if mask.split(",")[0] in names]
        (begun / "train.csv").write_text("\n".join([top, *masks]) + "\n", encoding="utf-8")
        (begun / "splits.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        begun.rename(folder)
    return folder.name


def copy_part(data, part, target):
    """The images and annotations of a part, whole or not at all."""
    begun = target.with_suffix(".begun")
    (begun / f"{part}_images").mkdir(parents=True, exist_ok=True)
    for path in (data / f"{part}.csv", *(data / f"{part}_images").iterdir()):
        shutil.copyfile(path, begun / path.relative_to(data))
    begun.rename(target)


def study(work, options):
    """Train each network with each seed and test their differences on the test part, which is the holdout set here."""
    folder = work.folder / "study"
    if not folder.exists():
        begun = folder.with_suffix(".begun")
        shutil.rmtree(begun, ignore_errors=True)
        shutil.copytree(work.folder / "data" / "train_images", begun / "train_images")
        for path in (work.folder / "test" / "test_images").iterdir():
            shutil.copyfile(path, begun / "train_images" / f"test-{path.name}")
        _, *rows = (work.folder / "test" / "test.csv").read_text(encoding="utf-8").splitlines()
        table = (work.folder / "data" / "train.csv").read_text(encoding="utf-8").splitlines()
        (begun / "train.csv").write_text("\n".join([*table, *(f"test-{row}" for row in rows)]) + "\n", encoding="utf-8")
        splits = (work.folder / "data" / "splits.csv").read_text(encoding="utf-8").splitlines()
        classes = {}
        for row in rows:
            name, class_id, _ = row.split(",", 2)
            classes.setdefault(name, []).append(class_id)
        names = sorted(path.name for path in (work.folder / "test" / "test_images").iterdir())
        group = max(int(row.split(",")[2]) for row in splits[1:])
        splits += [
            f"test-{name},holdout,{group + number},{' '.join(sorted(classes.get(name, [])))}"
            for number, name in enumerate(names, 1)
        ]
        (begun / "splits.csv").write_text("\n".join(splits) + "\n", encoding="utf-8")
        begun.rename(folder)
    words = [
        "compare",
        *options.networks,
        "--data",
        "study",
        "--encoder",
        options.encoder,
        "--epochs",
        options.epochs,
        "--encoder-weights",
        options.weights[0],
        "--seeds",
        ",".join(map(str, options.seeds)),
    ]
    work.severstal(*words)


def train(work, name, options, network, weights, fold, seed):
    """The run of this name, finished."""
    words = [
        "train",
        "--data",
        data_with(work, fold, options.images),
        "--arch",
        network,
        "--encoder",
        options.encoder,
        "--encoder-weights",
        weights,
        "--fold",
        fold,
        "--seed",
        seed,
        "--epochs",
        options.epochs,
    ]
    words += ["--time-limit", options.time_limit] if options.time_limit else []
    words += ["--config", options.config.resolve()] if options.config else []
    words += ["--name", name]
    before = [entry["command"] for entry in work.entries(work.commands) if entry["command"][-2:] == ["--name", name]]
    if not before:
        work.severstal(*words, resume=(work.folder / "models" / name / "training.ckpt").exists())
    elif list(map(str, words)) not in before:
        sys.exit(f"{name} was trained by other settings: severstal {' '.join(before[-1])}. Give the same, or a --tag")


def score(work, name, members, thresholds, weights):
    """Predict the test images, and score them unless that was done."""
    submission = f"submissions/{name}.csv"
    if work.is_older(submission, thresholds, *(f"{member}/model.safetensors" for member in members)):
        models = [word for member in members for word in ("--model", member)]
        work.severstal("predict", "test/test_images", *models, "--thresholds", thresholds, "--out", submission)
    digest = hashlib.sha256((work.folder / submission).read_bytes()).hexdigest()
    if any((entry["name"], entry["submission"]) == (name, digest) for entry in work.entries(work.scores)):
        return
    scores = [
        json.loads(work.severstal("score", submission, "--truth", "test/test.csv", "--images", images, "--json"))
        for images in ("test/test_images", "the_210.csv")
    ]
    texts = [(work.folder / member / "history.csv").read_text(encoding="utf-8") for member in members]
    histories = [list(csv.DictReader(text.splitlines())) for text in texts]
    searched = json.loads((work.folder / thresholds).read_text(encoding="utf-8"))
    work.append(work.scores, {
        "name": name, "when": datetime.now(UTC).isoformat(timespec="seconds"), "submission": digest, "runs": members,
        "weights": "none" if weights == "none" else "ImageNet", "validation": searched["mean_dice_held_out"],
        "epochs": [len(rows) for rows in histories],
        "minutes": sum(float(rows[-1]["elapsed_s"]) for rows in histories) / 60,
        "all": scores[0], "by_them": scores[1],
    })  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of NEU-Seg; needed once")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=["linknet-wide", "unet"])
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0")
    parser.add_argument("--encoder-file", type=Path, help="its weights; default: as `train` finds those of ImageNet")
    parser.add_argument("--weights", nargs="+", default=["imagenet"], help="imagenet, none (from scratch)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, help="number of training images; default: all of the other folds")
    parser.add_argument("--epochs", type=int, default=30, help="of each training")
    parser.add_argument("--time-limit", help="of each training, as 60m; then --epochs are at most")
    parser.add_argument("--config", type=Path, help="other settings of `train`, as JSON; with a --tag")
    parser.add_argument("--tag", default="", help="a part of the names of runs, for other settings")
    parser.add_argument("--validation-only", action="store_true", help="leave the test images unread")
    parser.add_argument("--study", action="store_true", help="compare the networks on the test part, by seeds")
    parser.add_argument("--average", nargs="+", metavar="RUN", help="instead of training: average these runs")
    parser.add_argument("--tta", default="flips", help="views of --average, such as flips,scales")
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and end")
    options = parser.parse_args()
    work = Work(options.work.resolve())
    if not options.table:
        if options.tta != "flips" and not options.average:
            parser.error("--tta is for --average: the views of a single run are flips")
        if options.images is not None and (options.study or options.average or len(options.folds) > 1):
            parser.error("--images is for trainings on one fold, alone")
        (work.folder / "submissions").mkdir(parents=True, exist_ok=True)
        prepare(work, options)
        if options.study:
            study(work, options)
            return
        if options.average:
            average(work, options)
            print("\n".join(table(work.entries(work.scores))))
            return
        for network in options.networks:
            for weights in options.weights:
                for seed in options.seeds:
                    configuration(work, options, network, weights, seed)
    print("\n".join(table(work.entries(work.scores))))


def configuration(work, options, network, weights, seed):
    """A network with one kind of weights and one seed: its folds, each alone, and their average."""
    members = []
    for fold in options.folds:
        name = run_name(network, options.encoder, weights, fold, seed, options.tag, options.images)
        members.append(f"models/{name}")
        train(work, name, options, network, weights, fold, seed)
        judge(work, options, name, members[-1:], f"{members[-1]}/thresholds.json", weights)
    if len(members) > 1:
        folds = "".join(map(str, sorted(options.folds)))
        name = run_name(network, options.encoder, weights, folds, seed, options.tag, options.images)
        judge(work, options, name, members, f"submissions/{name}-thresholds.json", weights)


def average(work, options):
    """Some runs together, such as networks of the same fold."""
    name = "+".join(options.average) + ("" if options.tta == "flips" else f"-{options.tta.replace(',', '-')}")
    members = [f"models/{member}" for member in options.average]
    weights = "none" if all("-scratch-" in member for member in members) else "imagenet"
    judge(work, options, name, members, f"submissions/{name}-thresholds.json", weights)


def judge(work, options, name, members, thresholds, weights):
    """Search thresholds where they are missing, print what they reach, and score the test part if wanted."""
    if work.is_older(thresholds, *(f"{member}/model.safetensors" for member in members)):
        out = [] if thresholds == f"{members[0]}/thresholds.json" else ["--out", thresholds]
        work.severstal("thresholds", *members, "--tta", options.tta, *out)
    searched = json.loads((work.folder / thresholds).read_text(encoding="utf-8"))
    print(f"{name}: {searched['mean_dice_held_out']:.4f} on {searched['images']} images of its validation", flush=True)
    if not options.validation_only:
        score(work, name, members, thresholds, weights)


if __name__ == "__main__":
    main()
