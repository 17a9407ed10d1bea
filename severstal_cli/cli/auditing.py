"""The command `audit`."""

from pathlib import Path
from typing import Annotated

import typer

from severstal_cli import config as configs
from severstal_cli import printing
from severstal_cli.cli import completion, early, runs
from severstal_cli.cli.app import SUBMISSIONS, app
from severstal_cli.cli.options import BatchSize, MaybeData, Overwrite, Tta, is_given
from severstal_cli.errors import UsageError
from severstal_cli.progress import TerminalProgress


@app.command(rich_help_panel=SUBMISSIONS)
def audit(
    context: typer.Context,
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Runs of several folds of one split, as of train --fold all.",
            autocompletion=completion.runs,
        ),
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option(
            metavar="DECISIONS", help="Apply a decisions.csv, an audit.csv with a column Decision, to --data."
        ),
    ] = None,
    data: MaybeData = configs.AuditConfig.data,
    out: Annotated[
        Path | None, typer.Option(help="Output CSV (default: audits/NAME.csv; with --apply it must be given).")
    ] = configs.AuditConfig.out,
    tta: Tta = configs.AuditConfig.tta,
    batch_size: BatchSize = configs.AuditConfig.batch_size,
    overwrite: Overwrite = configs.AuditConfig.overwrite,
) -> None:
    """Rank the suspected faults of annotations, or apply decisions on them."""
    from severstal_cli.stages import auditing

    if apply is not None:
        _check_apply(context, run, data, out)
        assert data is not None
        assert out is not None
        accepting = configs.AcceptConfig(decisions=apply, data=data, out=out, overwrite=overwrite)
        for line in printing.accepted_lines(auditing.apply(accepting, TerminalProgress())):
            typer.echo(line)
        return
    if not run:
        raise UsageError("no run to audit with", "", "Name runs of several folds, or give --apply decisions.csv")
    config = configs.AuditConfig(
        runs=runs.find_all(run), data=data, out=out, tta=tta, batch_size=batch_size, overwrite=overwrite
    )
    early.check_runs(config.runs, config.data)
    result = auditing.audit(config, TerminalProgress())
    printing.print_audit(result)
    for line in printing.audit_lines(result):
        typer.echo(line)


def _check_apply(context: typer.Context, run: list[Path] | None, data: Path | None, out: Path | None) -> None:
    """Raises UsageError."""
    if run:
        raise UsageError("--apply takes no runs", " ".join(map(str, run)), "Omit them")
    for name in ("tta", "batch_size"):
        if is_given(context, name):
            raise UsageError(f"--{name.replace('_', '-')} does nothing with --apply", "", "Omit it")
    if data is None or out is None:
        missing = "--data" if data is None else "--out"
        raise UsageError(
            f"--apply needs {missing}", "", "Give --data DATA, the audited folder, and --out NEW_TRAIN.csv"
        )
