"""The steps of a submission after its bundle: dataset and notebook (`job`), submission, scores.

The result of each step is saved, so that the next run of the command resumes there. After a lost answer, Kaggle is
asked for the result before a step is repeated.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from severstal_cli.config import SubmitConfig
from severstal_cli.errors import InputError, SeverstalError
from severstal_cli.kaggle import kernel, names, polling, state, submission, submission_log
from severstal_cli.kaggle.bundle import Bundle
from severstal_cli.kaggle.client import Kaggle
from severstal_cli.kaggle.job import Job, Source, Task
from severstal_cli.kaggle.state import JobState, State
from severstal_cli.kaggle.submission import Submission


class Steps:
    """The steps of one bundle. A finished step does nothing."""

    def __init__(
        self,
        config: SubmitConfig,
        kaggle: Kaggle,
        bundle: Bundle,
        folder: Path,
        known: State,
        *,
        about: Mapping[str, object],
    ) -> None:
        """`folder` has the state; `about` is added to the row in the history."""
        self._config, self._kaggle, self._bundle, self._folder = config, kaggle, bundle, folder
        self._user, self._slug, self._progress = known.user, bundle.slug, kaggle.progress
        self._about = about
        self.state = known
        task = Task(
            sources=(Source(folder=bundle.dataset, slug=bundle.slug, contents=bundle.contents),),
            kernel=names.notebook_of(bundle.slug),
            script=(bundle.kernel / "script.py").read_text(encoding="utf-8"),
            outputs=(submission.OUTPUT,),
            notes=self._description,
        )
        self._job = Job(kaggle, known.user, task, known.job, self._save_job, folder=folder, waits=config)

    def _save_job(self, job: JobState) -> None:
        self._save(job=job)

    def _save(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        state.save(self._folder, self.state)

    def find(self) -> bool:
        """Find this attempt on Kaggle, as an answer or the state may be lost. --again moves on to the next attempt.

        Returns whether the attempt was known to be submitted.
        """
        if self._config.again and self.state.scores is not None:
            self._next_attempt()
        was_there = self.state.ref is not None
        while self.state.ref is None:
            found = self._search()
            if found is None:
                break
            if self._config.again and found.status != "pending" and not self.state.submitting:
                self._next_attempt()
                continue
            self._progress.log(f"submission {found.ref} exists on Kaggle")
            was_there = not self.state.submitting
            self._keep(found.ref, found.date)
        return was_there

    def _next_attempt(self) -> None:
        self._save(attempt=self.state.attempt + 1, submitting=False, ref=None, scores=None)

    @property
    def _description(self) -> str:
        """Identifies this attempt among the account's submissions."""
        again = f" #{self.state.attempt}" if self.state.attempt > 1 else ""
        return f"{self._slug} {self._bundle.fingerprint[:12]}{again}"

    def _search(self) -> Submission | None:
        """Kaggle's entry of this attempt. Kaggle may list a new submission late, so a requested one is waited for."""
        began = time.monotonic()

        def look() -> tuple[str, tuple[Submission | None] | None]:
            found = submission.find(self._kaggle, self._description)
            is_over = found is not None or time.monotonic() - began >= self._config.lost_s
            return "not listed", (found,) if is_over else None

        if not self.state.submitting:
            return submission.find(self._kaggle, self._description)
        limit_s = self._config.lost_s + self._config.poll_s + polling.SILENCE_S
        (found,) = polling.wait_for(
            "looking for the submission", look, self._progress, poll_s=self._config.poll_s, limit_s=limit_s
        )
        return found

    def make_dataset(self) -> None:
        """Upload the bundle, and wait until Kaggle has processed it. Raises SeverstalError."""
        (known,) = self._job.state.datasets
        self._progress.log(f"2/5 dataset {self._user}/{known.slug}" + (": uploaded" if known.ready else ""))
        self._job.make_datasets()

    def run_kernel(self) -> None:
        """Push the notebook, and wait for its end. Raises SeverstalError."""
        job = self._job.state
        done = f": version {job.kernel_version} has run" if job.kernel_done else ""
        self._progress.log(f"3/5 notebook {self._job.page}{done}")
        self._job.run(self._watch)

    def _watch(self, version: int) -> str:
        return polling.wait_for(
            "notebook",
            kernel.look_at(self._kaggle, self._user, self._job.slug, version),
            self._progress,
            poll_s=self._config.poll_s,
            limit_s=self._config.kernel_limit_s,
        )

    def send(self) -> None:
        """Submit the notebook's output. Raises SeverstalError."""
        self._progress.log(f"4/5 submission {self._description!r}")
        version = self._job.push()
        self._save(submitting=True)
        try:
            ref = submission.create(self._kaggle, self._user, self._job.slug, version, self._description)
        except InputError:  # refused: there is no submission to look for
            self._save(submitting=False)
            raise
        date = None
        if not ref:
            found = self._search()
            if found is None:
                raise InputError("Kaggle returned no number of the submission", "", "The same command looks for it")
            ref, date = found.ref, found.date
        self._keep(ref, date)

    def _keep(self, ref: int, date: datetime | None) -> None:
        """Record a submission that Kaggle has."""
        fields = {"name": self._slug, "bundle": self._bundle.fingerprint[:12], "status": "pending", **self._about}
        submission_log.record(self._config.out, ref, {**fields, "date": _text(date)})
        self._save(ref=ref)


def fetch_scores(config: SubmitConfig, kaggle: Kaggle, folder: Path, known: State) -> State:
    """Wait for the scores of a submission. `known`: the state in `folder`. Returns the state with the scores.

    Raises SeverstalError: a call fails, or it takes too long.
    """
    assert known.ref is not None
    kaggle.progress.log(f"5/5 scores of submission {known.ref}")
    found = submission.wait_until_scored(kaggle, known.ref, poll_s=config.poll_s, limit_s=config.submission_limit_s)
    result = state.Scores(
        status=found.status,
        public=found.public,
        private=found.private,
        public_place=_rank(kaggle, found.public, public=True),
        private_place=_rank(kaggle, found.private, public=False),
        error=kaggle.without_secrets(found.error),
    )
    fields = {
        "name": folder.name,
        "bundle": known.fingerprint[:12],
        "date": _text(found.date),
        "status": result.status,
        "public": result.public,
        "private": result.private,
        "public_place": result.public_place,
        "private_place": result.private_place,
    }
    submission_log.record(
        config.out, known.ref, fields
    )  # before the state: with the scores in it, they are not fetched again
    known = replace(known, scores=result)
    state.save(folder, known)
    return known


def _rank(kaggle: Kaggle, score: float | None, *, public: bool) -> int | None:
    if score is None:
        return None
    try:
        return submission.rank(kaggle, score, public=public)
    except SeverstalError as error:  # the rank is optional
        kaggle.progress.log(f"the rank is unknown: {error}")
        return None


def _text(date: datetime | None) -> str:
    """UTC; None: now."""
    return (date or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
