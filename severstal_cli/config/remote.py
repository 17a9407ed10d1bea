"""Settings of `train --on kaggle`, besides those of `train`."""

from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config.checks import check
from severstal_cli.config.data import NotebookConfig
from severstal_cli.config.training import TrainConfig

PLACES = "here", "kaggle"
"""Where `train` trains."""
GPUS = 2
"""GPUs of a Kaggle notebook."""


@dataclass(frozen=True, kw_only=True)
class RemoteConfig(NotebookConfig):
    """A training in a notebook on Kaggle."""

    train: TrainConfig
    """Settings of the training; `devices` counts the GPUs of the notebook."""
    every_fold: bool = False
    """Train a run for each fold of the split, one after the other; `train.fold` is ignored."""
    cancel: bool = False
    """Stop the notebook of this run."""
    discard: bool = False
    """Delete the notebook if Kaggle does not let it be stopped."""
    session_s: float = 11 * 3600.0 + 20 * 60
    """Time after which the training stops by itself to save its checkpoint: Kaggle ends a session after 12 hours."""
    dataset_limit_s: float = 2 * 3600.0
    kernel_limit_s: float = 24 * 3600.0
    place_limit_s: float = 24 * 3600.0

    def __post_init__(self) -> None:
        check(self.cancel or not self.discard, "discard", self.discard, "given with --cancel")

    @property
    def work(self) -> Path:
        """Folder with one subfolder per run that trains on Kaggle."""
        return self.train.models / ".kaggle"
