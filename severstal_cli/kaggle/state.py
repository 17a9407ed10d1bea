"""How far a submission has come: `state.json`, so that the same command goes on after any break.

It holds no secret. What belongs to an upload that is under way is kept apart (`upload.Memory`).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from severstal_cli import typed
from severstal_cli.steel import files

NAME = "state.json"


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
    contents: str = ""
    """Of the bundle that the dataset is made of, and that the notebook's script therefore must belong to."""
    dataset_before: int | None = None
    """The version of the dataset before ours was made, 0: there was none; None: not looked yet."""
    dataset_made: bool = False
    dataset_ready: bool = False
    kernel_before: int | None = None
    """As `dataset_before`, of the notebook."""
    kernel_version: int | None = None
    """Of the notebook that was pushed."""
    kernel_done: bool = False
    attempt: int = 1
    """Counts the submissions of this bundle."""
    submitting: bool = False
    """Kaggle was asked to take this attempt; whether it did may be unknown."""
    ref: int | None = None
    """Kaggle's number of the submission."""
    scores: Scores | None = None


def load(folder: Path) -> State | None:
    """What was saved in `folder`; None: nothing, or nothing that this version understands."""
    try:
        return typed.make(State, typed.read_table(folder / NAME))
    except (OSError, ValueError):
        return None


def save(folder: Path, state: State) -> None:
    """Raises OutputError."""
    files.write_text(folder / NAME, json.dumps(asdict(state), indent=2) + "\n")
