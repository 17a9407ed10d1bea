"""The page of a report: its template filled, its style and scripts copied, its index written."""

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
from severstal_cli.report.images import number_of
from severstal_cli.steel import drawing
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.scoring.scores import Difference, ScoreResult, Scores, differences

RIGHT_DICE = 0.7
"""From this Dice on a mask counts as right on the page; below it as partial."""
SCRIPTS = ("masks", "loader", "filters", "drawing", "gallery", "zooming", "tables", "viewer", "main")
"""In the order in which they are loaded."""


def write(place: Path, content: Content, progress: Progress) -> list[ScoreResult | None]:
    """Write all but images and levels to `place`; return the scores. Raises OSError as files do."""
    scores = content.scores()
    results = [None if found is None else found.summary() for found in scores]
    (place / "data").mkdir()
    (place / "data" / "index.js").write_text(f"severstal.index={_json(index(content))}\n", encoding="utf-8")
    _write_masks(place, content, progress)
    static = Path(__file__).parent / "static"
    shutil.copytree(static, place / "static", copy_function=shutil.copyfile)
    for number, candidate in enumerate(content.candidates):
        if candidate.surface is not None:
            shutil.copyfile(candidate.surface, place / f"surface-{number}.png")
    story = {
        "severstal_report": __version__,
        "title": content.title,
        "candidates": [
            {"name": candidate.name, "score": None if result is None else result.to_dict()}
            for candidate, result in zip(content.candidates, results, strict=True)
        ],
    }
    (place / folder.STORY).write_text(json.dumps(story, indent=2) + "\n", encoding="utf-8")
    # last, so that a page is there only with all it needs
    (place / folder.INDEX).write_text(_render(content, scores, results), encoding="utf-8")
    return results


def index(content: Content) -> dict[str, Any]:
    """What the page filters, sorts and scores by, as JSON values; counts are flat, image by image and class by class.

    Counts of pixels are whole numbers, so that the Dice made of them is that of `score` to the last bit.
    """
    return {
        "classes": content.classes,
        "colours": [colour_of(channel) for channel in range(content.classes)],
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
                "overlap": content.overlaps(candidate.masks).ravel().tolist(),
                "sure": None if candidate.sure is None else candidate.sure.round(4).ravel().tolist(),
            }
            for candidate in content.candidates
        ],
    }


def colour_of(channel: int) -> str:
    """The colour of a class on the page."""
    return drawing.PALETTE[channel % len(drawing.PALETTE)]


def _write_masks(place: Path, content: Content, progress: Progress) -> None:
    (place / "masks").mkdir()
    columns = [content.true or {}, *(candidate.masks for candidate in content.candidates)]
    with progress.bar("masks", len(content.image_ids), "images") as bar:
        for row, image_id in enumerate(content.image_ids):
            masks = [
                {channel: _gaps(column[image_id, channel])
                 for channel in range(content.classes) if (image_id, channel) in column}
                for column in columns
            ]  # fmt: skip
            if any(masks):
                folder.write_script(place, f"masks/{number_of(row)}", masks)
            bar.advance()


def _gaps(runs: rle.RLE) -> list[int]:
    """How many pixels are out, how many in, and so on: shorter in text than where runs start."""
    starts = runs[:, 0].astype(np.int64)
    ends = starts + runs[:, 1]
    gaps = starts - np.concatenate([[0], ends[:-1]])
    counts: list[int] = np.stack([gaps, runs[:, 1]], axis=1).ravel().tolist()
    return counts


def _render(content: Content, scores: Sequence[Scores | None], results: Sequence[ScoreResult | None]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    candidates = [
        _shown(number, candidate, content, score, result, scores[0])
        for number, (candidate, score, result) in enumerate(zip(content.candidates, scores, results, strict=True))
    ]
    return environment.get_template("index.html").render(
        title=content.title,
        images=len(content.image_ids),
        classes=[{"id": channel + 1, "colour": colour_of(channel)} for channel in range(content.classes)],
        has_truth=content.true is not None,
        candidates=candidates,
        nothing=None if results[0] is None else results[0].all_empty,
        scale=_scale(results),
        right=RIGHT_DICE,
        knows_sure=any(candidate.sure is not None for candidate in content.candidates),
        scripts=SCRIPTS,
        never=postprocess.DISABLED,
        version=__version__,
    )


def _shown(
    number: int,
    candidate: Candidate,
    content: Content,
    scores: Scores | None,
    result: ScoreResult | None,
    first: Scores | None,
) -> dict[str, Any]:
    """What the template tells of a candidate."""
    epochs = [row.epoch for row in candidate.history]
    lines = [("all pairs", [row.dice for row in candidate.history]),
             ("where the class is there", [row.dice_present for row in candidate.history])]  # fmt: skip
    found = [
        charts.curves("training loss", epochs, [("loss", [row.loss for row in candidate.history])]),
        charts.curves("validation Dice", epochs, lines),
    ]
    areas = content.areas(candidate.masks)
    apart: Difference | None = None
    if number and scores is not None and first is not None:
        apart = differences([scores], [first])[-1]
    return {
        "name": candidate.name,
        "score": result,
        "difference": apart,
        "predicted": (areas > 0).sum(axis=0).tolist(),
        "confusion": None if content.true is None else confusion(content.areas(content.true) > 0, areas > 0),
        "charts": [chart for chart in found if chart is not None],
        "surface": None if candidate.surface is None else f"surface-{number}.png",
        "rules": candidate.rules,
    }


def confusion(true: NDArray[np.bool_], found: NDArray[np.bool_]) -> list[list[int]]:
    """Images by true class (rows, the last: none) and predicted class (columns, the last: none), from (N, C) each.

    An image with two classes counts in two rows, one with two predicted classes in two columns.
    """
    sides = [
        np.concatenate([side, ~side.any(axis=1, keepdims=True)], axis=1).astype(np.int64) for side in (true, found)
    ]
    counts: list[list[int]] = (sides[0].T @ sides[1]).tolist()
    return counts


def _scale(results: Sequence[ScoreResult | None]) -> tuple[float, float]:
    """From where to where the bars of the intervals go: tenths around all of them."""
    means = [(mean, interval) for result in results if result is not None
             for mean, interval in ((result.mean_dice, result.interval),
                                    *((found.dice, found.interval) for found in result.by_class))]  # fmt: skip
    lows = [mean if interval is None else interval[0] for mean, interval in means]
    return (max(0.0, float(np.floor(min(lows, default=0.0) * 10 - 0.2) / 10)), 1.0)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
