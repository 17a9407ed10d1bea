"""The loss of ways to select thresholds on new images: simulated validation sets, from the maps of a trained run.

    python bench/regret.py pool models/NAME --out pool.npz         # the gains of each holdout image of the run
    python bench/regret.py pool models/NAME-fold{0,1,2,3,4} --out pool.npz     # or each by the run that left it out
    python bench/regret.py losses pool.npz [--images 300 1000 2500] [--sets 100] [--seed 1]

A pool should be large: `severstal split --holdout 0.8` on thousands of images. A validation set is sampled from it by
groups of near-duplicates; the rest are the new images. Each way selects on the validation set alone. Its loss is the
best mean Dice of any post-processing on the new images less that of its own, averaged over the classes. All ways have
the same grid; `as thresholds does` has gates, too. `±` is 1.96 standard errors over the sets, which share images.
The last lines are about the cross-validated score that `thresholds` prints: how far it is above the score measured on
the new images, and how often its 95 % interval holds that. The interval does not cover the sampling error of the new
images; `with both` widens it by the standard error of the measured mean.

The constants of steel/thresholds/rule_selection were set on two pools: linknet with resnet18, 5,249 images of
`severstal synth` of 128 x 256, and 615 images of real steel. docs/trust.md names the pools that were not among them.
"""

import argparse
from pathlib import Path

import numpy as np

from severstal_cli.learning.inference import held_out
from severstal_cli.progress import SILENT
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.postprocess import DISABLED
from severstal_cli.steel.scoring import intervals
from severstal_cli.steel.thresholds import rule_selection
from severstal_cli.steel.thresholds.per_image_gains import GATES, ONE, THRESHOLDS, PerImageGains
from severstal_cli.steel.thresholds.rule_selection import middle_of_the_top

RESAMPLES = 50
HALF_WIDTHS = 4, 2
"""Of the smoothing, in steps along thresholds and component sizes: factors of 2.7 in odds and 2.3 in size."""
DEFAULT = int(np.searchsorted(THRESHOLDS, 128)), 0, 0


def make_pool(runs, data, out):
    part = (held_out.open_holdout if len(runs) == 1 else held_out.open_validation)(runs, data, SILENT)
    data_folder = part.data_folder
    height, width = data_folder.usual_size()
    classes = [PerImageGains.for_images(height * width) for _ in range(data_folder.classes)]
    levels_of = part.levels(views="none", exclusive=part.cards[0].exclusive, batch_size=8, progress=SILENT)
    for number, (image_id, levels) in enumerate(levels_of):
        for channel, one in enumerate(classes):
            runs = data_folder.masks.get((image_id, channel))
            one.add(number, levels[channel], None if runs is None else rle.decode(runs, (height, width)))
    save(out, classes, rule_selection.groups_of(part.image_ids, part.split))


def save(out, classes, groups):
    arrays = {"groups": groups, "components": classes[0].component_sizes, "masks": classes[0].mask_sizes}
    for channel, one in enumerate(classes):
        images = sorted(one._stored)
        arrays |= {
            f"images{channel}": np.array(images),
            f"present{channel}": one.present,
            f"gains{channel}": np.array([one._stored[image][0] for image in images], np.int64),
            f"reached{channel}": np.array([one._stored[image][1] for image in images], np.uint8),
            f"gates{channel}": np.array([one._stored[image][2] for image in images], np.int64),
        }
    np.savez_compressed(out, **arrays)


def read(path):
    arrays = dict(np.load(path))
    classes = []
    for channel in range(sum(name.startswith("images") for name in arrays)):
        one = PerImageGains(component_sizes=arrays["components"], mask_sizes=arrays["masks"])
        one._present = dict(enumerate(arrays[f"present{channel}"].tolist()))
        every = (arrays[f"{name}{channel}"] for name in ("images", "gains", "reached", "gates"))
        one._stored = {
            int(image): (gains, reached, int(gates)) for image, gains, reached, gates in zip(*every, strict=True)
        }
        classes.append(one)
    return classes, arrays["groups"]


def subset(one, images):
    """The gains of `images` alone, renumbered."""
    taken = PerImageGains(component_sizes=one.component_sizes, mask_sizes=one.mask_sizes)
    for number, image in enumerate(images):
        taken._present[number] = one._present[image]
        if image in one._stored:
            taken._stored[number] = one._stored[image]
    return taken


