"""`train --on kaggle`: runs that are trained in a private notebook on Kaggle's GPUs, and fetched at the end.

`models/.kaggle/NAME/state.json` records each finished step, so the same command resumes after any break: at the upload,
at the running notebook, or at its output.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from severstal_cli import files
from severstal_cli.config import RemoteConfig, TrainConfig
from severstal_cli.errors import InputError, RunError, SeverstalError
from severstal_cli.kaggle import client, fetching, kernel, notebook, output, preflight, state, training, watching
from severstal_cli.kaggle.client import Kaggle, NotThereError, RefusedError
from severstal_cli.kaggle.job import Job, Task
from severstal_cli.kaggle.local_runs import READY, RemoteResult, put, put_back, put_split, result_of
from severstal_cli.kaggle.polling import RemoteError
from severstal_cli.kaggle.state import JobState, TrainingState
from severstal_cli.learning.networks import registry
from severstal_cli.learning.networks.names import check_new, folder_for
from severstal_cli.learning.runs import run_folder
from severstal_cli.progress import SILENT, Progress


def train(config: RemoteConfig, progress: Progress = SILENT) -> list[RemoteResult]:
    """Train in a notebook on Kaggle, show its log, and fetch and verify its runs: one, or one for each fold.

    Raises:
        InputError: wrong data or settings, a run of this name exists, no credentials, or Kaggle refuses.
        RunError: nothing to resume, or the notebook left no valid run.
        MachineError: no network, or Kaggle fails or takes too long; the same command resumes.
        OutputError: a file cannot be written.
    """
    registry.entry(config.train.arch)
    work = config.work / training.name_of(config)
    files.check_writable(work / state.NAME)
    with files.locked(work, f"another process trains {work.name} on Kaggle"):
        return _Session(config, work, progress).run()


def cancel(config: RemoteConfig, progress: Progress = SILENT) -> list[RemoteResult]:
    """Stop the notebook of a training, and fetch its runs; those that it did not finish can be resumed.

    Raises InputError: no notebook runs, or Kaggle refuses to stop it. Else as `train`.
    """
    work = config.work / training.name_of(config)
    with files.locked(work, f"another process trains {work.name} on Kaggle: end it by Ctrl-C first"):
        return _Session(config, work, progress).cancel()


class _Session:
    """A training on Kaggle and its state."""

    def __init__(self, config: RemoteConfig, work: Path, progress: Progress) -> None:
        self._config, self._work, self._progress = config, work, progress
        put_back(work, config.train.models)
        self._name = work.name
        self._known = state.load(TrainingState, work)
        self._folds = self._known.folds if self._known is not None else training.folds_of(config)

    @property
    def _runs(self) -> tuple[TrainConfig, ...]:
        return training.runs_of(self._config, self._folds)

    def _connect(self) -> tuple[Kaggle, str]:
        kaggle = client.connect(self._config.competition.slug, self._progress, pause_s=min(1.0, self._config.poll_s))
        user = kaggle.user()
        if self._known is not None and self._known.user != user:
            raise InputError(
                f"another account trains {self._name}",
                f"{self._known.user}, not {user}",
                "Use its token, or another --name",
            )
        return kaggle, user

    def run(self) -> list[RemoteResult]:
        """Do the steps that are left."""
        self._check()
        kaggle, user = self._connect()
        while True:
            known = self._known
            try:
                if known is None or known.job.kernel_version is None:
                    task = self._prepare(kaggle, user)
                else:
                    task = Task(sources=(), kernel="", script="", outputs=(notebook.OUTPUT,))
                job = self._job(kaggle, user, task)
                if not job.state.kernel_done:
                    self._progress.log("2/4 datasets" + ("" if job.state.kernel_version is None else ": uploaded"))
                    job.make_datasets()
                    job.push()
                    self._progress.log(f"3/4 notebook {job.page}; Ctrl-C leaves it running")
                    self._follow(kaggle, user, job)
                break
            except kernel.WeightsError:
                assert self._known is not None
                if self._known.sends_weights:
                    raise
                self._save(sends_weights=True)
            except RefusedError as error:
                # Kaggle's message for an account without internet is unknown; it probably contains this word
                if "internet" not in error.message.lower() or self._known is None or self._known.sends_weights:
                    raise
                self._progress.log(f"{error.found}: the bundle will include the encoder weights")
                self._save(sends_weights=True)
        return self._take(kaggle, user, job)

    def _check(self) -> None:
        """Refuse settings that contradict a training of this name, local or on Kaggle."""
        digest = training.settings_digest(self._config)
        if self._known is not None and self._known.settings != digest and self._known.job.kernel_version is None:
            self._forget()  # no notebook runs with the earlier settings
            self._folds = training.folds_of(self._config)
        if self._known is not None and self._known.settings != digest:
            raise InputError(
                f"{self._name} is trained on Kaggle with other settings",
                str(self._work),
                "Give the same settings, or another --name, or stop it with --cancel",
            )
        if self._known is not None:
            return
        shutil.rmtree(self._work / READY, ignore_errors=True)
        if not self._config.train.resume:
            for each in self._runs:
                check_new(folder_for(each))
        elif not self._config.every_fold:
            run_folder.read_checkpoint(folder_for(self._config.train))
        elif all(map(training.is_finished, self._runs)):
            raise InputError(f"every fold of {self._name} is trained", "", "Give more --epochs, or another --name")

    def _save(self, **changes: object) -> None:
        assert self._known is not None
        self._known = replace(self._known, **changes)  # type: ignore[arg-type]
        state.save(self._work, self._known)

    def _prepare(self, kaggle: Kaggle, user: str) -> Task:
        self._progress.log("1/4 bundle")
        preflight.check(kaggle, submits=False, needs_gpu=True)
        data = training.data_of(self._config)
        self._progress.log("data: uploaded as a private dataset" if data.is_own else "data: the competition's, mounted")
        split = training.split_of(self._config, data, self._progress)
        if self._known is None:
            digest = training.settings_digest(self._config)
            self._known = TrainingState(user=user, settings=digest, folds=self._folds)
        self._save()
        skips = self._config.every_fold and self._config.train.resume
        runs = [each for each in self._runs if not (skips and training.is_finished(each))]
        sends = {"sends_weights": self._known.sends_weights}
        return training.build(self._work, self._config, data, split, runs=runs, progress=self._progress, **sends)

    def _job(self, kaggle: Kaggle, user: str, task: Task) -> Job:
        def keep(job: JobState) -> None:
            self._save(job=job, **({"session": 0} if job.kernel_version is None else {}))

        assert self._known is not None
        return Job(kaggle, user, task, self._known.job, keep, folder=self._work, waits=self._config)

    def _follow(self, kaggle: Kaggle, user: str, job: Job) -> None:
        """Wait for the end of the notebook. If it fails, keep the last whole epoch of each run."""
        versions: list[int] = []

        def watch(version: int) -> str:
            versions.append(version)
            screen = watching.Screen(self._progress, lambda session: self._save(session=session))
            waits = {"poll_s": self._config.poll_s, "limit_s": self._config.kernel_limit_s}
            try:
                return watching.watch(kaggle, user, job.slug, version, screen, **waits)
            finally:
                screen.close()

        try:
            # until the output of a failed version is fetched, the same command watches it again
            job.run(watch, keep_failed=True)
        except RemoteError as error:
            if not versions or isinstance(error, kernel.WeightsError | kernel.DatasetError):
                raise
            try:
                kept = self._keep_what_is_left(kaggle, user, job, versions[-1])
            except SeverstalError:
                remedy = "The same command fetches what it left; --cancel --discard gives it up"
                self._progress.log(str(RemoteError(error.what, error.found, remedy)))
                raise
            if self._known is not None:
                job.forget_version()
            if kept:
                raise RemoteError(error.what, error.found, "--resume resumes after the last whole epoch") from None
            raise

    def _keep_what_is_left(self, kaggle: Kaggle, user: str, job: Job, version: int) -> list[RemoteResult]:
        """Fetch the runs and checkpoints of a notebook that failed or was stopped; [] if there are none.

        Raises SeverstalError: the same command fetches them, as the state stays.
        """
        try:
            left = [folder_for(each).name for each in self._runs if training.is_left(each)] or [self._name]
            wanted, poll_s = (f"{left[0]}/{run_folder.CHECKPOINT}",), self._config.poll_s
            output.wait_until_listed(kaggle, user, job.slug, version, wanted, poll_s=poll_s, late_s=self._config.late_s)
            fetched = fetching.fetch(kaggle, user, job.slug, version, self._work, self._runs)
        except SeverstalError as error:
            if not isinstance(error, RunError | NotThereError) and not self._config.discard:
                raise
            self._progress.log(f"the notebook's output cannot be fetched: {error}")
            return []
        return [] if fetched is None else self._put(fetched)

    def _take(self, kaggle: Kaggle, user: str, job: Job) -> list[RemoteResult]:
        self._progress.log(f"4/4 output of {self._name}")
        fetched = fetching.fetch(kaggle, user, job.slug, job.push(), self._work, self._runs)
        if fetched is None:
            self._forget()
            raise RemoteError(
                f"the notebook {user}/{job.slug} left no run",
                f"its log is on {job.page}",
                "The same command trains again",
            )
        return self._put(fetched)

    def _put(self, fetched: fetching.Fetched) -> list[RemoteResult]:
        if fetched.splits is not None:
            put_split(fetched.splits, self._config.train.data, self._progress)
        put(self._work, self._config.train.models)
        assert self._known is not None
        damaged = fetched.damaged
        may_pass = any(isinstance(error, output.WrongFileError) for error in damaged)
        # else the notebook's failure is raised
        is_end = self._known.job.kernel_done or self._config.cancel or may_pass
        if not may_pass or self._config.discard:
            self._forget()
        if self._config.discard:
            damaged = tuple(type(each)(each.what, each.found, "It is given up") for each in damaged)
        for error in damaged[:-1] if is_end else damaged:
            self._progress.log(str(error))
        left = sum(map(training.is_left, self._runs)) if self._config.every_fold else 0
        if left:
            self._progress.log(f"{left} of {len(self._runs)} folds are left: --resume trains them in another session")
        if damaged and is_end:
            raise damaged[-1]
        return [result_of(self._config.train.models / name, done) for name, done in fetched.finished.items()]

    def _forget(self) -> None:
        """Remove the state first: after a kill, a fetched run is not fetched again."""
        (self._work / state.NAME).unlink(missing_ok=True)
        self._known = None
        for path in self._work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def cancel(self) -> list[RemoteResult]:
        """Stop the notebook, fetch its runs, and remove the state."""
        known = self._known
        if known is None or known.job.kernel_version is None:
            if known is not None:
                self._forget()
            raise InputError(f"no notebook trains {self._name}", "", "Nothing had to be stopped")
        kaggle, user = self._connect()
        job = self._job(kaggle, user, Task(sources=(), kernel="", script="", outputs=(notebook.OUTPUT,)))
        version = known.job.kernel_version
        try:
            _, failure = kernel.look_at(kaggle, user, job.slug, version, remedy=watching.DELETED)()
        except kernel.CancelledError:
            failure = "cancelled"
        except NotThereError:
            if not self._config.discard:
                raise
            kernel.delete(kaggle, user, job.slug, missing_ok=True)  # one that is too new to be known keeps running
            failure = "deleted"
        if failure is None and not self._stop(kaggle, user, job, version, known.session):
            self._forget()
            return []
        kept = self._keep_what_is_left(kaggle, user, job, version)
        if self._known is not None:
            self._forget()
        return kept

    def _stop(self, kaggle: Kaggle, user: str, job: Job, version: int, session: int) -> bool:
        """Stop the notebook, or delete it with --discard. Returns whether it still exists. Raises SeverstalError."""
        session = session or watching.session_of(kaggle, user, job.slug, version)
        found = "its log has no session number, which Kaggle needs to stop it"
        try:
            if session:
                kernel.cancel(kaggle, user, job.slug, session)
                self._progress.log(f"Kaggle stops the notebook {job.page}")
                watching.watch(
                    kaggle, user, job.slug, version, watching.Screen(SILENT), poll_s=self._config.poll_s, limit_s=600.0
                )
                return True
        except kernel.CancelledError:
            return True
        except RefusedError as error:
            found = error.found
        if not self._config.discard:
            raise InputError(
                f"cannot stop the notebook {user}/{job.slug}",
                found,
                f"Press Stop on {job.page}, which keeps its last epoch; or --cancel --discard deletes the notebook "
                "with everything that it trained",
            )
        kernel.delete(kaggle, user, job.slug)
        self._progress.log(f"the notebook {user}/{job.slug} is deleted, with everything that it trained")
        return False
