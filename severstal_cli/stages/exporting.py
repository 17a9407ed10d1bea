"""`export`: write a run with its network in another format, checked against torch on one image.

In int8 the network gives other levels, so the run gets thresholds of its own, and is checked by its mean Dice on the
validation fold.
"""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from severstal_cli import files
from severstal_cli.config import MAX_DROP, ExportConfig
from severstal_cli.errors import InputError, RunError
from severstal_cli.learning.finite import NotFiniteError
from severstal_cli.learning.inference import engines, export, held_out, int8_run, rule_search
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.inference.level_maps import predict_levels
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.images import decoding, image_files
from severstal_cli.steel.tables import mask_table

LARGEST_DIFFERENCE = 1
"""In levels of 255: rounding differs if an engine sums in another order."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """A written run."""

    folder: Path
    file: Path
    image: Path | None = None
    largest_difference: int = 0
    """Largest difference from torch's levels, in float32, over all pixels of the image."""
    int8: model_card.Int8 | None = None
    """How it was quantised; None: it was not, and was compared on `image`."""


def export_run(config: ExportConfig, progress: Progress = SILENT) -> ExportResult:
    """Write a run with its network in another format, for `predict`, `score` and `thresholds`.

    Raises:
        UsageError: unknown format, or int8 for one other than OpenVINO.
        InputError: `out` exists, there is no image to check with, or for int8 no validation fold.
        RunError: the run is missing or incomplete, its data has changed, or the exported network gives other levels
            than torch, or in int8 a lower Dice.
        MachineError: the format needs a library that is not installed.
        OutputError: the run cannot be written.
    """
    export.check(config.format, int8=config.int8)
    card = model_card.read_card(config.run)
    kind = f"{config.format}-int8" if config.int8 else config.format
    out = config.out or config.run.resolve().with_name(f"{config.run.resolve().name}-{kind}")
    if out.exists():
        raise InputError(f"{out} exists already", "", "Give another --out, or remove it")
    files.check_writable(out)
    member = engines.member_of(config.run, card)
    if config.int8:
        return _export_int8(config, member, card, out, progress)
    image = config.image or _training_image(config.data or Path(card.data))
    grey = decoding.read_grey(image, card.bits or decoding.FULL_DEPTH)
    progress.log(f"writing {config.run} as {config.format}, and predicting {image} with it")
    with files.replacing_folder(out) as folder:
        file = export.write(member, config.format, folder)
        model_card.write_card(folder, card)
        if (config.run / run_folder.THRESHOLDS).is_file():
            shutil.copyfile(config.run / run_folder.THRESHOLDS, folder / run_folder.THRESHOLDS)
        difference = _difference(member, folder, card, grey, config.run, image)
        if difference > LARGEST_DIFFERENCE:
            raise RunError(
                f"{config.run} as {config.format} gives other levels than torch",
                f"up to {difference} of 255 on {image}",
                "Use another --format",
            )
    return ExportResult(folder=out, file=out / file.name, image=image, largest_difference=difference)


def _export_int8(
    config: ExportConfig, member: Member, card: model_card.ModelCard, out: Path, progress: Progress
) -> ExportResult:
    """Write the run in int8, with thresholds of its own."""
    if card.fold is None:
        raise InputError(
            f"{config.run} was trained on every image",
            "no validation fold is left to check int8 on",
            "Quantise a run with a fold",
        )
    thresholds = config.run / run_folder.THRESHOLDS
    views = run_folder.read_thresholds(thresholds, classes=card.classes).tta if thresholds.is_file() else "none"
    part = held_out.open_validation([config.run], config.data, progress)
    max_drop = MAX_DROP if config.max_drop is None else config.max_drop
    with files.replacing_folder(out) as folder:
        made = int8_run.quantise_run(
            member,
            part,
            folder / engines.XML,
            views=views,
            max_drop=max_drop,
            batch_size=config.batch_size or 8,
            progress=progress,
        )
        model_card.write_card(folder, dataclasses.replace(card, int8=made.int8, validation_dice=made.validation_dice))
        rules = tuple(choice.rule for choice in made.searched.chosen.choices)
        named = dataclasses.replace(part, folders=(out,))
        run_folder.write_thresholds(
            folder / run_folder.THRESHOLDS,
            Thresholds(rules=rules, exclusive=card.exclusive, tta=views, runs=(str(out),)),
            rule_search.report(made.searched.result(out / run_folder.THRESHOLDS, named), named),
        )
    return ExportResult(folder=out, file=out / engines.XML, int8=made.int8)


def _difference(
    member: Member, folder: Path, card: model_card.ModelCard, grey: decoding.Grey, run: Path, image: Path
) -> int:
    """Largest difference of the levels by torch and by the run in `folder`, both in float32 on the CPU."""
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    try:
        ours = next(predict_levels([member], [grey], fabric)).astype(int)  # first: an error names the run
        [exported] = engines.load_members([folder], [card], fabric)
        theirs = next(predict_levels([exported], [grey], fabric)).astype(int)
    except NotFiniteError as error:
        raise error.of(run, image) from None
    return int(abs(ours - theirs).max())


def _training_image(data: Path) -> Path:
    """An image of the training data, with a defect if possible. Raises InputError: there is none."""
    try:
        paths = image_files.paths_by_id(image_files.find_images([data / "train_images"]))
        with_defects = (image_id for image_id, _ in mask_table.read_table(data / "train.csv").masks)
        return next((paths[image_id] for image_id in with_defects if image_id in paths), next(iter(paths.values())))
    except InputError as error:
        raise InputError("no image to check the export with", str(error), "Give one with --image") from error
