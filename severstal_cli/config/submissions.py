"""What the commands are told that make and judge submissions."""

from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config.checks import check, check_size, check_unpacked
from severstal_cli.config.data import COMPETITION, Competition


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """`predict`: images to a submission."""

    images: tuple[Path, ...]
    """Folders and single files."""
    runs: tuple[Path, ...] = ()
    """Folders of trained models, averaged; none: those of `thresholds`, else the best validated one in `models`."""
    models: Path = Path("models")
    tta: str | None = None
    """Views to average; None: those that the thresholds were searched with."""
    out: Path = Path("submissions/submission.csv")
    layout: str = "auto"
    """"auto": that of the sample, else original; or "current", "original"."""
    sample: Path | None = None
    """A sample file: its images, in its order, in its layout."""
    masks: Path | None = None
    """A folder for pictures of the images with the predicted masks drawn on."""
    thresholds: Path | None = None
    """A `thresholds.json`; by default the run's own."""
    weights: tuple[float, ...] = ()
    """What each run counts in the mean; none: as the thresholds were searched."""
    batch_size: int = 8
    engine: str = "auto"
    """What runs the networks: "auto", "torch", "openvino" or "onnxruntime"."""
    compile: bool = False
    """Compile the networks by torch.compile, on a GPU with CUDA graphs."""
    devices: int = 1
    """GPUs, or processes on the CPU."""
    on_error: str = "stop"
    """What to do at a image that cannot be read: "stop", or "skip": its rows are empty."""
    resume: bool = False
    """Go on with the parts that an earlier prediction left."""
    keep_parts: bool = False
    """Leave the parts as they are, instead of one file."""

    def __post_init__(self) -> None:
        check_unpacked(self.out)
        check(self.devices >= 1, "devices", self.devices, "at least 1")
        check(self.on_error in ("stop", "skip"), "on error", self.on_error, "stop or skip")
        check(self.layout in ("auto", "current", "original"), "layout", self.layout, "auto, current or original")


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """`check`: is this file a valid submission?"""

    submission: Path
    sample: Path | None = None
    """A sample file: its images, and for the original layout its rows, must be there."""
    images: Path | None = None
    """The images, as a folder, which also tells their sizes, or as a table with a column ImageId."""
    size: tuple[int, int] | None = None
    """(height, width) of every image; by default as the folder of images says."""
    class_names: tuple[str, ...] = ()
    """(): those of `classes.txt` beside the sample, if it exists."""

    def __post_init__(self) -> None:
        if self.size is not None:
            check_size(self.size)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """`score`: mean Dice of a submission, or of runs on the holdout."""

    submission: Path | None = None
    """Or the folder of a run, as one of `runs`."""
    truth: Path | None = None
    """Annotations to score the submission against."""
    images: Path | None = None
    """The images that count: a folder, or a table with a column ImageId."""
    runs: tuple[Path, ...] = ()
    """Folders of trained models, averaged, instead of a submission; with neither, those of `thresholds`, else the best
    validated one in `models`."""
    models: Path = Path("models")
    thresholds: Path | None = None
    """For runs: a `thresholds.json`; by default the run's own."""
    data: Path | None = None
    """For runs: by default where they were trained."""
    against: Path | None = None
    """Another submission or, for runs, another run: the difference on the same images is told."""
    tta: str | None = None
    """Views to average; None: those that the thresholds were searched with."""
    batch_size: int = 8
    class_names: tuple[str, ...] = ()
    """(): those of `classes.txt` beside the annotations, or of the run."""


@dataclass(frozen=True, kw_only=True)
class SubmitConfig:
    """`submit`: runs to a scored submission on Kaggle, by way of an offline notebook."""

    runs: tuple[Path, ...]
    """Folders of trained models, averaged."""
    thresholds: Path | None = None
    """A `thresholds.json`; by default that of the best validated run."""
    tta: str | None = None
    """Views to average; None: those that the thresholds were searched with."""
    again: bool = False
    """Submit once more what was submitted before."""
    bundle_only: Path | None = None
    """Write the bundle there, and stop before anything leaves the machine."""
    user: str | None = None
    """The Kaggle account that the written bundle will belong to."""
    out: Path = Path("submissions")
    """Holds the history, and a folder for each combination of runs."""
    competition: Competition = COMPETITION
    poll_s: float = 15.0
    """Between two questions for something that Kaggle is busy with."""
    dataset_limit_s: float = 3600.0
    """How long Kaggle may take to unpack the dataset, then the same command goes on."""
    kernel_limit_s: float = 2 * 3600.0
    """Likewise to run the notebook, its time in the queue counted."""
    place_limit_s: float = 12 * 3600.0
    """Likewise to have a place for the notebook: two of an account run at once."""
    late_s: float = 120.0
    """How long what is there may not be mounted, or listed, yet."""
    submission_limit_s: float = 3 * 3600.0
    """Likewise to score."""
    lost_s: float = 60.0
    """How long a submission whose answer was lost is looked for before it is made again: Kaggle may list it late."""

    def __post_init__(self) -> None:
        alone = self.user is not None and self.bundle_only is None
        check(not alone, "user", self.user, "given with --bundle-only: else the account is that of the token")
