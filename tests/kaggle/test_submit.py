"""`submit` against a local Kaggle: all steps, an interruption of each, and the messages."""

import functools
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from account import NAMES, SECRET, USER, Account, drop, failing, kill
from kagglesdk import kaggle_env
from server import TOKEN, Said, Server

from severstal_cli import config, files
from severstal_cli.config import SubmitConfig
from severstal_cli.errors import InputError, MachineError, SeverstalError
from severstal_cli.kaggle import notebook, polling, steps, submission_log, upload
from severstal_cli.kaggle.bundle import Bundle
from severstal_cli.stages import submitting

SLUG = "severstal-unet-fold0"
TITLE = f"{USER}/{SLUG}"
NOTEBOOK = f"{SLUG}-notebook"
COMPETITION = "severstal-steel-defect-detection"


def write_bundle(folder: Path, *, runs: Sequence[Path], **_: object) -> Bundle:
    """A small stand-in for a bundle, made of the run's file `weights` and the file `program` beside it."""
    weights, program = (
        path.read_text() if path.exists() else "0" for path in (runs[0] / "weights", runs[0].parent / "program")
    )
    contents = "{}" if program == "0" else f'{{"program": "{program}"}}'
    files = {
        "dataset/severstal-bundle.json": contents,
        "dataset/dataset-metadata.json": "{}",
        "dataset/runs/unet-fold0/model": weights * 400_000,
        "kernel/script.py": f"# looks for severstal-bundle.json {weights}: {contents}\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Bundle(
        dataset=folder / "dataset",
        kernel=folder / "kernel",
        slug=SLUG,
        fingerprint=(weights * 64)[:64],
        contents=contents,
        runs=("unet-fold0",),
        validation_dice=0.9,
    )


