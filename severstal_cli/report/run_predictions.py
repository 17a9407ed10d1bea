"""A run of a report: it predicts its images, and leaves their levels for the page."""

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
from severstal_cli.report.images import number_of
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.tables import confidence


def predict(
    name: str, number: int, recipe: Ensemble, part: Subset, place: Path, batch_size: int, progress: Progress
) -> Candidate:
    """What a run predicts for the images of `part`, by its own rules.

    Its levels are written to the report at `place`; `number` is its place among the candidates.
    """
    run, rules = recipe.folders[0], recipe.thresholds.rules
    steps = tuple(map(levels.steps_of, rules))
    (place / "levels").mkdir(exist_ok=True)
    masks: dict[tuple[str, int], rle.RLE] = {}
    has_levels, sure = np.zeros(len(part.image_ids), np.bool_), np.ones((len(part.image_ids), len(rules)))

    def keep(item: tuple[int, tuple[str, NDArray[np.uint8]]]) -> None:
        row, (image_id, maps) = item
        if recipe.thresholds.exclusive:
            maps = postprocess.make_exclusive(maps)
        found = postprocess.masks_to_runs(maps, rules, exclusive=False)
        masks.update({(image_id, channel): runs for channel, runs in enumerate(found) if len(runs)})
        sure[row] = confidence.expected_dice(maps, found)
        packed = levels.pack(maps, steps)
        has_levels[row] = bool(packed)
        if packed:
            folder.write_script(place, f"levels/{number_of(row)}-{number}", packed)

    maps_of = part.levels(views=recipe.views, batch_size=batch_size, progress=progress)
    # bounded: maps are large
    for _ in map_in_order(keep, enumerate(maps_of), ahead=2 * (os.cpu_count() or 1), name="report"):
        pass
    surface = run / "thresholds.png"
    return Candidate(
        name=name,
        masks=masks,
        rules=rules,
        steps=steps,
        has_levels=has_levels,
        sure=sure,
        history=history.read(run),
        surface=surface if surface.is_file() and not surface.is_symlink() else None,
    )
