"""`demo`: all stages in turn on a synthetic steel set, for two networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from severstal_cli import config as configs
from severstal_cli.errors import InputError, SeverstalError
from severstal_cli.learning.networks.names import folder_for
from severstal_cli.progress import SILENT, Progress
from severstal_cli.stages import checking, prediction, scoring, splitting, threshold_search, training
from severstal_cli.steel import drawing
from severstal_cli.steel.images import image_files, surveys
from severstal_cli.steel.scoring.scores import ScoreResult
from severstal_cli.steel.synth import write_synthetic_set
from severstal_cli.steel.synth.writing import MARKER
from severstal_cli.steel.tables import mask_table

# two cores train on this for about four minutes
SIZE = (128, 256)
TRAIN_IMAGES, TEST_IMAGES = 900, 60
ARCHITECTURES = ("unet", "linknet")
EPOCHS = 3
LEARNING_RATE = 3e-3


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Scores of the demo, and a figure."""

    scores: Mapping[str, ScoreResult]
    """Network -> score on the holdout set."""
    overlays: Path
    """A figure of test images with their ground truth and the masks of each network."""


def demonstrate(config: configs.DemoConfig, progress: Progress = SILENT) -> DemoResult:
    """Write synthetic steel to `out/data`, train runs in `out/models`, search thresholds, score, predict and check.

    Raises InputError if `out` holds anything but an earlier demo, and SeverstalError as the stages do.
    """
    data, models, submissions = config.out / "data", config.out / "models", config.out / "submissions"
    _check_folder(config.out, data)
    progress.log(f"drawing {TRAIN_IMAGES + TEST_IMAGES} synthetic images of {SIZE[0]} x {SIZE[1]} into {data}")
    write_synthetic_set(
        data, seed=config.seed, images=TRAIN_IMAGES, test_images=TEST_IMAGES, size=SIZE, defect_share=0.65,
        rare_boost=0.3, progress=progress,
    )  # fmt: skip
    splitting.split(configs.SplitConfig(data=data, holdout=0.1, folds=10, seed=config.seed), progress)
    scores: dict[str, ScoreResult] = {}
    written: dict[str, Path] = {}
    for arch in ARCHITECTURES:
        run = _train(arch, data, models, config.seed, progress)
        scores[arch] = scoring.score(configs.ScoreConfig(runs=(run,)), progress)
        written[arch] = submissions / f"{arch}.csv"
        predict = configs.PredictConfig(images=(data / "test_images",), runs=(run,), out=written[arch])
        prediction.predict(predict, progress)
        checked = checking.check(configs.CheckConfig(submission=written[arch], images=data / "test_images"), progress)
        if not checked.is_valid:
            raise SeverstalError(f"{written[arch]} is not valid", checked.faults[0].message)
    overlays = config.out / "comparison.png"
    drawing.write_png(overlays, _panel(data, written))
    return DemoResult(scores=scores, overlays=overlays)


def _check_folder(out: Path, data: Path) -> None:
    """Raise InputError unless `out` is a new or empty folder, or holds an earlier demo, which is replaced."""
    if out.exists() and not out.is_dir():
        raise InputError(f"cannot write a demo to {out}", "it is a file", "Name a folder")
    if out.is_dir() and any(out.iterdir()) and not (data / MARKER).is_file():
        raise InputError(f"will not write to {out}", "it holds other files than a demo", "Name a new or empty folder")


def _train(arch: str, data: Path, models: Path, seed: int, progress: Progress) -> Path:
    """Train a small network and search its thresholds, in a few minutes on two cores."""
    config = configs.TrainConfig(
        data=data, arch=arch, encoder="resnet18", encoder_weights="none", epochs=EPOCHS, seed=seed, models=models,
        crop_widths_px=(128,), defect_share=0.8, learning_rate=LEARNING_RATE, average_decay=0.98,
    )  # fmt: skip
    rmtree(folder_for(config), ignore_errors=True)  # of an earlier demo
    run = training.train(config, progress).folder
    result = threshold_search.search(configs.ThresholdsConfig(runs=(run,)), progress)
    progress.log(
        f"{arch}: validation Dice {result.mean_dice_default:.4f} at threshold 0.5, {result.mean_dice:.4f} after the "
        f"search, {result.mean_dice_never:.4f} for predicting nothing"
    )
    return run


def _panel(data: Path, submissions: Mapping[str, Path]) -> drawing.Colour:
    """One row per class: the test image with its largest mask."""
    truth = mask_table.read_table(data / "test.csv")
    columns = [
        ("ground truth", truth.masks),
        *((title, mask_table.read_table(path).masks) for title, path in submissions.items()),
    ]
    paths = image_files.paths_by_id(image_files.find_images([data / "test_images"]))
    return drawing.by_class(columns, list(paths), truth.classes, surveys.reader(paths))