@pytest.fixture
def account(server: Server, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setattr(submitting.bundles, "build", write_bundle)
    monkeypatch.setattr(submitting.bundles, "estimate_s", lambda **_: (1800.0, "cpu"))
    monkeypatch.setattr(upload, "CHUNK_BYTES", 256 * 1024)
    monkeypatch.setattr(polling, "SILENCE_S", 0.1)
    return Account(server=server)


Send = Callable[..., submitting.SubmitResult]


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def send(account: Account, said: Said, tmp_path: Path) -> Send:
    """`submit` as a new process would run it."""

    def submit(**options: Any) -> submitting.SubmitResult:
        runs = (tmp_path / "models/unet-fold0",)
        return submitting.submit(
            SubmitConfig(**{"runs": runs, "out": tmp_path / "submissions", "poll_s": 0.0, "lost_s": 0.05,
                            "late_s": 30.0, **options}),
            said,
        )  # fmt: skip

    return submit


def assert_submitted_once(account: Account, times: int = 1) -> None:
    assert len(account.submissions) == times
    last = account.kernels[-1]["slug"].partition("/")[2]
    assert [(found["asked"]["kernelSlug"], found["asked"]["kernelVersion"]) for found in account.submissions] == [
        (last, len(account.of(last)))
    ] * times
    assert account.kernels[-1]["dataset"] == len(account.versions)
    assert account.versions[-1] == {"severstal-bundle.json": b"{}", "runs/unet-fold0/model": b"0" * 400_000}


def test_all_steps(account: Account, send: Send, said: Said, tmp_path: Path) -> None:
    account.dataset_states = ["BLOBS_RECEIVED"]
    account.kernel_states = ["QUEUED", "RUNNING"]
    account.submission_states = ["PENDING"]
    (tmp_path / "models/unet-fold0").mkdir(parents=True)
    (tmp_path / "models/unet-fold0/score.json").write_text('{"mean_dice": 0.89}')
    result = send()

    assert_submitted_once(account)
    pushed = account.kernels[0]
    assert pushed == {
        "slug": f"{USER}/{NOTEBOOK}",
        "newTitle": NOTEBOOK,
        "text": "# looks for severstal-bundle.json 0: {}\n",
        "language": "python",
        "kernelType": "script",
        "isPrivate": True,
        "enableGpu": True,
        "enableInternet": False,
        "machineShape": "NvidiaTeslaT4",
        "kernelExecutionType": "SAVE_AND_RUN_ALL",
        "datasetDataSources": [TITLE],
        "competitionDataSources": [COMPETITION],
        "dataset": 1,
    }
    assert result.scores is not None
    scores = result.scores
    assert (scores.public, scores.public_place, scores.private, scores.private_place) == (0.88, 3, 0.87, 2)
    assert [line.partition(" ")[0] for line in said.lines if line[1:2] == "/"] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert "5,506 images: about 30 min here on cpu, the limit is 60 min; Kaggle's GPU is faster" in said.lines
    before = said.lines[: said.lines.index(f"2/5 dataset {TITLE}")]
    assert "submissions left today: 5" in before
    assert f"competition {COMPETITION}: entered, 5 submissions a day" in before
    assert "GPU time left this week: 28.5 of 30.0 h; the next week begins at 2026-11-28 00:00 UTC" in before
    assert submission_log.read(tmp_path / "submissions") == [
        {
            "date": "2026-11-23T04:55:00Z",
            "name": SLUG,
            "runs": "unet-fold0",
            "validation_dice": "0.9",
            "holdout_dice": "0.89",
            "ref": "7000",
            "status": "complete",
            "public": "0.88",
            "private": "0.87",
            "public_place": "3",
            "private_place": "2",
            "bundle": "0" * 12,
        }
    ]


def test_the_same_runs_are_submitted_again_with_again_only(account: Account, send: Send) -> None:
    first = send()
    before = len(account.server.requests)
    second = send()
    assert len(account.server.requests) == before, "the state is enough"
    assert (second.was_there, second.scores) == (True, first.scores)
    again = send(again=True)
    assert not again.was_there
    assert_submitted_once(account, times=2)
    assert [found["description"] for found in account.submissions] == [f"{SLUG} {'0' * 12}", f"{SLUG} {'0' * 12} #2"]
    assert (len(account.versions), len(account.kernels)) == (1, 1), "dataset and notebook are reused"


def test_a_lost_state_is_restored_from_kaggle(account: Account, send: Send, tmp_path: Path, said: Said) -> None:
    send()
    (tmp_path / "submissions" / SLUG / "state.json").write_text("{")
    result = send()
    assert result.was_there
    assert result.scores is not None
    assert result.scores.public == 0.88
    assert_submitted_once(account)
    assert "submission 7000 exists on Kaggle" in said.lines
    (tmp_path / "submissions" / SLUG / "state.json").unlink()
    assert not send(again=True).was_there
    assert [found["description"][-2:] for found in account.submissions] == ["00", "#2"]


MUST_END = (
    "Hello",
    "StartBlobUpload",
    "GetDataset",
    "CreateDataset",
    "GetKernel",
    "SaveKernel",
    "ListKernelSessionOutput",
    "ListSubmissions",
    "CreateCodeSubmission",
)
"""A lost answer to one of these ends the command; the other calls are retried or optional."""
OPTIONAL = ("GetSubmissionLimits", "GetCompetition", "GetAcceleratorQuotaStatistics", "ListKernelFiles")
CHAIN = [name for name in NAMES if name not in ("CreateDatasetVersion", "ListDatasetFiles")]


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done, answer lost"])
@pytest.mark.parametrize("name", CHAIN)
def test_the_same_command_resumes_after_a_break_at_any_call(
    account: Account, send: Send, name: str, done: bool
) -> None:
    (account.after if done else account.before)[name] = [drop]
    if name in MUST_END:
        with pytest.raises(MachineError, match="no connection to Kaggle"):
            send()
    result = send()
    assert result.scores is not None
    assert result.scores.status == "complete"
    assert_submitted_once(account)
    assert (len(account.kernels), len(account.versions)) == (1, 1)
    assert sum(len(request.body) for request in account.puts()) == 400_002, "no byte was sent twice"


@pytest.mark.parametrize("status", [401, 403, 429, 500])
@pytest.mark.parametrize("name", CHAIN)
def test_every_refusal_is_one_line_and_the_same_command_resumes(
    account: Account, send: Send, said: Said, name: str, status: int
) -> None:
    account.before[name] = failing(status, times=9999)
    if name == "GetLeaderboard" or (name in OPTIONAL and status != 401):
        account.sizes_are_secret = True
        send(late_s=0.05)
        assert name == "ListKernelFiles" or any(f"Kaggle answers {status}, no, ***" in line for line in said.lines)
        return
    if name in ("GetDataset", "GetKernel") and status == 403:  # a missing object: the next call is refused
        account.before["CreateDataset" if name == "GetDataset" else "SaveKernel"] = failing(403)
    late = ("GetDatasetStatus", "GetKernelSessionStatus", "GetSubmission")  # the object may be new
    words = "Kaggle does not know .*: it answers 403" if name in late and status == 403 else f"answers {status}, no"
    with pytest.raises(SeverstalError, match=words) as raised:
        send(late_s=0.05)
    assert "\n" not in str(raised.value)
    assert TOKEN not in str(raised.value) + "".join(said.lines)
    account.before.clear()
    send()
    assert_submitted_once(account)


def test_a_failed_notebook_shows_the_end_of_its_log_and_runs_again(account: Account, send: Send, said: Said) -> None:
    account.kernel_end, account.failure = "ERROR", f"exit code 1, {TOKEN}"
    parts = [{"stream_name": "stdout", "data": f"line {number}\n"} for number in range(30)]
    parts.append({"stream_name": "stderr", "data": f"\x1b[31mno GPU\x1b[0m {TOKEN} https://a.b/c?sig={SECRET}\n\n"})
    account.log = json.dumps(parts)
    with pytest.raises(InputError, match=r"failed: exit code 1, \*\*\*.*https://www.kaggle.com/code/ann/"):
        send()
    shown = [line for line in said.lines if line.startswith("  ")]
    assert shown == [*(f"  line {number}" for number in range(16, 30)), "  no GPU *** https://a.b/c?..."]
    assert account.submissions == []
    account.kernel_end, account.failure = "COMPLETE", ""
    send()
    assert_submitted_once(account)
    assert (len(account.kernels), len(account.versions)) == (2, 1)


def test_a_notebook_without_a_submission_has_failed(account: Account, send: Send, said: Said) -> None:
    account.outputs, account.log = ("something.csv",), "no JSON\nhere"
    with pytest.raises(InputError, match=r"it wrote no submission.csv"):
        send(late_s=0.05)
    assert said.lines[-2:] == ["  no JSON", "  here"]
    assert account.submissions == []


def test_a_cancelled_notebook_runs_again(account: Account, send: Send) -> None:
    account.kernel_states = ["CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED"]
    with pytest.raises(InputError, match="was cancelled"):
        send()
    send()
    assert len(account.kernels) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"error": f"GPU quota exceeded {TOKEN}"}, r"GPU quota exceeded \*\*\*"),
        ({"invalidDatasetSources": ["ann/x"], "versionNumber": 1}, "dataset is missing on Kaggle.*uploads it again"),
        ({"invalidCompetitionSources": ["steel"], "versionNumber": 1}, "does not know steel"),
        ({"ref": "x"}, "returned no version"),
    ],
)
def test_a_refused_notebook(account: Account, send: Send, answer: dict[str, Any], words: str) -> None:
    account.before["SaveKernel"] = [lambda request, reply: reply.json(answer)]
    with pytest.raises(SeverstalError, match=words):
        send()
    send()
    assert_submitted_once(account)
    assert len(account.versions) == 1 + ("invalidDatasetSources" in answer), "only a missing dataset is uploaded again"


