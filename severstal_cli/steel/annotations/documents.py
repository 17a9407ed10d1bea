"""Parse JSON, XML and base64 of unknown origin: errors take one line, memory is bounded by the file size."""

import base64
import binascii
import json
import struct
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree
from xml.parsers import expat

from severstal_cli import files, typed
from severstal_cli.errors import InputError
from severstal_cli.steel.annotations.shapes import AnnotationError

Kind = TypeVar("Kind")

_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}


def read_bytes(path: Path) -> bytes:
    """Read a file. Raises InputError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise files.unreadable(path, error) from None


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark. Raises InputError."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}", "it is not UTF-8 text", "Export it again") from None


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises InputError."""
    text = read_text(path)
    try:
        return typed.parse(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}", f"not JSON: {error.msg}", "Export it again") from None
    except ValueError as error:
        raise InputError(f"{path}", f"not JSON: {error}", "Export it again") from None


def read_xml(path: Path) -> ElementTree.Element:
    """Parse an XML file. Raises InputError: not XML, or a document type, whose entities could expand without limit."""
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

    def refuse(name: str, *_: Any) -> None:
        raise InputError(f"{path}", f"it declares a document type, {name!r:.40}", "Remove the line <!DOCTYPE ...>")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(read_bytes(path), True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # also an unknown encoding
        raise InputError(f"{path}", f"not XML: {error}", "Export it again") from None
    root: ElementTree.Element = builder.close()
    return root


def member(record: Any, key: str, kind: type[Kind]) -> Kind:
    """Return `record[key]`, which must have type `kind`. Raises AnnotationError."""
    if not isinstance(record, dict):
        raise AnnotationError(f"{record!r:.40} in place of an object with {key!r}")
    if key not in record:
        raise AnnotationError(f"it has no {key!r}")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise AnnotationError(f"{key!r} is not {_KINDS[kind]}: {value!r:.40}")
    return value


def from_base64(text: Any) -> bytes:
    """Decode base64. Raises AnnotationError."""
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError, TypeError):
        raise AnnotationError("its mask is not base64") from None


def png_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) from the header of a PNG. Raises AnnotationError: not a PNG."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 33:
        raise AnnotationError("its mask is not a PNG")
    width, height = struct.unpack_from(">II", data, 16)
    return height, width
