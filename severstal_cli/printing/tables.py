"""Results that are printed as tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from severstal_cli.printing.table import figure, print_table
from severstal_cli.wording import between, class_label, counted, signed

if TYPE_CHECKING:
    from severstal_cli.learning.inference.rule_search import ThresholdsResult
    from severstal_cli.stages.splitting import SplitResult
    from severstal_cli.steel.scoring.comparison import CompareResult
    from severstal_cli.steel.scoring.scores import ScoreResult


def print_split(result: "SplitResult") -> None:
    """Images of each fold and of the holdout set, by class."""
    counts = result.counts
    classes = [column for column in counts if isinstance(column, int)]
    # with many class ids, most may be in no image, as in label images of other sets
    classes = [class_id for class_id in classes if counts.loc["all", class_id] or len(classes) < 8]
    shown = counts[["images", "clean", *classes]].astype(str)
    shown["near-duplicates"] = [f"{row['near-duplicates']} in {row['groups']}" for _, row in counts.iterrows()]
    names = (f"class {class_label(class_id - 1, result.class_names)}" for class_id in classes)
    print_table(f"{result.path}", ("subset", "images", "clean", *names, "near-duplicates"), list(shown.itertuples()))


def print_thresholds(result: "ThresholdsResult") -> None:
    """The post-processing of each class, with its Dice before and after the search."""
    rows = []
    for channel in result.counted:
        choice, label = result.choices[channel], class_label(channel, result.class_names)
        rule = choice.rule
        threshold = "disabled" if rule.pixel_threshold > 255 else f"{rule.pixel_threshold / 255:.3f}"
        dice = (choice.mean_dice_default, choice.mean_dice, choice.mean_dice_never)
        gate = f"{rule.min_image_score / 255:.3f}" if rule.min_image_score else ""
        sizes = (str(rule.min_component_px), str(rule.min_mask_px))
        rows.append((label, threshold, *sizes, gate, *map(figure, dice)))
    means = (result.mean_dice_default, result.mean_dice, result.mean_dice_never)
    rows.append(("all", "", "", "", "", *map(figure, means)))
    header = ("class", "threshold", "component px", "mask px", "gate", "at 0.5", "searched", "nothing")
    caption = ""
    if result.mean_dice_held_out is None:
        caption = "no estimate for new images: all of these images are near-duplicates of each other"
    else:
        expected, interval = result.mean_dice_held_out, result.interval_held_out
        caption = f"estimate for new images: {expected:.4f}"
        caption += ", too few images for an interval" if interval is None else (f", 95 % interval {between(interval)}")
        if expected <= result.mean_dice_default:
            caption += f"; no gain over a threshold of 0.5: {result.mean_dice_default:.4f}"
    print_table(f"mean Dice on {result.images} validation images", header, rows, caption)


def print_score(title: str, result: "ScoreResult") -> None:
    """Dice of each class and their mean."""
    rows = []
    for label, found in zip(result.labels(), result.by_class, strict=True):
        dice = (found.dice, found.dice_present, found.all_empty)
        rows.append((label, *map(figure, dice), str(found.true_masks), str(found.predicted_masks)))
    dice = (result.mean_dice, result.mean_dice_present, result.all_empty)
    rows.append(("all", *map(figure, dice), _sum(result, "true_masks"), _sum(result, "predicted_masks")))
    header = ("class", "Dice", "if present", "nothing", "true masks", "predicted")
    caption = "too few images for an interval"
    if result.interval is not None:
        caption = f"{between(result.interval)}: 95 % interval of the mean"
        if not result.knows_duplicates:
            caption += ", perhaps too narrow: near-duplicates are unknown before `severstal split`"
    print_table(f"{title}: mean Dice on {counted(result.images)}", header, rows, caption)


def print_differences(name: str, other: str, result: "ScoreResult") -> None:
    """Difference of two scores, by class and overall, and whether it is significant."""
    against = result.against
    if against is None:
        raise ValueError("there is no score to compare with")
    rows = []
    pairs = [
        (label, one.dice, two.dice)
        for label, one, two in zip(result.labels(), result.by_class, against.by_class, strict=True)
    ]
    pairs.append(("all", result.mean_dice, against.mean_dice))
    for (label, one, two), found in zip(pairs, result.differences, strict=True):
        certainty = between(found.interval, differences=True), _share(found.probability)
        rows.append((label, figure(one), figure(two), signed(found.difference), *certainty))
    of_all = result.differences[-1]
    verdict = of_all.few or f"no significant difference on {counted(result.images)}"
    if of_all.is_real:
        verdict = "significantly better" if of_all.difference > 0 else "significantly worse"
    header = ("class", "Dice", "other", "difference", "95 % interval", "probability")
    caption = f"{verdict}; this compares these two models, not their training settings"
    print_table(f"{name} minus {other}", header, rows, caption)


def print_comparison(result: "CompareResult") -> None:
    """Scores of the candidates and of predicting nothing, overall and by class, and the verdicts."""
    from severstal_cli.steel.scoring import comparison

    first, shown = result.rows[0].score, comparison.table(result)
    true_masks = counted(int(_sum(first, "true_masks")), "true mask")
    verdicts = "\n".join(row.verdict for row in result.rows if row.verdict)
    scores = ["mean Dice", "95 % interval", "if present", "masks"]
    by_class = [*(f"class {label}" for label in first.labels()), "weights", "training", "images/s"]
    for title, wanted, caption in (
        (f"{counted(first.images)} with {true_masks}", scores, ""),
        ("by class", by_class, verdicts),
    ):
        columns = [name for name in wanted if name in shown]
        print_table(title, ("", *columns), list(shown[columns].itertuples()), caption)


def print_submissions(rows: Sequence[Mapping[str, str]]) -> None:
    """The submissions with the local scores of their runs."""
    shown = []
    for row in rows:
        scored = row["status"] == "complete"
        figures = (
            row["validation_dice"],
            row["holdout_dice"],
            row["public"] if scored else row["status"],
            row["private"],
        )
        shown.append(
            (row["date"][:10], row["name"].removeprefix("severstal-"), *map(_shorter, figures), row["private_place"])
        )
    header = ("date", "runs", "valid", "holdout", "public", "private", "place")
    print_table("submissions", header, shown)


def _shorter(cell: str) -> str:
    """A number with four decimals; any other text unchanged."""
    try:
        return f"{float(cell):.4f}"
    except ValueError:
        return cell


def _share(probability: float | None) -> str:
    """In percent; even if all 2,000 bootstrap samples agree, this is not certainty."""
    if probability is None:
        return ""
    return ">99.9 %" if probability > 0.999 else f"{100 * probability:.1f} %"


def _sum(score: "ScoreResult", name: str) -> str:
    return str(sum(getattr(found, name) for found in score.by_class))
