"""`export`: write a run with its network in another format, checked against torch on one image."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from severstal_cli import files
from severstal_cli.config import ExportConfig
from severstal_cli.errors import InputError, RunError
from severstal_cli.learning.finite import NotFiniteError
from severstal_cli.learning.inference import engines, export
from severstal_cli.learning.inference.engines import Member
from severstal_cli.learning.inference.level_maps import predict_levels
from severstal_cli.learning.runs import model_card, run_folder
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
    image: Path
    largest_difference: int
    """Largest difference from torch's levels, in float32, over all pixels of the image."""


def export_run(config: ExportConfig, progress: Progress = SILENT) -> ExportResult:
    """Write a run with its network in another format, for `predict`, `score` and `thresholds`.

    Raises:
        UsageError: unknown format.
        InputError: `out` exists, or there is no image to check with.
        RunError: the run is missing or incomplete, or the exported network gives other levels than torch.
        MachineError: the format needs a library that is not installed.
        OutputError: the run cannot be written.
    """
    export.check(config.format)
    card = model_card.read_card(config.run)
    out = config.out or config.run.resolve().with_name(f"{config.run.resolve().name}-{config.format}")
    if out.exists():
        raise InputError(f"{out} exists already", "", "Give another --out, or remove it")
    files.check_writable(out)
    member = engines.member_of(config.run, card)
    image = config.image or _training_image(card)
    grey = decoding.read_grey(image, card.bits or decoding.FULL_DEPTH)
    progress.log(f"writing {config.run} as {config.format}, and predicting {image} with it")
    with files.replacing_folder(out) as folder:
        file = export.write(member, config.format, folder)
        model_card.write_card(folder, card)
        if (config.run / run_folder.THRESHOLDS).is_file():
            shutil.copyfile(config.run / run_folder.THRESHOLDS, folder / run_folder.THRESHOLDS)
        difference = _difference(member, folder, card, grey, config.run, image)
        if difference > LARGEST_DIFFERENCE:
            raise RunError(f"{config.run} as {config.format} gives other levels than torch",
                           f"up to {difference} of 255 on {image}", "Use another --format")  # fmt: skip
    return ExportResult(folder=out, file=out / file.name, image=image, largest_difference=difference)


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


def _training_image(card: model_card.ModelCard) -> Path:
    """An image of the training data, with a defect if possible. Raises InputError: there is none."""
    data = Path(card.data)
    try:
        paths = image_files.paths_by_id(image_files.find_images([data / "train_images"]))
        with_defects = (image_id for image_id, _ in mask_table.read_table(data / "train.csv").masks)
        return next((paths[image_id] for image_id in with_defects if image_id in paths), next(iter(paths.values())))
    except InputError as error:
        raise InputError("no image to check the export with", str(error), "Give one with --image") from error
