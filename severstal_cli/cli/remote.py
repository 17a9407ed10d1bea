"""`train --on kaggle`."""

from typing import Any

import typer

from severstal_cli import config as configs
from severstal_cli import printing
from severstal_cli.config.checks import check
from severstal_cli.config.remote import PLACES
from severstal_cli.errors import UsageError
from severstal_cli.learning.networks import names
from severstal_cli.progress import TerminalProgress


def train(settings: dict[str, Any], *, on: str, cancel: bool, discard: bool, every_fold: bool) -> None:
    """Train on Kaggle or stop a training there, and print the results. `settings`: those of a `TrainConfig`."""
    check(on in PLACES, "on", on, " or ".join(PLACES))
    if on != "kaggle":
        raise UsageError("--cancel and --discard are for trainings on Kaggle", f"--on {on}", "Give --on kaggle")
    from severstal_cli.stages import remote_training

    config = configs.RemoteConfig(
        train=configs.TrainConfig(**settings), every_fold=every_fold, cancel=cancel, discard=discard
    )
    names.check_network(config.train.arch)
    if names.networks()[config.train.arch]:
        names.check_encoder(config.train.encoder)
    if cancel:
        results = remote_training.cancel(config, TerminalProgress())
        typer.echo("the notebook has ended" + ("" if results else "; nothing of it was fetched"))
    else:
        try:
            results = remote_training.train(config, TerminalProgress())
        except KeyboardInterrupt:
            typer.echo(
                "\nthe notebook keeps running on Kaggle: the same command reconnects, --cancel stops it", err=True
            )
            raise
    for line in printing.remote_lines(results):
        typer.echo(line)
