"""`train --on kaggle`: a training in a private notebook on Kaggle's GPUs, and its run here at the end.

After each step its outcome is kept in `models/.kaggle/NAME/state.json`, so the same command comes back after any break:
to the upload, to the notebook that runs, to what it left.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from severstal_cli import files
from severstal_cli.config import RemoteConfig
from severstal_cli.errors import InputError, SeverstalError
from severstal_cli.kaggle import client, fetching, kernel, notebook, output, preflight, state, training, watching
from severstal_cli.kaggle.client import Kaggle, RefusedError
from severstal_cli.kaggle.job import Job, Task
from severstal_cli.kaggle.polling import RemoteError
from severstal_cli.kaggle.state import JobState, TrainingState
from severstal_cli.learning.networks import registry
from severstal_cli.learning.networks.names import check_new, folder_for
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset import splits


@dataclass(frozen=True, kw_only=True)
class RemoteResult:
    """A run that came back from Kaggle."""

    folder: Path
    finished: bool
    """The others go on by --resume, in another session."""
    epochs: int
    best_epoch: int | None
    validation_dice: float | None
    nothing_dice: float | None
    """What predicting nothing scores on the same images."""
    seconds: float


def train(config: RemoteConfig, progress: Progress = SILENT) -> RemoteResult:
    """Train in a notebook on Kaggle, follow it, fetch its run, verify it and put it to the others.

    Raises:
        InputError: wrong data or settings, a run of this name exists, no credentials, or Kaggle refuses.
        RunError: nothing to resume, or what came back is no run.
        MachineError: no network, Kaggle has a fault or takes too long: the same command goes on.
        OutputError: something cannot be written.
    """
    folder = folder_for(config.train)
    registry.entry(config.train.arch)
    work = config.work / folder.name
    files.check_place(work / state.NAME)
    with files.locked(work, f"another process trains {folder.name} on Kaggle"):
        session = _Session(config, folder, work, progress)
        return session.run()


def cancel(config: RemoteConfig, progress: Progress = SILENT) -> RemoteResult | None:
    """End the notebook that trains a run; what its last whole epoch left, to resume, where there was one.

    Raises InputError: none runs, or Kaggle does not let it be ended. Else as `train`.
    """
    folder = folder_for(config.train)
    work = config.work / folder.name
    with files.locked(work, f"another process trains {folder.name} on Kaggle: end it by Ctrl-C first"):
        return _Session(config, folder, work, progress).cancel()


class _Session:
    """A training on Kaggle, as far as it has come."""

    def __init__(self, config: RemoteConfig, folder: Path, work: Path, progress: Progress) -> None:
        self._config, self._folder, self._work, self._progress = config, folder, work, progress
        self._known = state.load_training(work)

    def _connect(self) -> tuple[Kaggle, str]:
        kaggle = client.connect(self._config.competition.slug, self._progress, pause_s=min(1.0, self._config.poll_s))
        user = kaggle.user()
        if self._known is not None and self._known.user != user:
            raise InputError(f"{self._folder.name} is trained by another account", f"{self._known.user}, not {user}",
                             "Use its token, or another --name")  # fmt: skip
        return kaggle, user

    def run(self) -> RemoteResult:
        """All that is not done yet."""
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
                    self._progress.log("2/4 datasets" + ("" if job.state.kernel_version is None else ": are there"))
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
                # what it says where an account may not use the internet is not known; that it says so is likely
                if "internet" not in error.message.lower() or self._known is None or self._known.sends_weights:
                    raise
                self._progress.log(f"{error.found}: the weights of the encoder are sent along")
                self._save(sends_weights=True)
        return self._take(kaggle, user, job)

    def _check(self) -> None:
        """What another training of this name, here or there, says against this one."""
        digest = training.settings_digest(self._config.train)
        if self._known is not None and self._known.settings != digest and self._known.job.kernel_version is None:
            self._forget()  # nothing runs that it would be of
        if self._known is not None and self._known.settings != digest:
            raise InputError(f"{self._folder.name} is trained on Kaggle with other settings", str(self._work),
                             "Give the same ones, or another --name, or end it by --cancel")  # fmt: skip
        if self._known is None and (self._work / fetching.READY).exists():
            shutil.rmtree(self._work / fetching.READY)
        if self._known is None and self._config.train.resume:
            run_folder.read_checkpoint(self._folder)
        elif self._known is None:
            check_new(self._folder)

    def _save(self, **changes: object) -> None:
        assert self._known is not None
        self._known = replace(self._known, **changes)  # type: ignore[arg-type]
        state.save(self._work, self._known)

    def _prepare(self, kaggle: Kaggle, user: str) -> Task:
        self._progress.log("1/4 bundle")
        preflight.check(kaggle, submits=False, needs_gpu=True)
        data = training.data_of(self._config)
        self._progress.log("the data is sent along" if data.is_own else "the data is the competition's, mounted there")
        split = training.split_of(self._config, data, self._progress)
        if self._known is None:
            self._known = TrainingState(user=user, settings=training.settings_digest(self._config.train))
        self._save(splits=split is None)
        return training.build(
            self._work, self._config, data, split, sends_weights=self._known.sends_weights, progress=self._progress
        )

    def _job(self, kaggle: Kaggle, user: str, task: Task) -> Job:
        assert self._known is not None
        return Job(kaggle, user, task, self._known.job, self._save_job, folder=self._work, waits=self._config)

    def _save_job(self, job: JobState) -> None:
        self._save(job=job)

    def _follow(self, kaggle: Kaggle, user: str, job: Job) -> None:
        """Wait until the notebook has run; of one that ends badly its last whole epoch is kept."""
        versions: list[int] = []

        def watch(version: int) -> str:
            versions.append(version)
            screen = watching.Screen(self._progress, lambda session: self._save(session=session))
            try:
                return watching.watch(
                    kaggle, user, job.slug, version, screen,
                    poll_s=self._config.poll_s, limit_s=self._config.kernel_limit_s,
                )  # fmt: skip
            finally:
                screen.close()

        try:
            job.run(watch)
        except (kernel.WeightsError, kernel.DatasetError):
            raise
        except RemoteError as error:
            if versions and self._keep_what_is_left(kaggle, user, job, versions[-1]):
                raise RemoteError(error.what, error.found, "--resume goes on after its last whole epoch") from None
            raise

    def _keep_what_is_left(self, kaggle: Kaggle, user: str, job: Job, version: int) -> bool:
        """Fetch the checkpoint of a notebook that ended badly, where there is one. Whether there was."""
        wanted = f"{self._folder.name}/{run_folder.CHECKPOINT}"
        try:
            output.wait_until_listed(
                kaggle, user, job.slug, version, (wanted,), poll_s=self._config.poll_s, late_s=self._config.late_s
            )
            fetched = fetching.fetch(kaggle, user, job.slug, version, self._work, self._config.train)
        except SeverstalError as error:
            self._progress.log(f"nothing of it can be fetched: {error}")
            return False
        if fetched is None:
            return False
        self._put(fetched)
        self._progress.log(f"{self._folder}: its last whole epoch is here, and --resume goes on from it")
        return True

    def _take(self, kaggle: Kaggle, user: str, job: Job) -> RemoteResult:
        self._progress.log(f"4/4 run {self._folder}")
        fetched = fetching.fetch(kaggle, user, job.slug, job.push(), self._work, self._config.train)
        if fetched is None:
            self._forget()
            raise RemoteError(f"the notebook {user}/{job.slug} left no run", f"its log is on {job.page}",
                              "The same command trains it anew")  # fmt: skip
        self._put(fetched)
        return self._result(fetched.finished)

    def _put(self, fetched: fetching.Fetched) -> None:
        if fetched.splits is not None:  # made once: the next training takes it along
            with files.writing(self._config.train.data):
                self._config.train.data.mkdir(parents=True, exist_ok=True)
            path = splits.splits_path(self._config.train.data, new=True)
            if not path.exists():
                files.write_text(path, fetched.splits.read_text(encoding="utf-8"))
                self._progress.log(f"{path}: the split that the notebook made")
        fetching.put(self._work, self._folder)
        self._forget()

    def _forget(self) -> None:
        """Remove the state first: a run that is here is not fetched again."""
        (self._work / state.NAME).unlink(missing_ok=True)
        self._known = None
        for path in self._work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _result(self, finished: bool) -> RemoteResult:
        rows = run_folder.read_checkpoint(self._folder)["history"]
        card = model_card.read_card(self._folder) if (self._folder / model_card.CARD).exists() else None
        found = self._folder / run_folder.THRESHOLDS
        return RemoteResult(
            folder=self._folder,
            finished=finished,
            epochs=len(rows),
            best_epoch=card.epoch if card else None,
            validation_dice=card.validation_dice if card else None,
            nothing_dice=json.loads(found.read_bytes()).get("mean_dice_never") if found.exists() else None,
            seconds=float(rows[-1]["elapsed_s"]) if rows else 0.0,
        )

    def cancel(self) -> RemoteResult | None:
        """End the notebook, fetch what it left, and forget it."""
        known = self._known
        if known is None or known.job.kernel_version is None:
            if known is not None:
                self._forget()
            raise InputError(f"no notebook trains {self._folder.name}", "", "Nothing had to be ended")
        kaggle, user = self._connect()
        job = self._job(kaggle, user, Task(sources=(), kernel="", script="", outputs=(notebook.OUTPUT,)))
        version = known.job.kernel_version
        try:
            _, failure = kernel.look_at(kaggle, user, job.slug, version)()
        except kernel.CancelledError:
            failure = "cancelled"
        if failure is None and not self._end(kaggle, user, job, version, known.session):
            self._forget()
            return None
        kept = self._keep_what_is_left(kaggle, user, job, version)
        if self._known is not None:
            self._forget()
        return self._result(False) if kept else None

    def _end(self, kaggle: Kaggle, user: str, job: Job, version: int, session: int) -> bool:
        """End the notebook, or delete it; whether it is still there. Raises SeverstalError."""
        session = session or watching.session_of(kaggle, user, job.slug, version)
        found = "its log does not tell the number of its session, without which Kaggle ends none"
        try:
            if session:
                kernel.cancel(kaggle, user, job.slug, session)
                self._progress.log(f"the notebook {job.page} is told to end")
                watching.watch(
                    kaggle, user, job.slug, version, watching.Screen(SILENT),
                    poll_s=self._config.poll_s, limit_s=600.0,
                )  # fmt: skip
                return True
        except kernel.CancelledError:
            return True
        except RefusedError as error:
            found = error.found
        if not self._config.discard:
            raise InputError(
                f"cannot end the notebook {user}/{job.slug}", found,
                f"Press Stop on {job.page}, which keeps its last epoch; or --cancel --discard deletes the notebook, "
                "which ends it and loses that",
            )  # fmt: skip
        kernel.delete(kaggle, user, job.slug)
        self._progress.log(f"the notebook {user}/{job.slug} is deleted, and what it had trained with it")
        return False
