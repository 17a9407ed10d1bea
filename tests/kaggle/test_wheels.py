"""Wheels from installed packages: pip installs them, and they have the same files and no local data."""

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging import markers

import severstal_cli
from severstal_cli.errors import MachineError
from severstal_cli.kaggle import wheels

Install = Callable[..., Distribution]

CHECKOUT = Path(severstal_cli.__file__).parents[1]


@pytest.fixture(scope="module")
def packed() -> list[wheels.Wheel]:
    return wheels.missing_wheels()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install("toy", {"toy/__init__.py": "..."}, requires=[...])`: an installed distribution, found by its name."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)

    def put(
        name: str, files: dict[str, str], *, requires: tuple[str, ...] = (), tag: str = "py3-none-any"
    ) -> Distribution:
        info = f"{name}-1.0.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
        files = {f"{info}/METADATA": metadata, f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: {tag}\n", **files}
        for path, text in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(text)
        listed = "".join(f'"{path}",,\n' for path in files)
        (site / info / "RECORD").write_text(f"{listed}{info}/RECORD,,\n")
        return PathDistribution(site / info)

    return put


def members_of(wheel: wheels.Wheel) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(wheel.content)) as archive:
        assert archive.testzip() is None
        return {path: archive.read(path) for path in archive.namelist()}


def test_the_notebook_gets_the_packages_that_its_image_lacks(packed: list[wheels.Wheel]) -> None:
    names = {wheel.name.split("-")[0] for wheel in packed}
    assert {
        "severstal",
        "segmentation_models_pytorch",
        "timm",
        "lightning_fabric",
        "lightning_utilities",
        "typer",
        "rich",
    } <= names
    assert not names & {name.replace("-", "_") for name in wheels.IN_IMAGE | wheels.NOT_NEEDED}
    assert all(wheel.name.endswith("-py3-none-any.whl") for wheel in packed)


def test_pip_installs_the_same_files(packed: list[wheels.Wheel], tmp_path: Path) -> None:
    for wheel in packed:
        (tmp_path / wheel.name).write_bytes(wheel.content)
    target = tmp_path / "target"
    command = ["-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "--target", str(target)]
    subprocess.run([sys.executable, *command, *map(str, tmp_path.glob("*.whl"))], check=True, capture_output=True)
    for name in ("timm", "typer", "segmentation-models-pytorch"):
        found = distribution(name)
        there = next(PathDistribution.discover(name=name, path=[str(target)]))
        assert (there.version, there.requires) == (found.version, found.requires)
        files = [file for file in found.files or () if file.suffix == ".py" and ".." not in file.parts]
        assert files
        assert all((target / file).read_bytes() == Path(str(file.locate())).read_bytes() for file in files)
    sources = {path.relative_to(CHECKOUT) for path in (CHECKOUT / "severstal_cli").rglob("*.py")}
    assert {path.relative_to(target) for path in (target / "severstal_cli").rglob("*.py")} == sources
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", "from severstal_cli.cli import main; import rich; print(rich.__file__)"],
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(target))


def test_the_record_lists_every_member_with_its_hash(packed: list[wheels.Wheel]) -> None:
    for wheel in packed:
        members = members_of(wheel)
        (record,) = (path for path in members if path.endswith(".dist-info/RECORD"))
        rows = {path: (digest, size) for path, digest, size in csv.reader(members[record].decode().splitlines())}
        assert rows.pop(record) == ("", "")
        assert set(rows) == set(members) - {record}
        for path, (digest, size) in rows.items():
            found = base64.urlsafe_b64encode(hashlib.sha256(members[path]).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={found}", len(members[path])), path


def test_no_local_data_is_in_them(packed: list[wheels.Wheel]) -> None:
    for wheel in packed:
        for path, content in members_of(wheel).items():
            assert not path.endswith(("direct_url.json", "INSTALLER", ".pyc", ".pth", ".nbc")), path
            assert str(CHECKOUT).encode() not in content, path


def test_the_same_files_give_the_same_bytes(install: Install, tmp_path: Path) -> None:
    toy = install("toy", {"toy/__init__.py": "", "toy/b.py": "b", "toy/a, b.txt": "quoted"})
    first = wheels.make_wheel(toy)
    for path in (tmp_path / "site").rglob("*"):
        os.utime(path, (1e9, 1e9))
        if path.is_file():
            path.chmod(0o600)
    assert wheels.make_wheel(toy) == first
    assert first.name == "toy-1.0-py3-none-any.whl"
    assert b'"toy/a, b.txt",sha256=' in members_of(first)["toy-1.0.dist-info/RECORD"]
    (tmp_path / "site/toy/b.py").write_text("c")
    assert wheels.make_wheel(toy) != first


def test_names_are_normalised_and_local_files_are_left_out(install: Install) -> None:
    info = "To.y-Box-1.0.dist-info"
    toy = install("To.y-Box", {
        "toy.py": "x = 1", "../bin/toy": "#!/here/python", "toy.pth": "/here", "__pycache__/toy.cpython-311.pyc": "",
        f"{info}/direct_url.json": '{"url": "file:///here"}', f"{info}/INSTALLER": "pip",
        f"{info}/licenses/LICENSE": "free", f"{info}/entry_points.txt": "[console_scripts]\ntoy = toy:x\n",
    })  # fmt: skip
    wheel = wheels.make_wheel(toy)
    assert wheel.name == "to_y_box-1.0-py3-none-any.whl"
    kept = {
        f"to_y_box-1.0.dist-info/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    assert set(members_of(wheel)) == {"toy.py", *kept}


@pytest.mark.parametrize(
    ("files", "tag", "line"),
    [
        ({"toy/fast.cpython-311-x86_64-linux-gnu.so": ""}, "py3-none-any", "toy/fast.cpython-311"),
        ({"toy/__init__.py": ""}, "py3-none-manylinux2014_x86_64", "built for one platform"),
        ({"toy-1.0.dist-info/direct_url.json": '{"dir_info": {"editable": true}}'}, "py3-none-any", "from a checkout"),
    ],
)
def test_an_unsuitable_package_is_named(install: Install, files: dict[str, str], tag: str, line: str) -> None:
    with pytest.raises(MachineError, match=f"cannot bundle toy.*{line}"):
        wheels.make_wheel(install("toy", files, tag=tag))


def test_a_damaged_installation_is_named(install: Install, tmp_path: Path) -> None:
    toy = install("toy", {"toy/__init__.py": "", "toy/more.py": ""})
    (tmp_path / "site/toy/more.py").unlink()
    with pytest.raises(MachineError, match=r"cannot bundle toy: toy/more\.py: No such file.*Install it again"):
        wheels.make_wheel(toy)
    (tmp_path / "site/toy-1.0.dist-info/RECORD").unlink()
    with pytest.raises(MachineError, match="cannot bundle toy: the list of its files is missing"):
        wheels.make_wheel(toy)


def test_markers_are_evaluated_for_the_notebook(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    here = markers.default_environment() | {"platform_system": "Windows", "sys_platform": "win32", "os_name": "nt"}
    monkeypatch.setattr(markers, "default_environment", lambda: here)
    install("sub", {"sub.py": ""}, requires=("numpy>=1", "top; python_version > '3'"))  # a cycle is allowed
    asked = ("Sub>=1", "torch", "kagglehub", "windows-only; platform_system == 'Windows'", "more; extra == 'dev'")
    install("top", {"top.py": ""}, requires=asked)
    assert [found.name for found in wheels.missing_distributions("top")] == ["sub", "top"]


def test_a_missing_requirement_is_named_with_its_package(install: Install) -> None:
    install("top", {"top.py": ""}, requires=("never-heard-of-it",))
    with pytest.raises(MachineError, match="cannot bundle never-heard-of-it, which top needs: it is not installed"):
        wheels.missing_distributions("top")


def test_a_compiled_package_that_the_image_lacks_stops_the_bundle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wheels, "IN_IMAGE", wheels.IN_IMAGE - {"safetensors"})
    with pytest.raises(MachineError, match=r"cannot bundle safetensors: not pure Python.*IN_IMAGE"):
        wheels.missing_wheels()


def test_the_imported_files_of_this_program_are_bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The distribution of an editable install lists a reference only."""
    package = tmp_path / "severstal_cli"
    (package / "steel/masks/__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("new")
    (package / "steel/masks/rle.py").write_text("x")
    (package / "steel/masks/__pycache__/rle.nbi").write_text("x")
    monkeypatch.setattr(severstal_cli, "__file__", str(package / "__init__.py"))
    members = members_of(wheels.make_wheel(distribution("severstal")))
    own = {path: content for path, content in members.items() if not path.startswith("severstal-")}
    assert own == {"severstal_cli/__init__.py": b"new", "severstal_cli/steel/masks/rle.py": b"x"}
