"""`submit`: from runs to a scored submission: bundle, dataset, notebook, submission, scores.

`submissions/NAME/state.json` records each finished step, so the same command resumes after any break and submits the
same runs only once. The bundle's fingerprint identifies a submission. It covers the weights and the settings of the
prediction, so a newer version of this program makes no new submission of the same runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from severstal_cli import files, typed
from severstal_cli.config import SubmitConfig
from severstal_cli.errors import InputError, RunError
from severstal_cli.kaggle import bundle as bundles
from severstal_cli.kaggle import client, preflight, state, submission_log
from severstal_cli.kaggle.bundle import Bundle
from severstal_cli.kaggle.client import Kaggle
from severstal_cli.kaggle.state import State
from severstal_cli.kaggle.steps import Steps, fetch_scores
from severstal_cli.learning.runs.run_folder import SCORE
from severstal_cli.progress import SILENT, Progress

LIMIT_S = 3600.0
"""The notebook's time limit."""


@dataclass(frozen=True, kw_only=True)
class SubmitResult:
    """A bundle, and its scores."""

    name: str
    bundle: Path | None
    """The folder of the bundle with --bundle-only."""
    was_there: bool = False
    """It was submitted before: nothing was sent."""
    scores: state.Scores | None = None


def submit(config: SubmitConfig, progress: Progress = SILENT) -> SubmitResult:
    """Bundle the runs, upload them as a private dataset, run the notebook, submit its output, wait for its scores.

    Raises:
        InputError: wrong runs, no credentials, Kaggle refuses, or the notebook or the submission failed.
        RunError: no run, or an incomplete one.
        MachineError: no network, Kaggle has a fault, or takes too long: the same command resumes. Or another process
            submits these runs.
        OutputError: the bundle, the state or the history cannot be written.
    """
    if config.bundle_only is not None:
        bundle = _build(config, config.bundle_only, progress, user=config.user)
        _print_time(config, progress)
        return SubmitResult(name=bundle.slug, bundle=config.bundle_only)
    folder = config.out / bundles.slug_of([path.resolve().name for path in config.runs])
    for path in (folder / state.NAME, config.out / submission_log.NAME):
        files.check_writable(path)
    submission_log.read(config.out)  # a damaged file must be reported before anything is sent
    kaggle = client.connect(config.competition.slug, progress, pause_s=min(1.0, config.poll_s))
    with files.locked(folder, f"another process submits {folder.name}"):
        return _submit(config, kaggle, folder)


def _submit(config: SubmitConfig, kaggle: Kaggle, folder: Path) -> SubmitResult:
    known = state.load(State, folder)
    is_scored = known is not None and known.scores is not None and not config.again
    user = "" if is_scored else kaggle.user()  # wrong credentials must be reported before the bundle is built
    is_fresh = False
    if known is not None and known.ref is not None and known.scores is None and known.user == user:
        # its scores belong to it even if the runs have changed
        known, is_fresh = fetch_scores(config, kaggle, folder, known), True
    kaggle.progress.log("1/5 bundle")
    bundle = _build(config, folder / "bundle", kaggle.progress)
    if known is not None and known.fingerprint == bundle.fingerprint and (is_fresh or is_scored):
        return _result(bundle, known, was_there=True)
    user = user or kaggle.user()
    if known is None or (known.user, known.fingerprint) != (user, bundle.fingerprint):
        known = State(user=user, fingerprint=bundle.fingerprint)
    steps = Steps(config, kaggle, bundle, folder, known, about=_about(config, bundle))
    was_there = steps.find()
    if steps.state.ref is None:
        needs_gpu = steps.state.job.kernel_version is None
        preflight.check(kaggle, submits=True, needs_gpu=needs_gpu)
        if needs_gpu:
            _print_time(config, kaggle.progress)
        steps.make_dataset()
        steps.run_kernel()
        steps.send()
    return _result(bundle, fetch_scores(config, kaggle, folder, steps.state), was_there=was_there)


def _build(config: SubmitConfig, folder: Path, progress: Progress, user: str | None = None) -> Bundle:
    return bundles.build(
        folder,
        runs=config.runs,
        thresholds=config.thresholds,
        tta=config.tta,
        user=user,
        competition=config.competition.slug,
        progress=progress,
    )


def _print_time(config: SubmitConfig, progress: Progress) -> None:
    """Print how long the notebook would take on this machine."""
    images = config.competition.test_images
    seconds, device = bundles.estimate_s(runs=config.runs, thresholds=config.thresholds, tta=config.tta, images=images)
    faster = "; Kaggle's GPU is faster" if device == "cpu" else ""
    progress.log(
        f"{images:,} images: about {seconds / 60:.0f} min here on {device}, the limit is {LIMIT_S / 60:.0f} min{faster}"
    )


def _result(bundle: Bundle, known: State, *, was_there: bool) -> SubmitResult:
    """Raises InputError: Kaggle could not score it."""
    found = known.scores
    assert found is not None
    if found.status == "error":
        raise InputError(
            f"Kaggle could not score {bundle.slug}", found.error or "without a reason", "--again submits it once more"
        )
    return SubmitResult(name=bundle.slug, bundle=None, was_there=was_there, scores=found)


def _about(config: SubmitConfig, bundle: Bundle) -> Mapping[str, object]:
    """The runs' columns of the history."""
    return {
        "runs": " ".join(bundle.runs),
        "validation_dice": bundle.validation_dice,
        "holdout_dice": _holdout_dice(config.runs),
    }


def _holdout_dice(runs: tuple[Path, ...]) -> float | None:
    """The holdout Dice of a single run, if `severstal score --model RUN` wrote it. Raises RunError: a damaged file."""
    if len(runs) != 1:
        return None
    path = runs[0] / SCORE
    try:
        return float(typed.as_type(float, typed.read_table(path).get("mean_dice"), "mean_dice"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise files.unreadable(path, error, RunError) from error
    except ValueError as error:
        raise RunError(
            f"{path} is damaged", str(error), f"Score it again: severstal score --model {runs[0]}"
        ) from error
