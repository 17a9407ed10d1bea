"""Answers of Kaggle that others saw in 2026, and that the stand-in did not give before."""
# ruff: noqa: F811 (fixtures)

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from account import SECRET, USER, Account, failing, gateway
from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest
from server import TOKEN, Reply, Request, Said, Server
from test_submit import (  # noqa: F401
    COMPETITION,
    NOTEBOOK,
    SLUG,
    Send,
    account,
    assert_submitted_once,
    said,
    send,
)

from severstal_cli.errors import InputError, MachineError, SeverstalError
from severstal_cli.kaggle import client, job, names, state

ASKED = "competitions.CompetitionApiService/ListSubmissions"


def ask(kaggle: client.Kaggle) -> Any:
    return kaggle.call(
        "list the submissions",
        lambda sdk: sdk.competitions.competition_api_client.list_submissions(ApiListSubmissionsRequest()),
    )


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Submission not allowed: Your team has used its daily Submission allowance (5) today"),
        (
            400,
            "Submission not allowed: Your Notebook's runtime of 233 minutes exceeds this competition's GPU max of "
            "120 minutes",
        ),
        (403, "You must accept this competition's rules before you can continue"),
        (409, 'The requested title "x" is already in use by a dataset'),
        (404, "Notebook not found"),
    ],
)
@pytest.mark.parametrize("form", ["gateway", "client", "client, 200", "text"])
def test_the_reason_of_a_refusal_is_read_in_every_form(server: Server, status: int, message: str, form: str) -> None:
    """The gateway's form was captured by several projects, the client's is what kagglesdk reads."""
    content = {
        "gateway": gateway(status, f"{message}.", "FAILED_PRECONDITION"),
        "client": {"code": status, "message": f"{message}."},
        "text": {"code": status, "error": f"{message}."},
    }[form.partition(",")[0]]
    sent = 200 if form.endswith("200") else status
    server.handlers[ASKED] = lambda request, reply: reply.json(content, sent)
    with pytest.raises(client.RefusedError) as raised:
        ask(client.connect("steel"))
    assert f"Kaggle answers {status}, {message}. " in str(raised.value)
    assert (raised.value.code, raised.value.message) == (status, message)
    assert "never tried" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "received"),
    [
        (lambda reply: reply.json({"oh": f"no {TOKEN} https://a.b/c?sig={SECRET}"}, 418), '418 {"oh": "no *** '),
        (lambda reply: reply.json({"createToken": SECRET, "submissions": 7}, 200), '200 {"createToken": "***"'),
        (lambda reply: reply.bytes(b"<html>no", 400), "400 <html>no"),
    ],
)
def test_an_unknown_failure_prints_the_request_and_the_answer(server: Server, answer: Any, received: str) -> None:
    server.handlers[ASKED] = lambda request, reply: answer(reply)
    kaggle = client.connect("steel")
    message = ApiListSubmissionsRequest()
    message.competition_name = f"{TOKEN} steel"
    with pytest.raises(SeverstalError) as raised:
        kaggle.call("list them", lambda sdk: sdk.competitions.competition_api_client.list_submissions(message))
    line = str(raised.value)
    assert "never tried on Kaggle itself. Report this line as an issue of severstal" in line
    assert f'sent {ASKED} {{"competitionName": "*** steel"' in line
    assert f"received {received}" in line
    assert not re.search(f"{TOKEN}|{SECRET}|\n", line)


def test_dataset_and_notebook_have_different_names(account: Account, send: Send) -> None:
    send()
    assert_submitted_once(account)
    assert set(account.datasets) == {SLUG}
    assert {pushed["slug"] for pushed in account.kernels} == {f"{USER}/{NOTEBOOK}"}


@pytest.mark.parametrize("length", [1, 20, 30, 31, 40, 41, 42, 100])
def test_the_title_of_any_notebook_is_valid(length: int) -> None:
    slug = names.slug_of(["x" * length])
    notebook = names.notebook_of(slug)
    assert notebook != slug
    assert notebook.endswith("-notebook")
    assert 6 <= len(notebook) <= 50
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", notebook)
    assert names.notebook_of(names.slug_of(["x" * 99 + "y"])) != names.notebook_of(names.slug_of(["x" * 99 + "z"]))


@pytest.mark.parametrize("refusal", ["taken", "stuck"])
def test_a_taken_or_unusable_name_of_the_notebook_gets_a_number(
    account: Account, send: Send, said: Said, refusal: str
) -> None:
    """`stuck`: seen by others for slugs whose first push had failed; Kaggle/kaggle-cli issues 345, 575 and 964."""
    if refusal == "taken":
        account.taken = {NOTEBOOK: "model", f"{NOTEBOOK}-2": "dataset"}
    else:
        account.refusals = ["Notebook not found", "Notebook not found"]
    send()
    assert_submitted_once(account)
    assert [pushed["slug"] for pushed in account.kernels] == [f"{USER}/{NOTEBOOK}-3"]
    assert sum(f"the notebook becomes {NOTEBOOK}-" in line for line in said.lines) == 2
    send(again=True)
    assert_submitted_once(account, times=2)
    assert len(account.kernels) == 1, "the name is saved"


