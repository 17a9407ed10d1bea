"""Which file names the classes of a YOLO data set, and what it says: `data.yaml`, `classes.txt` or `obj.names`."""

from pathlib import Path
from typing import Any

from severstal_cli.errors import InputError
from severstal_cli.steel.annotations.documents import read_text

_NAMES = ("classes.txt", "obj.names")
_LARGEST_YAML = 1 << 18  # characters; reading takes seconds then


def label_folders(root: Path) -> list[Path]:
    """`labels` itself, `ROOT/labels`, and `ROOT/train/labels` as Roboflow lays them."""
    if root.name == "labels":
        return [root]
    return sorted(path for pattern in ("labels", "*/labels") for path in root.glob(pattern) if path.is_dir())


def names_file(root: Path) -> Path | None:
    """The file that names the classes: in `root`, among the labels, or above them."""
    for folder in (root, *label_folders(root), *([root.parent] if root.name == "labels" else [])):
        for path in (*sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]), *(folder / name for name in _NAMES)):
            if is_names_file(path):
                return path
    return None


def is_names_file(path: Path) -> bool:
    """Whether a file names the classes."""
    return path.is_file() and (path.name in _NAMES or (path.suffix in (".yaml", ".yml") and "names" in _yaml(path)))


def read_names(path: Path) -> dict[int, str]:
    """Number -> name. Raises InputError: no names, or those of a pose data set."""
    if path.name in _NAMES:
        return dict(enumerate(line.strip() for line in read_text(path).splitlines() if line.strip()))
    document = _yaml(path)
    if "kpt_shape" in document:
        raise InputError(f"{path}", "it is of a pose data set, which has no masks")
    names = document["names"]
    named = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(named, dict) or not all(type(number) is int and 0 <= number < 9999 for number in named):
        raise InputError(f"{path}", "names is neither a list nor numbers with names", "As in names: {0: scratch}")
    return {number: str(name) for number, name in named.items()}


def _yaml(path: Path) -> dict[Any, Any]:
    """A small YAML file of keys and values. Raises InputError: others, and one with aliases, which may grow."""
    import yaml

    text = read_text(path)
    if len(text) > _LARGEST_YAML:
        raise InputError(f"{path}", f"{len(text)} characters, where a few names should be")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise InputError(f"{path}", "it has aliases (*name)", "Write what they stand for")
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{path}", f"not YAML: {error!s:.200}", "Export it again") from None
    return document if isinstance(document, dict) else {}
