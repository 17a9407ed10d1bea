"""The selection: its figures against their definition, gates, ties, and its score on new images."""

from pathlib import Path

import numpy as np
import pytest

from severstal_cli.steel.dataset.splits import Split
from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.postprocess import DISABLED, ClassPostprocess, levels_to_rle
from severstal_cli.steel.thresholds import rule_selection
from severstal_cli.steel.thresholds.per_image_gains import THRESHOLDS, PerImageGains

SIZE = (8, 24)
SAMPLES, SHAPE = 50, (29, 5, 4)


def filled(*classes):
    """The gains of each class's images, their folds, and a group for each image."""
    made = []
    for images in classes:
        made.append(PerImageGains.for_images(SIZE[0] * SIZE[1]))
        for number, image in enumerate(images):
            made[-1].add(number, *image)
    count = len(classes[0])
    return made, (np.arange(count) % 5).astype(np.int8), np.arange(count)


def apply_postprocess(levels, rule):
    """The mask of one class as an array."""
    return rle.decode(levels_to_rle(levels[None], [rule])[0], levels.shape)


def mean_dice(images, rule):
    scores = []
    for levels, truth in images:
        mask, true = apply_postprocess(levels, rule), np.zeros(levels.shape, np.bool_) if truth is None else truth
        total = int(mask.sum()) + int(true.sum())
        scores.append(2 * int((mask & true).sum()) / total if total else 1.0)
    return float(np.mean(scores))


def defect(level, peak=0, columns=12):
    levels = np.zeros(SIZE, np.uint8)
    levels[:, :columns] = level
    truth = levels > 0
    levels[0, 0] = max(peak, level)
    return levels, truth


def alarm(level):
    """As large as a defect, so that no size filter removes it."""
    return defect(level)[0], None


CLEAN = np.zeros(SIZE, np.uint8), None


def noisy(rng, count, present=0.3):
    """Maps whose best threshold is about 0.3: soft edges around the truth, and false alarms of about level 60."""
    images = []
    for _ in range(count):
        levels = rng.integers(0, 12, SIZE).astype(np.float64)
        truth = None
        if rng.random() < present:
            truth = np.zeros(SIZE, np.bool_)
            first = int(rng.integers(0, 12))
            truth[:, first : first + 10] = True
            levels += 255 / (1 + np.exp(-rng.normal(-0.4, 1.0) - 1.5 * np.where(truth, 1, -2)))
        elif rng.random() < 0.5:
            levels[:, :10] += rng.gamma(2.0, 25.0)
        images.append((np.clip(levels, 0, 255).astype(np.uint8), truth))
    return images


def test_figures_match_the_applied_post_processing():
    rng = np.random.default_rng(0)
    classes = [noisy(rng, 60), noisy(rng, 60, present=0.1)]
    made, fold_of, groups = filled(*classes)
    chosen = rule_selection.choose(made, fold_of, groups)
    held_out = []
    for images, choice in zip(classes, chosen.choices, strict=True):
        assert choice.mean_dice == pytest.approx(mean_dice(images, choice.rule), abs=1e-12)
        assert choice.mean_dice_default == pytest.approx(mean_dice(images, ClassPostprocess()), abs=1e-12)
        assert choice.mean_dice_never == pytest.approx(
            mean_dice(images, ClassPostprocess(pixel_threshold=DISABLED)), abs=1e-12
        )
        assert (choice.images, choice.present) == (60, sum(truth is not None for _, truth in images))
        held_out.append(choice.mean_dice_held_out)
        low, high = choice.interval_held_out
        assert low < choice.mean_dice_held_out < high
    assert chosen.mean_dice_held_out == pytest.approx(np.mean(held_out))
    assert chosen.interval_held_out[0] < chosen.mean_dice_held_out < chosen.interval_held_out[1]


def test_the_held_out_score_cross_validates_the_selection():
    rng = np.random.default_rng(1)
    classes = [noisy(rng, 40), noisy(rng, 40)]
    made, fold_of, groups = filled(*classes)
    chosen = rule_selection.choose(made, fold_of, groups)
    assert [choice.rule.min_image_score for choice in chosen.choices] == [0, 0]
    total = np.zeros(2)
    for fold in range(5):
        kept = [[image for image, at in zip(images, fold_of, strict=True) if at != fold] for images in classes]
        others, folds, own = filled(*kept)
        without = rule_selection.choose(
            others, np.zeros_like(folds), own
        )  # one fold: nothing is left out, no gate is tried
        assert without.mean_dice_held_out is None
        for channel, (images, choice) in enumerate(zip(classes, without.choices, strict=True)):
            left_out = [image for image, at in zip(images, fold_of, strict=True) if at == fold]
            total[channel] += mean_dice(left_out, choice.rule) / 5
    assert [choice.mean_dice_held_out for choice in chosen.choices] == pytest.approx(total.tolist(), abs=1e-12)


