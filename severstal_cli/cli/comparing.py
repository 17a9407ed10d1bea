"""The command that compares."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from severstal_cli import config as configs
from severstal_cli import printing
from severstal_cli.cli import completion, early
from severstal_cli.cli.app import SUBMISSIONS, app
from severstal_cli.cli.options import AsJson, BatchSize, ClassNames, Models, parse_seconds, parse_seeds
from severstal_cli.progress import TerminalProgress

MATTERING = (
    "data", "encoder", "encoder_weights", "epochs", "time_limit", "learning_rate", "seeds", "models", "truth", "images",
)  # fmt: skip
"""Options that matter to some candidates and not to others."""


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@app.command(rich_help_panel=SUBMISSIONS)
def compare(
    context: typer.Context,
    candidates: Annotated[
        list[str],
        typer.Argument(
            metavar="A B...",
            help="Networks to train, or folders of runs; or submissions. A is the measure.",
            autocompletion=completion.candidates,
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Data folder; of networks to train by default data, of runs where they were.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Of networks to train.")] = configs.TrainConfig.encoder,
    encoder_weights: Annotated[
        str, typer.Option(help="Name of pretrained weights (imagenet, ssl, ...), none, or a file.")
    ] = configs.TrainConfig.encoder_weights,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = configs.TrainConfig.epochs,
    time_limit: Annotated[
        float | None, typer.Option(parser=parse_seconds, metavar="TIME", help="Of each training, as 25m.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Its highest value.")] = configs.TrainConfig.learning_rate,
    seeds: Annotated[
        Any, typer.Option(parser=parse_seeds, metavar="N,N,...", help="Train once with each: a recipe is compared.")
    ] = "0",
    models: Models = configs.TrainConfig.models,
    truth: Annotated[Path | None, typer.Option(help="Annotations to score submissions against.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="The images that count for submissions: a folder, or a list with ImageId.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write; default: comparisons/A-B.")] = None,
    batch_size: BatchSize = configs.CompareConfig.batch_size,
    class_names: ClassNames = None,
    as_json: AsJson = False,
) -> None:
    """Score networks, runs or submissions on the same images, and tell whether they differ."""
    from severstal_cli.stages import comparing

    train = configs.TrainConfig(
        data=data or configs.TrainConfig.data, encoder=encoder, encoder_weights=encoder_weights, epochs=epochs,
        time_limit_s=time_limit, learning_rate=learning_rate, models=models,
    )  # fmt: skip
    config = configs.CompareConfig(
        candidates=tuple(candidates), train=train, data=data, seeds=seeds, truth=truth, images=images, out=out,
        batch_size=batch_size, class_names=class_names or (),
        given=tuple(filter(partial(_is_given, context), MATTERING)),
    )  # fmt: skip
    early.check_comparison(config)
    try:
        result = comparing.compare(config, TerminalProgress())
    except KeyboardInterrupt:
        typer.echo("\nwhat was trained is kept: the same command goes on", err=True)
        raise
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
        return
    printing.print_comparison(result)
    picture = ", .png" if result.has_picture else ""
    typer.echo(f"wrote {result.folder}/comparison.md, .json{picture}")
