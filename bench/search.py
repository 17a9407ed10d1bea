"""The threshold search at the competition's size: every threshold x component size x mask size, exactly.

    python bench/search.py [--images 1886] [--classes 4] [--threads 2] [--size 256x1600] [--different 64]
                           [--background 3]

Maps are made beforehand and used in turn: blobs with soft edges over noise of levels 0..background (about 70 % of the
pixels above 0), half of the images clean, some of these with a false alarm. Prints the time and memory of the search
alone, without and with what each image contributes, the choice and 200 drawings of it, its time for one map, and how it
compares with one (threshold, size) pair by OpenCV; checks cells against masks made by the rule itself.
"""

import argparse
import concurrent.futures
import itertools
import resource
import time

import cv2
import numpy as np

from severstal_cli.steel.masks.components import tally
from severstal_cli.steel.masks.postprocess import ClassPostprocess, apply_rule
from severstal_cli.steel.thresholds import rule_selection
from severstal_cli.steel.thresholds.per_image_gains import GATES, THRESHOLDS, Contributions
from severstal_cli.steel.thresholds.score_surface import ONE, ScoreSurface


def make_map(rng, size, background, *, has_truth, has_blobs):
    """(levels, truth or None): what a trained network says of one class, and the coarse polygon it should say."""
    height, width = size
    score = np.full(size, -9.0, np.float32)
    truth = np.zeros(size, np.uint8)
    for _ in range(rng.integers(1, 5) if has_blobs else 0):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 9)))
        radius = rng.uniform(0.5, 1, len(angles)) * np.exp(rng.normal(np.log(height / 6), 0.5))
        centre = rng.uniform((0, 0), (width, height))
        corners = (centre + radius[:, None] * np.c_[np.cos(angles), np.sin(angles)]).astype(np.int32)
        cv2.fillPoly(truth, [corners], 1)
    if has_blobs:
        inside = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), height / 24)
        wobble = cv2.GaussianBlur(rng.standard_normal(size).astype(np.float32), (0, 0), height / 64)
        score = np.log(inside + 1e-6) - np.log(1 - inside + 1e-6) + wobble / wobble.std()
    # the network's last step enlarges its map, so neighbours in the background are alike
    noise = cv2.GaussianBlur(rng.standard_normal(size).astype(np.float32), (0, 0), 1)
    noise = background * np.clip(0.35 + 0.35 * noise / noise.std(), 0, 1) + 0.5
    levels = np.clip(255 / (1 + np.exp(-score)) + noise, 0, 255).astype(np.uint8)
    return levels, truth.astype(np.bool_) if has_truth else None


def best_of(repeats, function):
    """Seconds of the quickest of several calls, as the processor counts them: others may use the machine."""
    seconds = []
    for _ in range(repeats):
        begin = time.thread_time()
        function()
        seconds.append(time.thread_time() - begin)
    return min(seconds)


