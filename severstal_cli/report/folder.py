"""The folder of a report: there whole, or as it was before."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from severstal_cli import files, typed
from severstal_cli.errors import InputError

INDEX, STORY = "index.html", "report.json"


@contextmanager
def making(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`; at the end it takes the place of `out`, which may be an earlier report.

    What a report that was killed left is removed by the next.

    Raises:
        InputError: `out` is something else than an earlier report or an empty folder.
        OutputError: it cannot be written, or the disk is full.
        MachineError: another process writes this report.
    """
    check(out)
    site = out.with_name(f".{out.name}.part")
    with files.locked(site, f"another report is being written to {out}"), files.writing(out):
        _restore(site, out)
        try:
            place = site / "new"
            place.mkdir()
            yield place
            if out.exists():
                out.rename(site / "old")
            place.rename(out)
        finally:
            _restore(site, out)


def check(out: Path) -> None:
    """See now whether a report can be made at `out`. Raises InputError and OutputError, as `making` does."""
    if out.resolve() == Path.cwd():
        raise InputError(f"{out} is the current folder", "", "Name another one with --out")
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or _is_report(out))):
        raise InputError(f"{out} is there, and is no report", "", "Name another folder with --out")
    if not out.exists():
        files.check_place(out)


def write_script(place: Path, key: str, value: Any) -> None:
    """Write `value`, which the page of the report at `place` asks for by `key`."""
    text = json.dumps(value, separators=(",", ":"))
    (place / f"{key}.js").write_text(f'severstal.got("{key}",{text})\n', encoding="utf-8")


def _is_report(folder: Path) -> bool:
    try:
        return "severstal_report" in typed.read_table(folder / STORY)
    except (OSError, ValueError):
        return False


def _restore(site: Path, out: Path) -> None:
    """Put an earlier report back that was on its way out, and remove the rest."""
    if (site / "old").exists() and not out.exists():
        (site / "old").rename(out)
    _empty(site)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
