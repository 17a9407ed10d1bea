"""`predict`: photographs to a submission; beside it how it was made (JSON) and how sure its rows are (scores)."""

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import severstal_cli
from severstal_cli.config import PredictConfig
from severstal_cli.errors import InputError, UsageError
from severstal_cli.learning import inference, run, tta
from severstal_cli.learning.device import open_device
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import confidence, files, images, pictures, postprocess, rle, tables


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """A written submission."""

    path: Path
    runs: tuple[Path, ...]
    images: int
    rows: int
    masks_by_class: tuple[int, ...]
    """Images with a mask of each class."""
    seconds: float
    """From the first photograph to the last mask."""


def predict(config: PredictConfig, progress: Progress = SILENT) -> PredictResult:
    """Predict the masks of photographs and write them as a submission.

    Raises:
        InputError: no images, a wrong one, one that the sample asks for is missing, or runs that do not go together.
        RunError: no run, an incomplete one, or one without thresholds.
        OutputError: the submission cannot be written.
    """
    tta.views_of(config.tta or "none")
    if config.out.suffix == ".json":
        raise UsageError("wrong name for a submission", str(config.out), "A JSON of that name is written beside it")
    files.check_place(config.out)
    files.check_place(config.out.with_suffix(".json"))
    files.check_place(confidence.scores_path(config.out))
    folders = config.runs or (run.best_run(config.models),)
    cards = run.read_cards(folders)
    if config.thresholds is None:
        best = max(range(len(cards)), key=lambda number: run.validation_rank(cards[number]))
        thresholds_path, thresholds = folders[best] / run.THRESHOLDS, run.thresholds_of(folders[best], cards[best])
    else:
        thresholds_path = config.thresholds
        thresholds = run.read_thresholds(thresholds_path, classes=cards[0].classes, remedy="Check the path")
    sample = tables.read_image_list(config.sample) if config.sample else None
    classes = _classes_to_write(config, sample, cards[0].classes)
    paths = _wanted(images.find_images(config.images), sample)
    if config.masks is not None:
        files.check_place(config.masks / f"{paths[0].stem}.png")
    _tell(config, folders, thresholds_path, thresholds, progress)

    if config.masks is not None:
        _check_pictures(config.masks, paths)
    fabric = open_device()
    members = inference.load_members(folders, cards, fabric)
    photographs = images.read_all(paths)
    levels_of = inference.predict_levels(
        members, photographs, fabric, views=config.tta or thresholds.tta, batch_size=config.batch_size
    )
    masks: dict[tuple[str, int], rle.Runs] = {}
    scores: dict[str, list[float]] = {}
    began = time.monotonic()
    with progress.bar("predicting", len(paths), "images") as bar:
        for path, levels in zip(paths, levels_of, strict=True):
            used = postprocess.make_exclusive(levels) if thresholds.exclusive else levels
            found = postprocess.masks_to_runs(used, thresholds.rules, exclusive=False)
            scores[path.name] = confidence.expected_dice(used, found)
            masks |= {(path.name, channel): runs for channel, runs in enumerate(found) if len(runs)}
            if config.masks is not None:  # decoding again costs little beside writing a PNG
                picture = pictures.overlay(images.read_grey(path), found)
                pictures.write_png(config.masks / f"{path.stem}.png", picture)
            bar.advance()
    seconds = time.monotonic() - began

    rows = _write(config, sample, [path.name for path in paths], masks, classes)
    result = PredictResult(
        path=config.out,
        runs=tuple(folders),
        images=len(paths),
        rows=rows,
        masks_by_class=tuple(sum(at == channel for _, at in masks) for channel in range(cards[0].classes)),
        seconds=seconds,
    )
    confidence.write_scores(confidence.scores_path(config.out), scores)
    _write_story(config, result, cards, thresholds_path, thresholds, fabric.device.type)
    return result


def _wanted(paths: list[Path], sample: tables.Sample | None) -> list[Path]:
    """The images of the sample, in its order; without one, all that were found."""
    if sample is None:
        return paths
    there = {path.name: path for path in paths}
    missing = [image_id for image_id in sample.image_ids if image_id not in there]
    if missing:
        raise InputError("images that the sample asks for are missing", f"{len(missing)}, first {missing[0]}",
                         "Give the folder that the sample belongs to")  # fmt: skip
    return [there[image_id] for image_id in sample.image_ids]


