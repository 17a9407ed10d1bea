"""Options that several commands share, and the parsers of their values."""

import re
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from severstal_cli import config as configs


def parse_size(text: str) -> tuple[int, int]:
    """ "256x1600" -> (256, 1600)."""
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found or min(int(side) for side in found.groups()) < 1:
        raise typer.BadParameter(f"{text!r} is not HEIGHTxWIDTH, as in 256x1600")
    return int(found[1]), int(found[2])


def parse_suffix(text: str) -> str:
    """ "png" or ".png" -> ".png"."""
    return text if not text or text.startswith(".") else f".{text}"


def parse_seconds(text: str) -> float:
    """ "25m" -> 1500.0."""
    if re.fullmatch(r"\d+([.,]\d+)?", text):
        raise typer.BadParameter(f"{text!r} has no unit: give hours, minutes or seconds, as in 2h, 25m or 90s")
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not found or not any(found.groups()):
        raise typer.BadParameter(f"{text!r} is no time, as in 25m, 1h30m or 90s")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(3600 * hours + 60 * minutes + seconds)


def is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def show_page(page: Path) -> None:
    """Open a page in the browser, or say that there is none."""
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo("no browser found: open the page yourself", err=True)


def parse_fold(text: str) -> int | None:
    """ "2" -> 2, "none" or "all" -> None."""
    if text in ("none", "all"):
        return None
    if not (text.isascii() and text.isdecimal()):
        raise typer.BadParameter(f"{text!r} is neither the number of a fold, nor all, nor none", param_hint="'--fold'")
    return int(text)


def parse_batch_size(text: str) -> int | None:
    """ "8" -> 8, "auto" -> None."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise typer.BadParameter(f"{text!r} is neither a number of images nor auto", param_hint="'--batch-size'")
    return int(text)


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0,1,2` -> the numbers."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdecimal() and int(part) < 2**32 for part in parts):
        raise typer.BadParameter(f"{text!r} is not whole numbers joined by commas, as 0,1,2", param_hint="'--seeds'")
    return tuple(map(int, parts))


def parse_weights(text: str) -> tuple[float, ...]:
    """`2,1,0.5` -> the numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not numbers joined by commas, as 2,1,1", param_hint="'--weights'"
        ) from None


def parse_class_names(text: str) -> tuple[str, ...]:
    """A file of class names, or names joined by commas. Raises InputError."""
    from severstal_cli.steel import class_names

    return class_names.parse(text)


Data = Annotated[Path, typer.Option(help="Data folder, with train.csv and train_images/.")]
MaybeData = Annotated[Path | None, typer.Option(help="Data folder (default: the one that the run was trained on).")]
Tta = Annotated[str, typer.Option(help="TTA views: none, flips, scales, hflip, vflip, ..., comma-separated.")]
TtaOfThresholds = Annotated[
    str | None, typer.Option("--tta", help="TTA views, e.g. flips,larger (default: those of the threshold search).")
]
Thresholds = Annotated[
    Path | None,
    typer.Option(help="Use this thresholds.json, which may also name runs and their weights (default: the run's own)."),
]
# Any: typer would turn a tuple into an option with two values
Weights = Annotated[
    Any, typer.Option(parser=parse_weights, metavar="W,W,...", help="Ensemble weight of each run, comma-separated.")
]
ClassNames = Annotated[
    Any,
    typer.Option(
        parser=parse_class_names, metavar="FILE", help="Class names, one per line (default: classes.txt of the data)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
Models = Annotated[Path, typer.Option(help="Folder of trained runs.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per forward pass.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")]
LAYOUTS = " or ".join(f"{name} ({header})" for name, header in configs.LAYOUTS.items())
Size = Annotated[Any, typer.Option(parser=parse_size, metavar="HxW", help="Image size as HEIGHTxWIDTH, e.g. 256x1600.")]
OpenPage = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
