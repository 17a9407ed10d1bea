"""How far a submission or a training has come: `state.json`, so that the same command goes on after any break.

It holds no secret. What belongs to an upload that is under way is kept apart (`upload.Memory`).
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from severstal_cli import files, typed

NAME = "state.json"


@dataclass(frozen=True, kw_only=True)
class DatasetState:
    """A dataset that a notebook reads."""

    slug: str
    """The one that it was made by: another one than was wanted where something else has that."""
    contents: str
    """Stands for its files."""
    before: int | None = None
    """The version before ours was made, 0: there was none; None: not looked yet."""
    made: bool = False
    ready: bool = False
    failed: bool = False
    """Kaggle could not take it in."""


@dataclass(frozen=True, kw_only=True)
class JobState:
    """A command in a notebook."""

    datasets: tuple[DatasetState, ...] = ()
    """The bundle first."""
    kernel: str = ""
    """The slug of the notebook, as `DatasetState.slug`."""
    kernel_before: int | None = None
    """As `DatasetState.before`, of the notebook."""
    kernel_version: int | None = None
    """Of the notebook that was pushed."""
    kernel_done: bool = False
    mounts: int = 0
    """How often it was pushed again, as its dataset was not mounted yet."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A submission that Kaggle is done with."""

    status: str
    """"complete" or "error"."""
    public: float | None = None
    private: float | None = None
    public_place: int | None = None
    """The one that the score would have had; None: not known."""
    private_place: int | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class State:
    """The steps that are done, for one bundle of one account."""

    user: str
    fingerprint: str
    """Of the bundle: what is submitted."""
    job: JobState = JobState()
    attempt: int = 1
    """Counts the submissions of this bundle."""
    submitting: bool = False
    """Kaggle was asked to take this attempt; whether it did may be unknown."""
    ref: int | None = None
    """Kaggle's number of the submission."""
    scores: Scores | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A training in a notebook."""

    user: str
    settings: str
    """Stands for what is trained."""
    job: JobState = JobState()
    sends_weights: bool = False
    """The notebook cannot fetch those of its encoder."""
    session: int = 0
    """Kaggle's number of the session, which the notebook tells; 0: not known."""
    splits: bool = False
    """The split is made in the notebook."""


def load(folder: Path) -> State | None:
    """What was saved in `folder` of a submission; None: nothing, or nothing that this version understands."""
    try:
        content = typed.read_table(folder / NAME)
        known = {each.name for each in fields(State)}  # an older version had the job's fields here
        return typed.make(State, {name: value for name, value in content.items() if name in known})
    except (OSError, ValueError):
        return None


def load_training(folder: Path) -> TrainingState | None:
    """As `load`, of a training."""
    try:
        return typed.make(TrainingState, typed.read_table(folder / NAME))
    except (OSError, ValueError):
        return None


def save(folder: Path, state: Any) -> None:
    """Write a dataclass. Raises OutputError."""
    files.write_text(folder / NAME, json.dumps(asdict(state), indent=2) + "\n")
