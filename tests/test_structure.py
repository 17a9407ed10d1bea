"""The shape of the code: imports go one way, files stay small, help is quick because it imports little."""

import ast
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from severstal_cli.cli.app import SLOW_LIBRARIES, SlowImports

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "severstal_cli"
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    "__main__", "cli", "printing", "stages", "model", "report", "kaggle", "learning", "steel", "config", "files",
    "parallel", "wording", "progress", "typed", "errors", "__init__",
)  # fmt: skip
"""Each may import those to its right, the folders but `stages` also from themselves."""

ROOMS = {
    "steel": (
        "audit", "thresholds", "synth", "mask_images", "annotations", "drawing", "dataset", "scoring", "images",
        "class_names", "tables",
        "masks", "__init__",
    ),
    "learning": (
        "training", "inference", "runs", "networks", "precision", "device", "distributed", "launching", "finite",
        "__init__",
    ),
}  # fmt: skip
"""Of each of these layers: a package or module may import those to its right."""

Import = tuple[str, int]
"""A dotted name and the line of its import."""


def module_of(path: Path) -> str:
    """`.../masks/rle.py` -> "steel.masks.rle"; `.../synth/__init__.py` -> "steel.synth"; the package -> "__init__"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in FILES}


@cache
def imports(path: Path) -> list[Import]:
    """Every import of a file, inside functions too. `from a import b` gives "a.b"."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(name.name, node.lineno) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found += [(f"{node.module}.{name.name}", node.lineno) for name in node.names]
    return found


def own_imports(path: Path) -> Iterator[tuple[str, int]]:
    """The imports of the package's own modules: (module, line). A name inside a module counts as the module."""
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] == PACKAGE.name:
            inside = parts[1:]
            while inside and ".".join(inside) not in MODULES:
                inside.pop()
            yield ".".join(inside) or "__init__", line


def users_of(*libraries: str) -> set[str]:
    """The modules that import one of `libraries`."""
    return {module for module, path in MODULES.items() for name, _ in imports(path) if name.split(".")[0] in libraries}


def layer_of(module: str) -> str:
    return module.split(".")[0]


def test_every_module_has_a_layer() -> None:
    assert {layer_of(module) for module in MODULES} == set(LAYERS)


def test_imports_go_one_way() -> None:
    wrong = [
        f"{module}, line {line}: {target}"
        for module, path in MODULES.items()
        for target, line in own_imports(path)
        if LAYERS.index(layer_of(target)) <= LAYERS.index(layer_of(module))
        and not (
            layer_of(target)
            == layer_of(module)
            in ("cli", "config", "kaggle", "learning", "printing", "report", "steel")
        )
        and module not in ("stages.demo", "stages.comparing")
    ]
    assert wrong == []


def room_of(module: str) -> str:
    """ "steel.masks.rle" -> "masks"; the package itself -> "__init__"."""
    return module.partition(".")[2].partition(".")[0] or "__init__"


@pytest.mark.parametrize("layer", ROOMS)
def test_imports_go_one_way_inside_a_layer(layer: str) -> None:
    rooms, inside = ROOMS[layer], [module for module in MODULES if layer_of(module) == layer]
    assert {room_of(module) for module in inside} == set(rooms)
    wrong = [
        f"{module}, line {line}: {target}"
        for module in inside
        for target, line in own_imports(MODULES[module])
        if layer_of(target) == layer
        and room_of(target) != room_of(module)
        and rooms.index(room_of(target)) < rooms.index(room_of(module))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "package", sorted(path.parent for path in FILES if path.name == "__init__.py"), ids=lambda p: p.name
)
def test_the_map_of_a_package_names_its_files(package: Path) -> None:
    """The docstring of `__init__` lists each file and package; small packages may do without."""
    text = (package / "__init__.py").read_text(encoding="utf-8")
    listed = re.findall(r"^ *(\w+) {2,}\S", text, re.MULTILINE)
    files = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    if listed or layer_of(module_of(package / "__init__.py")) in ROOMS:
        assert set(listed) == files - {"__init__"}


@pytest.mark.parametrize("stage", ["demo", "comparing"])
def test_a_stage_that_runs_others_imports_nothing_above_them(stage: str) -> None:
    layers = {layer_of(target) for target, _ in own_imports(MODULES[f"stages.{stage}"])}
    assert "stages" in layers
    assert not layers & {"__main__", "cli", "printing"}


