"""The command `compare`."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from severstal_cli import config as configs
from severstal_cli import printing
from severstal_cli.cli import completion, early, runs
from severstal_cli.cli.app import SUBMISSIONS, app
from severstal_cli.cli.options import AsJson, BatchSize, ClassNames, Models, is_given, parse_seconds, parse_seeds
from severstal_cli.progress import TerminalProgress

MATTERING = (
    "data", "encoder", "encoder_weights", "epochs", "time_limit", "learning_rate", "seeds", "models", "truth", "images",
)  # fmt: skip
"""Options that some kinds of candidates do not use."""


@app.command(rich_help_panel=SUBMISSIONS)
def compare(
    context: typer.Context,
    candidates: Annotated[
        list[str],
        typer.Argument(
            metavar="A B...",
            help="Networks to train and run folders, or submissions. The first candidate is the baseline.",
            autocompletion=completion.candidates,
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Data folder (default: data for networks to train, else that of each run).")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Encoder of the networks to train.")] = configs.TrainConfig.encoder,
    encoder_weights: Annotated[
        str, typer.Option(help="Pretrained weights of the encoder: a name (imagenet, ssl, ...), none, or a file.")
    ] = configs.TrainConfig.encoder_weights,
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs.")] = configs.TrainConfig.epochs,
    time_limit: Annotated[
        float | None,
        typer.Option(parser=parse_seconds, metavar="TIME", help="Wall-clock budget per training, e.g. 25m."),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = configs.TrainConfig.learning_rate,
    seeds: Annotated[
        Any,
        typer.Option(
            parser=parse_seeds, metavar="N,N,...", help="Random seeds; each network is trained once per seed."
        ),
    ] = "0",
    models: Models = configs.TrainConfig.models,
    truth: Annotated[Path | None, typer.Option(help="Ground truth to score submissions against.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Images to score submissions on: a folder, or a CSV with ImageId.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Output folder (default: comparisons/A-B).")] = None,
    batch_size: BatchSize = configs.CompareConfig.batch_size,
    class_names: ClassNames = None,
    as_json: AsJson = False,
) -> None:
    """Score networks, runs or submissions on the same images and test the differences."""
    from severstal_cli.stages import comparing

    train = configs.TrainConfig(
        data=data or configs.TrainConfig.data,
        encoder=encoder,
        encoder_weights=encoder_weights,
        epochs=epochs,
        time_limit_s=time_limit,
        learning_rate=learning_rate,
        models=models,
    )
    config = configs.CompareConfig(
        candidates=tuple(runs.find_candidate(name, models) for name in candidates),
        train=train,
        data=data,
        seeds=seeds,
        truth=truth,
        images=images,
        out=out,
        batch_size=batch_size,
        class_names=class_names or (),
        given=tuple(filter(partial(is_given, context), MATTERING)),
    )
    early.check_comparison(config)
    try:
        result = comparing.compare(config, TerminalProgress())
    except KeyboardInterrupt:
        typer.echo("\nfinished trainings are kept: the same command resumes", err=True)
        raise
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
        return
    printing.print_comparison(result)
    plot = ", .png" if result.has_plot else ""
    typer.echo(f"wrote {result.folder}/comparison.md, .json{plot}")
