"""A server on 127.0.0.1 with Kaggle's protocol; a test adds the handlers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from kagglesdk import kaggle_env

from severstal_cli.progress import Progress

TOKEN = "KGAT_secret0123456789abcdef0123456789"


class Said(Progress):
    """Records the printed lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


@dataclass(kw_only=True)
class Request:
    """A received request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.body or b"{}"))


class Reply(BaseHTTPRequestHandler):
    """A handler answers by `json`, `bytes`, `redirect`, or the methods of `BaseHTTPRequestHandler`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it delays every answer by 40 ms

    def json(self, content: dict[str, Any], status: int = 200, **headers: str) -> None:
        self.bytes(json.dumps(content).encode(), status, **{"Content-Type": "application/json", **headers})

    def bytes(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def redirect(self, url: str) -> None:
        self.bytes(b"", 302, Location=url)

    def _serve(self) -> None:
        server = cast("_Http", self.server).owner
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command, path=self.path, headers=dict(self.headers.items()), body=self.rfile.read(length)
        )
        server.requests.append(request)
        name = self.path.removeprefix("/v1/").split("?")[0]
        handler = server.handlers.get(name)
        if handler is None:
            self.json({"code": 404, "message": f"no handler for {name}"}, 404)
            return
        handler(request, self)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815

    def log_message(self, *arguments: Any) -> None: ...


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    owner: "Server"

    def handle_error(self, *arguments: Any) -> None: ...


@dataclass(kw_only=True)
class Server:
    """`handlers["competitions.CompetitionApiService/DownloadDataFiles"] = f(request, reply)`; other paths likewise."""

    handlers: dict[str, Callable[[Request, Reply], None]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    http: _Http = field(init=False)

    def __post_init__(self) -> None:
        self.http = _Http(("127.0.0.1", 0), Reply)
        self.http.owner = self
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def paths(self) -> list[str]:
        return [request.path.removeprefix("/v1/") for request in self.requests]


@contextmanager
def local_kaggle(home: Path, patch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that both client libraries take for Kaggle, and a token for it; no credentials of this machine."""
    for name in (
        "KAGGLE_USERNAME",
        "KAGGLE_KEY",
        "KAGGLE_CONFIG_DIR",
        "KAGGLE_API_ENVIRONMENT",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        patch.delenv(name, raising=False)
    patch.setenv("HOME", str(home))
    patch.setenv("KAGGLE_API_TOKEN", TOKEN)
    server = Server()
    patch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.url)
    yield server
    server.close()
