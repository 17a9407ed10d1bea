"""The origin of annotations that were made from others: `train.json` beside `train.csv`.

    {"data": "0f3a5b...", "origin": "77c0e1...", "decisions": "decisions.csv", "accepted": {"missed": 12}}

`data` is the fingerprint of the data with these annotations, `origin` that of the data with the earlier ones. If the
annotations were changed or replaced since, the fingerprints differ, and the file says nothing about them.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from severstal_cli import files, typed
from severstal_cli.steel.tables.table_files import metadata_path

FIELD = "origin"


def write(table: Path, *, data: str, origin: str, decisions: str, accepted: Mapping[str, int]) -> None:
    """Write the JSON beside the annotations `table`. Raises OutputError."""
    content = {"data": data, FIELD: origin, "decisions": decisions, "accepted": dict(accepted)}
    files.write_text(metadata_path(table), json.dumps(content, indent=2) + "\n")


def read(table: Path, data: str) -> str | None:
    """Return the fingerprint of the data that the annotations `table` came from; None if it is not known.

    data: fingerprint of the data with these annotations.
    """
    try:
        content = typed.read_table(metadata_path(table))
    except (OSError, ValueError):
        return None
    origin = content.get(FIELD)
    return origin if content.get("data") == data and isinstance(origin, str) else None
