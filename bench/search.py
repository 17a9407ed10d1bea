"""The threshold search at the competition's size: every cell of the grid of `thresholds`, scored exactly.

    python bench/search.py [--images 1886] [--classes 4] [--threads 2] [--size 256x1600] [--different 64]
                           [--background 3]

Maps are made beforehand and used in turn: blobs with soft edges over noise of levels 0..background (about 70 % of the
pixels above 0), half of the images clean, some of these with a false alarm. Prints the time and memory of the gains
alone, and of the whole search with the selection and 200 bootstrap samples of it, the time per map, and the speed-up
per (threshold, size) pair over OpenCV; checks cells against masks made by the post-processing itself.
"""

import argparse
import concurrent.futures
import itertools
import resource
import time

import cv2
import numpy as np

from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.components import tally
from severstal_cli.steel.masks.postprocess import ClassPostprocess, levels_to_rle
from severstal_cli.steel.thresholds import rule_selection
from severstal_cli.steel.thresholds.per_image_gains import GATES, THRESHOLDS, PerImageGains


def make_map(rng, size, background, *, has_truth, has_blobs):
    """(levels, truth or None): levels as of a trained network for one class, and the coarse polygon of the truth."""
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
    # the network's last step enlarges its map, so neighbours in the background are similar
    noise = cv2.GaussianBlur(rng.standard_normal(size).astype(np.float32), (0, 0), 1)
    noise = background * np.clip(0.35 + 0.35 * noise / noise.std(), 0, 1) + 0.5
    levels = np.clip(255 / (1 + np.exp(-score)) + noise, 0, 255).astype(np.uint8)
    return levels, truth.astype(np.bool_) if has_truth else None


def best_of(repeats, function):
    """CPU seconds of the fastest of several calls: other processes may use the machine."""
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
    """Cells of the grid, half of them with a gate, against the mean Dice of masks made by the post-processing."""
    gains = PerImageGains.for_images(size[0] * size[1])
    for number, pair in enumerate(maps):
        gains.add(number, *pair)
    worst = 0.0
    for number in range(cells):
        rule = ClassPostprocess(
            pixel_threshold=int(rng.choice(THRESHOLDS)),
            min_component_px=int(rng.choice(gains.component_sizes)),
            min_mask_px=int(rng.choice(gains.mask_sizes)),
            min_image_score=int(rng.choice(GATES)) if number % 2 else 0,
        )
        total = 0.0
        for levels, truth in maps:
            mask = rle.decode(levels_to_rle(levels[None], [rule])[0], size)
            true = np.zeros(size, np.bool_) if truth is None else truth
            pixels = int(mask.sum()) + int(true.sum())
            total += 2 * int((mask & true).sum()) / pixels if pixels else 1.0
        worst = max(worst, abs(total - gains.dice(rule).sum()) / len(maps))
    assert worst < 1e-12, worst
    print(
        f"checked {cells} cells over {len(maps)} maps against applied post-processing: difference at most {worst:.1e}"
    )


def search(options, maps, size):
    """Seconds and CPU seconds of the gains alone and of the whole search, the gains, and the choices."""
    cpu, begin = time.process_time(), time.perf_counter()
    gains = [PerImageGains.for_images(size[0] * size[1]) for _ in range(options.classes)]

    def add(image):
        for of_class, pairs in zip(gains, maps, strict=True):
            of_class.add(image, *pairs[image % len(pairs)])

    with concurrent.futures.ThreadPoolExecutor(options.threads) as pool:
        for _ in pool.map(add, range(options.images)):
            pass
    alone = time.perf_counter() - begin, time.process_time() - cpu
    groups = np.arange(options.images)
    choices = rule_selection.choose(gains, (groups % rule_selection.FOLDS).astype(np.int8), groups).choices
    rule_selection.choose_resampled(gains, choices, groups)
    return alone, (time.perf_counter() - begin, time.process_time() - cpu), gains, choices


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
    PerImageGains.for_images(size[0] * size[1]).add(0, *every[0])  # compiles, or loads what was compiled
    search(argparse.Namespace(images=10, classes=1, threads=1), maps[:1], size)  # compiles the rest
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (gain_seconds, gain_cpu), (seconds, cpu), gains, choices = search(options, maps, size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    searched = options.images * options.classes
    sizes = gains[0].component_sizes
    pairs = len(THRESHOLDS) * len(sizes)
    what = f"{options.images} images x {options.classes} classes, {options.threads} threads"
    print(f"{what}: gains {gain_seconds:.1f} s, {gain_cpu:.1f} s of CPU, {1e3 * gain_cpu / searched:.2f} ms per map")
    print(f"with the selection and 200 bootstrap samples of it {seconds:.1f} s, {cpu:.1f} s of CPU")
    print(f"{pairs} pairs x {len(gains[0].mask_sizes)} mask sizes x {len(GATES)} gates per map")
    print(f"peak memory {peak:.0f} MiB, of it {peak - resident:.0f} MiB by the search: the maps were there before")
    for class_id, choice in enumerate(choices, start=1):
        dice = f"{choice.mean_dice_default:.4f} -> {choice.mean_dice:.4f}, held out {choice.mean_dice_held_out:.4f}"
        print(f"class {class_id}: {dice}, by {choice.rule}")

    sample = list(itertools.islice((pair for pair in every if pair[1] is not None), 8))
    ours = np.mean([best_of(5, lambda pair=pair: tally(*pair, sizes)) for pair in sample])
    one = np.mean([best_of(5, lambda pair=pair: pair_by_opencv(*pair, 128, 100)) for pair in sample])
    print(f"maps with the class, one thread: {pairs} pairs {1e3 * ours:.2f} ms, one pair by OpenCV {1e3 * one:.2f} ms:")
    print(f"{pairs * one / ours:,.0f} times faster per pair")
    check(every[: min(12, len(every))], 100, rng, size)


if __name__ == "__main__":
    main()
