"""Settings of the commands on trained runs, and of the demo."""

from dataclasses import dataclass, field
from pathlib import Path

from severstal_cli.config.checks import check
from severstal_cli.config.training import TrainConfig
from severstal_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ThresholdsConfig:
    """`thresholds`: the post-processing of runs, searched on their validation folds."""

    runs: tuple[Path, ...]
    """Run folders, averaged. They must share data and split, and each needs a validation fold."""
    weights: tuple[float, ...] = ()
    """Ensemble weight of each run; none: equal."""
    data: Path | None = None
    """Data folder; default: that of the run's training."""
    tta: str = "none"
    """TTA views: none, flips, scales, hflip, vflip, ..., comma-separated. `predict` uses them, too."""
    out: Path | None = None
    """Output file; default: `thresholds.json` in the run folder; required for several runs."""
    batch_size: int = 8


MAX_DROP = 0.002
"""Loss of mean Dice that int8 may cost."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`export`: a run to ONNX or OpenVINO."""

    run: Path
    format: str
    """"onnx" or "openvino"."""
    out: Path | None = None
    """Output folder; default: RUN-FORMAT, with `int8` RUN-FORMAT-int8."""
    image: Path | None = None
    """Image to compare the levels on; default: a training image of the run. Not with `int8`."""
    int8: bool = False
    """Quantise the network to int8, and search its thresholds; for OpenVINO."""
    max_drop: float | None = None
    """With `int8`: largest accepted loss of mean Dice on the validation fold; default: `MAX_DROP`."""
    data: Path | None = None
    """Data folder; default: that of the run's training. Not with `image`."""
    batch_size: int | None = None
    """With `int8`: images per forward pass; default: 8."""

    def __post_init__(self) -> None:
        for name, value in (("--max-drop", self.max_drop), ("--batch-size", self.batch_size)):
            if value is not None and not self.int8:
                raise UsageError(f"{name} is for int8", "", "Give --int8, or leave it out")
        if self.int8 and self.image is not None:
            raise UsageError("int8 is checked on the validation fold", "--image", "Leave it out")
        if self.data is not None and self.image is not None:
            raise UsageError("--data does nothing with --image", str(self.data), "Leave one of them out")
        check(self.max_drop is None or 0 <= self.max_drop <= 1, "drop of mean Dice", self.max_drop, "0 to 1")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """`compare`: networks, runs or submissions on the same images."""

    candidates: tuple[str, ...]
    """Networks and run folders, or submissions. The first candidate is the baseline."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Settings for networks that are not trained yet, except network, seed and name; all are scored on its `data`."""
    data: Path | None = None
    """Data folder of runs; default: that of each run's training."""
    seeds: tuple[int, ...] = (0,)
    """Seeds; each network is trained once per seed."""
    truth: Path | None = None
    """Ground truth of submissions."""
    images: Path | None = None
    """Images to score submissions on: a folder, or a CSV with ImageId."""
    out: Path | None = None
    """Output folder; default: `comparisons/A-B`."""
    batch_size: int = 8
    class_names: tuple[str, ...] = ()
    """(): those of `classes.txt` beside the annotations, or of the first run."""
    given: tuple[str, ...] = ()
    """Options on the command line; options that these candidates do not use are refused."""

    def __post_init__(self) -> None:
        check(len(self.candidates) > 1, "number of candidates", str(len(self.candidates)), "at least 2")
        different = len(set(map(Path, self.candidates)))
        check(different == len(self.candidates), "list of candidates", " ".join(self.candidates), "without duplicates")
        check(
            len(set(self.seeds)) == len(self.seeds) > 0,
            "list of seeds",
            ",".join(map(str, self.seeds)),
            "without duplicates",
        )


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """`report`: an HTML page of the predictions of runs or submissions, or of an audit."""

    shown: tuple[Path, ...]
    """Run folders and submissions, or the table of one audit."""
    data: Path | None = None
    """Data folder; default for runs: that of their training, for an audit: the audited one."""
    part: str = "holdout"
    """Images of runs: "holdout", or "validation" for their validation fold."""
    truth: Path | None = None
    """Ground truth of submissions; without it nothing is scored."""
    images: Path | None = None
    """Images of submissions: a folder, or a CSV with ImageId."""
    out: Path | None = None
    """Output folder; default: `reports/NAME`."""
    batch_size: int = 8
    class_names: tuple[str, ...] = ()
    """(): those of `classes.txt` beside the annotations, or of the first run."""

    def __post_init__(self) -> None:
        check(bool(self.shown), "number of runs and submissions", len(self.shown), "at least 1")
        check(
            len(set(self.shown)) == len(self.shown),
            "runs and submissions",
            " ".join(map(str, self.shown)),
            "named once each",
        )
        check(self.part in ("holdout", "validation"), "part", self.part, "holdout or validation")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """`demo`: the whole pipeline on synthetic images."""

    out: Path
    """A new or empty folder, or that of an earlier demo."""
    fast: bool = False
    """Fewer images and epochs."""
    seed: int = 0
