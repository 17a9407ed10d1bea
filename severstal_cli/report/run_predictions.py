"""Predictions of a run for the page: its masks in memory, its levels as files of the report."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli.learning.inference.ensemble import Ensemble
from severstal_cli.learning.inference.held_out import Subset
from severstal_cli.learning.training import history
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import Progress
from severstal_cli.report import folder, levels
from severstal_cli.report.content import Candidate
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.tables import confidence


def predict(
    name: str, number: int, ensemble: Ensemble, subset: Subset, site: Path, batch_size: int, progress: Progress
) -> Candidate:
    """Predict the images of `subset` by one run and its post-processing.

    Writes the levels to the report at `site`; `number` is the index of the candidate.
    """
    run, rules = ensemble.folders[0], ensemble.thresholds.rules
    steps = tuple(map(levels.steps_of, rules))
    (site / "levels").mkdir(exist_ok=True)
    masks: dict[tuple[str, int], rle.RLE] = {}
    has_levels = np.zeros(len(subset.image_ids), np.bool_)
    expected_dice = np.ones((len(subset.image_ids), len(rules)))

    def keep(item: tuple[int, tuple[str, NDArray[np.uint8]]]) -> None:
        row, (image_id, maps) = item
        predicted = postprocess.levels_to_rle(maps, rules)
        masks.update({(image_id, channel): mask for channel, mask in enumerate(predicted) if len(mask)})
        expected_dice[row] = confidence.expected_dice(maps, predicted)
        packed = levels.pack(maps, steps)
        has_levels[row] = bool(packed)
        if packed:
            folder.write_script(site, f"levels/{folder.file_number(row)}-{number}", packed)

    all_levels = subset.levels(
        views=ensemble.views, exclusive=ensemble.thresholds.exclusive, batch_size=batch_size, progress=progress
    )
    # the queue is bounded, because levels are large
    for _ in map_in_order(keep, enumerate(all_levels), ahead=2 * (os.cpu_count() or 1), name="report"):
        pass
    surface = run / "thresholds.png"
    return Candidate(
        name=name,
        masks=masks,
        rules=rules,
        steps=steps,
        has_levels=has_levels,
        confidence=expected_dice,
        history=history.read(run),
        surface=surface if surface.is_file() and not surface.is_symlink() else None,
    )
