"""The group of all commands, and the one line that reports an error."""

import os
import sys
from importlib.abc import MetaPathFinder
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from severstal_cli import __version__, printing
from severstal_cli.cli import assignments
from severstal_cli.errors import UsageError
from severstal_cli.progress import TerminalProgress

SLOW_LIBRARIES = "torch", "segmentation_models_pytorch"
"""Libraries whose import takes seconds."""


class _Commands(TyperGroup):
    """Turns the error of a command into one line and an exit code: 1, 2 for a wrong option, 130 for Ctrl-C."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            assignments.check(command, rest)
        return name, command, rest

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            result = super().invoke(ctx)
            if "TORCHELASTIC_RUN_ID" in os.environ:
                from severstal_cli.learning import launching

                launching.leave(0)  # torch's threads may abort a process that ends normally
            return result
        except Exception as error:
            line = printing.line_of(error)
            if line is None or os.environ.get("SEVERSTAL_DEBUG") == "1":
                raise
            print(f"severstal: {line}", file=sys.stderr)  # noqa: T201 (rich would wrap it)
            code = 2 if isinstance(error, UsageError) else 1
            if "TORCHELASTIC_RUN_ID" in os.environ:
                from severstal_cli.learning import launching

                launching.leave(code)
            raise SystemExit(code) from error
        except KeyboardInterrupt:
            print("\nseverstal: interrupted", file=sys.stderr)  # noqa: T201
            raise SystemExit(130) from None


class SlowImports(MetaPathFinder):
    """Prints a line when the import of a slow library begins. It finds no module itself."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname in SLOW_LIBRARIES:
            TerminalProgress().log(f"loading {fullname}")


app = typer.Typer(
    cls=_Commands,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From steel images and RLE annotations to a scored submission.csv.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"severstal {__version__}")
        raise typer.Exit


PIPELINE = (
    ("see it work", "severstal demo demo"),
    ("data", "severstal download"),
    ("  or yours", "severstal encode masks --out data/train.csv"),
    ("split", "severstal split"),
    ("train", "severstal train --arch linknet"),
    ("thresholds", "severstal thresholds models/linknet-resnet34-fold0"),
    ("predict", "severstal predict data/test_images"),
    ("check", "severstal check submissions/submission.csv"),
    ("score", "severstal score --model models/linknet-resnet34-fold0"),
    ("compare", "severstal compare unet linknet --seeds 0,1,2"),
    ("audit", "severstal audit models/linknet-resnet34-fold0"),
    ("look", "severstal report models/linknet-resnet34-fold0 --open"),
    ("submit", "severstal submit models/linknet-resnet34-fold0"),
)
"""The steps from images to a score, each with an example."""

DATA, RUNS, SUBMISSIONS = "Data", "Networks and runs", "Submissions and scores"
"""Panels of the help, in the order of the pipeline."""


def _print_pipeline() -> None:
    typer.echo("From steel images and RLE annotations to a scored submission.csv.\n")
    for step, example in PIPELINE:
        typer.echo(f"  {step:11}  {example}")
    typer.echo("\n`severstal COMMAND --help` lists the options, `severstal --help` all commands.")


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        _print_pipeline()