def highest(gains, images):
    """The highest cell of (T, S, M) gains, of equal ones that of `middle_of_the_top`; None: disabled."""
    cell = middle_of_the_top(gains >= gains.max() - images)
    return cell if gains[cell] > images else None


def alarms(one):
    """False alarms of each cell: (T, S, M)."""
    clean = one.present == 0
    counts = np.zeros(one.shape)
    for image, (_, reached, _) in one._stored.items():
        if clean[image]:
            counts += reached[..., None] > np.arange(one.shape[2])
    return counts


def choices(classes, groups, rng):
    """The cells (gate level, t, s, m) of each class, or None where it is disabled, by each way."""
    count = len(groups)
    plain = [one.sums(np.zeros(count, np.int8), 1)[0, 0] for one in classes]
    _, group_of = np.unique(groups, return_inverse=True)
    drawn = next(intervals.draws(int(group_of.max()) + 1, samples=RESAMPLES, seed=int(rng.integers(2**31))))
    weights = drawn[:, group_of].astype(float)
    priors = rule_selection._priors(plain, [int(one.present.sum()) for one in classes])
    found = {}
    for channel, (one, own) in enumerate(zip(classes, plain, strict=True)):

        def add(way, cell, own=own, channel=channel):
            keeps = cell is not None and own[tuple(cell)] > 0
            found.setdefault(way, [None] * len(classes))[channel] = (0, *map(int, cell)) if keeps else None

        best = highest(own, count)
        found.setdefault("a threshold of 0.5", []).append((0, *DEFAULT))
        add("the best", best)
        again = one.weighted_sums(weights, 0)
        cells = np.array(np.unravel_index(again.reshape(RESAMPLES, -1).argmax(axis=1), one.shape))
        add("bagged: the median of the best of 50 samples", np.median(cells, axis=1).astype(int))
        errors = (again - again[(slice(None), *(best or DEFAULT))][:, None, None, None]).std(axis=0) * ONE
        near = own >= own.max() - errors - count
        fewest = np.where(near, alarms(one), np.inf)
        add(
            "fewest false alarms within one standard error",
            highest(np.where(fewest <= fewest.min(), own, -ONE * count), 0),
        )
        add("shrinkage alone", highest(own + priors[channel], count))
        errors = (again - again[(slice(None), *DEFAULT)][:, None, None, None]).std(axis=0) * ONE
        add("penalty alone", highest(own - rule_selection.PENALTY * errors, count))
        add("smoothed alone", middle_of_the_top(_top(smoothed(own.astype(float)), count)))
    chosen = rule_selection.choose(classes, _folds(groups, rng), groups)
    found["as thresholds does"] = [_cell(one, choice.rule) for one, choice in zip(classes, chosen.choices, strict=True)]
    return found, chosen


def smoothed(surface):
    """(T, S, M): after local fits along thresholds and component sizes, and no higher than it was at its highest."""
    thresholds, sizes, masks = surface.shape
    along_thresholds, along_sizes = map(_local_fit, (thresholds, sizes), HALF_WIDTHS)
    found = along_sizes @ (along_thresholds @ surface.reshape(thresholds, sizes * masks)).reshape(surface.shape)
    return np.minimum(found, surface.max())


def _local_fit(count, half_width):
    """(count, count): row i gives the value at i of a quadratic fitted to all values, near ones above all.

    The weight at distance d is (1 - (d / (half_width + 1/2))^3)^3, none beyond (Cleveland, Robust locally weighted
    regression, JASA 74, 1979).
    """
    fit = np.empty((count, count))
    for at in range(count):
        distance = (np.arange(count) - at) / (half_width + 0.5)
        weight = np.sqrt(np.clip(1 - np.abs(distance) ** 3, 0, None) ** 3)
        powers = distance[:, None] ** np.arange(min(3, count))
        fit[at] = np.linalg.pinv(powers * weight[:, None])[0] * weight
    return fit


def _top(looks, images):
    return looks >= looks.max() - images


def _folds(groups, rng):
    """Whole groups, assigned at random."""
    _, group_of = np.unique(groups, return_inverse=True)
    return (rng.permutation(int(group_of.max()) + 1)[group_of] % rule_selection.FOLDS).astype(np.int8)


