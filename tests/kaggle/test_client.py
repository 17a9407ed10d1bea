"""Calls to Kaggle: credentials, retries and errors."""

import base64
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest
from server import TOKEN, Reply, Request, Said, Server

from severstal_cli.errors import InputError, MachineError, SeverstalError
from severstal_cli.kaggle import client

LIST = "competitions.CompetitionApiService/ListSubmissions"


def ask(kaggle: client.Kaggle, **options: Any) -> Any:
    return kaggle.call(
        "list the submissions",
        lambda sdk: sdk.competitions.competition_api_client.list_submissions(ApiListSubmissionsRequest()),
        **options,
    )


def failing(status: int, *, times: int = 99, **headers: str) -> Callable[[Request, Reply], None]:
    """Answer `times` times with `status`, then with success."""
    count = 0

    def handler(request: Request, reply: Reply) -> None:
        nonlocal count
        count += 1
        if count <= times:
            reply.json({"code": status, "message": f"no, {TOKEN}"}, status, **headers)
        else:
            reply.json({"submissions": []})

    return handler


def test_a_call_is_signed_and_answered(server: Server) -> None:
    server.handlers[LIST] = lambda request, reply: reply.json({"submissions": [{"ref": 7, "publicScore": "0.9"}]})
    answer = ask(client.connect("steel"))
    assert [(row.ref, row.public_score) for row in answer.submissions] == [(7, "0.9")]
    assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, InputError, "See https://www.kaggle.com/competitions/steel"),
        (401, InputError, "KAGGLE_API_TOKEN"),
        (403, InputError, "https://www.kaggle.com/competitions/steel/rules, verify your phone"),
        (404, InputError, "Check the name"),
        (429, MachineError, "Too many requests"),
        (500, MachineError, "Kaggle has a fault"),
        (503, MachineError, "Kaggle has a fault"),
    ],
)
def test_every_status_has_a_remedy_and_prints_no_secret(
    server: Server, status: int, kind: type[SeverstalError], words: str
) -> None:
    server.handlers[LIST] = failing(status)
    with pytest.raises(kind, match="cannot list the submissions") as raised:
        ask(client.connect("steel", pause_s=0))
    line = str(raised.value)
    assert words in line
    assert f"Kaggle answers {status}, no, ***" in line
    assert TOKEN not in line
    assert "\n" not in line
    assert len(server.requests) == (client.TRIES if status == 429 or status >= 500 else 1)


@pytest.mark.parametrize("signs", ["token", "key"])
def test_a_secret_is_hidden_in_every_form(server: Server, monkeypatch: pytest.MonkeyPatch, signs: str) -> None:
    """A server may echo a header, an address, or a part of either."""
    user, key = "ann", "k/y+0123456789=abcdef"
    if signs == "key":
        monkeypatch.delenv("KAGGLE_API_TOKEN")
        monkeypatch.setenv("KAGGLE_USERNAME", user)
        monkeypatch.setenv("KAGGLE_KEY", key)
    secret = TOKEN if signs == "token" else key
    echoed = [secret, quote(secret, safe=""), secret.encode().hex(), "x" * 190 + secret]
    for before in ("", "a", "ab", f"{user}:"):
        echoed += [
            base64.b64encode(f"{before}{secret}".encode()).decode(),
            base64.urlsafe_b64encode(f"{before}{secret}".encode()).decode(),
        ]
    for text in echoed:
        server.handlers[LIST] = lambda request, reply, text=text: reply.json({"code": 400, "message": text}, 400)
        with pytest.raises(InputError) as raised:
            ask(client.connect("steel"))
        line = str(raised.value)
        assert "***" in line or text.startswith("xxx")
        for at in range(len(text) - 12):  # the ends of base64 contain three characters of the text around
            if text[at : at + 12] != "x" * 12:
                assert text[at : at + 12] not in line, (text, line)


def test_an_error_in_the_body_of_a_200_counts(server: Server) -> None:
    server.handlers[LIST] = lambda request, reply: reply.json({"code": 403, "message": "no"}, 200)
    with pytest.raises(InputError, match="answers 403"):
        ask(client.connect("steel"))


@pytest.mark.parametrize("status", [429, 500, 502])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    server.handlers[LIST] = failing(status, times=2)
    said = Said()
    assert ask(client.connect("steel", said, pause_s=0)).submissions == []
    assert said.lines == [f"Kaggle is busy ({status}): asking again in 0 s"] * 2


