"""JSON files of untrusted content: bounded reading, and values checked against their types.

The standard reader raises RecursionError on deep nesting and accepts NaN and infinite numbers.
"""

import json
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

T = TypeVar("T")

DEEPEST = 100
"""Levels of nested lists and tables; our files have five."""
_TOO_DEEP = f"more than {DEEPEST} levels of lists and tables"


def read(path: Path) -> Any:
    """The content of a JSON file.

    Raises OSError (such as FileNotFoundError) if it cannot be read; ValueError, with the reason, if it is damaged.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no UTF-8") from error
    content = parse(text)
    if _depth(content) > DEEPEST:
        raise ValueError(_TOO_DEEP)
    return content


def parse(text: str) -> Any:
    """The content of a JSON text. Raises ValueError: JSONDecodeError, or the standard reader's limits."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # Python parses no integer of more than 4,300 digits
        raise ValueError("a number with too many digits") from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def read_table(path: Path) -> dict[str, Any]:
    """The content of a JSON file that must be a table. Raises as `read` does."""
    content = read(path)
    if not isinstance(content, dict):
        raise ValueError("it holds no table of values")
    return content


def _depth(content: Any) -> int:
    """Levels of nested lists and tables, counted without recursion, which has a limit itself."""
    depth, level = 0, [content]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > DEEPEST:
            break
        level = [part for each in level for part in (each.values() if isinstance(each, dict) else each)]
    return depth


def make(kind: type[T], values: Any, what: str = "") -> T:
    """A dataclass from a table of its fields, each checked by `as_type`; fields with a default may be missing.

    `what`: the table's name in messages. Raises ValueError, and the errors of the dataclass.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{what or kind.__name__} is {reprlib.repr(values)}, not a table of values")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    needed = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    odd = sorted(map(str, (needed - values.keys()) | (values.keys() - known.keys())))
    if odd:
        raise ValueError(f"{what + ': ' if what else ''}missing or unknown: {', '.join(odd)}")
    kinds = typing.get_type_hints(kind)
    inside = f"{what}." if what else ""
    return kind(**{name: as_type(kinds[name], value, inside + name) for name, value in values.items()})


def as_type(kind: Any, value: Any, what: str) -> Any:
    """A JSON value as type `kind`; lists become tuples and whole numbers floats where `kind` asks for it.

    Numbers must be finite; True is no number. Raises ValueError: the value has another type.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in parts:
            return None
        for one in parts:
            with suppress(ValueError):
                return as_type(one, value, what)
        if float not in parts:
            raise _wrong(kind, value, what)
    if is_dataclass(kind):
        return make(kind, value, what)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list | tuple):
        each = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(each) == len(value):
            return tuple(as_type(one, part, f"{what}[{n}]") for n, (one, part) in enumerate(zip(each, value)))  # noqa: B905
    if origin in (dict, Mapping) and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: as_type(parts[1], part, f"{what}.{key}") for key, part in value.items()}
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value):
        return float(value)
    if kind in (str, int, bool, type(None)) and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    if isinstance(value, float) and not _is_finite(value):
        raise ValueError(f"{what} is {value}, not a finite number")
    raise _wrong(kind, value, what)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


_NAMES: dict[Any, str] = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null", Path: "a path",
    tuple: "a list", dict: "a table", Mapping: "a table",
}  # fmt: skip


def _wrong(kind: Any, value: Any, what: str) -> ValueError:
    kinds = get_args(kind) if get_origin(kind) in (types.UnionType, typing.Union) else (kind,)
    names = [_NAMES.get(get_origin(one) or one) or _NAMES[Mapping] for one in kinds]
    return ValueError(f"{what} is {reprlib.repr(value)}, not {' or '.join(names)}")
