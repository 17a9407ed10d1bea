"""The storage behind a signed address: it supports ranges, and fails on request."""

import base64
import hashlib
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from server import Reply, Request, Server

SIGNATURE = "X-Goog-Signature=5ec2e7"
CALL = "competitions.CompetitionApiService/DownloadDataFiles"
PATH = "/competitions/archive.zip"

Fault = Callable[[Request, Reply, "Storage"], None]


@dataclass(kw_only=True)
class Storage:
    """Each of `faults` answers one request."""

    kaggle: Server
    content: bytes
    etag: str = '"one"'
    md5: str | None = None
    """None: the right one; "": no header."""
    faults: list[Fault] = field(default_factory=list)
    server: Server = field(default_factory=Server)

    def __post_init__(self) -> None:
        self.kaggle.handlers[CALL] = lambda request, reply: reply.redirect(f"{self.server.url}{PATH}?{SIGNATURE}")
        self.server.handlers[PATH] = self.answer

    def answer(self, request: Request, reply: Reply) -> None:
        if self.faults:
            self.faults.pop(0)(request, reply, self)
        else:
            self.give(request, reply)

    def give(self, request: Request, reply: Reply, *, share: float = 1.0) -> None:
        """The archive or the requested range. `share`: close the connection after this share."""
        first = self.first(request)
        body = self.content[first:]
        if not body:
            status(416)(request, reply, self)
            return
        reply.send_response(206 if first else 200)
        if first:
            reply.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        for name, value in self.headers().items():
            reply.send_header(name, value)
        reply.send_header("Content-Length", str(len(body)))
        reply.end_headers()
        reply.wfile.write(body[: int(len(body) * share)])
        if share < 1:
            reply.close_connection = True
            reply.connection.shutdown(socket.SHUT_RDWR)

    def headers(self) -> dict[str, str]:
        md5 = base64.b64encode(hashlib.md5(self.content).digest()).decode() if self.md5 is None else self.md5
        hashes = {"x-goog-hash": f"crc32c=n03x6A==,md5={md5}"} if md5 else {}
        return {"Content-Type": "application/zip", "ETag": self.etag, **hashes}

    def first(self, request: Request) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        fits = request.headers.get("If-Range", self.etag) == self.etag
        return int(found[1]) if found and fits else 0

    def ranges(self) -> list[str | None]:
        return [request.headers.get("Range") for request in self.server.requests]


def breaks(request: Request, reply: Reply, storage: Storage) -> None:
    """Half of the requested bytes, then the connection closes."""
    storage.give(request, reply, share=0.5)


def stalls(request: Request, reply: Reply, storage: Storage) -> None:
    """Half of the content, then nothing."""
    reply.wfile.flush()
    share = storage.content[storage.first(request) :]
    reply.send_response(200)
    for name, value in {**storage.headers(), "Content-Length": str(len(share))}.items():
        reply.send_header(name, value)
    reply.end_headers()
    reply.wfile.write(share[: len(share) // 2])
    reply.rfile.read(1)


def status(code: int) -> Fault:
    """An error page."""

    def fault(request: Request, reply: Reply, storage: Storage) -> None:
        reply.bytes(b"<Error><Code>AccessDenied</Code></Error>" * 100, code, **{"Content-Type": "application/xml"})

    return fault
