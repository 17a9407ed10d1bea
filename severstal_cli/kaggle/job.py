"""A severstal command in a notebook: its datasets, the notebook, its end. For `submit` and `train --on kaggle`.

The result of each step is saved, so that the next run of the command resumes there. After a lost answer, Kaggle is
asked for the result before a step is repeated.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from severstal_cli.config.data import NotebookConfig
from severstal_cli.errors import InputError
from severstal_cli.kaggle import dataset, kernel, output, polling, preflight, upload
from severstal_cli.kaggle.bundle import DATASET_CARD
from severstal_cli.kaggle.client import Kaggle
from severstal_cli.kaggle.dataset import NameTakenError
from severstal_cli.kaggle.kernel import DatasetError, Script
from severstal_cli.kaggle.names import numbered
from severstal_cli.kaggle.polling import RemoteError
from severstal_cli.kaggle.state import DatasetState, JobState

NAMES = 5
"""Names to try for a notebook or a dataset."""
MOUNTS = 2
"""Repeated pushes of a notebook whose dataset was not mounted yet."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A folder that becomes a private dataset."""

    folder: Path
    slug: str
    contents: str
    """Digest of its files."""
    named_by_contents: bool = False
    """The slug contains the digest: an existing dataset of this name is not uploaded again."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The task of a notebook."""

    sources: tuple[Source, ...]
    """The bundle first."""
    kernel: str
    """The preferred slug of the notebook."""
    script: str
    competition: bool = True
    internet: bool = False
    limit_s: int | None = None
    outputs: tuple[str, ...] = ()
    """The files that the notebook must write."""
    notes: str = ""
    """Notes of the dataset versions."""


Watch = Callable[[int], str]
"""Waits for the end of a notebook's version. Returns the failure, "" for none."""


