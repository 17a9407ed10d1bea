"""Coverage of the 95 % interval of `score` on simulated holdouts, with and without near-duplicates.

    python bench/interval_coverage.py [--holdouts 2000] [--images 300 1886] [--seed 1] [--run models/NAME]

The population consists of groups of near-duplicates. For each image and class, the presence of a mask and the Dice of a
found, missed (0) or falsely predicted mask (0) are random, with shares like those of the competition. Each pair of an
image and a class takes the value of its group with probability 0.9, else its own. A holdout samples groups until it has
enough images. The bench counts how often its interval, by groups and with each image as its own group, contains the
mean of the population. With `--run` the population is real: the scores of a run on its holdout, whose groups are
sampled with replacement, and a share of which is repeated to make near-duplicates. `±` is 1.96 standard errors of the
simulation. The target is 93 to 97 % by groups.
"""

import argparse
from pathlib import Path

import numpy as np

from severstal_cli.steel.scoring.intervals import intervals

SHARES = np.array([0.07, 0.02, 0.41, 0.06])
"""Of the images with each class."""
RECALL, FALSE_ALARM, BETA = 0.85, 0.02, (6.0, 2.0)
LIKE_THE_GROUP = 0.9


def dice_of(rng, count):
    is_present = rng.random((count, 4)) < SHARES
    dice = np.where(rng.random((count, 4)) < RECALL, rng.beta(*BETA, (count, 4)), 0.0)
    return np.where(is_present, dice, (rng.random((count, 4)) >= FALSE_ALARM).astype(float))


def holdout(rng, images, grouped_share):
    """Scores and groups: `grouped_share` of the groups have 2 to 6 images, the others one."""
    sizes = np.where(rng.random(images) < grouped_share, rng.integers(2, 7, images), 1)
    groups = np.repeat(np.arange(images), sizes)[:images]
    of_group = dice_of(rng, images)[groups]
    return np.where(rng.random(of_group.shape) < LIKE_THE_GROUP, of_group, dice_of(rng, len(groups))), groups


def of_run(folder):
    """Scores and groups of a run's holdout."""
    from severstal_cli.config import ScoreConfig
    from severstal_cli.progress import SILENT
    from severstal_cli.stages import scoring

    scores = scoring.score_runs(ScoreConfig(runs=(folder,)), SILENT)
    return scores.dice, np.unique(scores.groups, return_inverse=True)[1]


def resplit(rng, population, images, grouped_share):
    """Scores and groups of a holdout sampled from the population; some groups are repeated as near-duplicates."""
    dice, group_of = population
    rows, groups = [], []
    while len(rows) < images:
        drawn = np.flatnonzero(group_of == rng.integers(group_of.max() + 1))
        if rng.random() < grouped_share:
            drawn = np.repeat(drawn, rng.integers(2, 7))
        rows += drawn.tolist()
        groups += [len(rows)] * len(drawn)
    return dice[rows[:images]], np.array(groups[:images])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--holdouts", type=int, default=2000)
    parser.add_argument("--images", type=int, nargs="+", default=[300, 1886])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", type=Path, help="take the scores of its holdout as the population")
    options = parser.parse_args()
    population = of_run(options.run) if options.run else None
    truth = float((SHARES * RECALL * BETA[0] / sum(BETA) + (1 - SHARES) * (1 - FALSE_ALARM)).mean())
    if population:
        truth = float(population[0].mean())
        print(f"{options.run}: {len(population[0])} images in {population[1].max() + 1} groups, mean Dice {truth:.4f}")
    for images in options.images:
        for share in (0.0, 0.3):
            rng = np.random.default_rng((options.seed, images, int(100 * share)))
            hits = np.zeros(2)
            for _ in range(options.holdouts):
                scores, groups = resplit(rng, population, images, share) if population else holdout(rng, images, share)
                for way, of in enumerate((groups, np.arange(images))):
                    low, high = intervals(scores, of)[-1]
                    hits[way] += low <= truth <= high
            coverage = hits / options.holdouts
            error = 1.96 * np.sqrt(coverage * (1 - coverage) / options.holdouts)
            by_groups, each = (f"{100 * p:.1f} ± {100 * e:.1f} %" for p, e in zip(coverage, error, strict=True))
            print(
                f"{images} images, {share:.0%} of the groups with duplicates: by groups {by_groups}, "
                f"each image by itself {each}",
                flush=True,
            )


if __name__ == "__main__":
    main()
