"""The command `report`."""

from pathlib import Path
from typing import Annotated

import typer

from severstal_cli import config as configs
from severstal_cli.cli import completion, early, runs
from severstal_cli.cli.app import SUBMISSIONS, app
from severstal_cli.cli.options import BatchSize, ClassNames, MaybeData, OpenPage, show_page
from severstal_cli.progress import TerminalProgress
from severstal_cli.wording import counted


@app.command(rich_help_panel=SUBMISSIONS)
def report(
    shown: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|SUBMISSION|AUDIT...",
            help="Run folders or submissions, shown side by side, or the audit.csv of one audit.",
            autocompletion=completion.runs,
        ),
    ],
    data: MaybeData = configs.ReportConfig.data,
    part: Annotated[
        str,
        typer.Option(
            metavar="holdout|validation", help="Images to show of a run: its holdout set or its validation fold."
        ),
    ] = configs.ReportConfig.part,
    truth: Annotated[Path | None, typer.Option(help="Ground truth of the submissions.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Images of the submissions: a folder, or a CSV with ImageId.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Output folder (default: reports/NAME).")] = None,
    batch_size: BatchSize = configs.ReportConfig.batch_size,
    class_names: ClassNames = None,
    open_page: OpenPage = False,
) -> None:
    """Write an HTML report: scores, an image gallery, and masks over a threshold slider; or an audit to decide on."""
    config = configs.ReportConfig(
        shown=runs.find_all(shown),
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
    about = counted(result.images)
    if result.findings is not None:
        about = f"{counted(result.findings, 'suspected fault')} in {about}"
    typer.echo(f"{result.page}: {about}, {result.size_bytes / 1e6:,.1f} MB")
    if open_page:
        show_page(result.page)
