"""The commands: each builds a config, calls a stage and prints the result. Files register them in the order of help."""

import os
import sys

from severstal_cli.cli.app import SlowImports, app

from severstal_cli.cli import data, models, submissions, comparing, reporting, auditing  # isort: skip

__all__ = ["app", "auditing", "comparing", "data", "main", "models", "reporting", "submissions"]


def main() -> None:
    """The `severstal` command."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # a worker of torchrun would repeat it
        sys.meta_path.insert(0, SlowImports())
    app()