def test_a_call_that_must_not_happen_twice_is_retried_after_429_only(server: Server) -> None:
    server.handlers[LIST] = failing(500, times=1)
    with pytest.raises(MachineError, match="answers 500"):
        ask(client.connect("steel", pause_s=0), repeat=False)
    server.handlers[LIST] = failing(429, times=1)
    assert ask(client.connect("steel", pause_s=0), repeat=False).submissions == []


def test_retry_after_is_respected(server: Server) -> None:
    server.handlers[LIST] = failing(429, times=1, **{"Retry-After": "1"})
    began = time.monotonic()
    ask(client.connect("steel", pause_s=0))
    assert time.monotonic() - began >= 1
    server.handlers[LIST] = failing(429, times=1, **{"Retry-After": "3600"})
    with pytest.raises(MachineError, match="Too many requests"):
        ask(client.connect("steel", pause_s=0))


def test_a_silent_server_times_out(server: Server) -> None:
    left = threading.Event()
    server.handlers[LIST] = lambda request, reply: left.wait(120)
    began = time.monotonic()
    with pytest.raises(MachineError, match="Kaggle does not answer"):
        ask(client.connect("steel", answer_s=0.3))
    assert time.monotonic() - began < 60
    left.set()


def test_no_network(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from kagglesdk import kaggle_env

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setitem(
            kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, f"http://127.0.0.1:{unused.getsockname()[1]}"
        )
    with pytest.raises(MachineError, match=r"no connection to Kaggle.*HTTPS_PROXY"):
        ask(client.connect("steel"))
    monkeypatch.setenv("HTTP_PROXY", "http://user:password@127.0.0.1:9")
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://kaggle.invalid")
    with pytest.raises(MachineError, match="the proxy does not answer") as raised:
        ask(client.connect("steel"))
    assert "password" not in str(raised.value)


def test_a_page_instead_of_an_answer(server: Server) -> None:
    server.handlers[LIST] = lambda request, reply: reply.bytes(b"<html>", **{"Content-Type": "text/html"})
    with pytest.raises(MachineError, match="unknown format"):
        ask(client.connect("steel"))


def test_without_credentials_every_source_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    with pytest.raises(InputError, match="no Kaggle credentials") as raised:
        client.connect("steel")
    for place in (
        "KAGGLE_API_TOKEN",
        "~/.kaggle/access_token",
        "KAGGLE_USERNAME",
        "KAGGLE_KEY",
        "kaggle.json",
        "KAGGLE_CONFIG_DIR",
    ):
        assert place in str(raised.value)
    assert server.requests == []


def test_a_damaged_kaggle_json_is_reported_without_its_content(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "kaggle.json").write_text('{"username": "ann", "key": "s3cret')
    with pytest.raises(InputError, match="cannot read the Kaggle credentials") as raised:
        client.connect("steel")
    assert "s3cret" not in str(raised.value)


def test_user_name_and_key_sign_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setenv("KAGGLE_USERNAME", "ann")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    server.handlers[LIST] = lambda request, reply: reply.json({})
    kaggle = client.connect("steel")
    assert kaggle.user() == "ann"
    ask(kaggle)
    assert server.requests[0].headers["Authorization"].startswith("Basic ")


def test_a_token_belongs_to_a_user(server: Server) -> None:
    server.handlers["api.v1.DiagnosticsService/Hello"] = lambda request, reply: reply.json({"userName": "ann"})
    assert client.connect("steel").user() == "ann"
    server.handlers["api.v1.DiagnosticsService/Hello"] = lambda request, reply: reply.json({})
    with pytest.raises(InputError, match="returned no user name"):
        client.connect("steel").user()


def test_no_secret_is_printed_by_verbose_libraries(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """KAGGLE_API_ENVIRONMENT=TEST makes kagglehub's client print every header."""
    from kagglesdk import kaggle_env

    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setenv("KAGGLEHUB_VERBOSITY", "debug")
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.TEST, server.url)
    server.handlers["/api/v1/" + LIST] = lambda request, reply: reply.json({})
    with caplog.at_level(logging.DEBUG):
        ask(client.connect("steel"))
    out, err = capfd.readouterr()
    assert len(server.requests) == 1
    assert TOKEN not in out + err + caplog.text
    assert out == ""
