"""A headless Chromium, driven by its DevTools protocol, for the tests of the page."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
    "--remote-allow-origins=*", "--window-size=1280,900",
)  # fmt: skip


class Page:
    """One page. Collects the faults on its console and the addresses that it requests."""

    def __init__(self, profile: Path) -> None:
        import websocket

        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 300
        while not port_file.exists() or not port_file.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Chromium does not start")
            time.sleep(0.05)
        port = port_file.read_text().split()[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/json/list") as answer:
            (target,) = [one for one in json.load(answer) if one["type"] == "page"]
        self._socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=300, http_no_proxy=["*"])
        self._number = 0
        self.faults: list[str] = []
        self.addresses: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(300)

    def resident_bytes(self) -> int:
        """Memory of all processes of the browser; shared memory counts once per process."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):  # the process has ended
                rows = dict(line.split(":", 1) for line in path.read_text().splitlines())
                found[int(rows["Pid"])] = int(rows["PPid"]), 1024 * int(rows.get("VmRSS", "0 kB").split()[0])
        own = {self._process.pid}
        while more := {number for number, (above, _) in found.items() if above in own} - own:
            own |= more
        return sum(found[number][1] for number in own)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.faults.append(str(details.get("exception", {}).get("description", details["text"])))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.faults.append(str(event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.faults.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.addresses.append(event["request"]["url"])

    def run(self, code: str) -> Any:
        """Evaluate `code`; await its value if it is a promise."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, code: str, seconds: float = 300) -> Any:
        """Evaluate `code` until its value is true, and return it."""
        deadline = time.monotonic() + seconds
        while not (found := self.run(code)):
            assert time.monotonic() < deadline, f"never true: {code}"
            time.sleep(0.02)
        return found

    def open(self, page: Path, size: tuple[int, int] = (1280, 900)) -> float:
        """Open a local file; return the milliseconds until it is ready."""
        width, height = size
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.documentElement?.dataset.ready === 'yes' && document.readyState === 'complete'")
        found: float = self.run("performance.getEntriesByType('navigation')[0].domComplete")
        return found

    def key(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27, "Enter": 13}
        code = codes.get(key) or ord(key[0].upper())
        shared = {"key": key, "windowsVirtualKeyCode": code}
        typed = text or (key if len(key) == 1 else "\r" if key == "Enter" else "")
        self.call("Input.dispatchKeyEvent", type="keyDown", text=typed, **shared)
        self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def screenshot(self, path: Path) -> None:
        import base64

        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
