"""The settings of `train --on kaggle` besides the training settings."""

from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config.checks import check
from severstal_cli.config.data import COMPETITION, Competition
from severstal_cli.config.training import TrainConfig

PLACES = "here", "kaggle"
"""Where `train` trains."""
GPUS = 2
"""Of a notebook on Kaggle."""


@dataclass(frozen=True, kw_only=True)
class RemoteConfig:
    """A training in a notebook on Kaggle."""

    train: TrainConfig
    """`devices` counts the notebook's GPUs."""
    every_fold: bool = False
    """Train a run for each fold of the split, one after the other; `train.fold` is ignored."""
    cancel: bool = False
    """End the notebook that trains this run."""
    discard: bool = False
    """Delete it, where Kaggle does not let it be ended otherwise."""
    competition: Competition = COMPETITION
    session_s: float = 11 * 3600.0 + 20 * 60
    """After which a training is asked to end, so that its checkpoint is kept: Kaggle ends a session after 12 hours."""
    poll_s: float = 15.0
    """As in `SubmitConfig`, and so the others."""
    dataset_limit_s: float = 2 * 3600.0
    kernel_limit_s: float = 24 * 3600.0
    place_limit_s: float = 24 * 3600.0
    late_s: float = 120.0

    def __post_init__(self) -> None:
        check(self.cancel or not self.discard, "discard", self.discard, "given with --cancel")

    @property
    def work(self) -> Path:
        """Holds a folder for each run that is trained on Kaggle."""
        return self.train.models / ".kaggle"
