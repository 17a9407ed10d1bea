"""The commands on submissions: predict, check, score, submit, submissions."""

import json
from pathlib import Path
from typing import Annotated

import typer

from severstal_cli import config as configs
from severstal_cli import printing
from severstal_cli.cli import completion, early, runs
from severstal_cli.cli.app import SUBMISSIONS, app
from severstal_cli.cli.options import (
    LAYOUTS,
    AsJson,
    BatchSize,
    ClassNames,
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
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Image folders and files.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="Name or folder of a run; repeat for an ensemble "
            "(default: as in --thresholds, else the best; int8 last).",
            autocompletion=completion.runs,
        ),
    ] = None,
    models: Models = configs.PredictConfig.models,
    tta: TtaOfThresholds = configs.PredictConfig.tta,
    out: Annotated[Path, typer.Option(help="Output CSV.")] = configs.PredictConfig.out,
    layout: Annotated[str, typer.Option(help=f"CSV layout: auto, {LAYOUTS}.")] = configs.PredictConfig.layout,
    sample: Annotated[
        Path | None, typer.Option(help="Sample submission that gives the images, their order and the layout.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Output folder for overlays of the predicted masks.")] = None,
    thresholds: Thresholds = None,
    weights: Weights = None,
    batch_size: BatchSize = configs.PredictConfig.batch_size,
    engine: Annotated[
        str, typer.Option(metavar="auto|torch|openvino|onnxruntime", help="Inference engine.")
    ] = configs.PredictConfig.engine,
    devices: Annotated[
        int, typer.Option(min=1, help="Number of GPUs, or of processes on the CPU.")
    ] = configs.PredictConfig.devices,
    on_error: Annotated[
        str,
        typer.Option(metavar="stop|skip", help="At an unreadable image: stop, or skip it and leave its rows empty."),
    ] = configs.PredictConfig.on_error,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted prediction.")] = False,
) -> None:
    """Predict masks and write a submission.csv."""
    config = configs.PredictConfig(
        images=tuple(images), runs=runs.find_all(model, models), models=models, tta=tta, out=out, layout=layout,
        sample=sample, masks=masks, thresholds=runs.find_thresholds(thresholds, models), weights=weights or (),
        batch_size=batch_size, engine=engine, devices=devices, on_error=on_error, resume=resume,
    )  # fmt: skip
    early.check_prediction(config)
    from severstal_cli.learning import distributed
    from severstal_cli.stages import prediction

    result = prediction.predict(config, TerminalProgress())
    if distributed.is_first():
        typer.echo(printing.prediction_line(result))


@app.command(rich_help_panel=SUBMISSIONS)
def check(
    submission: Annotated[Path, typer.Argument(help="Submission CSV.")],
    sample: Annotated[Path | None, typer.Option(help="Sample submission with the expected rows.")] = None,
    images: Annotated[Path | None, typer.Option(help="Images: a folder, or a CSV with ImageId.")] = None,
    size: Size = None,
    class_names: ClassNames = None,
    every: Annotated[bool, typer.Option("--all", help="Print all faults, not only the first 20.")] = False,
) -> None:
    """Print every fault of a submission; exit code 1 if there is one."""
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
        Path | None, typer.Argument(help="Submission CSV, or a run, which is scored on its holdout set.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Ground truth of the submission.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Images to score: a folder, a CSV with ImageId, or splits.csv:holdout.")
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(help="Name of a run, or its folder; repeat for an ensemble.", autocompletion=completion.runs),
    ] = None,
    thresholds: Thresholds = None,
    data: MaybeData = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER", help="Submission or run to compare against; prints the difference and its 95 % interval."
        ),
    ] = None,
    tta: TtaOfThresholds = configs.ScoreConfig.tta,
    batch_size: BatchSize = configs.ScoreConfig.batch_size,
    class_names: ClassNames = None,
    as_json: AsJson = False,
) -> None:
    """Compute the competition's mean Dice and its 95 % interval."""
    from severstal_cli.stages import scoring

    config = configs.ScoreConfig(
        submission=submission and runs.find(submission), truth=truth, images=images, runs=runs.find_all(model),
        thresholds=runs.find_thresholds(thresholds), data=data, against=against and runs.find(against), tta=tta,
        batch_size=batch_size, class_names=class_names or (),
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
        typer.Argument(
            metavar="RUN...", help="Name of a run, or its folder; several are averaged.", autocompletion=completion.runs
        ),
    ],
    thresholds: Annotated[
        Path | None, typer.Option(help="Use this thresholds.json (default: that of the best run).")
    ] = configs.SubmitConfig.thresholds,
    tta: TtaOfThresholds = configs.SubmitConfig.tta,
    again: Annotated[bool, typer.Option("--again", help="Submit the same runs again.")] = False,
    bundle_only: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the dataset and the notebook to DIR and upload nothing.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --bundle-only: name of the Kaggle account.")
    ] = configs.SubmitConfig.user,
) -> None:
    """Submit runs to Kaggle by an offline notebook and print the scores."""
    config = configs.SubmitConfig(
        runs=runs.find_all(run),
        thresholds=runs.find_thresholds(thresholds),
        tta=tta,
        again=again,
        bundle_only=bundle_only,
        user=user,
    )
    if not any(config.out.glob("*/state.json")):  # scores of a submission are fetched even if its runs are gone
        early.check_runs(config.runs)
    from severstal_cli.stages import submitting

    try:
        result = submitting.submit(config, TerminalProgress())
    except KeyboardInterrupt:
        typer.echo("\nfinished steps are kept and Kaggle continues: the same command resumes", err=True)
        raise
    if result.bundle is not None:
        typer.echo(f"{result.bundle}: dataset/ and kernel/ of {result.name}; README.md has the next commands")
    for line in printing.submit_lines(result):
        typer.echo(line)


@app.command(rich_help_panel=SUBMISSIONS)
def submissions(
    folder: Annotated[Path, typer.Argument(help="Folder with history.csv, the log.")] = configs.SubmitConfig.out,
    as_json: AsJson = False,
) -> None:
    """List the submissions with their local and leaderboard scores."""
    from severstal_cli.kaggle import submission_log

    rows = submission_log.read(folder)
    if as_json:
        typer.echo(json.dumps(rows))
    elif rows:
        printing.print_submissions(rows)
    else:
        typer.echo(f"nothing was submitted yet: no rows in {folder / submission_log.NAME}")
