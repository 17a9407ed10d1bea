"""Unpacking: nothing outside the folder, no partial files, no full disk."""

import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from severstal_cli.errors import InputError, OutputError
from severstal_cli.kaggle import archive

FILES = {"train.csv": b"ImageId,ClassId,EncodedPixels\n" * 9, "train_images/a.jpg": bytes(range(256))}


def pack(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for member, content in members:
            made.writestr(member, content, compress_type=packing)
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_content_is_unpacked(tmp_path: Path, packing: int) -> None:
    packed = pack(tmp_path / "a.zip", ("train_images/", b""), ("empty/", b""), *FILES.items(), packing=packing)
    archive.unpack(packed, tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES
    assert (tmp_path / "out/empty").is_dir()


def special(name: str, kind: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (kind | 0o777) << 16
    return member


def encrypted(data: bytes) -> bytes:
    """Set the bit in the entry of the directory."""
    at = data.rindex(b"PK\x01\x02") + 8
    return data[:at] + bytes([data[at] | 1]) + data[at + 1 :]


HOSTILE = {
    "absolute": ["/evil"],
    "up": ["../evil"],
    "up within": ["train_images/../../evil"],
    "dot": ["./evil"],
    "doubled slash": ["train_images//evil"],
    "drive": ["C:/evil"],
    "stream": ["train.csv:evil"],
    "backslash": ["..\\evil"],
    "zero byte": ["evil%00.jpg"],
    "line": ["evil\nsevered"],
    "no name": ["/"],
    "doubled": ["evil", "evil"],
    "case": ["Evil/a", "evil/b"],
    "accent": ["evil\u00e9", "evile\u0301"],
    "file as folder": ["evil", "evil/a"],
    "folder as file": ["evil/a", "evil"],
    "deep": ["evil/" * 2000 + "a"],
    "deep folder": ["evil/" * 40],
    "long": ["evil/" + "/".join(["x" * 99] * 30)],
    "long name": ["evil" + "é" * 140],
    "link": [special("evil", stat.S_IFLNK)],
    "device": [special("evil", stat.S_IFCHR)],
    "link as folder": [special("evil/", stat.S_IFLNK)],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_refused_before_anything_is_written(
    tmp_path: Path, names: list[str | zipfile.ZipInfo]
) -> None:
    packed = pack(tmp_path / "a.zip", *FILES.items(), *((name, b"evil") for name in names))
    packed.write_bytes(packed.read_bytes().replace(b"%00", b"\0\0\0"))  # zipfile itself writes no such name
    with pytest.raises(InputError, match="the archive must not be unpacked: ") as raised:
        archive.unpack(packed, tmp_path / "deep/out")
    line = str(raised.value)
    assert "evil" in line.lower() or names == ["/"]
    assert line.isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    ("change", "words"),
    [(encrypted, "encrypted"), (lambda data: data, "compression method 14 is unknown")],
    ids=["encrypted", "lzma"],
)
def test_an_unsupported_member_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], words: str) -> None:
    packing = zipfile.ZIP_LZMA if "unknown" in words else zipfile.ZIP_STORED
    packed = pack(tmp_path / "a.zip", ("evil", b"evil"), packing=packing)
    packed.write_bytes(change(packed.read_bytes()))
    with pytest.raises(InputError, match=f"'evil': it.* {words}"):
        archive.unpack(packed, tmp_path / "out")


def test_all_damage_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anywhere, or with any byte changed: the content is right, or one line reports the damage."""
    monkeypatch.setattr(archive, "check_room", lambda folder, needed: None)
    packed = pack(tmp_path / "a.zip", ("train.csv", b"ImageId,ClassId\n" * 3))
    with zipfile.ZipFile(packed, "a") as made:
        made.writestr("d/a.jpg", b"grey")
    archive.unpack(packed, tmp_path / "out")
    data, whole = packed.read_bytes(), content_of(tmp_path / "out")
    cut = [data[:length] for length in range(0, len(data), 3)]
    changed = [data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :] for at in range(len(data))]
    refused = 0
    for damaged in cut + changed:
        packed.write_bytes(damaged)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        try:
            archive.unpack(packed, tmp_path / "out")
        except InputError as error:
            refused += str(error).isprintable()
        else:
            # a member may be lost as part of the comment of another: files are counted afterwards
            assert content_of(tmp_path / "out").items() <= whole.items()
    assert refused >= len(cut) + len(changed) // 2


def name_that_is_not_text(data: bytes) -> bytes:
    at = data.rindex(b"PK\x01\x02") + 9
    return (data[:at] + bytes([data[at] | 8]) + data[at + 1 :]).replace(b"evil", b"\xff\xff\xff\xff")


def offset_past_the_end(data: bytes) -> bytes:
    at = data.rindex(b"PK\x01\x02") + 42
    return data[:at] + b"\xff" * 4 + data[at + 4 :]


def version_of_the_future(data: bytes) -> bytes:
    at = data.rindex(b"PK\x01\x02") + 6
    return data[:at] + b"\xff\x00" + data[at + 2 :]


@pytest.mark.parametrize("change", [name_that_is_not_text, offset_past_the_end, version_of_the_future])
def test_a_forged_directory(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    member = zipfile.ZipInfo("evil")
    member.extra = b"\x01\x00\x08\x00" + b"\xff" * 8  # the offset of the member, in 64 bits
    packed = pack(tmp_path / "a.zip", (member, b"evil"))
    packed.write_bytes(change(packed.read_bytes()))
    with pytest.raises(InputError, match="the archive is damaged"):
        archive.unpack(packed, tmp_path / "out")


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(tmp_path / "a.zip", ("zeros", bytes(10_000_000)))
    assert packed.stat().st_size < 20_000
    free = shutil.disk_usage(tmp_path)._replace(free=9_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(OutputError, match=r"not enough space in .*0\.01 GB needed, 0\.01 GB free"):
        archive.unpack(packed, tmp_path / "out")
    assert content_of(tmp_path) == {"a.zip": packed.read_bytes()}


def test_a_member_is_limited_to_its_declared_size(tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.zip", ("zeros", bytes(1_000_000)))
    data = packed.read_bytes()
    packed.write_bytes(data.replace((1_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(InputError, match="damaged"):
        archive.unpack(packed, tmp_path / "out")
    assert (tmp_path / "out/zeros").stat().st_size <= 1000