def test_the_names_are_limited(account: Account, send: Send) -> None:
    account.refusals = ["Notebook not found."] * 99
    with pytest.raises(InputError, match=r"Notebook not found\. Delete what has this name on Kaggle, or rename"):
        send()
    assert len(account.calls("SaveKernel")) == job.NAMES


def test_a_taken_name_of_the_dataset_gets_a_number(account: Account, send: Send, said: Said) -> None:
    account.taken = {SLUG: "notebook"}
    account.slug = f"{SLUG}-2"
    send()
    assert_submitted_once(account)
    assert account.kernels[0]["datasetDataSources"] == [f"{USER}/{SLUG}-2"]
    assert f"the name {SLUG} is taken on Kaggle: the dataset becomes {SLUG}-2" in said.lines
    send(again=True)
    assert (len(account.versions), len(account.kernels)) == (1, 1)


@pytest.mark.parametrize("name", ["GetKernelSessionStatus", "GetSubmission"])
def test_a_new_object_may_be_unknown_for_a_while(account: Account, send: Send, name: str) -> None:
    account.unseen = {name: 3}
    send()
    assert_submitted_once(account)
    assert len(account.kernels) == 1


def test_the_status_is_asked_for_without_the_version_label_if_kaggle_refuses_it(account: Account, send: Send) -> None:
    """Another project was answered 400 in September 2026."""
    answer = account.GetKernelSessionStatus

    def refuse(asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:
        return (400, "Invalid version label") if "versionLabel" in asked else answer(asked)

    path = "kernels.KernelsApiService/GetKernelSessionStatus"
    account.server.handlers[path] = account._handler("GetKernelSessionStatus", refuse)
    account.kernel_states = ["QUEUED", "RUNNING"]
    send()
    assert_submitted_once(account)
    asked = [request.json for request in account.server.requests if request.path.endswith(path)]
    assert [each.get("versionLabel") for each in asked] == ["v1", None, None, None]


def test_it_waits_until_a_notebook_may_run(account: Account, send: Send, said: Said) -> None:
    """Kaggle/kaggle-cli issue 185, and many logs of 2026."""
    account.refusals = ["Maximum batch GPU session count of 2 reached."] * 3
    send()
    assert_submitted_once(account)
    waits = [line for line in said.lines if "Maximum batch GPU session count of 2 reached: waiting." in line]
    assert len(waits) == 1


def test_the_wait_for_a_notebook_times_out(account: Account, send: Send) -> None:
    account.refusals = ["Maximum batch GPU session count of 2 reached."] * 99_999
    with pytest.raises(MachineError, match=r"session count of 2 reached\. The same command resumes"):
        send(place_limit_s=0.05)
    account.refusals.clear()
    send()
    assert_submitted_once(account)


def test_a_used_up_quota_is_reported_with_its_renewal(account: Account, send: Send) -> None:
    account.refusals = ["Maximum weekly GPU quota of 30.00 hours reached."]
    with pytest.raises(
        InputError, match=r"quota of 30\.00 hours reached\. The next week begins at 2026-11-28 00:00 UTC"
    ):
        send()
    assert len(account.versions) == 1
    send()
    assert_submitted_once(account)
    assert len(account.versions) == 1, "nothing is uploaded twice"


@pytest.mark.parametrize(
    ("competition", "used", "words"),
    [
        ({"submissionsDisabled": True, "userHasEntered": True}, "0s", "takes no submissions: Kaggle has disabled them"),
        (
            {"userHasEntered": True},
            "111348s",
            "no GPU time is left on Kaggle: 30.9 of 30.0 hours are used: nothing was",
        ),
    ],
)
def test_a_certain_refusal_ends_the_command_before_an_upload(
    account: Account, send: Send, competition: dict[str, Any], used: str, words: str
) -> None:
    account.competition = competition
    account.quota["gpuQuota"]["timeUsed"] = used
    with pytest.raises(InputError, match=words):
        send()
    assert (account.puts(), account.calls("StartBlobUpload"), account.kernels) == ([], [], [])


def test_an_account_that_has_not_entered_is_warned(account: Account, send: Send, said: Said) -> None:
    account.competition = {}
    send()
    rules = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
    assert f"competition {COMPETITION}: not entered: accept the rules on {rules}" in said.lines


def test_a_notebook_runs_again_if_its_dataset_was_mounted_late(account: Account, send: Send, said: Said) -> None:
    account.unmounted, account.sizes_are_secret = 2, True
    send(late_s=0.05)
    assert_submitted_once(account)
    assert (len(account.kernels), len(account.versions)) == (3, 1)
    assert sum(len(request.body) for request in account.puts()) == 400_002, "no byte was sent twice"
    assert sum("the dataset was not mounted yet: the notebook runs again in" in line for line in said.lines) == 2


def test_it_waits_until_the_output_is_listed(account: Account, send: Send, said: Said) -> None:
    account.unlisted = 4
    send(late_s=60)
    assert_submitted_once(account)
    assert len(account.kernels) == 1
    assert "waiting until Kaggle lists submission.csv of the notebook" in said.lines


def test_a_denied_submission_names_the_allowance_and_the_page(account: Account, send: Send) -> None:
    """Several projects suspected a missing scope; the day's allowance was used up."""
    account.before["CreateCodeSubmission"] = failing(403, 1, "Permission 'kernelSessions.get' was denied")
    page = f"https://www.kaggle.com/code/{USER}/{NOTEBOOK}"
    with pytest.raises(InputError, match=f"day's allowance.*00:00 UTC.*press Submit to Competition on {page}"):
        send()
    send()
    assert_submitted_once(account)


def log_in(home: Path, expires: datetime) -> Path:
    """The file of `kaggle auth login`: `kagglesdk.kaggle_creds`, `KaggleCredentials.save`."""
    path = home / ".kaggle/credentials.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({
        "refresh_token": "refresh-s3cret", "access_token": "access-s3cret", "username": "ann", "scopes": ["x"],
        "access_token_expiration": expires.isoformat(),
    }))  # fmt: skip
    return path


