"""The command that shows."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from severstal_cli import config as configs
from severstal_cli.cli import completion, early
from severstal_cli.cli.app import SUBMISSIONS, app
from severstal_cli.cli.options import BatchSize, ClassNames, MaybeData
from severstal_cli.progress import TerminalProgress


@app.command(rich_help_panel=SUBMISSIONS)
def report(
    shown: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|SUBMISSION...",
            help="Folders of runs, or submissions, side by side.",
            autocompletion=completion.runs,
        ),
    ],
    data: MaybeData = configs.ReportConfig.data,
    part: Annotated[
        str, typer.Option(metavar="holdout|validation", help="The images of runs: validation is the fold left out.")
    ] = configs.ReportConfig.part,
    truth: Annotated[Path | None, typer.Option(help="Annotations of the images of submissions.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="The images of submissions: a folder, or a list with ImageId.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write; default: reports/NAME.")] = None,
    batch_size: BatchSize = configs.ReportConfig.batch_size,
    class_names: ClassNames = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Write a page to look at predictions: scores, a gallery, a slider over the threshold."""
    config = configs.ReportConfig(
        shown=tuple(shown),
        data=data,
        part=part,
        truth=truth,
        images=images,
        out=out,
        batch_size=batch_size,
        class_names=class_names or (),
    )
    early.check_report(config)
    from severstal_cli.stages import reporting

    result = reporting.report(config, TerminalProgress())
    typer.echo(f"{result.page}: {result.images:,} images, {result.size_bytes / 1e6:,.1f} MB")
    if open_page and not webbrowser.open(result.page.resolve().as_uri()):
        typer.echo("no browser was found: open the page yourself", err=True)
