"""What the commands are told that work on trained runs, and the demo."""

from dataclasses import dataclass, field
from pathlib import Path

from severstal_cli.config.checks import check
from severstal_cli.config.training import TrainConfig


@dataclass(frozen=True, kw_only=True)
class ThresholdsConfig:
    """`thresholds`: the best post-processing for a run, found on its validation fold."""

    runs: tuple[Path, ...]
    """Folders of trained models, averaged. They must share data and split, and each must have left a fold out."""
    weights: tuple[float, ...] = ()
    """What each of several runs counts in the mean; none: all the same."""
    data: Path | None = None
    """By default where the run was trained."""
    tta: str = "none"
    """Views to average: none, flips, scales, hflip, vflip, ..., joined by commas. Predict with the same."""
    out: Path | None = None
    """By default `thresholds.json` in the run's folder; needed for several runs."""
    batch_size: int = 8


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`export`: a run with its network in another format."""

    run: Path
    format: str
    """"onnx" or "openvino"."""
    out: Path | None = None
    """The folder to write; by default beside the run, with the format behind its name."""
    image: Path | None = None
    """A image to compare the levels on; by default one that the run was trained on."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """`compare`: networks, runs or submissions on the same images."""

    candidates: tuple[str, ...]
    """Names of the registry and folders of runs, or submissions. The others are compared with the first."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How networks are trained that are not there yet, but for network, seed and name; all are scored on its `data`."""
    data: Path | None = None
    """Of runs alone: by default where each was trained."""
    seeds: tuple[int, ...] = (0,)
    """A network is trained once with each."""
    truth: Path | None = None
    """Annotations of the images of submissions."""
    images: Path | None = None
    """The images that count for submissions: a folder, or a table with a column ImageId."""
    out: Path | None = None
    """The folder to write; by default made of the candidates, under `comparisons`."""
    batch_size: int = 8
    class_names: tuple[str, ...] = ()
    """(): those of `classes.txt` beside the annotations, or of the first run."""
    given: tuple[str, ...] = ()
    """Names of the options that were given: those that do nothing for these candidates are refused."""

    def __post_init__(self) -> None:
        check(len(self.candidates) > 1, "number of candidates", str(len(self.candidates)), "at least 2")
        different = len(set(map(Path, self.candidates)))
        check(different == len(self.candidates), "list of candidates", " ".join(self.candidates), "without doubles")
        check(len(set(self.seeds)) == len(self.seeds) > 0, "list of seeds", ",".join(map(str, self.seeds)),
              "without doubles")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """`report`: a page to look at what runs or submissions predict."""

    shown: tuple[Path, ...]
    """Folders of runs, and submissions."""
    data: Path | None = None
    """The data folder: of runs, by default where they were trained; of submissions, where their images are."""
    part: str = "holdout"
    """The images of runs: "holdout", or "validation": the fold that they left out."""
    truth: Path | None = None
    """Annotations of the images of submissions; without them nothing is scored."""
    images: Path | None = None
    """The images of submissions: a folder, or a table with a column ImageId."""
    out: Path | None = None
    """The folder to write; by default made of the names, under `reports`."""
    batch_size: int = 8
    class_names: tuple[str, ...] = ()
    """(): those of `classes.txt` beside the annotations, or of the first run."""

    def __post_init__(self) -> None:
        check(bool(self.shown), "number of runs and submissions", len(self.shown), "at least 1")
        check(len(set(self.shown)) == len(self.shown), "runs and submissions", " ".join(map(str, self.shown)),
              "named once each")  # fmt: skip
        check(self.part in ("holdout", "validation"), "part", self.part, "holdout or validation")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """`demo`: every stage on synthetic steel."""

    out: Path
    """A new or empty folder, or that of an earlier demo."""
    seed: int = 0
