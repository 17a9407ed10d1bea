"""`score`: the competition's mean Dice of a submission, or of runs on the holdout that nothing else has read."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from severstal_cli.config import ScoreConfig
from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import dice, files, images, intervals, postprocess, rle, splits, tables


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class over all images that count."""

    class_id: int
    dice: float
    dice_present: float | None
    """Over the images with this class; None when there are none."""
    all_empty: float
    """What predicting nothing scores."""
    true_masks: int
    predicted_masks: int
    interval: tuple[float, float]
    """95 % for `dice`; see steel/intervals."""


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """Means over (image, class) pairs."""

    mean_dice: float
    mean_dice_present: float | None
    """Over the pairs whose true mask is not empty; None when there are none."""
    all_empty: float
    """What predicting nothing scores on the same images."""
    images: int
    by_class: tuple[ClassScore, ...]
    interval: tuple[float, float]
    """95 % for `mean_dice`."""
    knows_duplicates: bool
    """Near-duplicates were kept together for the intervals; else these may be too narrow."""


def score(config: ScoreConfig, progress: Progress = SILENT) -> ScoreResult:
    """Score a submission against annotations, or a run, or several averaged, against the holdout.

    Raises:
        InputError: a table is wrong, or it is not clear which images count.
        RunError: a run is incomplete, or the data or split is not the one that it was trained with.
    """
    of_submission = config.submission, config.truth, config.images
    of_runs = config.runs or config.thresholds
    if config.submission is not None and config.truth is not None and not of_runs:
        return _score_submission(config.submission, config.truth, config.images, progress)
    if any(part is not None for part in of_submission):
        raise InputError(
            "not clear what to score", "", "Give a submission and --truth train.csv, or --model models/NAME alone"
        )
    return _score_runs(config, progress)


def _score_submission(submission: Path, truth: Path, counting: Path | None, progress: Progress) -> ScoreResult:
    predicted, true = tables.read_table(submission), tables.read_table(truth)
    if counting is None:
        image_ids: Sequence[str] = predicted.image_ids
        progress.say(
            f"counting the {len(image_ids)} images that {submission} names; --images DIR or LIST.csv counts others"
        )
    elif counting.is_dir():
        image_ids = [path.name for path in images.find_images([counting])]
    else:
        image_ids = tables.read_image_list(counting).image_ids
    if not image_ids:
        raise InputError("no images to score", str(counting or submission), "Give --images DIR or LIST.csv")
    known = set(predicted.image_ids)
    absent = [image_id for image_id in image_ids if image_id not in known]
    if len(absent) == len(image_ids) and predicted.image_ids:
        raise InputError(f"{submission} names none of the {len(image_ids)} images that count",
                         f"it names {predicted.image_ids[0]}, wanted is {image_ids[0]}",
                         "Check that submission and --images belong together")  # fmt: skip
    if absent:
        progress.say(
            f"{len(absent)} of {len(image_ids)} images have no row in {submission} and count as empty, "
            f"the first is {absent[0]}"
        )
    if true.image_ids and not set(true.image_ids) & set(image_ids):
        progress.say(
            f"{truth} has no row for any of the {len(image_ids)} images that count: all of them count as clean"
        )
    extra = len(known - set(image_ids))
    if extra:
        progress.say(f"{extra} images of {submission} do not count: --images does not have them")
    if not predicted.classes and not true.classes:
        raise InputError("no classes to score", f"{submission} and {truth} have no rows", "Give other files")
    classes = max(predicted.classes, true.classes)
    return summarise(predicted.masks, true.masks, image_ids, classes, _known_groups(truth.parent, image_ids))


def _known_groups(data: Path, image_ids: Sequence[str]) -> Mapping[str, int] | None:
    """The groups of near-duplicates by the split of the annotations' folder, if it has all of these images."""
    path = splits.splits_path(data)
    if not path.exists():
        return None
    groups = splits.read_splits(path).groups
    return groups if groups.keys() >= set(image_ids) else None


def summarise(
    predicted: dice.Masks,
    true: dice.Masks,
    image_ids: Sequence[str],
    classes: int,
    groups: Mapping[str, int] | None = None,
) -> ScoreResult:
    """The score of masks against true ones over `image_ids` and `classes`; none is built, runs are enough.

    groups: the group of near-duplicates of each image; None: not known.
    """
    scores = dice.dice_matrix(predicted, true, image_ids, classes)
    group_of = np.arange(len(image_ids)) if groups is None else np.array([groups[image_id] for image_id in image_ids])
    *of_classes, of_all = [(float(low), float(high)) for low, high in intervals.intervals(scores, group_of)]
    there, found = (
        np.array([[(image_id, channel) in masks for channel in range(classes)] for image_id in image_ids])
        for masks in (true, predicted)
    )
    by_class = tuple(
        ClassScore(
            class_id=channel + 1,
            dice=float(scores[:, channel].mean()),
            dice_present=float(scores[there[:, channel], channel].mean()) if there[:, channel].any() else None,
            all_empty=float((~there[:, channel]).mean()),
            true_masks=int(there[:, channel].sum()),
            predicted_masks=int(found[:, channel].sum()),
            interval=of_classes[channel],
        )
        for channel in range(classes)
    )
    return ScoreResult(
        mean_dice=float(scores.mean()),
        mean_dice_present=float(scores[there].mean()) if there.any() else None,
        all_empty=float((~there).mean()),
        images=len(image_ids),
        by_class=by_class,
        interval=of_all,
        knows_duplicates=groups is not None,
    )


def _score_runs(config: ScoreConfig, progress: Progress) -> ScoreResult:
    # only here: scoring a submission works where torch is not installed
    from severstal_cli.learning import evaluation, recipe, run

    runs = recipe.runs_for(config.runs, config.thresholds, config.models)
    how = recipe.read(runs, thresholds=config.thresholds, views=config.tta)
    progress.say(f"scoring {', '.join(map(str, runs))} on the holdout")
    for note in how.notes():
        progress.say(note)
    part = evaluation.open_holdout(runs, config.data, progress, how.weights)
    thresholds = how.thresholds
    masks: dict[tuple[str, int], rle.Runs] = {}
    for image_id, levels in part.levels(views=how.views, batch_size=config.batch_size, progress=progress):
        found = postprocess.masks_to_runs(levels, thresholds.rules, exclusive=thresholds.exclusive)
        masks |= {(image_id, channel): runs for channel, runs in enumerate(found) if len(runs)}
    result = summarise(masks, part.photographs.masks, part.image_ids, len(thresholds.rules), part.split.groups)
    # kept with a run that was scored as it predicts by default; it may lie on a read-only disk
    is_default = [how.thresholds_path] == [folder / run.THRESHOLDS for folder in runs] and how.views == thresholds.tta
    if is_default and files.is_writable(runs[0]):
        files.write_text(runs[0] / run.SCORE, json.dumps(dataclasses.asdict(result), indent=2) + "\n")
    return result