def _check_pictures(folder: Path, paths: list[Path]) -> None:
    """No picture may replace a photograph or another picture."""
    taken: dict[Path, Path] = {}
    photographs = {path.resolve() for path in paths}
    for path in paths:
        target = (folder / f"{path.stem}.png").resolve()
        if target in photographs:
            raise InputError(f"{target} would be overwritten", "it is a photograph", "Name another folder for --masks")
        if target in taken:
            raise InputError(f"two pictures of the name {target.name}", f"of {taken[target].name} and {path.name}",
                             "Predict them one after the other")  # fmt: skip
        taken[target] = path


def _classes_to_write(config: PredictConfig, sample: tables.Sample | None, classes: int) -> int:
    """Those of the runs, and those that the sample has rows for: a class that no run knows is empty everywhere."""
    asked = max((class_id for _, class_id in sample.rows), default=0) if sample else 0
    if asked and asked < classes and _layout(config, sample) is tables.Layout.ORIGINAL:
        raise InputError(f"{config.sample} asks for classes 1 to {asked}", f"the runs predict {classes}",
                         "Take a run of as many classes, or give --layout current")  # fmt: skip
    return max(asked, classes)


def _tell(
    config: PredictConfig,
    folders: tuple[Path, ...],
    thresholds_path: Path,
    thresholds: run.Thresholds,
    progress: Progress,
) -> None:
    progress.say(f"predicting with {', '.join(map(str, folders))}")
    if len(folders) > 1 and config.thresholds is None:
        progress.say(
            f"using {thresholds_path}, which was searched for that run alone; for the average search "
            f"`severstal thresholds {' '.join(map(str, folders))} --out FILE` and pass --thresholds FILE"
        )
    if config.tta not in (None, thresholds.tta):
        progress.say(f"{thresholds_path} was searched with --tta {thresholds.tta}, this is --tta {config.tta}")


def _write(
    config: PredictConfig,
    sample: tables.Sample | None,
    image_ids: list[str],
    masks: Mapping[tuple[str, int], rle.Runs],
    classes: int,
) -> int:
    layout = _layout(config, sample)
    columns, rows = None, None
    if sample is not None and sample.layout == layout:
        columns, rows = sample.columns, sample.rows or None
    count = tables.write_table(config.out, masks, image_ids, classes, layout=layout, columns=columns, rows=rows)
    # what belongs to an earlier submission must not stand beside this one, should its own not be written
    config.out.with_suffix(".json").unlink(missing_ok=True)
    confidence.scores_path(config.out).unlink(missing_ok=True)
    return count


def _layout(config: PredictConfig, sample: tables.Sample | None) -> tables.Layout:
    if config.layout != "auto":
        return tables.Layout(config.layout)
    return sample.layout if sample is not None and sample.layout is not None else tables.Layout.ORIGINAL


def _write_story(
    config: PredictConfig,
    result: PredictResult,
    cards: list[run.ModelCard],
    thresholds_path: Path,
    thresholds: run.Thresholds,
    device: str,
) -> None:
    """`submission.json` beside `submission.csv`: enough to know later what a score belongs to."""
    story = {
        "submission": result.path.name,
        "severstal": severstal_cli.__version__,
        "runs": [
            {"folder": str(folder), "arch": card.arch, "encoder": card.encoder, "fold": card.fold,
             "validation_dice": card.validation_dice, "data": card.data_fingerprint, "split": card.split_fingerprint}
            for folder, card in zip(result.runs, cards, strict=True)
        ],
        "tta": config.tta or thresholds.tta,
        "thresholds": str(thresholds_path),
        "rules": [dataclasses.asdict(rule) for rule in thresholds.rules],
        "exclusive": thresholds.exclusive,
        "images": result.images,
        "rows": result.rows,
        "masks_by_class": result.masks_by_class,
        "device": device,
        "seconds": round(result.seconds, 3),
        "images_per_s": round(result.images / max(result.seconds, 1e-9), 3),
    }  # fmt: skip
    files.write_text(config.out.with_suffix(".json"), json.dumps(story, indent=2) + "\n")