def test_a_failed_submission_shows_why_and_can_be_repeated(account: Account, send: Send, tmp_path: Path) -> None:
    account.submission_end = {"status": "ERROR", "errorDescription": f"Submission CSV Not Found {TOKEN}"}
    for _ in range(2):
        with pytest.raises(InputError, match=r"could not score.*Not Found \*\*\*\. --again"):
            send()
    assert len(account.submissions) == 1
    assert submission_log.read(tmp_path / "submissions")[0]["status"] == "error"
    account.submission_end = {"status": "COMPLETE", "publicScore": "0.5"}
    result = send(again=True)
    assert result.scores is not None
    assert (result.scores.public, result.scores.private, result.scores.private_place) == (0.5, None, None)
    assert [row["status"] for row in submission_log.read(tmp_path / "submissions")] == ["error", "complete"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"numToday": 5}, "no submission is left today: 5 were made; the day begins at 00:00 UTC"),
        ({"numTotal": 90, "limitedByTotal": True}, "no submission is left: 90 were made, the competition may allow no"),
        ({}, ""),  # an account without a team
    ],
)
def test_the_submission_limits_are_printed(
    account: Account, send: Send, said: Said, limits: dict[str, Any], words: str
) -> None:
    account.limits = limits
    send()
    assert_submitted_once(account)
    assert [line.startswith(words) for line in said.lines if "submission is left" in line] == [True] * bool(words)