@pytest.mark.parametrize("hours", [-1, 0.1, 5])
def test_the_login_of_kaggles_own_tool_is_used(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hours: float
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    path = log_in(tmp_path / "home", datetime.now(UTC) + timedelta(hours=hours))
    renewed: list[str] = []

    def renew(request: Request, reply: Reply) -> None:
        assert request.json["refreshToken"] == "refresh-s3cret"
        assert "Authorization" not in request.headers
        renewed.append(f"renewed-s3cret-{len(renewed)}")
        reply.json({"token": renewed[-1], "expiresIn": 3600, "userName": "ann"})

    def answer(request: Request, reply: Reply) -> None:
        good = renewed[-1:] if server.requests[:-2] else ["access-s3cret"] if hours == 5 else renewed[-1:]
        if request.headers["Authorization"] not in [f"Bearer {token}" for token in good]:
            reply.json(gateway(401, f"no {request.headers['Authorization']}"), 401)
        else:
            reply.json({})

    server.handlers["users.AccountService/GenerateAccessToken"] = renew
    server.handlers[ASKED] = answer
    kaggle = client.connect("steel")
    assert kaggle.user() == "ann"
    ask(kaggle)
    assert len(renewed) == (0 if hours == 5 else 1)
    server.requests += [server.requests[0]] * 3
    renewed.append("of another process")  # the token expires during a long wait
    ask(kaggle)
    assert renewed[-1] == f"renewed-s3cret-{len(renewed) - 1}"
    saved = json.loads(path.read_text())
    assert saved["access_token"] == renewed[-1]
    assert datetime.fromisoformat(saved["access_token_expiration"]) > datetime.now(UTC)
    assert path.stat().st_mode & 0o777 == 0o600
    for secret in ("refresh-s3cret", "access-s3cret" if hours == 5 else renewed[0], renewed[-1]):
        assert kaggle.without_secrets(f"a {secret}") == "a ***"


def test_an_expired_login_names_the_command_to_log_in(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    log_in(tmp_path / "home", datetime.now(UTC) - timedelta(days=1))
    server.handlers["users.AccountService/GenerateAccessToken"] = lambda request, reply: reply.json(
        gateway(401, "refresh-s3cret has expired"), 401
    )
    with pytest.raises(InputError, match=r"auth login` has expired: Kaggle answers 401\. Log in again") as e:
        client.connect("steel")
    assert "s3cret" not in str(e.value)


def test_a_state_of_an_older_version_keeps_what_was_submitted(account: Account, send: Send, tmp_path: Path) -> None:
    send()
    folder = tmp_path / "submissions" / SLUG
    fields = json.loads((folder / state.NAME).read_text())
    fields |= {"contents": "x", "dataset_before": 0, "dataset_made": True, "kernel_version": 1}
    del fields["job"]
    (folder / state.NAME).write_text(json.dumps(fields))
    before = len(account.server.requests)
    assert send().was_there
    assert len(account.server.requests) == before
