"""Script of `test_kills`: runs a command and kills it before each kind of file operation in turn.

    python killed.py predict IMAGES RUN FOLDER

Every run of the command is a fork of this process, which has imported all modules and started no thread. An audit hook
sees each operation that creates, opens for writing, renames or removes something below FOLDER. One run is recorded;
then, for each kind of operation, one run is killed before the first operation of that kind, and the same command is
given again, with --resume if it asks for it. The script prints one line per kill.
"""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from severstal_cli.config import PredictConfig, SynthConfig
from severstal_cli.errors import SeverstalError
from severstal_cli.stages import prediction, synthesis

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def watch(folder: Path, found: Callable[[str], None]) -> None:
    """Call `found` with the kind of each coming file operation below `folder`, before the operation.

    A kind is an operation on one file. Temporary files of a folder count as one file, and a rename is named by its new
    path: so a kill before each kind leaves every state of the files that a reader could see.
    """

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        is_write = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITES)
        if (is_write or event in CHANGES) and str(arguments[0]).startswith(str(folder)):
            path = str(arguments[1] if event == "os.rename" else arguments[0])
            found(f"{event} {re.sub(r'[.][0-9a-f]{16}[.]part', '*.part', os.path.relpath(path, folder))}")

    sys.addaudithook(hook)


def kill_before(kind: str, folder: Path) -> None:
    """Kill this process before its first file operation of this kind."""

    def kill(found: str) -> None:
        if found == kind:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(folder, kill)


def log(line: str) -> None:
    """Write and flush: the end of a fork flushes nothing."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def in_a_fork(command: Callable[[], object]) -> int:
    """The exit code of `command` in a fork: 0, 1 after a SeverstalError, -9 killed, 2 after any other exception."""
    pid = os.fork()
    if pid == 0:
        try:
            command()
            os._exit(0)
        except SeverstalError as error:
            log(f"refused: {error}")
            os._exit(1)
        except BaseException as error:
            log(f"traceback: {error!r}")
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kinds_of(command: Callable[[], object], folder: Path) -> list[str]:
    """The kinds of file operations of a successful run of `command`, in order."""
    read, write = os.pipe()

    def recorded() -> None:
        watch(folder, lambda kind: os.write(write, f"{kind}\n".encode()) and None)
        command()

    assert in_a_fork(recorded) == 0
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as lines:
        return list(dict.fromkeys(lines.read().splitlines()))


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder by its relative path; the metadata of a submission without its times."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = path.read_bytes().hex()
        if path.name == "s.json":
            metadata = json.loads(path.read_text())
            text = str({key: value for key, value in metadata.items() if not key.startswith(("seconds", "images_per"))})
        files[str(path.relative_to(folder))] = text
    return files


def main() -> None:
    """Kill before each kind of operation and print the result of the next runs; the last line counts the kills."""
    name, images, run, folder = sys.argv[1], *map(Path, sys.argv[2:])
    if name == "predict":
        config = PredictConfig(images=(images,), runs=(run,), out=folder / "out" / "s.csv", engine="torch")

        def command(*, resume: bool = False) -> object:
            return prediction.predict(replace(config, resume=resume))
    else:
        settings = SynthConfig(out=folder / "out", images=2, test_images=1, size=(32, 64), seed=3)

        def command(*, resume: bool = False) -> object:
            return synthesis.synthesise(settings)

        assert in_a_fork(lambda: synthesis.synthesise(replace(settings, out=folder / "older", seed=4))) == 0

    def begin() -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        if name == "synth":
            shutil.copytree(folder / "older", folder / "out")

    begin()
    kinds = kinds_of(command, folder)
    whole = contents(folder / "out")
    for kind in kinds:
        begin()

        def killed(kind: str = kind) -> None:
            kill_before(kind, folder)
            command()

        if in_a_fork(killed) != -signal.SIGKILL:
            log(f"kill {kind}: not met")
            continue
        code = in_a_fork(command)
        if code == 1:
            code = in_a_fork(lambda: command(resume=True))
        after = contents(folder / "out")
        log(f"kill {kind}: code {code}, {'the same' if after == whole else sorted(after)}")
    log(f"done {len(kinds)}")


if __name__ == "__main__":
    main()
