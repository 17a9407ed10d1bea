"""From steel images and RLE annotations to a scored submission.csv.

In Python and notebooks: `from severstal_cli import Model`; docs/python.md shows how.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`Model` and `Prediction`, imported at their first use: they need torch, which takes seconds."""
    if name in ("Model", "Prediction"):
        return getattr(import_module("severstal_cli.model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