@pytest.mark.parametrize("status", [400, 404])
def test_a_refused_submission_has_a_remedy_and_the_same_command_submits_at_once(
    account: Account, send: Send, status: int
) -> None:
    account.before["CreateCodeSubmission"] = failing(status, 1)
    with pytest.raises(InputError, match=r"Join the competition, check that .* submission\.csv.* left today"):
        send()
    began = time.monotonic()
    send(lost_s=120)
    assert time.monotonic() - began < 120, "there was no lost submission to wait for"
    assert_submitted_once(account)


@pytest.mark.parametrize("lost", ["no answer", "no number"])
def test_a_lost_submission_that_is_listed_late_is_not_repeated(
    account: Account, send: Send, said: Said, lost: str
) -> None:
    account.listed_at = 2
    if lost == "no answer":
        account.after["CreateCodeSubmission"] = [drop]
        with pytest.raises(MachineError):
            send()
    else:
        account.after["CreateCodeSubmission"] = [lambda request, reply: reply.json({"message": "done"})]
    before = len(account.calls("ListSubmissions"))
    send(lost_s=30)
    assert len(account.calls("ListSubmissions")) - before == 3 + (lost == "no number"), "the third question"
    assert_submitted_once(account)


def test_two_processes_do_not_submit_the_same_runs(account: Account, send: Send, tmp_path: Path) -> None:
    with files.locked(tmp_path / "submissions" / SLUG, ""):
        with pytest.raises(MachineError, match=f"another process submits {SLUG}. Wait for it"):
            send()
        assert account.server.requests == []
    send()
    assert_submitted_once(account)


def test_a_damaged_history_is_reported_before_any_request(account: Account, send: Send, tmp_path: Path) -> None:
    (tmp_path / "submissions").mkdir()
    (tmp_path / "submissions/history.csv").write_bytes(b"name\n\xff\n")
    with pytest.raises(InputError, match="Save it as UTF-8"):
        send()
    assert account.server.requests == []