def test_a_gate_that_helps_held_out_images_is_used():
    images = [defect(100, peak=230), alarm(150), alarm(160), defect(100, peak=240)] * 6
    made, fold_of, groups = filled(images)
    (choice,) = rule_selection.choose(made, fold_of, groups).choices
    assert choice.rule.pixel_threshold <= 100
    assert 160 < choice.rule.min_image_score <= 230
    assert choice.mean_dice == choice.mean_dice_held_out == 1.0


def test_a_gate_that_helps_by_luck_is_not_used():
    rng = np.random.default_rng(2)
    images = [
        defect(100, peak=int(rng.integers(101, 255))) if number % 2 else alarm(int(rng.integers(10, 20)))
        for number in range(40)
    ]
    images[3] = alarm(140)  # a gate above it drops it, and some defects
    made, fold_of, groups = filled(images)
    (choice,) = rule_selection.choose(made, fold_of, groups).choices
    assert choice.rule.min_image_score == 0


def test_what_gains_nothing_is_off():
    made, fold_of, groups = filled([CLEAN] * 6)
    (choice,) = rule_selection.choose(made, fold_of, groups).choices
    assert choice.rule == ClassPostprocess()  # nothing is found and nothing there
    assert choice.mean_dice == choice.mean_dice_held_out == 1.0
    made, fold_of, groups = filled([defect(255, columns=6), *[alarm(255)] * 5] * 2)
    (choice,) = rule_selection.choose(made, fold_of, groups).choices
    assert choice.rule.pixel_threshold == DISABLED or choice.rule.min_mask_px > 100  # most of it is wrong
    made, fold_of, groups = filled([defect(255), CLEAN] * 5)
    (choice,) = rule_selection.choose(made, fold_of, groups).choices
    assert choice.rule == ClassPostprocess()  # right at every threshold: the default does


def test_the_default_is_tried_before_a_class_is_disabled():
    made, _, _ = filled([CLEAN] * 4)
    surface = np.full(made[0].shape, -9_000)
    cell = 20, 0, 0
    assert rule_selection._rule(made[0], surface, cell, surface, 4).pixel_threshold == DISABLED
    surface[rule_selection._DEFAULT] = 9_000
    assert rule_selection._rule(made[0], surface, cell, surface, 4) == ClassPostprocess()
    surface[cell] = 9_999
    assert rule_selection._rule(made[0], surface, cell, surface, 4).pixel_threshold == THRESHOLDS[20]


def test_fifty_samples_are_drawn_of_any_number_of_groups(monkeypatch: pytest.MonkeyPatch):
    made, fold_of, groups = filled(noisy(np.random.default_rng(7), 40))
    chosen, rows, weighted_sums = rule_selection.choose(made, fold_of, groups), [], PerImageGains.weighted_sums
    monkeypatch.setattr(
        PerImageGains,
        "weighted_sums",
        lambda own, weights, gate: (rows.append(len(weights)), weighted_sums(own, weights, gate))[1],
    )
    monkeypatch.setattr(rule_selection.intervals, "_CHUNK", 200)  # 5 samples of 40 groups at a time
    assert rule_selection.choose(made, fold_of, groups).choices[0].rule == chosen.choices[0].rule
    assert set(rows) == {rule_selection.SAMPLES}


def test_other_folds_decide_whether_a_fold_gets_a_gate(monkeypatch: pytest.MonkeyPatch):
    made, fold_of, groups = filled([defect(100, peak=230), alarm(150), alarm(160), defect(100, peak=240)] * 6)
    asked = []

    def is_gain(differences, own):
        asked.append(own.tolist())
        return len(own) == len(groups)  # a gain on all folds together, and on no four of them

    monkeypatch.setattr(rule_selection, "_is_gain", is_gain)
    (choice,) = rule_selection.choose(made, fold_of, groups).choices
    assert asked == [groups.tolist(), *(groups[fold_of != fold].tolist() for fold in range(5))]
    assert choice.rule.min_image_score > 0
    assert choice.mean_dice_held_out < choice.mean_dice == 1.0


def test_a_rare_class_is_shrunk_towards_the_others():
    rng = np.random.default_rng(3)
    common, rare = noisy(rng, 200, present=0.5), [CLEAN] * 197 + [defect(40), defect(245), defect(245)]
    made, fold_of, groups = filled(common, rare)
    alone = rule_selection.choose(made[1:], fold_of, groups).choices[0].rule.pixel_threshold
    first, together = (choice.rule.pixel_threshold for choice in rule_selection.choose(made, fold_of, groups).choices)
    assert alone <= 40 < first  # by itself it takes all three
    assert abs(together - first) < abs(alone - first)


def test_on_new_images_it_beats_the_highest_cell_of_few_images():
    rng = np.random.default_rng(4)
    new = noisy(rng, 600)
    by_luck, by_choice = [], []
    for _ in range(8):
        images = noisy(rng, 30)
        (gains,), fold_of, groups = filled(images)
        means = gains.mean_dice()
        t, s, m = rule_selection.middle_of_the_top(means >= means.max() - 1e-12)
        highest = ClassPostprocess(
            pixel_threshold=int(THRESHOLDS[t]),
            min_component_px=int(gains.component_sizes[s]),
            min_mask_px=int(gains.mask_sizes[m]),
        )
        by_luck.append(mean_dice(new, highest))
        by_choice.append(mean_dice(new, rule_selection.choose([gains], fold_of, groups).choices[0].rule))
    assert np.mean(by_choice) > np.mean(by_luck)


