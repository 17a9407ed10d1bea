"""How often `compare` calls a difference real: between trainings that differ by seed alone, and for one made worse.

    python bench/compare_seeds.py models/a-seed0 models/a-seed1 ... [--holdouts 400] [--images 300 1000] [--seed 0]

The runs, six or more with the same settings, are scored once on their holdout, which should be large. Each simulated
holdout is a bootstrap sample of that many images, by groups of near-duplicates, for the comparison of
- two random runs: `score --against`, which compares only these two; `compare` reports runs that differ by seed alone
  as equal but for chance, whatever their scores;
- three random runs against three others: `compare --seeds` of equal settings under two names. The target is 7 %;
- a run against a worse version of itself: without every tenth or fifth predicted mask; with masks shifted by 2 columns.
`±` is 1.96 standard errors of the simulation.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from severstal_cli.config import ScoreConfig
from severstal_cli.learning.runs import model_card
from severstal_cli.progress import SILENT
from severstal_cli.stages import comparing, scoring
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.scoring import dice
from severstal_cli.steel.scoring.scores import differences


def worse(found, true, height, kind):
    """The scores of a run with every `kind`-th mask left out, or all of them moved."""
    masks = dict(found.masks)
    if kind == "moved":
        masks = {key: runs + np.array([2 * height, 0], np.int32) for key, runs in masks.items()}
    else:
        for key in sorted(masks)[::kind]:
            del masks[key]
    return dataclasses.replace(found, dice=dice.dice_matrix(masks, true, found.image_ids, found.dice.shape[1]))


def taken(found, rows, groups):
    """Some images, as if they were others of that kind."""
    return dataclasses.replace(
        found,
        image_ids=tuple(map(str, range(len(rows)))),
        dice=found.dice[rows],
        there=found.there[rows],
        found=found.found[rows],
        groups=groups,
    )


def draw(rng, groups, images):
    """A bootstrap sample of whole groups: rows and their groups; a group that is sampled twice counts as two."""
    rows, own = [], []
    while len(rows) < images:
        members = np.flatnonzero(groups == groups[rng.integers(len(groups))])
        own += [len(rows)] * len(members)
        rows += members.tolist()
    return np.array(rows[:images]), np.array(own[:images])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--holdouts", type=int, default=400)
    parser.add_argument("--images", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if len(options.runs) < 6:
        parser.error("three runs against three others: name six or more")
    every = [scoring.score_runs(ScoreConfig(runs=(folder,)), SILENT) for folder in options.runs]
    means = [found.dice.mean() for found in every]
    print(
        f"{len(every)} runs, {len(every[0].image_ids)} images: {np.mean(means):.4f}, standard deviation of the seeds "
        f"{np.std(means, ddof=1):.4f}, predicting nothing {float((~every[0].there).mean()):.4f}"
    )
    same = [comparing._by_seed_alone(options.runs[0], folder) for folder in options.runs[1:]]
    print(f"recognised as differing by seed alone: {sum(same)} of {len(same)}")
    data_folder = open_data_folder(Path(model_card.read_card(options.runs[0]).data), SILENT)
    height = data_folder.usual_size()[0]
    made_worse = {
        "every tenth mask left out": [worse(found, data_folder.masks, height, 10) for found in every],
        "every fifth mask left out": [worse(found, data_folder.masks, height, 5) for found in every],
        "masks two columns aside": [worse(found, data_folder.masks, height, "moved") for found in every],
    }
    for name, others in made_worse.items():
        lost = np.mean([one.dice.mean() - other.dice.mean() for one, other in zip(every, others, strict=True)])
        print(f"{name}: {lost:.4f} less")
    groups = every[0].groups
    for images in options.images:
        rng = np.random.default_rng((options.seed, images))
        calls = {}
        for _ in range(options.holdouts):
            sample = draw(rng, groups, images)
            order = rng.permutation(len(every))
            one, other = taken(every[order[0]], *sample), taken(every[order[1]], *sample)
            calls.setdefault("two runs, by images alone", []).append(differences([one], [other])[-1].is_real)
            sides = [[taken(every[number], *sample) for number in order[first : first + 3]] for first in (0, 3)]
            calls.setdefault("three runs against three others", []).append(differences(*sides)[-1].is_real)
            for name, others in made_worse.items():
                found = differences([taken(others[order[0]], *sample)], [one])[-1]
                calls.setdefault(name, []).append(found.is_real and found.difference < 0)
        print(f"\nholdouts of {images} images, {options.holdouts} of them: called real, or worse")
        for name, called in calls.items():
            share = np.mean(called)
            error = 1.96 * np.sqrt(share * (1 - share) / len(called))
            print(f"  {name:34} {100 * share:5.1f} ± {100 * error:.1f} %", flush=True)


if __name__ == "__main__":
    main()
