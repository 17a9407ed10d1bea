"""A server on 127.0.0.1 that speaks Kaggle's protocol as far as a test teaches it."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from severstal_cli.progress import Progress

TOKEN = "KGAT_secret0123456789abcdef0123456789"


class Said(Progress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


@dataclass(kw_only=True)
class Request:
    """What arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.body or b"{}"))


class Reply(BaseHTTPRequestHandler):
    """What a handler answers with: `json`, `status`, `redirect`, or the methods of `BaseHTTPRequestHandler`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it holds every answer back for 40 ms

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