def pair_by_opencv(levels, truth, threshold, min_component_px):
    """Dice for one (threshold, size), as it is commonly written."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((levels >= threshold).astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= min_component_px
    keep[0] = False
    mask = keep[labels]
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else 1.0


def check(maps, cells, rng, size):
    """Cells of a surface over `maps`, with a gate those of contributions, against mean Dice of masks by the rule."""
    surface = ScoreSurface.for_images(size[0] * size[1])
    kept = Contributions(surface)
    for number, pair in enumerate(maps):
        kept.add(number, surface.add(*pair))
    worst = 0.0
    for number in range(cells):
        gate = int(rng.choice(GATES)) if number % 2 else 0
        grid = kept if gate else surface
        t = int(rng.choice(THRESHOLDS) if gate else rng.integers(1, 256))
        component, mask_px = (int(rng.choice(sizes)) for sizes in (grid.component_sizes, grid.mask_sizes))
        rule = ClassPostprocess(
            pixel_threshold=t, min_component_px=component, min_mask_px=mask_px, min_image_score=gate
        )
        total = 0.0
        for levels, truth in maps:
            mask, true = apply_rule(levels, rule), np.zeros(size, np.bool_) if truth is None else truth
            pixels = int(mask.sum()) + int(true.sum())
            total += 2 * int((mask & true).sum()) / pixels if pixels else 1.0
        found = kept.dice(rule).sum() if gate else surface.sum_of(rule) / ONE
        worst = max(worst, abs(total - found) / len(maps))
    assert worst < 1e-12, worst
    print(f"checked {cells} cells over {len(maps)} maps against the masks of the rule: largest difference {worst:.1e}")


def search(options, maps, size, *, choose):
    """Seconds, seconds of CPU, surfaces and, with `choose`, what is chosen and drawn again from contributions."""
    cpu, begin = time.process_time(), time.perf_counter()
    surfaces = [ScoreSurface.for_images(size[0] * size[1]) for _ in range(options.classes)]
    contributions = [Contributions(surface) for surface in surfaces]

    def add(image):
        for surface, kept, of_class in zip(surfaces, contributions, maps, strict=True):
            found = surface.add(*of_class[image % len(of_class)])
            if choose:
                kept.add(image, found)

    with concurrent.futures.ThreadPoolExecutor(options.threads) as pool:
        for _ in pool.map(add, range(options.images)):
            pass
    if choose:
        groups = np.arange(options.images)
        choices = rule_selection.choose(contributions, (groups % rule_selection.FOLDS).astype(np.int8), groups).choices
        rule_selection.chosen_again(contributions, choices, groups)
    else:
        choices = [surface.best() for surface in surfaces]
    return time.perf_counter() - begin, time.process_time() - cpu, surfaces, choices


def main():
    cv2.setNumThreads(1)  # one thread against one thread
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1886)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default="256x1600", help="height x width")
    parser.add_argument("--different", type=int, default=64, help="different maps a class")
    parser.add_argument("--background", type=float, default=3.0, help="highest level of the noise")
    options = parser.parse_args()
    size = tuple(int(side) for side in options.size.split("x"))
    rng = np.random.default_rng(0)

    maps = []  # by class: half without the class, a quarter of these with a false alarm
    for _ in range(options.classes):
        kinds = [(i % 2 == 0, i % 2 == 0 or i % 8 == 1) for i in range(options.different)]
        maps.append(
            [make_map(rng, size, options.background, has_truth=truth, has_blobs=blobs) for truth, blobs in kinds]
        )
    every = [pair for of_class in maps for pair in of_class]
    above = np.mean([np.count_nonzero(levels) for levels, _ in every]) / (size[0] * size[1])
    print(f"{len(every)} different maps of {options.size}, {above:.0%} of the pixels above level 0")
    tally(*every[0], ScoreSurface.for_images(size[0] * size[1]).component_sizes)  # compiles, or loads what was compiled
    ScoreSurface.for_images(size[0] * size[1]).add(*every[0])

    search(argparse.Namespace(images=10, classes=1, threads=1), maps[:1], size, choose=True)  # compiles the rest
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    plain_seconds, plain_cpu, *_ = search(options, maps, size, choose=False)
    seconds, cpu, surfaces, choices = search(options, maps, size, choose=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    searched = options.images * options.classes
    cells = 255 * len(surfaces[0].component_sizes)
    what = f"{options.images} images x {options.classes} classes"
    print(
        f"{what}, {options.threads} threads: surfaces alone {plain_seconds:.1f} s, {plain_cpu:.1f} s of CPU; with what"
    )
    print(f"each image contributes, the choice and 200 drawings {seconds:.1f} s, {cpu:.1f} s of CPU,", end=" ")
    print(f"{1e3 * cpu / searched:.2f} ms a map: ratio {seconds / plain_seconds:.2f}, of CPU {cpu / plain_cpu:.2f}")
    print(f"of each map {cells} pairs x {len(surfaces[0].mask_sizes)} mask sizes, and {len(GATES)} gates")
    print(f"peak memory {peak:.0f} MiB, of it {peak - resident:.0f} MiB by the search: the maps were there before")
    for class_id, choice in enumerate(choices, start=1):
        found = f"{choice.mean_dice_default:.4f} -> {choice.mean_dice:.4f}, held out {choice.mean_dice_held_out:.4f}"
        print(f"class {class_id}: {found}, by {choice.rule}")

    sample = list(itertools.islice((pair for pair in every if pair[1] is not None), 8))
    sizes = surfaces[0].component_sizes
    ours = np.mean([best_of(5, lambda pair=pair: tally(*pair, sizes)) for pair in sample])
    one = np.mean([best_of(5, lambda pair=pair: pair_by_opencv(*pair, 128, 100)) for pair in sample])
    print(f"maps with the class, one thread: {cells} pairs {1e3 * ours:.2f} ms, one pair by OpenCV {1e3 * one:.2f} ms:")
    print(f"{cells * one / ours:,.0f} times faster a pair")
    check(every[: min(12, len(every))], 100, rng, size)


if __name__ == "__main__":
    main()
