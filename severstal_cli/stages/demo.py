"""`demo`: all stages in turn on a synthetic steel set, for two networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from severstal_cli import config as configs
from severstal_cli import files
from severstal_cli.errors import InputError, SeverstalError
from severstal_cli.learning.inference.rule_search import ThresholdsResult
from severstal_cli.learning.networks.names import folder_for
from severstal_cli.progress import SILENT, Progress
from severstal_cli.stages import checking, comparing, prediction, reporting, splitting, threshold_search, training
from severstal_cli.steel.class_names import FILE as CLASS_NAMES
from severstal_cli.steel.scoring.comparison import CompareResult
from severstal_cli.steel.synth import write_synthetic_set
from severstal_cli.steel.synth.writing import MARKER

SIZE = (128, 256)
CLASSES = "pits", "cracks", "scratches", "patches"
ARCHITECTURES = ("unet", "linknet")
TEST_IMAGES = 40


@dataclass(frozen=True, kw_only=True)
class _Scale:
    train_images: int
    epochs: int


WHOLE, FAST = _Scale(train_images=900, epochs=9), _Scale(train_images=400, epochs=5)


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo found and wrote."""

    comparison: CompareResult
    """The networks on the holdout set."""
    thresholds: Mapping[str, ThresholdsResult]
    """Network -> the search of its post-processing."""
    report: Path
    """The HTML page."""
    figures: tuple[Path, ...]
    """Overlays of both networks, curves of a training, and the search of its thresholds."""


def demonstrate(config: configs.DemoConfig, progress: Progress = SILENT) -> DemoResult:
    """Write synthetic steel to `out/data`, train runs in `out/models`, search thresholds, predict, compare and report.

    Raises InputError if `out` holds anything but an earlier demo, and SeverstalError as the stages do.
    """
    data, scale = config.out / "data", FAST if config.fast else WHOLE
    _check_folder(config.out, data)
    progress.log(
        f"drawing {scale.train_images + TEST_IMAGES} synthetic images of {SIZE[0]} x {SIZE[1]} into {data}: "
        "clear defects, easier than the competition's"
    )
    write_synthetic_set(
        data, seed=config.seed, images=scale.train_images, test_images=TEST_IMAGES, size=SIZE, defect_share=0.65,
        rare_boost=1.0, difficulty=0.0, progress=progress,
    )  # fmt: skip
    files.write_text(data / CLASS_NAMES, "\n".join(CLASSES) + "\n")
    splitting.split(configs.SplitConfig(data=data, holdout=0.15, folds=8, seed=config.seed), progress)
    thresholds, runs = {}, []
    for arch in ARCHITECTURES:
        runs.append(_train(arch, config, scale, progress))
        thresholds[arch] = threshold_search.search(configs.ThresholdsConfig(runs=(runs[-1],)), progress)
        _predict(arch, config, runs[-1], progress)
    compare = configs.CompareConfig(candidates=tuple(map(str, runs)), out=config.out / "comparison")
    compared = comparing.compare(compare, progress)
    page = reporting.report(configs.ReportConfig(shown=tuple(runs), out=config.out / "report"), progress).page
    figures = (compared.folder / comparing.PLOT, runs[0] / "history.png", runs[0] / "thresholds.png")
    return DemoResult(comparison=compared, thresholds=thresholds, report=page, figures=figures)


def _check_folder(out: Path, data: Path) -> None:
    """Raise InputError unless `out` is a new or empty folder, or holds an earlier demo, which is replaced."""
    if out.exists() and not out.is_dir():
        raise InputError(f"cannot write a demo to {out}", "it is a file", "Name a folder")
    if out.is_dir() and any(out.iterdir()) and not (data / MARKER).is_file():
        raise InputError(f"will not write to {out}", "it holds other files than a demo", "Name a new or empty folder")


def _train(arch: str, config: configs.DemoConfig, scale: _Scale, progress: Progress) -> Path:
    """The run of a network with a small encoder, trained from scratch."""
    train = configs.TrainConfig(
        data=config.out / "data", arch=arch, encoder="tu-resnet10t", encoder_weights="none", epochs=scale.epochs,
        seed=config.seed, models=config.out / "models", name=arch, crop_widths_px=(128,), crop_height_px=128,
        batch_size=4, defect_share=0.8, average_decay=0.98,
    )  # fmt: skip
    rmtree(folder_for(train), ignore_errors=True)  # of an earlier demo
    return training.train(train, progress).folder


def _predict(arch: str, config: configs.DemoConfig, run: Path, progress: Progress) -> None:
    """Write and check the submission of a run."""
    images, submission = config.out / "data" / "test_images", config.out / "submissions" / f"{arch}.csv"
    prediction.predict(configs.PredictConfig(images=(images,), runs=(run,), out=submission), progress)
    checked = checking.check(configs.CheckConfig(submission=submission, images=images), progress)
    if not checked.is_valid:
        raise SeverstalError(f"{submission} is not valid", checked.faults[0].message)
