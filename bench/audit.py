"""`severstal audit` on annotations with injected faults. What is done is kept: the same command resumes.

    python bench/audit.py --data NEU_SEG --work WORK --seeds 0 1 2 --encoder-file tu-tf_efficientnet_lite0.safetensors
    python bench/audit.py --work WORK --seeds 0 1 2 --table
    python bench/audit.py --work WORK --seeds 0 1 2 --worth --test TEST --encoder-file ...

For each seed some images of --data are drawn, faults are injected into their masks (`audit_faults`), the images are
split into --folds, and a network is trained on each with the faults. The out-of-fold levels are kept in levels.npz.
--table ranks all pairs of an image and a class by suspicion (`audit_rankings`), and prints what each ranking finds. It
needs `cleanlab`, which is no dependency of the program: pip install cleanlab.

--worth trains fold 0 of each seed on four tables: with the faults, with the first rows of the audit accepted (as many
as a tenth of the pairs), with those of them accepted that are about an injected fault, and without faults. TEST is a
folder with test_images and test.csv, in classes of --data; all runs are scored on it, at thresholds searched on their
own fold. --epochs and --config must be the same.

--steel draws easy synthetic steel instead of --data, with clean images.

`ABSENT`, `PRESENT` and the forms of the scores were chosen on NEU-Seg with seed 0; the other seeds are a test of them.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import audit_faults
import audit_rankings
import audit_runs
import numpy as np
from neu_seg import Work

from severstal_cli.errors import InputError
from severstal_cli.steel.audit import accepting, finding_table
from severstal_cli.steel.audit.findings import Kind
from severstal_cli.steel.dataset import data_folder, splits
from severstal_cli.steel.tables import mask_table

TABLES = (("data", "fold0"), ("data-accepted", "accepted0"), ("data-reviewed", "reviewed0"), ("data-clean", "clean0"))
"""With --worth: a data folder, and the run that is trained on it."""

COLUMNS = (*sorted(audit_faults.KINDS), "all", "precision at 50", "precision of the tenth")


def measured(options):
    """seed -> ranking -> column -> value."""
    found = {}
    for seed in options.seeds:
        names, levels, faults, folder = read(options, seed)
        rankings = audit_rankings.suspicion(folder, names, levels, seed)
        found[seed] = {name: audit_rankings.measure(values, names, faults) for name, values in rankings.items()}
    return found


def read(options, seed):
    """Names, levels, faults and the data folder of a seed."""
    folder = options.work / f"seed{seed}"
    kept = np.load(folder / "levels.npz")
    return kept["names"].tolist(), kept["levels"], audit_faults.read(folder / "data" / "faults.csv"), folder / "data"


def print_table(found):
    """A row for each ranking: the mean over seeds, and its range."""
    print("| ranking | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|")
    for ranking in audit_rankings.RANKINGS:
        cells = []
        for column in COLUMNS:
            values = [rankings[ranking][column] for rankings in found.values()]
            spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.2f}{spread}")
        print(f"| {ranking} | " + " | ".join(cells) + " |")
    print(f"\nseeds {', '.join(map(str, found))}")


def accept_first(options, seed):
    """Two tables of a seed from the first rows of the list, as many as a tenth of the pairs, without disagreements.

    data-accepted: all these rows are accepted. data-reviewed: only those about a mask with an injected fault, as by
    somebody who looks at each row and knows the truth. Of rows that contradict each other the first is accepted.
    """
    names, levels, faults, source = read(options, seed)
    folder, split = data_folder.open_data_folder(source), splits.read_splits(source / "splits.csv")
    faulty = {(fault.image_id, channel + 1) for fault in faults for channel in fault.channels}
    sizes = {name: tuple(map(int, folder.cache.sizes[row])) for name, row in folder.cache.index.items()}
    found, _ = audit_rankings.findings_of(folder, names, levels, split)
    found.sort(key=lambda one: -one.score)
    first = found[: round(audit_rankings.FIRST * len(names) * folder.classes)]
    rows = [one for one in first if one.kind != Kind.DISAGREEMENT]
    reviewed = [one for one in rows if (one.image_id, one.class_id) in faulty]
    print(f"seed {seed}: {len(rows)} of {len(found)} rows, {len(reviewed)} about injected faults", flush=True)
    for target, chosen in (("data-accepted", rows), ("data-reviewed", reviewed)):
        if (source.parent / target).exists():
            continue
        by_image = {}
        for line, one in enumerate(chosen, start=2):
            of_image = by_image.setdefault(one.image_id, [])
            of_image.append(finding_table.Decision(line=line, choice=finding_table.ACCEPT, finding=one))
            try:
                accept(folder, of_image, sizes)
            except InputError:
                of_image.pop()
        masks = accept(folder, [one for of_image in by_image.values() for one in of_image], sizes)
        write_like(source, source.parent / target, masks, folder.classes)


def accept(folder, decisions, sizes):
    """The masks with accepted rows. Raises InputError: two contradict each other."""
    return accepting.accept(Path("decisions"), decisions, folder.masks, sizes, folder.class_ids, exclusive=False)


def write_like(source, target, masks, classes):
    """A data folder with the images and the split of another, and these masks."""
    begun = target.with_suffix(".begun")
    shutil.rmtree(begun, ignore_errors=True)
    (begun / "train_images").mkdir(parents=True)
    names = sorted(path.name for path in (source / "train_images").iterdir() if path.is_file())
    for name in names:
        audit_runs.link(source / "train_images" / name, begun / "train_images" / name)
    shutil.copyfile(source / "splits.csv", begun / "splits.csv")
    layout = mask_table.Layout.CURRENT
    mask_table.write_table(begun / "train.csv", masks, names, classes, layout=layout, empty_rows=False)
    begun.rename(target)


def worth(options):
    """Mean Dice on the test part of runs trained on each table: WORK/seedN/worth.json."""
    for seed in options.seeds:
        work = Work(options.work.resolve() / f"seed{seed}")
        accept_first(options, seed)
        clean = mask_table.read_table(work.folder / "data" / "clean.csv")
        if not (work.folder / "data-clean").exists():
            write_like(work.folder / "data", work.folder / "data-clean", clean.masks, clean.classes)
        scores = {}
        for data, run in TABLES:
            audit_runs.train(work, options, seed, data, 0, run)
            model, out = f"models/{run}", f"submissions/{run}.csv"
            if not (work.folder / model / "thresholds.json").exists():
                work.severstal("thresholds", model)
            test = options.test.resolve()
            work.severstal("predict", test / "test_images", "--model", model, "--out", out)
            scored = work.severstal(
                "score", out, "--truth", test / "test.csv", "--images", test / "test_images", "--json"
            )
            scores[data] = json.loads(scored)["mean_dice"]
        print(f"seed {seed}: {scores}", flush=True)
        (work.folder / "worth.json").write_text(json.dumps(scores) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data folder with clean annotations; needed once")
    parser.add_argument("--steel", action="store_true", help="draw easy synthetic steel instead of --data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000, help="images of each seed, drawn from those of --data")
    parser.add_argument("--share", type=float, default=0.05, help="share of the masks that get each kind of fault")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--network", default="unet")
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0")
    parser.add_argument("--encoder-file", type=Path, help="its weights; default: from scratch")
    parser.add_argument("--config", type=Path, help="other settings of `train`, as JSON")
    parser.add_argument("--table", action="store_true", help="print what each ranking finds")
    parser.add_argument("--worth", action="store_true", help="train on the noisy, the accepted and the clean table")
    parser.add_argument("--test", type=Path, help="with --worth: folder with test_images and test.csv")
    options = parser.parse_args()
    if options.worth and options.test is None:
        sys.exit("--worth needs --test, the folder of the test part")
    if options.table:
        print_table(measured(options))
        return
    if options.steel:
        options.data = audit_runs.draw_steel(options)
    for seed in options.seeds:
        audit_runs.prepare(options, seed)
    if options.worth:
        worth(options)


if __name__ == "__main__":
    main()
