"""What the commands are told that work on trained runs, and the demo."""

from dataclasses import dataclass
from pathlib import Path


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
    """"onnx", "openvino" or "torch"."""
    out: Path | None = None
    """The folder to write; by default beside the run, with the format behind its name."""
    image: Path | None = None
    """A photograph to compare the levels on; by default one that the run was trained on."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """`demo`: every stage on synthetic steel."""

    out: Path
    """A new or empty folder, or that of an earlier demo."""
    seed: int = 0