def test_a_small_uncertain_gain_does_not_move_the_selection_far():
    """Of two similar cells, the one whose gain over the default varies more between samples is not selected."""
    sizes = np.zeros((SAMPLES, *SHAPE))
    sizes[:, 12, 0, 0] = 1.0  # the default, always the same
    sizes[:, 14, 0, 0] = 1.5 + 0.1 * (-1.0) ** np.arange(SAMPLES)
    sizes[:, 3, 0, 0] = 1.6 + 3.0 * (-1.0) ** np.arange(SAMPLES)
    nothing = np.zeros(SHAPE)
    assert rule_selection._median(rule_selection._cells(sizes, nothing, 1)) == (14, 0, 0)
    assert rule_selection._median(rule_selection._cells(sizes[::2], nothing, 1)) == (
        3,
        0,
        0,
    )  # no spread
    assert rule_selection._median(rule_selection._cells(sizes, nothing, 1, below=int(THRESHOLDS[13]))) == (12, 0, 0)


def test_the_prior_is_worth_four_images():
    one, two, three = (np.full(SHAPE, float(gain)) for gain in (10, 30, 2))
    priors = rule_selection._priors([one, two, three], [20, 60, 0])
    for found, wanted in zip(priors, ((30 + 2) / 60 * 4, (10 + 2) / 20 * 4, (10 + 30) / 80 * 4), strict=True):
        np.testing.assert_allclose(found, wanted)
    np.testing.assert_array_equal(rule_selection._priors([one], [20])[0], 0)


def test_choose_resampled_spreads_around_the_choice():
    rng = np.random.default_rng(6)
    made, fold_of, groups = filled(noisy(rng, 120), [alarm(255)] * 120)
    choices = rule_selection.choose(made, fold_of, groups).choices
    cells, disabled = rule_selection.choose_resampled(made, choices, groups, samples=50)
    assert cells.shape == disabled.shape == (50, 2)
    assert (disabled[:, 0] == DISABLED).all()
    assert set(cells[:, 0]) <= {*THRESHOLDS.tolist(), DISABLED}
    assert cells[:, 0].min() <= choices[0].rule.pixel_threshold <= cells[:, 0].max()
    one_group = rule_selection.choose_resampled(made, choices, np.zeros(120, np.int64), samples=5)
    assert len({tuple(cell) for cell in one_group[0].tolist()}) == 1  # always the same images


def test_near_duplicates_share_a_fold_and_folds_are_stratified():
    names = [f"{number:03}.jpg" for number in range(200)]
    split = Split(
        path=Path("splits.csv"),
        parts=dict.fromkeys(names, "0"),
        groups={name: number // 2 for number, name in enumerate(names)},
        class_sets={name: frozenset({1} if number % 20 < 2 else ()) for number, name in enumerate(names)},
    )
    fold = rule_selection.assign_folds(names, split)
    assert fold.tolist() == np.repeat(fold[::2], 2).tolist()
    assert np.bincount(fold).tolist() == [40] * 5
    assert np.bincount(fold[[bool(split.class_sets[name]) for name in names]]).tolist() == [4] * 5
    assert rule_selection.assign_folds(names[:2], split).tolist() == [0, 0]  # one group
    assert sorted(rule_selection.assign_folds(names[:6], split).tolist()) == [0, 0, 1, 1, 2, 2]
    assert rule_selection.groups_of(names[3:6], split).tolist() == [1, 2, 2]


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no image was added"):
        rule_selection.choose([], np.zeros(0, np.int8), np.zeros(0, np.int64))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([(t, 0, 0) for t in range(29)], (14, 0, 0)),  # all equal: the middle
        ([(3, 0, 0), (4, 0, 0), (20, 0, 0), (21, 0, 0), (22, 0, 0)], (21, 0, 0)),  # the middle of the longer stretch
        ([(3, 0, 0), (4, 0, 0), (20, 0, 0), (21, 0, 0)], (4, 0, 0)),  # of equally long ones the lower
        ([(5, 0, 0), *((t, 2, 0) for t in range(29))], (5, 0, 0)),  # no filter before a flatter top
        ([(9, 0, 2), (9, 3, 0)], (9, 3, 0)),  # a filter of components before one of masks
        ([(9, 1, 1), (9, 2, 0)], (9, 2, 0)),  # one filter before two
        ([(9, s, 0) for s in (1, 2, 3)], (9, 2, 0)),  # the middle of equally flat sizes
        ([(9, 1, 0), (8, 3, 0), (9, 3, 0)], (9, 3, 0)),  # the flatter top
    ],
)
def test_of_equal_cells_the_simplest_is_taken_and_then_the_middle_of_the_flattest_top(cells, expected):
    tied = np.zeros(SHAPE, np.bool_)
    tied[tuple(np.array(cells).T)] = True
    assert rule_selection.middle_of_the_top(tied) == expected
