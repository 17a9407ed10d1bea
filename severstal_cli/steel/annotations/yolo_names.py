"""Class names of a YOLO data set, from `data.yaml`, `classes.txt` or `obj.names`."""

from pathlib import Path
from typing import Any

from severstal_cli.errors import InputError
from severstal_cli.steel.annotations.documents import read_text

_NAMES = ("classes.txt", "obj.names")
_LARGEST_YAML = 1 << 18  # characters; parsing more takes seconds


def label_folders(root: Path) -> list[Path]:
    """Return `labels` itself, `ROOT/labels`, or `ROOT/train/labels` as in Roboflow exports."""
    if root.name == "labels":
        return [root]
    return sorted(path for pattern in ("labels", "*/labels") for path in root.glob(pattern) if path.is_dir())


def names_files(root: Path) -> list[Path]:
    """Return the files of class names: in `root`, among the labels, and above them."""
    folders = (root, *label_folders(root), *([root.parent] if root.name == "labels" else []))
    return [
        path
        for folder in dict.fromkeys(folders)
        for path in (*sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]), *(folder / name for name in _NAMES))
        if is_names_file(path)
    ]


def names_file(root: Path) -> Path | None:
    """Return the first file of class names. Raises InputError: another one gives a class another name."""
    files = names_files(root)
    names = read_names(files[0]) if files else {}
    for other in files[1:]:
        for number, name in read_names(other).items():
            if names.get(number, name) != name:
                raise InputError(
                    f"{files[0]} and {other}",
                    f"class {number} is {names[number]} in the first, {name} in the second",
                    "Name the right one instead of the folder, or remove the wrong one",
                )
    return files[0] if files else None


def is_names_file(path: Path) -> bool:
    """Whether a file has the class names."""
    return path.is_file() and (path.name in _NAMES or (path.suffix in (".yaml", ".yml") and "names" in _yaml(path)))


def read_names(path: Path) -> dict[int, str]:
    """Return number -> name. Raises InputError: no names, a blank line among them, or a pose data set."""
    if path.name in _NAMES:
        lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
        if "" in lines:
            raise InputError(f"{path}, line {lines.index('') + 1}", "it is blank", "Remove it, or name the class")
        return dict(enumerate(lines))
    document = _yaml(path)
    if "kpt_shape" in document:
        raise InputError(f"{path}", "it describes a pose data set, which has no masks")
    names = document["names"]
    named = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(named, dict) or not all(type(number) is int and 0 <= number < 9999 for number in named):
        raise InputError(
            f"{path}", "names is neither a list nor a mapping from numbers", "Write e.g. names: {0: scratch}"
        )
    return {number: str(name) for number, name in named.items()}


def _yaml(path: Path) -> dict[Any, Any]:
    """Parse a small YAML file. Raises InputError: not YAML, too long, or aliases, which could expand without limit."""
    import yaml

    text = read_text(path)
    if len(text) > _LARGEST_YAML:
        raise InputError(f"{path}", f"{len(text)} characters, too many for a list of names")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise InputError(f"{path}", "it has aliases (*name)", "Replace them by their values")
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{path}", f"not YAML: {error!s:.200}", "Export it again") from None
    return document if isinstance(document, dict) else {}
