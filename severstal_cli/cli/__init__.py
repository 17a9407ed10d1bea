"""The commands: each builds a config, calls a stage and prints the result. Files register them in the order of help."""

from severstal_cli.cli.app import app

from severstal_cli.cli import data, models, submissions, comparing, reporting, auditing  # isort: skip

__all__ = ["app", "auditing", "comparing", "data", "main", "models", "reporting", "submissions"]


def main() -> None:
    """The `severstal` command."""
    app()
