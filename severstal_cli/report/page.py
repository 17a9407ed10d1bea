"""The page of a report: fills the template, copies style sheet and scripts, writes index, masks and scores."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from severstal_cli import __version__
from severstal_cli.progress import Progress
from severstal_cli.report import charts, folder
from severstal_cli.report.content import Candidate, Content
from severstal_cli.steel import drawing
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.scoring.scores import Difference, ScoreResult, Scores, differences
from severstal_cli.wording import class_label

RIGHT_DICE = 0.7
"""Minimum Dice of a mask that the page calls right; below it the mask is partial."""
SCRIPTS = ("masks", "loader", "filters", "drawing", "gallery", "zooming", "tables", "viewer", "main")
"""In loading order."""


def write(site: Path, content: Content, progress: Progress) -> list[ScoreResult | None]:
    """Write all but images and levels to `site`; return the scores. Raises OSError."""
    scores = content.scores()
    results = [None if found is None else found.summary() for found in scores]
    folder.write_index(site, index(content))
    _write_masks(site, content, progress)
    for number, candidate in enumerate(content.candidates):
        if candidate.surface is not None:
            shutil.copyfile(candidate.surface, site / f"surface-{number}.png")
    metadata = {
        "severstal_report": __version__,
        "title": content.title,
        "candidates": [
            {"name": candidate.name, "score": None if result is None else result.to_dict()}
            for candidate, result in zip(content.candidates, results, strict=True)
        ],
    }
    (site / folder.METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    # last, so that a page exists only with all its files
    (site / folder.INDEX).write_text(_render(content, scores, results), encoding="utf-8")
    return results


def index(content: Content) -> dict[str, Any]:
    """What the page filters, sorts and scores by, as JSON values. Arrays (N, C) are flat: image by image, then class.

    Pixel counts are integers, so that the page computes the same Dice as `score`, to the last bit.
    """
    return {
        "classes": content.classes,
        "labels": [class_label(channel, content.class_names) for channel in range(content.classes)],
        "colours": [class_colour(channel) for channel in range(content.classes)],
        "right": RIGHT_DICE,
        "names": content.image_ids,
        "sizes": content.sizes.ravel().tolist(),
        "truth": None if content.true is None else content.areas(content.true).ravel().tolist(),
        "candidates": [
            {
                "name": candidate.name,
                "rules": None if candidate.rules is None else [rule.to_dict() for rule in candidate.rules],
                "steps": [own.tolist() for own in candidate.steps],
                "levels": None if candidate.has_levels is None else candidate.has_levels.astype(int).tolist(),
                "area": content.areas(candidate.masks).ravel().tolist(),
                "overlap": content.overlaps(candidate.masks, content.true or {}).ravel().tolist(),
                "confidence": None if candidate.confidence is None else candidate.confidence.round(4).ravel().tolist(),
            }
            for candidate in content.candidates
        ],
    }


def class_colour(channel: int) -> str:
    """The colour of a class on the page, as on every other plot and overlay."""
    return drawing.PALETTE[channel % len(drawing.PALETTE)]


def _write_masks(site: Path, content: Content, progress: Progress) -> None:
    (site / "masks").mkdir()
    columns = [content.true or {}, *(candidate.masks for candidate in content.candidates)]
    with progress.bar("masks", len(content.image_ids), "images") as bar:
        for row, image_id in enumerate(content.image_ids):
            masks = [
                {
                    channel: gaps(column[image_id, channel])
                    for channel in range(content.classes)
                    if (image_id, channel) in column
                }
                for column in columns
            ]
            if any(masks):
                folder.write_script(site, f"masks/{folder.file_number(row)}", masks)
            bar.advance()


def gaps(mask: rle.RLE) -> list[int]:
    """Alternating counts of pixels outside and inside the mask: shorter as text than start and length."""
    starts = mask[:, 0].astype(np.int64)
    ends = starts + mask[:, 1]
    gaps = starts - np.concatenate([[0], ends[:-1]])
    counts: list[int] = np.stack([gaps, mask[:, 1]], axis=1).ravel().tolist()
    return counts


def render(template: str, **values: Any) -> str:
    """Fill a template of the folder `templates`; all values are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(version=__version__, **values)


def _render(content: Content, scores: Sequence[Scores | None], results: Sequence[ScoreResult | None]) -> str:
    candidates = [
        _template_values(number, candidate, content, score, result, scores[0])
        for number, (candidate, score, result) in enumerate(zip(content.candidates, scores, results, strict=True))
    ]
    return render(
        "index.html",
        title=content.title,
        images=len(content.image_ids),
        classes=[
            {"channel": channel, "label": class_label(channel, content.class_names), "colour": class_colour(channel)}
            for channel in range(content.classes)
        ],
        has_truth=content.true is not None,
        candidates=candidates,
        nothing=None if results[0] is None else results[0].all_empty,
        scale=_scale(results),
        right=RIGHT_DICE,
        knows_confidence=any(candidate.confidence is not None for candidate in content.candidates),
        scripts=SCRIPTS,
        disabled=postprocess.DISABLED,
    )


def _template_values(
    number: int,
    candidate: Candidate,
    content: Content,
    scores: Scores | None,
    result: ScoreResult | None,
    baseline: Scores | None,
) -> dict[str, Any]:
    """The values of a candidate in the template."""
    epochs = [row.epoch for row in candidate.history]
    loss = [("loss", [row.loss for row in candidate.history])]
    dice = [
        ("all pairs", [row.dice for row in candidate.history]),
        ("class present", [row.dice_present for row in candidate.history]),
    ]
    curves = [charts.curves("training loss", epochs, loss), charts.curves("validation Dice", epochs, dice)]
    difference: Difference | None = None
    if number and scores is not None and baseline is not None:
        difference = differences([scores], [baseline])[-1]
    return {
        "name": candidate.name,
        "score": result,
        "difference": difference,
        "predicted": (content.areas(candidate.masks) > 0).sum(axis=0).tolist(),
        "confusion": None if scores is None else confusion(scores.there, scores.found),
        "charts": [chart for chart in curves if chart is not None],
        "surface": None if candidate.surface is None else f"surface-{number}.png",
        "rules": candidate.rules,
    }


def confusion(true: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> list[list[int]]:
    """Counts of images by ground-truth class (rows) and predicted class (columns), from (N, C) each.

    The last row and the last column count images without a mask. An image with two classes counts in two rows, or in
    two columns.
    """
    rows, columns = (
        np.concatenate([side, ~side.any(axis=1, keepdims=True)], axis=1).astype(np.int64) for side in (true, predicted)
    )
    counts: list[list[int]] = (rows.T @ columns).tolist()
    return counts


def _scale(results: Sequence[ScoreResult | None]) -> tuple[float, float]:
    """Limits of the bars' axis: from a tenth below the lowest mean or interval to 1."""
    lows: list[float] = []
    for result in results:
        if result is not None:
            means = [(result.mean_dice, result.interval), *((one.dice, one.interval) for one in result.by_class)]
            lows += [mean if interval is None else interval[0] for mean, interval in means]
    return (max(0.0, float(np.floor(min(lows, default=0.0) * 10 - 0.2) / 10)), 1.0)