def test_no_circle_of_imports() -> None:
    graph = {module: {target for target, _ in own_imports(path)} - {module} for module, path in MODULES.items()}
    order = list(TopologicalSorter(graph).static_order())  # of a circle, CycleError names the members
    assert order.index("errors") < order.index("steel.masks.rle") < order.index("cli")


def test_libraries_stay_in_their_place() -> None:
    assert users_of("click") == set(), "typer carries its own"
    assert {layer_of(module) for module in users_of("typer")} == {"cli"}
    assert users_of("cv2") == {"steel.images.decoding"}, "it reports what is missing where OpenCV does not load"
    torch = users_of("torch", "torchvision", "lightning_fabric", "segmentation_models_pytorch", "timm", "safetensors")
    assert {layer_of(module) for module in torch} <= {"learning", "model", "stages"}
    assert {"learning.networks.registry", "learning.training.loop"} <= torch


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_is_one_thing(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 300
    assert path.stem not in ("utils", "util", "common", "helpers", "misc")


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter holds after `code`."""
    report = "import sys\n" + code + "\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    modules = loaded(
        f"sys.argv = {['severstal', *arguments]}\n"
        "from severstal_cli.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "else: raise AssertionError('help goes on')"
    )
    assert "severstal_cli.cli" in modules
    assert modules & {"torch", "pandas", "cv2", "numpy", "numba", "matplotlib", "severstal_cli.steel"} == set()


def test_only_commands_with_a_network_load_torch(tmp_path: Path) -> None:
    data, table = tmp_path / "data", tmp_path / "data" / "train.csv"
    commands = [
        ["synth", str(data), "--images", "12", "--test-images", "1", "--size", "32x64"],
        ["split", "--data", str(data), "--folds", "2"],
        ["encode", str(tmp_path / "masks"), "--out", str(tmp_path / "again.csv")],
        ["decode", str(table), "--out", str(tmp_path / "masks"), "--size", "32x64"],
        ["check", str(table), "--images", str(data / "train_images")],
        ["score", str(table), "--truth", str(table), "--images", str(data / "train_images")],
        ["compare", str(table), str(data / "test.csv"), "--truth", str(table), "--out", str(tmp_path / "comparison")],
        ["models", "--models", str(tmp_path)],
        ["submissions", str(tmp_path)],
    ]
    modules = loaded(
        "from severstal_cli.cli import main\n"
        f"for arguments in {commands}:\n"
        "    sys.argv = ['severstal', *arguments]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
    )
    assert {f"severstal_cli.stages.{stage}" for stage in ("splitting", "checking", "scoring", "comparing")} <= modules
    assert "torch" not in modules


def test_a_slow_import_is_announced(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLOW_LIBRARIES:
        monkeypatch.delitem(sys.modules, name, raising=False)
        assert SlowImports().find_spec(name) is None
        assert capsys.readouterr().err == f"loading {name}\n"
    assert SlowImports().find_spec("json") is None
    assert capsys.readouterr().err == ""


def test_steel_works_without_torch() -> None:
    steel = [module for module in MODULES if layer_of(module) == "steel"]
    modules = loaded("".join(f"import severstal_cli.{module}\n" for module in steel))
    assert "severstal_cli.steel.masks.rle" in modules
    assert modules & {"torch", "pandas", "matplotlib"} == set()


def test_no_folder_of_the_container_is_for_all_to_write() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    modes = [word for line in lines if "chmod" in line for word in line.partition("chmod")[2].split()]
    assert modes
    assert [mode for mode in modes if re.search(r"^[0-7]*[2367]$|[ao]\w*\+\w*w|^\+\w*w", mode)] == []


def test_torch_is_one_that_loads_weights_without_running_code() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    [torch] = [SpecifierSet(each.removeprefix("torch")) for each in wanted if each.startswith("torch>")]
    assert "2.10" in torch
    assert "2.9.1" not in torch


RETIRED = re.compile(
    r"\b(photographs?|sittings?|tells?|told|dealt|alike|drawn anew|surer|how sure|goes on|go on)\b",
    re.IGNORECASE,
)
"""Words of an earlier vocabulary; docs/glossary.md has the terms in use."""


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of what a person reads in a file: lines of a page; strings and comments of code."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        return
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in (tokenize.STRING, tokenize.COMMENT, FSTRING):
                for offset, text in enumerate(token.string.splitlines()):
                    yield token.start[0] + offset, text


FSTRING = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md")] + sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize(
    "path",
    PAGES + FILES,
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_texts_use_the_terms_of_the_field(path: Path) -> None:
    assert [f"{line}: {text.strip()}" for line, text in texts_of(path) if RETIRED.search(text)] == []
