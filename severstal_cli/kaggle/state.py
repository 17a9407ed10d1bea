"""`state.json`: the finished steps of a submission or a training, so that the same command resumes after any break.

It holds no secret. `upload.Memory` keeps the state of an upload in a file of its own.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from severstal_cli import files, typed

NAME = "state.json"

Kind = TypeVar("Kind")


@dataclass(frozen=True, kw_only=True)
class DatasetState:
    """A dataset that a notebook reads."""

    slug: str
    """Its name on Kaggle: a numbered one if the wanted name was taken."""
    contents: str
    """Digest of its files."""
    before: int | None = None
    """The version on Kaggle before ours; 0: no dataset; None: not asked yet."""
    made: bool = False
    ready: bool = False
    failed: bool = False
    """Kaggle could not process it."""


@dataclass(frozen=True, kw_only=True)
class JobState:
    """A command in a notebook."""

    datasets: tuple[DatasetState, ...] = ()
    """The bundle first."""
    kernel: str = ""
    """The slug of the notebook, as `DatasetState.slug`."""
    kernel_before: int | None = None
    """The version of the notebook, as `DatasetState.before`."""
    kernel_version: int | None = None
    """The version that was pushed."""
    kernel_done: bool = False
    mounts: int = 0
    """How often the notebook was pushed again because its dataset was not mounted yet."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a submission, or Kaggle's error."""

    status: str
    """"complete" or "error"."""
    public: float | None = None
    private: float | None = None
    public_place: int | None = None
    """The rank that the score would have had; None: unknown."""
    private_place: int | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class State:
    """The finished steps for one bundle of one account."""

    user: str
    fingerprint: str
    """The bundle's fingerprint."""
    job: JobState = JobState()
    attempt: int = 1
    """The number of this submission of the bundle, from 1."""
    submitting: bool = False
    """The request was sent; Kaggle's answer may be unknown."""
    ref: int | None = None
    """Kaggle's number of the submission."""
    scores: Scores | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A training in a notebook."""

    user: str
    settings: str
    """Digest of the training settings."""
    folds: tuple[int, ...] = ()
    """The folds that are trained one after the other; (): one run."""
    job: JobState = JobState()
    sends_weights: bool = False
    """The bundle must include the encoder weights: the notebook cannot download them."""
    session: int = 0
    """Kaggle's number of the session, from the notebook's log; 0: unknown."""


def load(kind: type[Kind], folder: Path) -> Kind | None:
    """The state in `folder`, a `State` or a `TrainingState`; None: no file, or one that this version cannot read."""
    try:
        content = typed.read_table(folder / NAME)
        known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # older versions had other fields, too
        return typed.make(kind, {name: value for name, value in content.items() if name in known})
    except (OSError, ValueError):
        return None


def save(folder: Path, state: Any) -> None:
    """Write a dataclass. Raises OutputError."""
    files.write_text(folder / NAME, json.dumps(asdict(state), indent=2) + "\n")
