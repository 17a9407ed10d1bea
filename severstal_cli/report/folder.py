"""The folder of a report. A new report replaces an earlier one only once it is complete."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from severstal_cli import files, typed
from severstal_cli.errors import InputError

INDEX, METADATA = "index.html", "report.json"


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`, and move it to `out` at the end. `out` may hold an earlier report.

    The next report removes what a killed one left behind.

    Raises:
        InputError: `out` is neither a report nor an empty folder.
        OutputError: `out` cannot be written, or the disk is full.
        MachineError: another process writes this report.
    """
    if out.resolve() == Path.cwd():
        raise InputError(f"{out} is the current folder", "", "Name another one with --out")
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or _is_report(out))):
        raise InputError(f"{out} exists and is not a report", "", "Name another folder with --out")
    if not out.exists():
        files.check_writable(out)
    work = out.with_name(f".{out.name}.part")
    with files.locked(work, f"another report is being written to {out}"), files.writing(out):
        _clean_up(work, out)
        try:
            site = work / "new"
            site.mkdir()
            yield site
            if out.exists():
                out.rename(work / "old")
            site.rename(out)
        finally:
            _clean_up(work, out)


def file_number(row: int) -> str:
    """The number of the `row`-th image in file names, e.g. 000001 for row 0."""
    return f"{row + 1:06d}"


def write_index(site: Path, index: Any) -> None:
    """Write the style sheets and scripts of all pages, and the data that the page reads at first. Raises OSError."""
    shutil.copytree(Path(__file__).parent / "static", site / "static", copy_function=shutil.copyfile)
    (site / "data").mkdir()
    text = json.dumps(index, separators=(",", ":"))
    (site / "data" / "index.js").write_text(f"severstal.index={text}\n", encoding="utf-8")


def write_script(site: Path, key: str, value: Any) -> None:
    """Write `value` as the script `key`.js of the report at `site`, from which the page reads it."""
    text = json.dumps(value, separators=(",", ":"))
    (site / f"{key}.js").write_text(f'severstal.receive("{key}",{text})\n', encoding="utf-8")


def _is_report(folder: Path) -> bool:
    try:
        return "severstal_report" in typed.read_table(folder / METADATA)
    except (OSError, ValueError):
        return False


def _clean_up(work: Path, out: Path) -> None:
    """Restore an earlier report that has been moved but not replaced, and empty `work`."""
    if (work / "old").exists() and not out.exists():
        (work / "old").rename(out)
    for path in work.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
