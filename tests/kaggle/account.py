"""An account on the local Kaggle: storage, datasets, notebooks and submissions, as far as `submit` needs them.

Requests and answers have the fields of kagglesdk 0.1.37, as `DatasetApiClient` and its neighbours send and parse them:
kagglesdk/SERVICE/types/SERVICE_api_service.py. Where Kaggle itself was seen to answer otherwise, a comment says where.
"""

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from server import TOKEN, Reply, Request, Server

from severstal_cli.kaggle import notebook

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
        (
            "GetKernel",
            "SaveKernel",
            "GetKernelSessionStatus",
            "ListKernelSessionOutput",
            "ListKernelFiles",
            "GetAcceleratorQuotaStatistics",
        ),
        "kernels.KernelsApiService",
    ),
    **dict.fromkeys(
        (
            "GetCompetition",
            "ListSubmissions",
            "GetSubmissionLimits",
            "CreateCodeSubmission",
            "GetSubmission",
            "GetLeaderboard",
        ),
        "competitions.CompetitionApiService",
    ),
}
"""The service of each call."""


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
    """The objects of the account, and its faults."""

    server: Server
    blobs: list[Blob] = field(default_factory=list)
    slug: str = "severstal-unet-fold0"
    """The dataset of `versions`."""
    datasets: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    """The versions of each dataset, by slug: the files by path."""
    taken: dict[str, str] = field(default_factory=dict)
    """Taken names: {slug: "notebook"}."""
    kernels: list[dict[str, Any]] = field(default_factory=list)
    """The pushed notebooks in order."""
    ended: dict[tuple[str, int], tuple[dict[str, Any], str, tuple[str, ...]]] = field(default_factory=dict)
    """Ended sessions, by slug and version: the status, the log and the files."""
    refusals: list[str] = field(default_factory=list)
    """Reasons to refuse the next pushes, in answers with status 200."""
    unseen: dict[str, int] = field(default_factory=dict)
    """How many requests a call answers by 403, as Kaggle does for new objects."""
    unmounted: int = 0
    """How many sessions run before the dataset is mounted."""
    unlisted: int = 0
    """How many listings of an ended session's files are empty."""
    looks: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Listings of a session's files: the first has sizes of 0."""
    sizes_are_secret: bool = False
    """Refuse the list of files, as others saw with `kaggle auth login`: "Permission 'kernels.get' was denied"."""
    competition: dict[str, Any] = field(
        default_factory=lambda: {"userHasEntered": True, "maxDailySubmissions": 5, "isKernelsSubmissionsOnly": True}
    )
    quota: dict[str, Any] = field(
        default_factory=lambda: {
            "quotaRefreshTime": "2026-11-28T00:00:00Z",
            "gpuQuota": {"timeUsed": "3600s", "timeReserved": "1800.5s", "totalTimeAllowed": "108000s"},
        }
    )
    submissions: list[dict[str, Any]] = field(default_factory=list)
    listed_at: int = 0
    """How many listings of submissions are empty."""
    before: dict[str, list[Fault | None]] = field(default_factory=dict)
    """Faults instead of the next answers to a call, "PUT" for the storage; nothing is done. None: no fault."""
    after: dict[str, list[Fault | None]] = field(default_factory=dict)
    """Faults after the request was processed."""
    dataset_states: list[str] = field(default_factory=list)
    """The states before "READY"."""
    kernel_states: list[str] = field(default_factory=list)
    """The states before `kernel_end`."""
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
    """Pages of scores: of the public leaderboard (True) and the private one."""

    def __post_init__(self) -> None:
        for name, service in NAMES.items():
            self.server.handlers[f"{service}/{name}"] = self._handler(name, getattr(self, name))
        self.server.handlers["security.OAuthService/IntrospectToken"] = self._handler("IntrospectToken", introspect)

    @property
    def versions(self) -> list[dict[str, bytes]]:
        """The versions of the bundle's dataset."""
        return self.datasets.setdefault(self.slug, [])

    @versions.setter
    def versions(self, found: list[dict[str, bytes]]) -> None:
        self.datasets[self.slug] = found

    def of(self, slug: str) -> list[dict[str, Any]]:
        """The versions of a notebook."""
        return [kernel for kernel in self.kernels if kernel["slug"] == f"{USER}/{slug}"]

    def calls(self, name: str = "") -> list[str]:
        """The names of the received calls, except to the storage; all, or those with this name."""
        found = [path.rpartition("/")[2] for path in self.server.paths() if "/storage/" not in path]
        return [call for call in found if name in ("", call)]

    def puts(self) -> list[Request]:
        return [request for request in self.server.requests if "/storage/" in request.path]

    def _handler(self, name: str, answer: Callable[[dict[str, Any]], Any]) -> Fault:
        def handle(request: Request, reply: Reply) -> None:
            if fault := self._next(self.before, name):
                fault(request, reply)
                return
            if self.unseen.get(name):
                # Kaggle/kaggle-cli, kaggle_api_extended.py, kernels_status: "Permission 'kernels.get' was denied" is
                # its answer for an unknown notebook, also for a new one
                self.unseen[name] -= 1
                reply.json(gateway(403, "Permission 'kernels.get' was denied"), 403)
                return
            found = answer(request.json)
            if fault := self._next(self.after, name):
                fault(request, reply)
            elif isinstance(found, tuple):
                reply.json(gateway(*found), found[0])
            else:
                reply.json(found)

        return handle

    @staticmethod
    def _next(faults: dict[str, list[Fault | None]], name: str) -> Fault | None:
        return faults[name].pop(0) if faults.get(name) else None

    def Hello(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        # kagglehub 1.0.2, kagglehub/auth.py: DiagnosticsService/Hello, "userName"
        return {"userName": USER}

    def StartBlobUpload(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        # kaggle 2.2.4, kaggle_api_extended.py, upload_complete: PUT to "createUrl"; 308 and "Range" resume an upload
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
        if not part and request.body:  # Kaggle's own tool sends the whole file
            blob.content += request.body
        elif part and not part.startswith("*"):
            first = int(part.partition("-")[0])
            assert first == len(blob.content), "a gap, or stored bytes again"
            assert int(part.partition("-")[2].partition("/")[0]) == first + len(request.body) - 1
            blob.content += request.body
        if fault := self._next(self.after, "PUT"):
            fault(request, reply)
        elif len(blob.content) == blob.size:
            reply.bytes(b"", 201)
        else:
            reply.bytes(b"", 308, **({"Range": f"bytes=0-{len(blob.content) - 1}"} if blob.content else {}))

    def GetDataset(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        versions = self.datasets.get(asked["datasetSlug"])
        if not versions:
            # recorded by several projects in 2026: 403 for a missing dataset, too
            return 403, "Permission 'datasets.get' was denied"
        return {"ref": f"{USER}/{asked['datasetSlug']}", "currentVersionNumber": len(versions), "isPrivate": True}

    def ListDatasetFiles(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"datasetFiles": [{"name": name} for name in self.datasets[asked["datasetSlug"]][-1]]}

    def CreateDataset(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        assert asked["isPrivate"] is True
        assert asked["ownerSlug"] == USER
        assert 6 <= len(asked["title"]) <= 50
        slug = asked["slug"]
        if self.datasets.get(slug):
            return {"status": "Error", "error": "the title is already in use by a dataset"}
        if slug in self.taken or self.of(slug):
            # Kaggle/kaggle-cli pull request 1180: a dataset cannot have the slug of a notebook
            kind = self.taken.get(slug, "notebook")
            return {"status": "Error", "error": f"The requested slug {slug!r} is already in use by a {kind}."}
        return self._publish(slug, asked)

    def CreateDatasetVersion(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        return self._publish(asked["datasetSlug"], asked["body"])

    def _publish(self, slug: str, folder: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:
        try:
            self.datasets.setdefault(slug, []).append(self._files(folder, ""))
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

    def GetDatasetStatus(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        if not self.datasets.get(asked["datasetSlug"]):
            return 403, "Permission 'datasets.get' was denied"
        return {"status": self.dataset_states.pop(0) if self.dataset_states else "READY"}

    def GetKernel(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        found = self.of(asked["kernelSlug"])
        if not found:
            return 404, "not found"
        return {"metadata": {"currentVersionNumber": len(found)}, "blob": {"source": found[-1].get("text", "")}}

    def SaveKernel(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        slug, title = asked["slug"].partition("/")[2], asked["newTitle"]
        # Kaggle/kaggle-cli issue 847, "Your kernel title does not resolve to the specified id"; pull request 179: a
        # title has at most 50 letters
        assert re.sub("[^a-z0-9]+", "-", title.lower()) == slug
        assert 5 <= len(title) <= 50
        if self.datasets.get(slug) or slug in self.taken:
            # seen by others in June and October 2026, and for ever; Kaggle/kaggle-cli pull request 1180: one name space
            return (
                409,
                f'The requested title "{title}" is already in use by a {self.taken.get(slug, "dataset")}.',
                ("ALREADY_EXISTS"),
            )
        if self.refusals:
            # captured by another project from the live API at the end of its week's 30 hours: the status was 200
            reason = self.refusals.pop(0)
            return {
                "errorNullable": reason,
                "ref": "",
                "url": "",
                "versionNumber": 0,
                "hasVersionNumber": False,
                "error": reason,
                "hasError": True,
                "kernelId": 0,
            }
        pushed = {**asked, "dataset": len(self.versions)}
        self.kernels.append(pushed)
        self.started(pushed, len(self.of(slug)))
        return {"ref": f"/code/{asked['slug']}", "versionNumber": len(self.of(slug))}

    def started(self, pushed: dict[str, Any], version: int) -> None:
        """Start a session of a notebook."""

    def _key(self, asked: dict[str, Any]) -> tuple[str, int]:
        """The requested version; without a label the previous one, as Kaggle may answer after a push. 0: unknown.

        kaggle 2.2.4, kaggle_api_extended.py, _kernel_version_label: the API answers 404 to a bare number.
        """
        slug = asked["kernelSlug"]
        label = asked.get("versionLabel", f"v{max(1, len(self.of(slug)) - 1)}")
        return slug, int(label[1:]) if label.startswith("v") else 0

    def GetKernelSessionStatus(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        key = self._key(asked)
        if not key[1]:
            return 404, "no such version"
        if key in self.ended:
            return self.ended[key][0]
        if self.kernel_states:
            return {"status": self.kernel_states.pop(0)}
        status = {"status": self.kernel_end, **({"failureMessage": self.failure} if self.failure else {})}
        self.ended[key] = status, self.log, self.outputs
        if self.unmounted:
            # others run a notebook again two minutes after its dataset was READY: the first session had no such folder
            self.unmounted -= 1
            log = f"severstal: no severstal-bundle.json under /kaggle/input: {notebook.UPLOAD_AGAIN}"
            self.ended[key] = {"status": "ERROR"}, json.dumps([{"stream_name": "stderr", "data": log}]), ()
        return self.ended[key][0]

    def ListKernelSessionOutput(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        key = self._key(asked)
        if key not in self.ended:
            return 404, "no such session"
        _, log, outputs = self.ended[key]
        if self.unlisted > 0:
            outputs = ()
        number = int(asked.get("pageToken") or 0)
        files = [{"fileName": name, "url": self.address(key, name)} for name in outputs[number : number + 1]]
        more = {"nextPageToken": str(number + 1)} if number + 1 < len(outputs) else {}
        return {"files": files, "log": log, **more}

    def address(self, key: tuple[str, int], name: str) -> str:
        """The signed address of a session's file."""
        return f"https://storage/?sig={SECRET}"

    def ListKernelFiles(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:  # noqa: N802
        # others saw the output listed minutes after COMPLETE, and lost two submissions within half a minute of it:
        # "Notebook is still running. Did not find provided Notebook Output File."
        key = self._key(asked)
        if key not in self.ended:
            return 404, "no such session"
        if self.unlisted > 0:
            self.unlisted -= 1
            return {}
        self.looks[key] += 1
        return {"files": [{"name": name, "size": 0 if self.looks[key] == 1 else 9} for name in self.ended[key][2]]}

    def GetCompetition(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"ref": asked["competitionName"], **self.competition}

    def GetAcceleratorQuotaStatistics(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self.quota

    def GetSubmissionLimits(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self.limits

    def CreateCodeSubmission(self, asked: dict[str, Any]) -> dict[str, Any] | tuple[int, str, str]:  # noqa: N802
        assert asked["kernelOwner"] == USER
        assert asked["fileName"] == "submission.csv"
        assert len(self.of(asked["kernelSlug"])) >= asked["kernelVersion"]
        if self.looks[asked["kernelSlug"], asked["kernelVersion"]] < 2 and not self.sizes_are_secret:
            # another project captured this body, with another first sentence
            found = "Submission not allowed: Notebook is still running. Did not find provided Notebook Output File."
            return 400, found, "FAILED_PRECONDITION"
        number = 7000 + len(self.submissions)
        self.submissions.append({"ref": number, "description": asked["submissionDescription"], "asked": asked})
        return {"message": "done", "ref": number}

    def ListSubmissions(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if self.listed_at and self.submissions:
            self.listed_at -= 1
            return {}
        number = int(asked.get("pageToken") or 0)
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
        number = int(asked.get("pageToken") or 0)
        more = {"nextPageToken": str(number + 1)} if number + 1 < len(pages) else {}
        rows = [
            {"teamId": place, "score": score} for place, score in enumerate(pages[number] if pages else [], start=1)
        ]
        return {"submissions": rows, **more}


def introspect(asked: dict[str, Any]) -> dict[str, Any]:
    """Kaggle's own tool asks for it at its start: kaggle 2.2.4, kaggle_api_extended.py, _introspect_token."""
    return {"active": asked["token"] == TOKEN, "username": USER}


def gateway(status: int, message: str, kind: str = "UNKNOWN") -> dict[str, Any]:
    """An error of Kaggle in 2026, as several projects captured it. kagglesdk reads another form only."""
    return {"error": {"code": status, "message": message, "status": kind}}


def failing(status: int, times: int = 4, message: str = f"no, {TOKEN}") -> list[Fault | None]:
    """`times` answers with `status`, and the token in the message."""
    content = gateway(status, message)
    return [lambda request, reply: reply.json(content, status)] * times


def kill(process: Callable[[], int]) -> Fault:
    """SIGKILL the process whose id `process()` is, then break the connection."""

    def handle(request: Request, reply: Reply) -> None:
        os.kill(process(), signal.SIGKILL)
        drop(request, reply)

    return handle
