"""What `test_kills` runs in a process of its own: a command killed at each of its file operations in turn.

    python killed.py predict IMAGES RUN FOLDER

Each try is a fork of this process, which has imported all and run nothing yet. An audit hook counts what makes, opens
for writing, renames or removes something below FOLDER, and kills the try before the operation whose turn it is. Then
the same command is given again, and with --resume where it asks for it. A line is printed for each kill.
"""

import json
import os
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


def kill_at(number: int, folder: Path) -> None:
    """Kill this process before its file operation of this number, counted from 1."""
    done = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        is_write = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITES)
        if (is_write or event in CHANGES) and str(arguments[0]).startswith(str(folder)):
            done += 1
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def tell(line: str) -> None:
    """At once: the end of a fork flushes nothing."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def in_a_fork(command: Callable[[], object]) -> int:
    """The exit code of `command` in a process of its own: 0, 1 after a SeverstalError, -9 killed, 2 another end."""
    pid = os.fork()
    if pid == 0:
        try:
            command()
            os._exit(0)
        except SeverstalError as error:
            tell(f"refused: {error}")
            os._exit(1)
        except BaseException as error:
            tell(f"traceback: {error!r}")
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder, by its path in it; of JSON without what is of the hour."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = path.read_bytes().hex()
        if path.name == "s.json":
            story = json.loads(path.read_text())
            text = str({name: value for name, value in story.items() if not name.startswith(("seconds", "images_per"))})
        found[str(path.relative_to(folder))] = text
    return found


def main() -> None:
    """Kill at each operation, and print how it went on; the last line is "done" and the number of kills."""
    name, images, run, place = sys.argv[1], *map(Path, sys.argv[2:])
    if name == "predict":
        config = PredictConfig(images=(images,), runs=(run,), out=place / "out" / "s.csv", engine="torch")

        def command(*, resume: bool) -> object:
            return prediction.predict(replace(config, resume=resume))
    else:
        some = SynthConfig(out=place / "out", images=2, test_images=1, size=(32, 64), seed=3)
        older = replace(some, seed=4)

        def command(*, resume: bool) -> object:
            return synthesis.synthesise(some)

    def begin() -> None:
        shutil.rmtree(place / "out", ignore_errors=True)
        if name == "synth":
            assert in_a_fork(lambda: synthesis.synthesise(older)) == 0

    begin()
    assert in_a_fork(lambda: command(resume=False)) == 0
    whole, number = contents(place / "out"), 0
    while True:
        begin()
        number += 1

        def killed(at: int = number) -> None:
            kill_at(at, place)
            command(resume=False)

        if in_a_fork(killed) != -signal.SIGKILL:
            break
        code = in_a_fork(lambda: command(resume=False))
        if code == 1:
            code = in_a_fork(lambda: command(resume=True))
        same = contents(place / "out") == whole
        tell(f"kill {number}: code {code}, {'the same' if same else sorted(contents(place / 'out'))}")
    tell(f"done {number - 1}")


if __name__ == "__main__":
    main()
