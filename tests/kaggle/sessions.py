"""An account whose notebooks run: each is a local process without network, with read-only inputs."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from account import SECRET, USER, Account
from server import Reply, Request

from severstal_cli.kaggle import notebook

LAYOUTS = {
    "old": ("{slug}", "{competition}"),
    "new": ("datasets/{user}/{slug}", "competitions/{competition}"),
}
"""Mount paths of a dataset and of the competition's data, relative to the inputs."""


def can_unshare() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*ALONE, "true"], check=False).returncode == 0


ALONE = ["unshare", "--net", "--mount"] + ([] if os.getuid() == 0 else ["--user", "--map-root-user"])


@dataclass(kw_only=True)
class Session:
    """A running or ended notebook."""

    working: Path
    process: subprocess.Popen[bytes] | None
    """None: a replayed session."""
    number: int
    """Kaggle's number, to cancel it."""
    events: list[dict[str, str]] = field(default_factory=list)
    """Its log."""
    state: str = "RUNNING"
    ended: threading.Event = field(default_factory=threading.Event)


Played = dict[tuple[str, str], tuple[list[dict[str, str]], Path]]
"""The logs and files of COMPLETE sessions, by layout and script, which contains the hash of its bundle."""


@dataclass(kw_only=True)
class Sessions(Account):
    """`SaveKernel` starts a process, or replays a session with the same script and layout."""

    root: Path
    """Has a folder for each session."""
    played: Played = field(default_factory=dict)
    real: int = 0
    """The number of sessions that were processes."""
    layout: str = "new"
    competition_data: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    """Environment of the notebook's process."""
    sessions: dict[tuple[str, int], Session] = field(default_factory=dict)
    holds: Callable[[], bool] = lambda: False
    """Whether a replayed session keeps running."""
    cuts: int = 0
    """How many log streams break after their first event."""
    streams: bool = True
    """Whether the log of a running session is available."""
    may_cancel: bool = True
    deleted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("CancelKernelSession", "DeleteKernel"):
            self.server.handlers[f"kernels.KernelsApiService/{name}"] = self._handler(name, getattr(self, name))

    def started(self, pushed: dict[str, Any], version: int) -> None:
        slug = pushed["slug"].partition("/")[2]
        place = self.root / f"{slug}-{version}"
        number = 251_000_000 + len(self.sessions)
        if (self.layout, pushed["text"]) in self.played:
            events, left = self.played[self.layout, pushed["text"]]
            session = Session(working=Path(shutil.copytree(left, place)), process=None, number=number, events=events)
            self.sessions[slug, version] = session
            return
        self.real += 1
        inputs, working, home = place / "inputs", place / "working", place / "home"
        for folder in (inputs, working, home, place / "mounted"):
            folder.mkdir(parents=True)
        dataset, competition = LAYOUTS[self.layout]
        for source in pushed["datasetDataSources"]:
            name = source.partition("/")[2]
            for path, content in self.datasets[name][-1].items():
                file = inputs / dataset.format(user=USER, slug=name) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        for source in pushed.get("competitionDataSources", ()):
            assert self.competition_data is not None
            shutil.copytree(self.competition_data, inputs / competition.format(competition=source))
        (place / "script.py").write_text(pushed["text"])
        script = f"""
            set -e
            mount --bind {inputs} {place / "mounted"}; mount -o remount,ro,bind {place / "mounted"}
            if touch {place / "mounted"}/probe 2>/dev/null; then echo "the inputs can be written"; exit 9; fi
            cd {working}; exec {shlex.join([sys.executable, "-P", str(place / "script.py")])}
        """
        environment = {
            "PATH": os.defpath,
            "HOME": str(home),
            "SEVERSTAL_INPUT": str(place / "mounted"),
            "SEVERSTAL_CPU": "1",
            "KAGGLE_CONTAINER_NAME": f"kaggle_Ab1_{number}-webtier",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(place),
            **self.environment,
        }
        process = subprocess.Popen(
            [*ALONE, "sh", "-c", script],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        session = Session(working=working, process=process, number=number)
        self.sessions[slug, version] = session
        threading.Thread(target=self._listen, args=(session, pushed["text"]), daemon=True).start()

    def _listen(self, session: Session, script: str) -> None:
        assert session.process is not None
        assert session.process.stdout is not None
        with session.process.stdout as log:
            for line in log:
                session.events.append({"stream_name": "stdout", "data": line.decode()})
        code = session.process.wait()
        if session.state == "RUNNING":
            session.state = "ERROR" if code else "COMPLETE"
            if not code:
                self.played[self.layout, script] = session.events, session.working
        else:
            session.state = "CANCEL_ACKNOWLEDGED"
        session.ended.set()

    def end_all(self) -> None:
        for session in self.sessions.values():
            if session.process is not None and not session.ended.is_set():
                os.killpg(session.process.pid, signal.SIGKILL)
                session.ended.wait(20)

    def GetKernelSessionStatus(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        session = self.sessions.get(self._key(asked))
        if session is None:
            return 404, "no such session"
        if session.process is None and not session.ended.is_set() and not self.holds():
            session.state = "COMPLETE"
            session.ended.set()
        if session.ended.is_set():
            key = self._key(asked)
            names = sorted(
                path.relative_to(session.working).as_posix() for path in session.working.rglob("*") if path.is_file()
            )
            self.ended.setdefault(key, ({"status": session.state}, json.dumps(session.events), tuple(names)))
        return {"status": session.state}

    def address(self, key: tuple[str, int], name: str) -> str:
        path = f"/output/{key[0]}/{key[1]}/{name}"
        self.server.handlers[path] = lambda request, reply: self._send_file(key, name, request, reply)
        return f"{self.server.url}{path}?sig={SECRET}"

    def _send_file(self, key: tuple[str, int], name: str, request: Request, reply: Reply) -> None:
        if fault := self._next(self.before, "GET"):
            fault(request, reply)
            return
        content = (self.sessions[key].working / name).read_bytes()
        first = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if first:
            reply.bytes(content[first:], 206)
        else:
            reply.bytes(content)

    def CancelKernelSession(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        found = [session for session in self.sessions.values() if session.number == asked["kernelSessionId"]]
        if not self.may_cancel or not found:
            # several projects, 2026: the answer to a newer token. Kaggle/kaggle-cli issues 1169, 1172: no call returns
            # the number, which a notebook has in KAGGLE_CONTAINER_NAME
            return 403, "Permission 'kernelSessions.cancel' was denied"
        (session,) = found
        if session.process is None:  # a replayed one: without the manifest, which is written last
            (session.working / notebook.OUTPUT).unlink()
            session.state = "CANCEL_ACKNOWLEDGED"
            session.ended.set()
            return {}
        session.state = "CANCEL_REQUESTED"
        os.killpg(session.process.pid, signal.SIGKILL)
        return {}

    def DeleteKernel(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        # one project measured that the GPU time stops at once
        self.deleted.append(asked["kernelSlug"])
        self.end_all()
        return {}

    def stream(self, slug: str) -> None:
        """Serve the log of a notebook: kaggle 2.2.4, kaggle_api_extended.py, kernels_logs_stream."""
        self.server.handlers[f"kernels/logs/stream/{USER}/{slug}"] = self._stream

    def _stream(self, request: Request, reply: Reply) -> None:
        slug = request.path.partition("?")[0].rpartition("/")[2]
        assert request.path.endswith(f"versionLabel=v{len(self.of(slug))}")
        session = self.sessions[slug, len(self.of(slug))]
        if not self.streams:
            reply.json({"error": {"code": 403, "message": "no", "status": "X"}}, 403)
            return
        if session.ended.is_set():
            reply.bytes(json.dumps(session.events).encode(), **{"Content-Type": "application/json"})
            return
        reply.send_response(200)
        reply.send_header("Content-Type", "text/event-stream")
        reply.send_header("Connection", "close")
        reply.end_headers()
        reply.close_connection = True
        sent = 0
        while True:
            over = session.ended.is_set()
            for event in session.events[sent:]:
                reply.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                reply.wfile.flush()
                sent += 1
                if self.cuts and sent > 1:
                    self.cuts -= 1
                    reply.connection.shutdown(2)
                    return
            if over:
                reply.wfile.write(b"data: END_OF_LOG\n\n")
                return
            time.sleep(0.02)
