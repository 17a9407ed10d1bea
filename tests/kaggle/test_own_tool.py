"""The commands of a bundle's README.md, with Kaggle's own tool (the package `kaggle`) against the local Kaggle."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from account import USER, Account
from server import Server

from severstal_cli.kaggle import bundle, notebook, wheels

pytestmark = pytest.mark.skipif(importlib.util.find_spec("kaggle") is None, reason="the package kaggle is missing")

DATE = "Sat, 28 Nov 2026 00:00:00 GMT"
"""A header that the tool reads of every download: kaggle 2.2.4, kaggle_api_extended.py, download_needed."""

RUN = """
import json, sys
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = sys.argv[1]
commands = json.loads(sys.argv[2])
sys.argv = ["kaggle", "--version"]  # it authenticates when it is imported
from kaggle.cli import main
for command in commands:
    print("$", *command, flush=True)
    sys.argv = ["kaggle", *command]
    main()
"""
"""Runs several commands in one process: importing the package takes seconds."""


def kaggle(server: Server, folder: Path, commands: list[str]) -> dict[str, str]:
    """The output of each command, run in `folder`."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN, server.url, json.dumps([command.split() for command in commands])],
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = {}
    for part in done.stdout.split("$ ")[1:]:
        command, _, text = part.partition("\n")
        outputs[command] = text
    return outputs


def test_the_commands_of_the_readme(
    server: Server, tmp_path: Path, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "missing_wheels", list)
    made = bundle.build(tmp_path / "bundle", runs=[trained[1]], user=USER, competition="steel")
    account, name = Account(server=server, slug=made.slug), f"{USER}/{made.slug}-notebook"
    csv = b"ImageId_ClassId,EncodedPixels\n"
    server.handlers["/output"] = lambda request, reply: reply.bytes(csv, **{"Last-Modified": DATE})
    monkeypatch.setattr(account, "address", lambda key, name: f"{server.url}/output?{name}")
    readme = (tmp_path / "bundle/README.md").read_text()
    commands = [line.removeprefix("    kaggle ") for line in readme.splitlines() if line.startswith("    kaggle ")]
    commands = [command for command in commands if not command.startswith("datasets version")]
    files = commands.index(f"kernels files {name}")
    commands.insert(files, commands[files])  # README: again, until the file has a size
    outputs = kaggle(server, tmp_path / "bundle", [*commands, f"kernels output {name} -p output"])

    def output_of(start: str) -> str:
        return next(text for command, text in outputs.items() if command.startswith(start))

    assert output_of("datasets status") == "ready"
    assert "Kernel version 1 successfully pushed" in output_of("kernels push")
    assert 'has status "KernelWorkerStatus.COMPLETE"' in output_of("kernels status")
    assert re.search(r"submission\.csv +9 ", output_of("kernels files"))
    assert re.search(r"7000 .*SubmissionStatus\.COMPLETE +0\.88 +0\.87", output_of("competitions submissions"))
    assert (tmp_path / "bundle/output/submission.csv").read_bytes() == csv
    (submission,) = account.submissions
    assert submission["asked"] == {
        "competitionName": "steel",
        "kernelOwner": USER,
        "kernelSlug": f"{made.slug}-notebook",
        "kernelVersion": 1,
        "fileName": "submission.csv",
        "submissionDescription": made.slug,
    }
    (pushed,) = account.kernels
    assert pushed["text"] == (made.kernel / "script.py").read_text()
    assert (pushed["isPrivate"], pushed["enableGpu"], pushed["enableInternet"], pushed["machineShape"]) == (
        True,
        True,
        False,
        "NvidiaTeslaT4",
    )
    assert (pushed["datasetDataSources"], pushed["competitionDataSources"]) == ([f"{USER}/{made.slug}"], ["steel"])
    # the script finds every file of the bundle in what the tool uploaded: each folder became a zip archive
    assert set(account.versions[-1]) == {"severstal-bundle.json", "thresholds.json", "runs.zip", "wheels.zip"}
    (tmp_path / "mounted").mkdir()
    for path, content in account.versions[-1].items():
        (tmp_path / "mounted" / path).write_bytes(content)
    wanted = json.loads((made.dataset / notebook.CONTENTS).read_text())["files"]
    notebook.collect(tmp_path / "mounted", wanted, tmp_path / "work")
    for path in wanted:
        assert (tmp_path / "work" / path).read_bytes() == (made.dataset / path).read_bytes()
