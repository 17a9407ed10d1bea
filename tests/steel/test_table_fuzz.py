"""Tables damaged in thousands of ways: each parses as a table, or fails with one short printable line.

How much work a table makes is counted in instructions of Python, not timed.
"""

import gzip
import io
import random
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from severstal_cli.config import CheckConfig, ScoreConfig
from severstal_cli.errors import SeverstalError
from severstal_cli.printing.lines import check_lines
from severstal_cli.stages import checking, scoring
from severstal_cli.steel.dataset.splits import read_splits
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables.mask_table import MaskTable, read_image_list, read_table, scan_table

SEEDS = [
    "ImageId_ClassId,EncodedPixels\n"
    + "".join(f"{n}.jpg_{c},{'1 3 9 2' * (n % c)}\n" for n in range(4) for c in (1, 2)),
    "ImageId,ClassId,EncodedPixels\na.jpg,1,1 10\na.jpg,3,21 10\nb.jpg,1,11 5 40 2\n",
    '\ufeffImageId;ClassId;"EncodedPixels"\r\n"a b.jpg";1;"1 10"\r\n\u00e4.png;2;\r\n',
    "i,ImageId,EncodedPixels,ClassId\n0,0002cc93b.jpg,-1,1.0\n1,0002cc93b.jpg,nan,2\n",
    "ImageId,Part,Group,Classes\na.jpg,0,0,1 2\nb.jpg,holdout,1,\n",
]
# fmt: off
TOKENS = [
    "\n", "\r", "\r\n", ",", ";", "\t", '"', '""', " ", "\u00a0", "\0", "\x1b[31m", "\x07", "\u202e", "\ufeff",
    "_1", "_", ".png", "/", "\\", "..", "-1", "0", "1", "255", "254", "1.0", "1e9", "99999999999999999999",
    "nan", "None", "[]", "[1, 2]", "1 2 3", "2147483647 1", "1 2147483647", "ImageId", "ClassId", "EncodedPixels",
    "ImageId_ClassId", "sep=;", "\ud7ff", "x" * 300, "9" * 5000, "," * 1200, "\n" * 50, "1 1 " * 500,
]
# fmt: on


def damaged(rng: random.Random) -> bytes:
    """One of the tables, changed in one to six places, and now and then packed, or in another encoding."""
    text = rng.choice(SEEDS)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        first = rng.choice((0, text.find("\n") + 1, text.find("\n") + 1))  # a header is damaged once for all
        at, end = sorted(rng.randint(first, len(text)) for _ in range(2))
        end = min(end, at + rng.choice((0, 1, 5, 40)))
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + rng.choice(TOKENS) + text[end:]
        elif kind == 1:
            text = text[:at] + text[end:]
        elif kind == 2:
            text = text[:end] + text[at:end] * rng.choice((1, 2, 30)) + text[end:]
        else:
            header, *lines = text.splitlines(keepends=True) or [""]
            rng.shuffle(lines)
            text = "".join([header, *lines])
    data = bytearray(text.encode(rng.choice(("utf-8",) * 20 + ("utf-16", "utf-16-le", "utf-8-sig"))))
    for _ in range(rng.choice((0, 0, 0, 0, 0, 1, 3))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    packing = rng.randrange(12)
    if packing == 0:
        data = bytearray(gzip.compress(bytes(data)))
    elif packing == 1:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("t.csv", bytes(data))
        data = bytearray(archive.getvalue())
    if packing < 2 and rng.random() < 0.5:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def check_said(text: str) -> None:
    assert all(each.isprintable() or unicodedata.category(each) == "Zs" for each in text), text
    assert len(text) < 500, text


def work_of(step: Callable[[], object]) -> int:
    """How many instructions of Python `step` takes."""
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        step()
    except SeverstalError:
        pass
    finally:
        sys.settrace(before)
    return count


def test_damaged_tables_are_read_or_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(17)
    path, good = Path("t.csv"), Path("good.csv")
    good.write_text(SEEDS[1], encoding="utf-8")
    read = refused = 0
    for _ in range(1500):
        path.write_bytes(damaged(rng))
        try:
            table, faults = scan_table(path)
        except SeverstalError as error:
            check_said(str(error))
            refused += 1
        else:
            assert isinstance(table, MaskTable)
            assert table.masks.keys() <= table.lines.keys()
            for fault in faults:
                check_said(fault.message)
            read += not faults
        for step in (
            lambda: read_table(path, pixels=50),
            lambda: read_image_list(path),
            lambda: read_splits(path),
            lambda: scoring.score(ScoreConfig(submission=good, truth=path)),
            lambda: scoring.score(ScoreConfig(submission=path, truth=good)),
        ):
            try:
                step()
            except SeverstalError as error:
                check_said(str(error))
        try:
            result = checking.check(CheckConfig(submission=path, sample=good, size=(5, 10)))
        except SeverstalError as error:
            check_said(str(error))
        else:
            for line in check_lines(result, every=False):
                check_said(line)
    assert min(read, refused) > 200  # the damage is neither too much nor too little


HEADER = "ImageId,ClassId,EncodedPixels\n"
SHAPES: dict[str, Callable[[int], str]] = {
    "rows": lambda n: HEADER + "".join(f"{k}.jpg,1,1 10\n" for k in range(n)),
    "rows of one mask": lambda n: HEADER + "".join(f"a.jpg,1,{3 * k + 1} 1\n" for k in range(n)),
    "all classes": lambda n: HEADER + "".join(f"{k // 200}.jpg,{k % 200 + 1},{k + 1} 1\n" for k in range(n)),
    "all classes in one place": lambda n: HEADER + "".join(f"{k // 200}.jpg,{k % 200 + 1},1 9\n" for k in range(n)),
    "wrong rows": lambda n: HEADER + "".join(f"{k}.jpg,0,1\n" for k in range(n)),
    "longer and longer": lambda n: HEADER + "".join(f"{k}.jpg,1,{'0' * (255 + k)}1 1\n" for k in range(n)),
    "columns": lambda n: "ImageId,ClassId,EncodedPixels" + ",x" * n,
    "one line": lambda n: HEADER.replace("\n", ",") + "a.jpg,1,1 10," * n,
    "commas": lambda n: HEADER + "," * n,
    "quotes": lambda n: HEADER + '"' * n,
    "line ends": lambda n: HEADER + "\n" * n,
    "blanks": lambda n: HEADER + "a.jpg,1," + " " * n,
    "points": lambda n: HEADER + "a.jpg," + ".0" * n + ",1 1",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_table_is_twice_the_work(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "t.csv"
    work = []
    for size in (250, 250, 500, 1000):  # the first time things are loaded
        path.write_text(SHAPES[shape](size))
        work.append(work_of(lambda: checking.check(CheckConfig(submission=path, size=(256, 1600)))))
    assert work[2] < 2.1 * work[1] + 500
    assert work[3] < 2.1 * work[2] + 500


def test_rows_of_one_mask_are_united_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    united, real = [], rle.union

    def count(parts: list[rle.RLE]) -> rle.RLE:
        united.append(sum(map(len, parts)))
        return real(parts)

    monkeypatch.setattr(rle, "union", count)
    (tmp_path / "t.csv").write_text(SHAPES["rows of one mask"](500))
    assert rle.area(read_table(tmp_path / "t.csv").masks["a.jpg", 0]) == 500
    assert united == [500]
