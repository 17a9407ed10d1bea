"""`score`: the competition's mean Dice of a submission, or of runs on the holdout that nothing else has read."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

from severstal_cli.config import ScoreConfig
from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import files, images, leaks, postprocess, rle, scores, splits, tables


def score(config: ScoreConfig, progress: Progress = SILENT) -> scores.ScoreResult:
    """Score a submission against annotations, or a run, or several averaged, against the holdout.

    Raises:
        InputError: a table is wrong, it is not clear which images count, or runs were trained on some of them.
        RunError: a run is incomplete, or the data or split is not the one that it was trained with.
    """
    if config.submission is not None and config.truth is not None and not (config.runs or config.thresholds):
        found = score_submission(config.submission, config.truth, config.images, progress)
        if config.against is None:
            return found.summary()
        other = score_submission(config.against, config.truth, found.image_ids, progress, classes=found.dice.shape[1])
        if other.dice.shape != found.dice.shape:
            found = score_submission(config.submission, config.truth, found.image_ids, classes=other.dice.shape[1])
        return found.summary(other)
    if any(part is not None for part in (config.submission, config.truth, config.images)):
        raise InputError(
            "not clear what to score", "", "Give a submission and --truth train.csv, or --model models/NAME alone"
        )
    found = score_runs(config, progress)
    if config.against is None:
        return found.summary()
    other = score_runs(ScoreConfig(runs=(config.against,), data=config.data, batch_size=config.batch_size), progress)
    if other.image_ids != found.image_ids or other.dice.shape != found.dice.shape:
        raise InputError(f"{config.against} has another holdout or other classes", "", "Compare runs of one split")
    return found.summary(other)


def score_submission(
    submission: Path,
    truth: Path,
    counting: Path | Sequence[str] | None,
    progress: Progress = SILENT,
    *,
    classes: int = 0,
) -> scores.Scores:
    """The scores of a submission; `counting`: the images that count, as a folder, a list of them, or their names.

    At least as many classes as `classes` are scored. Raises InputError as `score` does.
    """
    predicted, true = tables.read_table(submission), tables.read_table(truth)
    if counting is None:
        image_ids: Sequence[str] = predicted.image_ids
        progress.say(
            f"counting the {len(image_ids)} images that {submission} names; --images DIR or LIST.csv counts others"
        )
    elif not isinstance(counting, Path):
        image_ids = counting
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
    split = splits.split_with(truth.parent, image_ids)
    if split is not None:
        leaks.check_submission(submission, image_ids, split)
    classes = max(predicted.classes, true.classes, classes)
    return scores.score_masks(predicted.masks, true.masks, image_ids, classes, None if split is None else split.groups)


def score_runs(config: ScoreConfig, progress: Progress = SILENT) -> scores.Scores:
    """The scores of runs, averaged, on their holdout; their sum is kept with the first run. Raises as `score`."""
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
    began, done = time.monotonic(), 0
    for number, (image_id, levels) in enumerate(
        part.levels(views=how.views, batch_size=config.batch_size, progress=progress)
    ):
        if number == config.batch_size:  # the first batch also compiles, and loads what it needs
            began, done = time.monotonic(), number
        found = postprocess.masks_to_runs(levels, thresholds.rules, exclusive=thresholds.exclusive)
        masks |= {(image_id, channel): runs for channel, runs in enumerate(found) if len(runs)}
    images_per_s = (len(part.image_ids) - done) / max(time.monotonic() - began, 1e-9)
    result = scores.score_masks(masks, part.photographs.masks, part.image_ids, len(thresholds.rules), part.split.groups)
    result = dataclasses.replace(result, images_per_s=images_per_s)
    # kept with a run that was scored as it predicts by default; it may lie on a read-only disk
    is_default = [how.thresholds_path] == [folder / run.THRESHOLDS for folder in runs] and how.views == thresholds.tta
    if is_default and files.is_writable(runs[0]):
        of_what = {"data_fingerprint": part.photographs.fingerprint, "split_fingerprint": part.split.fingerprint}
        content = result.summary().to_dict() | of_what
        files.write_text(runs[0] / run.SCORE, json.dumps(content, indent=2) + "\n")
    return result