def test_wrong_credentials_are_reported_before_the_bundle_is_built(
    account: Account, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[object] = []
    monkeypatch.setattr(submitting.bundles, "build", built.append)
    account.before["Hello"] = failing(401, 1)
    with pytest.raises(InputError, match="answers 401"):
        send()
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    with pytest.raises(InputError, match="no Kaggle credentials"):
        send()
    assert built == []


@pytest.mark.parametrize(("first", "second"), [("ERROR", "COMPLETE"), ("COMPLETE", "ERROR")])
def test_the_previous_session_is_not_mistaken_for_the_new_one(
    account: Account, send: Send, tmp_path: Path, first: str, second: str
) -> None:
    account.kernel_end = first
    if first == "ERROR":
        account.outputs = ()
        with pytest.raises(InputError, match="failed: error"):
            send()
    else:
        send()
        change(tmp_path, "weights")
    account.kernel_end, account.kernel_states = second, ["QUEUED", "RUNNING"]
    account.outputs = ("submission.csv",)
    if second == "ERROR":
        with pytest.raises(InputError, match="failed: error"):
            send()
        assert len(account.submissions) == 1
    else:
        send()
        assert_submitted_once(account)


def change(folder: Path, name: str, text: str = "1") -> None:
    """Change the run's `weights`, or the `program`."""
    path = folder / "models" / ("unet-fold0/weights" if name == "weights" else name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_newer_program_makes_no_new_submission(account: Account, send: Send, tmp_path: Path) -> None:
    send()
    change(tmp_path, "program")
    assert send().was_there
    assert (len(account.versions), len(account.kernels), len(account.submissions)) == (1, 1, 1)


@pytest.mark.parametrize("name", ["GetKernel", "SaveKernel"])
def test_the_script_gets_the_dataset_of_its_bundle(account: Account, send: Send, tmp_path: Path, name: str) -> None:
    """The program is updated after the dataset, or after the notebook's answer was lost."""
    account.after[name] = [drop]
    with pytest.raises(MachineError):
        send()
    change(tmp_path, "program")
    send()
    contents = '{"program": "1"}'
    assert account.versions[-1]["severstal-bundle.json"].decode() == contents
    assert (contents in account.kernels[-1]["text"], account.kernels[-1]["dataset"]) == (True, 2)
    assert [found["asked"]["kernelVersion"] for found in account.submissions] == [len(account.kernels)]


def test_a_running_notebook_keeps_its_dataset_when_the_program_changes(
    account: Account, send: Send, tmp_path: Path
) -> None:
    account.before["GetKernelSessionStatus"] = failing(401, 1)
    with pytest.raises(InputError):
        send()
    change(tmp_path, "program")
    send()
    assert_submitted_once(account)
    assert (len(account.versions), len(account.kernels)) == (1, 1)


@pytest.mark.parametrize("changed", ["weights", "program"])
def test_a_pending_submission_is_scored_first(
    account: Account, send: Send, said: Said, tmp_path: Path, changed: str
) -> None:
    account.before["GetSubmission"] = failing(401, 1)
    with pytest.raises(InputError):
        send()
    change(tmp_path, changed)
    account.submission_end = {"status": "COMPLETE", "publicScore": "0.7", "privateScore": "0.6"}
    result = send()
    rows = submission_log.read(tmp_path / "submissions")
    assert [(row["ref"], row["status"], row["public"], row["bundle"][:1]) for row in rows] == [
        ("7000", "complete", "0.7", "0"),
        *([("7001", "complete", "0.7", "1")] if changed == "weights" else []),
    ]
    assert [row["validation_dice"] for row in rows] == ["0.9"] * len(rows)
    assert result.was_there == (changed == "program")


@pytest.mark.parametrize("again", [False, True])
def test_again_resumes_a_pending_submission(account: Account, send: Send, again: bool) -> None:
    send()
    account.before["GetSubmission"] = failing(401, 1)
    with pytest.raises(InputError):
        send(again=True)
    send(again=again)
    assert_submitted_once(account, times=2)


def test_scores_are_written_to_the_history_before_the_state(
    account: Account, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MachineError("killed")

    account.before["GetSubmission"] = failing(401, 1)
    with pytest.raises(InputError):
        send()
    with monkeypatch.context() as patched:
        patched.setattr(steps.submission_log, "record", fail)
        with pytest.raises(MachineError, match="killed"):
            send()
    send()
    assert [row["status"] for row in submission_log.read(tmp_path / "submissions")] == ["complete"]


@pytest.mark.parametrize("remedy", [notebook.UPLOAD_AGAIN, ""])
def test_a_notebook_with_a_wrong_dataset_gets_a_new_one(account: Account, send: Send, remedy: str) -> None:
    account.kernel_end = "ERROR"
    lines = [f"severstal: the attached bundle is of another version: {remedy}", *(f"line {n}" for n in range(99))]
    account.log = json.dumps([{"stream_name": "stderr", "data": "\n".join(lines)}])
    with pytest.raises(InputError, match="failed: error"):
        send(late_s=0.05)
    assert len(account.kernels) == (3 if remedy else 1), "it may have been mounted late"
    account.kernel_end = "COMPLETE"
    send()
    assert_submitted_once(account)
    assert len(account.versions) == (2 if remedy else 1)


def test_changed_runs_make_new_versions(account: Account, send: Send, tmp_path: Path) -> None:
    send()
    change(tmp_path, "weights")
    send()
    assert [version["runs/unet-fold0/model"][:1] for version in account.versions] == [b"0", b"1"]
    assert [pushed["dataset"] for pushed in account.kernels] == [1, 2]
    assert [found["asked"]["kernelVersion"] for found in account.submissions] == [1, 2]
    assert account.calls("CreateDataset") == ["CreateDataset"]


def test_the_notebook_waits_for_the_new_version_of_the_dataset(account: Account, send: Send) -> None:
    account.versions = [{"severstal-bundle.json": b""}]
    published = account.CreateDatasetVersion

    def late(asked: dict[str, Any]) -> Any:
        """The status is that of the previous version for two more calls."""
        answer = published(asked)
        new = account.versions.pop()
        states = account.GetDatasetStatus
        looks = iter(range(99))

        def status(asked: dict[str, Any]) -> dict[str, Any]:
            if next(looks) == 2:
                account.versions.append(new)
            return states(asked)

        account.server.handlers["datasets.DatasetApiService/GetDatasetStatus"] = account._handler("x", status)
        return answer

    account.server.handlers["datasets.DatasetApiService/CreateDatasetVersion"] = account._handler("y", late)
    send()
    assert_submitted_once(account)
    assert account.kernels[0]["dataset"] == 2


def test_a_dataset_that_cannot_be_unpacked_is_uploaded_again(account: Account, send: Send) -> None:
    account.dataset_states = ["BLOBS_RECEIVED", "FAILED"]
    with pytest.raises(InputError, match="could not process the dataset"):
        send()
    send()
    assert_submitted_once(account)
    assert len(account.versions) == 2


def test_objects_of_other_programs_are_not_replaced(account: Account, send: Send) -> None:
    account.versions = [{"holiday.jpg": b""}]
    with pytest.raises(InputError, match=r"the dataset ann/.* is not one of severstal.*Rename"):
        send()
    assert (len(account.versions), account.puts()) == (1, [])
    account.versions, account.kernels = [], [{"slug": f"{USER}/{NOTEBOOK}", "text": "print('mine')"}]
    with pytest.raises(InputError, match=r"the notebook ann/.* is not one of severstal.*Rename"):
        send()
    assert len(account.kernels) == 1


def test_a_refused_dataset(account: Account, send: Send) -> None:
    account.before["CreateDataset"] = [
        lambda request, reply: reply.json({"status": "Error", "error": f"title in use, {TOKEN}"})
    ]
    with pytest.raises(InputError, match=r"title in use, \*\*\*\. Fix that on Kaggle"):
        send()
    send()
    assert_submitted_once(account)


@pytest.mark.parametrize("name", ["CreateDataset", "SaveKernel", "CreateCodeSubmission"])
def test_a_step_that_succeeded_despite_an_error_is_not_repeated(account: Account, send: Send, name: str) -> None:
    account.after[name] = failing(500, 1)
    with pytest.raises(MachineError, match="answers 500"):
        send()
    send()
    assert_submitted_once(account)
    assert (len(account.kernels), len(account.versions)) == (1, 1)


def test_used_up_uploads_are_repeated(account: Account, send: Send) -> None:
    account.before["CreateDataset"] = [drop]
    with pytest.raises(MachineError):
        send()
    for blob in account.blobs:
        blob.used = True
    with pytest.raises(InputError, match="used up or incomplete") as raised:
        send()
    assert SECRET not in str(raised.value)
    send()
    assert_submitted_once(account)


@pytest.mark.parametrize("step", ["dataset", "kernel", "submission"])
def test_the_same_command_resumes_a_wait_that_timed_out(account: Account, send: Send, step: str) -> None:
    states = {"dataset": "BLOBS_RECEIVED", "kernel": "RUNNING", "submission": "PENDING"}
    getattr(account, f"{step}_states").extend([states[step]] * 10_000)
    with pytest.raises(MachineError, match=r"timed out after 0 min: last state: .*\. The same command resumes"):
        send(**{f"{step}_limit_s": 0.2, "poll_s": 0.02})
    getattr(account, f"{step}_states").clear()
    send()
    assert_submitted_once(account)
    assert (len(account.kernels), len(account.versions)) == (1, 1)


@pytest.mark.parametrize(
    ("board", "rank"),
    [
        ([["0.9", "0.88", "0.88"], ["0.7"]], 2),  # ties share the better rank
        ([["0.87"]], 1),
        ([["0.9"], ["0.89"]], None),  # more teams may follow
        ([["0.00000", "0.00000"]], None),
        ([[]], None),
        ([["x", "0.9"], ["0.8"]], 2),
    ],
)
def test_the_rank_of_a_score(account: Account, send: Send, board: list[list[str]], rank: int | None) -> None:
    account.boards[True] = board
    result = send()
    assert result.scores is not None
    assert result.scores.public_place == rank


DRIVER = """
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
stub = ModuleType("severstal_cli.kaggle.bundle")  # the real one takes seconds to import
stub.Bundle, stub.slug_of = SimpleNamespace, lambda names: "severstal-" + names[0]
stub.estimate_s, stub.DATASET_CARD = lambda **_: (1.0, "cpu"), "dataset-metadata.json"
sys.modules[stub.__name__] = stub
sys.modules["severstal_cli.learning.runs.run_folder"] = run = ModuleType("run")
run.SCORE = "score.json"
sys.path[:0] = [{tests!r}, {root!r}]
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = {url!r}
import test_submit
stub.build = test_submit.write_bundle
test_submit.upload.CHUNK_BYTES = 256 * 1024
test_submit.submitting.submit(test_submit.SubmitConfig(runs=(Path({run!r}),), out=Path({out!r}), poll_s=0))
"""


@pytest.mark.parametrize("name", ["PUT", "SaveKernel", "CreateCodeSubmission"])
def test_a_killed_process_is_resumed(account: Account, send: Send, tmp_path: Path, name: str) -> None:
    """SIGKILL after Kaggle has processed the request, before its answer."""
    here = Path(__file__).parent
    code = DRIVER.format(
        tests=str(here),
        root=str(here.parents[1]),
        url=account.server.url,
        run=str(tmp_path / "models/unet-fold0"),
        out=str(tmp_path / "submissions"),
    )
    process: list[int] = []
    account.after[name] = [None] * (name == "PUT") + [kill(lambda: process[0])]
    with subprocess.Popen([sys.executable, "-c", code]) as started:
        process.append(started.pid)
        try:
            assert started.wait(600) == -9
        finally:
            started.kill()
    send()
    assert_submitted_once(account)
    assert (len(account.kernels), len(account.versions)) == (1, 1)
    assert sum(len(request.body) for request in account.puts()) == 400_002, "no byte was sent twice"


def test_no_secret_is_written_or_printed(
    account: Account,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The command itself, with SEVERSTAL_DEBUG=1 and all loggers at DEBUG, through faults and success."""
    from severstal_cli.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEVERSTAL_DEBUG", "1")
    monkeypatch.setenv("KAGGLEHUB_VERBOSITY", "debug")
    monkeypatch.setattr(config, "SubmitConfig", functools.partial(SubmitConfig, lost_s=0))
    (tmp_path / "models/unet-fold0").mkdir(parents=True)
    (tmp_path / "models/unet-fold0/model.json").touch()  # the command checks for it, the bundle is a stand-in
    monkeypatch.setattr(sys, "argv", ["severstal", "submit", "models/unet-fold0"])
    account.before |= {"PUT": [drop], "CreateDataset": failing(403, 1), "CreateCodeSubmission": failing(500, 1)}
    printed, seen_uploads = "", 0
    logging.getLogger("urllib3").setLevel(logging.NOTSET)  # as in a new process
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            try:
                main()
            except SeverstalError as error:
                printed += str(error)
            except SystemExit as end:
                printed += str(end.code)
            uploads = tmp_path / "submissions" / SLUG / "uploads.json"
            if uploads.exists():
                seen_uploads += 1
                assert uploads.stat().st_mode & 0o777 == 0o600
            for path in (tmp_path / "submissions").rglob("*"):
                if path.is_file() and path != uploads:
                    assert not re.search(f"{TOKEN}|{SECRET}".encode(), path.read_bytes()), path
                elif path == uploads:
                    assert TOKEN not in path.read_text()
    out, err = capfd.readouterr()
    assert_submitted_once(account)
    assert f"{SLUG}: public score 0.88000, rank 3 in the competition" in out
    assert f"{SLUG}: private score 0.87000, rank 2 in the competition" in out
    assert not re.search(f"{TOKEN}|{SECRET}", out + err + printed + caplog.text)
    assert not uploads.exists(), "the signed addresses are removed after use"


def test_a_bundle_alone_needs_neither_account_nor_network(
    account: Account, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    result = send(bundle_only=tmp_path / "there")
    assert result.bundle == tmp_path / "there"
    assert (tmp_path / "there/dataset/severstal-bundle.json").exists()
    assert account.server.requests == []
    assert not (tmp_path / "submissions").exists()
    assert any("limit is 60 min" in line for line in said.lines)


def test_ctrl_c_names_the_command_to_resume(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from severstal_cli.cli import main

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/unet-fold0").mkdir(parents=True)
    (tmp_path / "models/unet-fold0/model.json").touch()  # the command checks for it, the bundle is a stand-in
    monkeypatch.setattr(sys, "argv", ["severstal", "submit", "models/unet-fold0"])
    monkeypatch.setattr(steps.kernel, "look_at", interrupt)
    with pytest.raises(SystemExit, match="130"):
        main()
    assert "the same command resumes" in capsys.readouterr().err


def test_the_real_bundle(
    account: Account, trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pushed notebook matches the bundle's metadata, and every file of the bundle arrives."""
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, account.server.url)
    _, run = trained
    said = Said()
    account.slug = f"severstal-{run.name}"
    submitting.submit(SubmitConfig(runs=(run,), out=tmp_path / "out", poll_s=0.0), said)
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    files = {
        path.relative_to(folder / "bundle/dataset").as_posix(): path.read_bytes()
        for path in (folder / "bundle/dataset").rglob("*")
        if path.is_file() and path.name != "dataset-metadata.json"
    }
    assert account.versions == [files]
    assert any(name.startswith("wheels/") for name in files)
    card = json.loads((folder / "bundle/kernel/kernel-metadata.json").read_text())
    pushed = account.kernels[0]
    assert pushed["text"] == (folder / "bundle/kernel/script.py").read_text()
    assert (pushed["slug"], pushed["newTitle"]) == (f"{USER}/{folder.name}-notebook", card["title"])
    pairs = {
        "language": "language",
        "kernelType": "kernel_type",
        "isPrivate": "is_private",
        "enableGpu": "enable_gpu",
        "enableInternet": "enable_internet",
        "machineShape": "machine_shape",
        "competitionDataSources": "competition_sources",
    }
    assert {ours: pushed[ours] for ours in pairs} == {ours: card[theirs] for ours, theirs in pairs.items()}
    assert pushed["datasetDataSources"] == [f"{USER}/{folder.name}"]
    assert any("5,506 images: about" in line for line in said.lines)
    assert submitting.submit(SubmitConfig(runs=(run,), out=tmp_path / "out"), said).was_there
