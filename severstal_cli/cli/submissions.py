"""The commands that make and judge submissions."""

import json
from pathlib import Path
from typing import Annotated

import typer

from severstal_cli import config as configs
from severstal_cli import printing
from severstal_cli.cli import completion, early
from severstal_cli.cli.app import SUBMISSIONS, app
from severstal_cli.cli.options import (
    AsJson,
    BatchSize,
    ClassNames,
    Layout,
    MaybeData,
    Models,
    Size,
    Thresholds,
    TtaOfThresholds,
    Weights,
)
from severstal_cli.progress import TerminalProgress


@app.command(rich_help_panel=SUBMISSIONS)
def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Folders and single files.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="A run; several are averaged. Default: those of --thresholds, or the best in models/.",
            autocompletion=completion.runs,
        ),
    ] = None,
    models: Models = configs.PredictConfig.models,
    tta: TtaOfThresholds = configs.PredictConfig.tta,
    out: Annotated[Path, typer.Option(help="The submission.")] = configs.PredictConfig.out,
    layout: Layout = configs.PredictConfig.layout,
    sample: Annotated[
        Path | None, typer.Option(help="Take images, order and layout of this sample submission.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder for pictures with the masks drawn on.")] = None,
    thresholds: Thresholds = None,
    weights: Weights = None,
    batch_size: BatchSize = configs.PredictConfig.batch_size,
    engine: Annotated[
        str, typer.Option(metavar="auto|torch|openvino|onnxruntime", help="What runs the network.")
    ] = configs.PredictConfig.engine,
    compile_networks: Annotated[
        bool, typer.Option("--compile", help="Compile the network with torch.compile; for many images of one size.")
    ] = configs.PredictConfig.compile,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on the CPU.")] = configs.PredictConfig.devices,
    on_error: Annotated[
        str, typer.Option(metavar="stop|skip", help="At a wrong image: stop, or skip it and leave its rows empty.")
    ] = configs.PredictConfig.on_error,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what a killed prediction finished.")] = False,
    keep_parts: Annotated[
        bool, typer.Option("--keep-parts", help="Leave many small tables in OUT.parts/ instead of one file.")
    ] = False,
) -> None:
    """Predict the masks of images: a submission.csv."""
    config = configs.PredictConfig(
        images=tuple(images), runs=tuple(model or ()), models=models, tta=tta, out=out, layout=layout, sample=sample,
        masks=masks, thresholds=thresholds, weights=weights or (), batch_size=batch_size, engine=engine,
        compile=compile_networks, devices=devices, on_error=on_error, resume=resume, keep_parts=keep_parts,
    )  # fmt: skip
    early.check_prediction(config)
    from severstal_cli.learning import distributed
    from severstal_cli.stages import prediction

    result = prediction.predict(config, TerminalProgress())
    if distributed.is_first():  # the first of torchrun's processes tells it
        typer.echo(printing.prediction_line(result))


@app.command(rich_help_panel=SUBMISSIONS)
def check(
    submission: Annotated[Path, typer.Argument(help="A submission.csv.")],
    sample: Annotated[Path | None, typer.Option(help="The sample submission: which rows must be there.")] = None,
    images: Annotated[Path | None, typer.Option(help="The images: a folder or a list.")] = None,
    size: Size = None,
    class_names: ClassNames = None,
    every: Annotated[bool, typer.Option("--all", help="Name every fault, not the first 20 alone.")] = False,
) -> None:
    """Tell every fault of a submission. Exit code 1 if there is one."""
    from severstal_cli.stages import checking

    config = configs.CheckConfig(
        submission=submission, sample=sample, images=images, size=size, class_names=class_names or ()
    )
    result = checking.check(config, TerminalProgress())
    for line in printing.check_lines(result, every=every):
        typer.echo(line)
    if not result.is_valid:
        raise typer.Exit(1)


@app.command(rich_help_panel=SUBMISSIONS)
def score(
    submission: Annotated[
        Path | None, typer.Argument(help="A submission.csv, or a run, scored on its holdout.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Annotations to score it against.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="The images that count: a folder, or a list with ImageId.")
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(help="A run; several are averaged.", autocompletion=completion.runs),
    ] = None,
    thresholds: Thresholds = None,
    data: MaybeData = None,
    against: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="Another submission or run: how far from it, and is that real.")
    ] = None,
    tta: TtaOfThresholds = configs.ScoreConfig.tta,
    batch_size: BatchSize = configs.ScoreConfig.batch_size,
    class_names: ClassNames = None,
    as_json: AsJson = False,
) -> None:
    """Mean Dice as the competition counts it, beside predicting nothing."""
    from severstal_cli.stages import scoring

    config = configs.ScoreConfig(
        submission=submission, truth=truth, images=images, runs=tuple(model or ()), thresholds=thresholds, data=data,
        against=against, tta=tta, batch_size=batch_size, class_names=class_names or (),
    )  # fmt: skip
    early.check_score(config)
    result = scoring.score(config, TerminalProgress())
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
    else:
        title = " ".join(map(str, (*((submission,) if submission else ()), *(model or ()))))
        title = title or str(thresholds or "the best run")
        printing.print_score(title, result)
        if result.against is not None:
            printing.print_differences(title, str(against), result)


@app.command(rich_help_panel=SUBMISSIONS)
def submit(
    run: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="models/NAME; several are averaged.", autocompletion=completion.runs),
    ],
    thresholds: Annotated[
        Path | None, typer.Option(help="A thresholds.json; default: the best run's own.")
    ] = configs.SubmitConfig.thresholds,
    tta: TtaOfThresholds = configs.SubmitConfig.tta,
    again: Annotated[bool, typer.Option("--again", help="Submit what was submitted before once more.")] = False,
    bundle_only: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write dataset and notebook to DIR; nothing leaves the machine.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="For --bundle-only: the Kaggle account it will belong to.")
    ] = configs.SubmitConfig.user,
) -> None:
    """Score runs on Kaggle: bundle, upload, run the offline notebook, submit, fetch the scores."""
    config = configs.SubmitConfig(
        runs=tuple(run), thresholds=thresholds, tta=tta, again=again, bundle_only=bundle_only, user=user
    )
    if not any(config.out.glob("*/state.json")):  # what was submitted is fetched, whatever has become of its runs
        early.check_runs(config.runs)
    from severstal_cli.stages import submitting

    try:
        result = submitting.submit(config, TerminalProgress())
    except KeyboardInterrupt:
        typer.echo("\nwhat was done is kept, and goes on at Kaggle: the same command takes it up from there", err=True)
        raise
    if result.bundle is not None:
        typer.echo(f"{result.bundle}: dataset/ and kernel/ of {result.name}; README.md has the commands that go on")
    for line in printing.submit_lines(result):
        typer.echo(line)


@app.command(rich_help_panel=SUBMISSIONS)
def submissions(
    folder: Annotated[Path, typer.Argument(help="Holds the history.csv.")] = configs.SubmitConfig.out,
    as_json: AsJson = False,
) -> None:
    """List what was submitted, beside the local scores."""
    from severstal_cli.kaggle import submission_log

    rows = submission_log.read(folder)
    if as_json:
        typer.echo(json.dumps(rows))
    elif rows:
        printing.print_submissions(rows)
    else:
        typer.echo(f"nothing was submitted yet: no rows in {folder / submission_log.NAME}")