def _cell(one, rule):
    if rule.pixel_threshold == DISABLED:
        return None
    level = int(np.searchsorted(GATES, rule.min_image_score)) + 1 if rule.min_image_score else 0
    axes = (
        (THRESHOLDS, rule.pixel_threshold),
        (one.component_sizes, rule.min_component_px),
        (one.mask_sizes, rule.min_mask_px),
    )
    return level, *(int(np.searchsorted(values, value)) for values, value in axes)


def losses(path, images, sets, seed):
    classes, groups = read(path)
    count = len(groups)
    _, group_of = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group_of)
    print(
        f"{path}: {count} images in {len(sizes)} groups, with each class "
        f"{', '.join(f'{one.present.mean():.1%}' for one in classes)}"
    )
    whole = [one.sums(np.zeros(count, np.int8), 1)[0] for one in classes]
    usable = np.concatenate([[True], np.ones(len(GATES), bool)])[:, None] & np.concatenate(
        [np.ones((1, len(THRESHOLDS)), bool), GATES[:, None] > THRESHOLDS]
    )
    for wanted in images:
        if wanted > count // 2:
            print(f"{wanted} images: more than half of the pool, left out")
            continue
        lost, estimates, rng = {}, [], np.random.default_rng((seed, wanted))
        for _ in range(sets):
            order = rng.permutation(len(sizes))
            taken = np.isin(group_of, order[: int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1])
            inside = [subset(one, np.flatnonzero(taken).tolist()) for one in classes]
            found, chosen = choices(inside, groups[taken], rng)
            new = count - int(taken.sum())
            rest = [
                (total - own.sums(np.zeros(int(taken.sum()), np.int8), 1)[0]) / (ONE * new)
                for total, own in zip(whole, inside, strict=True)
            ]
            best = [max(0.0, float(gains[usable].max())) for gains in rest]
            for way, cells in found.items():
                worth = [0.0 if cell is None else float(gains[cell]) for gains, cell in zip(rest, cells, strict=True)]
                lost.setdefault(way, []).append(np.mean(best) - np.mean(worth))
            clean = np.mean([1 - one.present[~taken].mean() for one in classes])
            measured = clean + np.mean(best) - lost["as thresholds does"][-1]
            own = np.mean(
                [one.dice(choice.rule)[~taken] for one, choice in zip(classes, chosen.choices, strict=True)], axis=0
            )
            assert abs(own.mean() - measured) < 1e-9, (own.mean(), measured)
            low, high = chosen.interval_held_out
            error = 1.96 * own.std() / np.sqrt(new)
            expected = chosen.mean_dice_held_out
            wide = np.hypot(expected - low, error), np.hypot(high - expected, error)
            estimates.append(
                (
                    expected - measured,
                    low <= measured <= high,
                    expected - wide[0] <= measured <= expected + wide[1],
                    np.mean([choice.mean_dice for choice in chosen.choices]) - measured,
                )
            )
        print(f"\n{wanted} images, {len(estimates)} sets: loss in thousandths of Dice, and over that of the best")
        plain = np.mean(lost["the best"])
        for way, values in lost.items():
            error = 1.96e3 * np.std(values) / np.sqrt(len(values))
            print(f"  {way:46} {1e3 * np.mean(values):6.2f} ± {error:.2f}   {np.mean(values) / plain:5.2f}")
        above, inside_of, with_both, tuned = np.mean(estimates, axis=0)
        print(
            f"  cross-validated less measured on new images {1e3 * above:+.2f} thousandths (of the images searched "
            f"{1e3 * tuned:+.2f}); within its interval {inside_of:.0%}, "
            f"with both {with_both:.0%}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    pool = commands.add_parser("pool")
    pool.add_argument("runs", type=Path, nargs="+")
    pool.add_argument("--data", type=Path)
    pool.add_argument("--out", type=Path, required=True)
    of_losses = commands.add_parser("losses")
    of_losses.add_argument("pool", type=Path)
    of_losses.add_argument("--images", type=int, nargs="+", default=[300, 1000, 2500])
    of_losses.add_argument("--sets", type=int, default=100)
    of_losses.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.command == "pool":
        make_pool(options.runs, options.data, options.out)
    else:
        losses(options.pool, options.images, options.sets, options.seed)


if __name__ == "__main__":
    main()
