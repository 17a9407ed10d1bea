"""An account on the local Kaggle: storage, datasets, notebooks and submissions, as far as `submit` needs them."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from server import TOKEN, Reply, Request, Server

USER = "ann"
SECRET = "AKeyToTheStorage"
"""Part of every address of the storage."""

NAMES = {
    "Hello": "api.v1.DiagnosticsService",
    "StartBlobUpload": "blobs.BlobApiService",
    **dict.fromkeys(
        ("GetDataset", "ListDatasetFiles", "CreateDataset", "CreateDatasetVersion", "GetDatasetStatus"),
        "datasets.DatasetApiService",
    ),
    **dict.fromkeys(
        ("GetKernel", "SaveKernel", "GetKernelSessionStatus", "ListKernelSessionOutput"), "kernels.KernelsApiService"
    ),
    **dict.fromkeys(
        ("ListSubmissions", "GetSubmissionLimits", "CreateCodeSubmission", "GetSubmission", "GetLeaderboard"),
        "competitions.CompetitionApiService",
    ),
}
"""The calls, and the service of each."""


Fault = Callable[[Request, Reply], None]


@dataclass(kw_only=True)
class Blob:
    """A file in the storage."""

    name: str
    size: int
    content: bytearray = field(default_factory=bytearray)
    used: bool = False


def drop(request: Request, reply: Reply) -> None:
    """Break the connection without an answer."""
    reply.close_connection = True
    reply.connection.shutdown(2)


@dataclass(kw_only=True)
class Account:
    """What is there, and what goes wrong."""

    server: Server
    blobs: list[Blob] = field(default_factory=list)
    versions: list[dict[str, bytes]] = field(default_factory=list)
    """Of the dataset: its files by path."""
    kernels: list[dict[str, Any]] = field(default_factory=list)
    """What was pushed, by version."""
    ended: dict[int, tuple[dict[str, Any], str, tuple[str, ...]]] = field(default_factory=dict)
    """Of the notebook's sessions that have ended, by version: the status, the log and what it left."""
    submissions: list[dict[str, Any]] = field(default_factory=list)
    listed_at: int = 0
    """How many questions for the list of submissions are answered by an empty one."""
    before: dict[str, list[Fault | None]] = field(default_factory=dict)
    """Instead of the next answers to a call, "PUT" for those of the storage; nothing is done. None: no fault."""
    after: dict[str, list[Fault | None]] = field(default_factory=dict)
    """Likewise, but what was asked for is done."""
    dataset_states: list[str] = field(default_factory=list)
    """What comes before "READY"."""
    kernel_states: list[str] = field(default_factory=list)
    """What comes before `kernel_end`."""
    kernel_end: str = "COMPLETE"
    failure: str = ""
    log: str = "[]"
    outputs: tuple[str, ...] = ("submission.csv", "submission.json")
    submission_states: list[str] = field(default_factory=list)
    submission_end: dict[str, Any] = field(
        default_factory=lambda: {"status": "COMPLETE", "publicScore": "0.88", "privateScore": "0.87"}
    )
    limits: dict[str, Any] = field(default_factory=lambda: {"numAllowedNow": 5})
    boards: dict[bool, list[list[str]]] = field(
        default_factory=lambda: {True: [["0.92", "0.90"], ["0.88", "0.88", "0.5"]], False: [["0.9"], ["0.86"]]}
    )
    """Pages of scores: of the public board (True) and the private one."""

    def __post_init__(self) -> None:
        for name, service in NAMES.items():
            self.server.handlers[f"{service}/{name}"] = self._handler(name, getattr(self, name))

    def calls(self, name: str = "") -> list[str]:
        """The names of the calls that arrived, without those to the storage; or those of this name."""
        found = [path.rpartition("/")[2] for path in self.server.paths() if "/storage/" not in path]
        return [call for call in found if name in ("", call)]

    def puts(self) -> list[Request]:
        return [request for request in self.server.requests if "/storage/" in request.path]

    def _handler(self, name: str, answer: Callable[[dict[str, Any]], dict[str, Any] | tuple[int, str]]) -> Fault:
        def handle(request: Request, reply: Reply) -> None:
            if fault := self._next(self.before, name):
                fault(request, reply)
                return
            found = answer(request.json)
            if fault := self._next(self.after, name):
                fault(request, reply)
            elif isinstance(found, tuple):
                reply.json({"code": found[0], "message": found[1]}, found[0])
            else:
                reply.json(found)

        return handle

    @staticmethod
    def _next(faults: dict[str, list[Fault | None]], name: str) -> Fault | None:
        return faults[name].pop(0) if faults.get(name) else None

    def Hello(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"userName": USER}

    def StartBlobUpload(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        assert asked["type"] == "DATASET"
        number = len(self.blobs)
        self.blobs.append(Blob(name=asked["name"], size=asked.get("contentLength", 0)))
        self.server.handlers[f"/storage/{number}"] = self._handle_put
        return {"token": f"{SECRET}-{number}", "createUrl": f"{self.server.url}/storage/{number}?upload_id={SECRET}"}

    def _handle_put(self, request: Request, reply: Reply) -> None:
        if fault := self._next(self.before, "PUT"):
            fault(request, reply)
            return
        blob = self.blobs[int(request.path.rpartition("/")[2].partition("?")[0])]
        part = request.headers.get("Content-Range", "").removeprefix("bytes ")
        if part and not part.startswith("*"):
            first = int(part.partition("-")[0])
            assert first == len(blob.content), "a gap, or bytes that are there"
            assert int(part.partition("-")[2].partition("/")[0]) == first + len(request.body) - 1
            blob.content += request.body
        if fault := self._next(self.after, "PUT"):
            fault(request, reply)
        elif len(blob.content) == blob.size:
            reply.bytes(b"", 201)
        else:
            reply.bytes(b"", 308, **({"Range": f"bytes=0-{len(blob.content) - 1}"} if blob.content else {}))

    def GetDataset(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        if not self.versions:
            return 403, "Permission 'datasets.get' was denied"
        return {"ref": f"{USER}/{asked['datasetSlug']}", "currentVersionNumber": len(self.versions), "isPrivate": True}

    def ListDatasetFiles(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"datasetFiles": [{"name": name} for name in self.versions[-1]]}

    def CreateDataset(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        assert asked["isPrivate"] is True
        assert asked["ownerSlug"] == USER
        assert 6 <= len(asked["title"]) <= 50
        if self.versions:
            return {"status": "Error", "error": "the title is already in use by a dataset"}
        return self._publish(asked)

    def CreateDatasetVersion(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        return self._publish(asked["body"])

    def _publish(self, folder: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:
        try:
            self.versions.append(self._files(folder, ""))
        except ValueError as error:
            return 400, str(error)
        return {"status": "ok"}

    def _files(self, folder: dict[str, Any], above: str) -> dict[str, bytes]:
        found = {}
        for file in folder.get("files", []):
            blob = self.blobs[int(file["token"].rpartition("-")[2])]
            if blob.used or len(blob.content) != blob.size:
                raise ValueError(f"{blob.name} is used up or incomplete, its token is {file['token']}, yours {TOKEN}")
            found[above + blob.name] = bytes(blob.content)
            blob.used = True
        for below in folder.get("directories", []):
            found |= self._files(below, f"{above}{below['name']}/")
        return found

    def GetDatasetStatus(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"status": self.dataset_states.pop(0) if self.dataset_states else "READY"}

    def GetKernel(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        if not self.kernels:
            return 404, "not found"
        metadata = {"currentVersionNumber": len(self.kernels)}
        return {"metadata": metadata, "blob": {"source": self.kernels[-1].get("text", "")}}

    def SaveKernel(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.kernels.append({**asked, "dataset": len(self.versions)})
        return {"ref": f"/code/{asked['slug']}", "versionNumber": len(self.kernels)}

    def _version(self, asked: dict[str, Any]) -> int:
        """Which version is meant; without one that before the last, as Kaggle may do after a push. 0: none."""
        label = asked.get("versionLabel", f"v{max(1, len(self.kernels) - 1)}")
        return int(label[1:]) if label.startswith("v") else 0

    def GetKernelSessionStatus(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        version = self._version(asked)
        if not version:
            return 404, "no such version"
        if version in self.ended:
            return self.ended[version][0]
        if self.kernel_states:
            return {"status": self.kernel_states.pop(0)}
        status = {"status": self.kernel_end, **({"failureMessage": self.failure} if self.failure else {})}
        self.ended[version] = status, self.log, self.outputs
        return status

    def ListKernelSessionOutput(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        version = self._version(asked)
        if version not in self.ended:
            return 404, "no such session"
        _, log, outputs = self.ended[version]
        number = int(asked.get("pageToken", "0"))
        files = [{"fileName": name, "url": f"https://storage/?sig={SECRET}"} for name in outputs[number : number + 1]]
        more = {"nextPageToken": str(number + 1)} if number + 1 < len(outputs) else {}
        return {"files": files, "log": log, **more}

    def GetSubmissionLimits(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self.limits

    def CreateCodeSubmission(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        assert asked["kernelOwner"] == USER
        assert asked["fileName"] == "submission.csv"
        number = 7000 + len(self.submissions)
        self.submissions.append({"ref": number, "description": asked["submissionDescription"], "asked": asked})
        return {"message": "done", "ref": number}

    def ListSubmissions(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if self.listed_at and self.submissions:
            self.listed_at -= 1
            return {}
        number = int(asked.get("pageToken", "0"))
        rows = [self._row(found) for found in self.submissions[number : number + 1]]
        return {
            "submissions": rows,
            **({"nextPageToken": str(number + 1)} if number + 1 < len(self.submissions) else {}),
        }

    def GetSubmission(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._row(next(found for found in self.submissions if found["ref"] == asked["ref"]))

    def _row(self, found: dict[str, Any]) -> dict[str, Any]:
        if self.submission_states:
            found |= {"status": self.submission_states.pop(0)}
        else:
            found |= self.submission_end
        return {name: value for name, value in found.items() if name != "asked"} | {"date": "2026-11-23T04:55:00.123Z"}

    def GetLeaderboard(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        pages = self.boards[asked.get("overridePublic", False)]
        number = int(asked.get("pageToken", "0"))
        more = {"nextPageToken": str(number + 1)} if number + 1 < len(pages) else {}
        rows = [
            {"teamId": place, "score": score} for place, score in enumerate(pages[number] if pages else [], start=1)
        ]
        return {"submissions": rows, **more}


def failing(status: int, times: int = 4) -> list[Fault | None]:
    """Answers `times` times with `status`; the token is in the message."""
    content = {"code": status, "message": f"no, {TOKEN}"}
    return [lambda request, reply: reply.json(content, status)] * times


def kill(process: Callable[[], int]) -> Fault:
    """SIGKILL the process whose id `process()` is, then break the connection."""

    def handle(request: Request, reply: Reply) -> None:
        os.kill(process(), signal.SIGKILL)
        drop(request, reply)

    return handle