class Job:
    """The steps of a task. A finished step does nothing."""

    def __init__(
        self,
        kaggle: Kaggle,
        user: str,
        task: Task,
        known: JobState,
        keep: Callable[[JobState], None],
        *,
        folder: Path,
        waits: NotebookConfig,
    ) -> None:
        """`folder` has the state of uploads. `keep` is called with each new state."""
        self._kaggle, self._user, self._task, self._keep = kaggle, user, task, keep
        self._folder, self._waits, self._progress = folder, waits, kaggle.progress
        self.state = known
        # a script reads only the dataset of its own bundle; a pushed script keeps its dataset
        if known.kernel_version is None:
            made = {each.contents: each for each in known.datasets}
            slugs = [*(each.slug for each in known.datasets), *(source.slug for source in task.sources)]
            wanted = tuple(
                made.get(source.contents, DatasetState(slug=slug, contents=source.contents))
                for source, slug in zip(task.sources, slugs, strict=False)
            )
            if wanted != known.datasets:
                self._save(datasets=wanted)
        if not self.state.kernel:
            self._save(kernel=task.kernel)

    @property
    def page(self) -> str:
        return kernel.page(self._user, self.state.kernel)

    @property
    def slug(self) -> str:
        """The slug of the notebook."""
        return self.state.kernel

    def _save(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        self._keep(self.state)

    def _save_dataset(self, number: int, **changes: object) -> DatasetState:
        datasets = list(self.state.datasets)
        datasets[number] = replace(datasets[number], **changes)  # type: ignore[arg-type]
        self._save(datasets=tuple(datasets))
        return datasets[number]

    def make_datasets(self) -> None:
        """Upload the datasets, and wait until Kaggle has processed them. Raises SeverstalError."""
        for number, source in enumerate(self._task.sources[: len(self.state.datasets)]):
            if not self.state.datasets[number].made:
                self._publish(number, source)
            if not self.state.datasets[number].ready:
                known = self.state.datasets[number]
                try:
                    dataset.wait_until_ready(
                        self._kaggle,
                        self._user,
                        known.slug,
                        after=known.before or 0,
                        poll_s=self._waits.poll_s,
                        limit_s=self._waits.dataset_limit_s,
                    )
                except RemoteError:
                    self._save_dataset(number, made=False, before=None, failed=True)
                    raise
                self._save_dataset(number, ready=True)

    def _publish(self, number: int, source: Source) -> None:
        memory = upload.Memory(self._folder / (f"uploads-{number}.json" if number else "uploads.json"))
        while True:
            known = self.state.datasets[number]
            version, before = dataset.version_of(self._kaggle, self._user, known.slug), known.before
            # a version newer than `before` exists: ours, whose answer was lost. If it is another one, the notebook
            # reports it, as the script has the hash of its bundle
            if before is not None and (version or 0) > before:
                break
            if version is not None and before is None:
                dataset.check_ours(self._kaggle, self._user, known.slug)
                if source.named_by_contents and not known.failed:
                    break
            tokens = upload.upload_folder(self._kaggle, source.folder, memory, leave_out=(DATASET_CARD,))
            self._save_dataset(number, before=version or 0)
            try:
                dataset.publish(
                    self._kaggle, self._user, known.slug, tokens, exists=version is not None, notes=self._task.notes
                )
                break
            except NameTakenError:
                other = numbered(source.slug, known.slug, NAMES)
                if other is None:
                    raise
                self._progress.log(f"the name {known.slug} is taken on Kaggle: the dataset becomes {other}")
                self._save_dataset(number, slug=other, before=None)
            except InputError:  # the tokens may be used up or expired
                memory.forget()
                raise
        self._save_dataset(number, made=True)
        memory.forget()

    def push(self) -> int:
        """Push the notebook once. Returns its version. Raises SeverstalError."""
        if self.state.kernel_version is None:
            try:
                self._save(kernel_version=self._push_somehow())
            except DatasetError:
                self._lose_datasets()
                raise
        assert self.state.kernel_version is not None
        return self.state.kernel_version

    def run(self, watch: Watch, *, keep_failed: bool = False) -> None:
        """Push the notebook, and wait for its end and its files.

        Raises:
            RemoteError: it failed, was cancelled, or wrote no such file; the next call pushes it again. With
                `keep_failed` it watches the same version again, until `forget_version` is called.
            SeverstalError: a call fails, or it takes too long.
        """
        while not self.state.kernel_done:
            version = self.push()
            try:
                self._wait(version, watch)
            except DatasetError:
                self.forget_version()
                if [each.contents for each in self.state.datasets] != [each.contents for each in self._task.sources]:
                    raise  # the local bundle is a newer one: the next command uploads it
                if self.state.mounts == MOUNTS:  # then it is not just late
                    self._lose_datasets()
                    raise
                self._save(mounts=self.state.mounts + 1)
                self._progress.log(f"the dataset was not mounted yet: the notebook runs again in {self._late}")
                time.sleep(self._waits.late_s)
            except RemoteError as error:
                if not keep_failed or isinstance(error, kernel.WeightsError):
                    self.forget_version()
                raise
            else:
                self._save(kernel_done=True, mounts=0)

    def forget_version(self) -> None:
        """Let the next call push the notebook again."""
        self._save(kernel_version=None, kernel_before=None)

    @property
    def _late(self) -> str:
        return f"{self._waits.late_s / 60:.0f} min"

    def _lose_datasets(self) -> None:
        """Let the next run of the command upload them again."""
        lost = tuple(replace(each, made=False, ready=False, before=None) for each in self.state.datasets)
        self._save(kernel_version=None, kernel_before=None, datasets=lost, mounts=0)

    def _wait(self, version: int, watch: Watch) -> None:
        names = self._kaggle, self._user, self.slug, version
        reason = watch(version)
        if not reason:
            missing = output.wait_until_listed(
                *names, self._task.outputs, poll_s=self._waits.poll_s, late_s=self._waits.late_s
            )
            if not missing:
                return
            reason = f"it wrote no {', '.join(missing)}"
        raise kernel.failure(self._kaggle, self._user, self.slug, reason, output.read(*names).log)

    def _push_somehow(self) -> int:
        """Push, with another name if this one is taken, when a notebook may run. Returns the version."""
        began, reported = time.monotonic(), False
        while True:
            try:
                return self._push()
            except NameTakenError as error:
                other = numbered(self._task.kernel, self.slug, NAMES)
                if other is None:
                    raise
                self._progress.log(f"{error.found}: the notebook becomes {other}")
                self._save(kernel=other, kernel_before=None)
            except kernel.NoQuotaError as error:
                quota = preflight.gpu_quota(self._kaggle)
                when = f"{quota.when}: {polling.SAME_COMMAND}" if quota and quota.when else polling.SAME_COMMAND
                raise kernel.NoQuotaError(error.what, error.found, when[0].upper() + when[1:]) from None
            except kernel.NoPlaceError as error:
                if time.monotonic() - began > self._waits.place_limit_s:
                    raise
                if not reported:
                    self._progress.log(f"{error.found}: waiting. Ctrl-C ends the wait; {polling.SAME_COMMAND}")
                    reported = True
                time.sleep(4 * self._waits.poll_s)

    def _push(self) -> int:
        """The version that is pushed now, or was pushed before its answer was lost."""
        found, before = kernel.find(self._kaggle, self._user, self.slug), self.state.kernel_before
        if (
            found
            and before is not None
            and found.version > before
            and found.source.strip() == self._task.script.strip()
        ):
            return found.version
        if found:
            kernel.check_ours(found, self._user, self.slug)
        self._save(kernel_before=found.version if found else 0)
        script = Script(
            text=self._task.script,
            datasets=tuple(each.slug for each in self.state.datasets),
            competition=self._task.competition,
            internet=self._task.internet,
            limit_s=self._task.limit_s,
        )
        return kernel.push(self._kaggle, self._user, self.slug, script)
