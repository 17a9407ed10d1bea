"""Settings of the commands on submissions."""

from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config.checks import check, check_size, check_table_name
from severstal_cli.config.data import LAYOUTS, NotebookConfig


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """`predict`: images to a submission."""

    images: tuple[Path, ...]
    """Image folders and files."""
    runs: tuple[Path, ...] = ()
    """Run folders, averaged; none: those of `thresholds`, else the best run in `models`, with those in
    int8 last."""
    models: Path = Path("models")
    tta: str | None = None
    """TTA views; None: those of the threshold search."""
    out: Path = Path("submissions/submission.csv")
    layout: str = "auto"
    """"auto": that of the sample, else original; or "current", "original"."""
    sample: Path | None = None
    """Sample submission that gives the images, their order and the layout."""
    masks: Path | None = None
    """Output folder for overlays of the predicted masks."""
    thresholds: Path | None = None
    """`thresholds.json`; default: the run's own."""
    weights: tuple[float, ...] = ()
    """Ensemble weight of each run; none: the weights of the threshold search."""
    batch_size: int = 8
    engine: str = "auto"
    """Inference engine: "auto", "torch", "openvino" or "onnxruntime"."""
    devices: int = 1
    """GPUs, or processes on the CPU."""
    on_error: str = "stop"
    """At an unreadable image: "stop", or "skip" it with empty rows."""
    resume: bool = False
    """Resume from the shards of an interrupted prediction."""

    def __post_init__(self) -> None:
        check_table_name(self.out)
        check(self.devices >= 1, "devices", self.devices, "at least 1")
        check(self.on_error in ("stop", "skip"), "on error", self.on_error, "stop or skip")
        check(self.layout in ("auto", *LAYOUTS), "layout", self.layout, f"auto, {' or '.join(LAYOUTS)}")


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """`check`: the faults of a submission."""

    submission: Path
    sample: Path | None = None
    """Sample submission: its images, and in the original layout its rows, are required."""
    images: Path | None = None
    """Images: a folder, which also gives their sizes, or a CSV with ImageId."""
    size: tuple[int, int] | None = None
    """(height, width) of every image; default: from the image folder."""
    class_names: tuple[str, ...] = ()
    """(): the names in `classes.txt` beside the sample, if it exists."""

    def __post_init__(self) -> None:
        if self.size is not None:
            check_size(self.size)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """`score`: mean Dice of a submission, or of runs on the holdout set."""

    submission: Path | None = None
    """Submission, or a run folder, like one of `runs`."""
    truth: Path | None = None
    """Ground truth of the submission."""
    images: Path | None = None
    """Images to score: a folder, or a CSV with ImageId."""
    runs: tuple[Path, ...] = ()
    """Run folders, averaged, instead of a submission; with neither: those of `thresholds`, else the best run in
    `models`."""
    models: Path = Path("models")
    thresholds: Path | None = None
    """`thresholds.json` for runs; default: the run's own."""
    data: Path | None = None
    """Data folder of runs; default: that of their training."""
    against: Path | None = None
    """Submission, or for runs another run, to compare against on the same images."""
    tta: str | None = None
    """TTA views; None: those of the threshold search."""
    batch_size: int = 8
    class_names: tuple[str, ...] = ()
    """(): those of `classes.txt` beside the annotations, or of the run."""


@dataclass(frozen=True, kw_only=True)
class SubmitConfig(NotebookConfig):
    """`submit`: runs to a scored Kaggle submission by an offline notebook."""

    runs: tuple[Path, ...]
    """Run folders, averaged."""
    thresholds: Path | None = None
    """`thresholds.json`; default: that of the best run."""
    tta: str | None = None
    """TTA views; None: those of the threshold search."""
    again: bool = False
    """Submit the same runs again."""
    bundle_only: Path | None = None
    """Write the bundle to this folder and upload nothing."""
    user: str | None = None
    """Kaggle account of the written bundle."""
    out: Path = Path("submissions")
    """Folder of the submission log, with a subfolder per combination of runs."""
    submission_limit_s: float = 3 * 3600.0
    """Timeout of the scoring."""
    lost_s: float = 60.0
    """Delay before a submission whose answer was lost is sent again: Kaggle may list it late."""

    def __post_init__(self) -> None:
        alone = self.user is not None and self.bundle_only is None
        check(not alone, "user", self.user, "given with --bundle-only: otherwise the token decides the account")
