"""The commands: options in, one call, a table out."""

import dataclasses
import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from severstal_cli import __version__, printing
from severstal_cli import config as configs
from severstal_cli.errors import SeverstalError
from severstal_cli.progress import TerminalProgress


class _Commands(TyperGroup):
    """Turns what goes wrong in a command into one line and an exit code: 1, or 130 for Ctrl-C."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except (SeverstalError, OSError, MemoryError, RuntimeError) as error:
            line = printing.line_of(error)
            if line is None or os.environ.get("SEVERSTAL_DEBUG") == "1":
                raise
            print(f"severstal: {line}", file=sys.stderr)  # noqa: T201 (rich would wrap it)
            raise SystemExit(1) from error
        except KeyboardInterrupt:
            print("\nseverstal: interrupted", file=sys.stderr)  # noqa: T201
            raise SystemExit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From steel photographs and run-length annotations to a scored submission.csv.",
)


def main() -> None:
    """The `severstal` command."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"severstal {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found or min(int(side) for side in found.groups()) < 1:
        raise typer.BadParameter(f"{text!r} is not HEIGHTxWIDTH, as in 256x1600")
    return int(found[1]), int(found[2])


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?|(\d+)", text)
    if not found or not any(found.groups()):
        raise typer.BadParameter(f"{text!r} is no time, as in 25m, 1h30m or 90s")
    hours, minutes, seconds, bare = (int(part or 0) for part in found.groups())
    return float(3600 * hours + 60 * minutes + seconds + bare)


def _fold(text: str) -> int | None:
    if text == "none":
        return None
    if not (text.isascii() and text.isdecimal()):
        raise typer.BadParameter(f"{text!r} is neither the number of a fold nor none", param_hint="'--fold'")
    return int(text)


Data = Annotated[Path, typer.Option(help="Folder with train.csv and train_images/.")]
MaybeData = Annotated[Path | None, typer.Option(help="Data folder; by default the one the run was trained on.")]
Tta = Annotated[str, typer.Option(help="Views to average: none, hflip or flips.")]
TtaOfThresholds = Annotated[
    str | None, typer.Option("--tta", help="Views: none, hflip or flips. Default: as the thresholds were searched.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON alone.")]
Models = Annotated[Path, typer.Option(help="Folder of the trained runs.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images a step.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of all that is random.")]
Layout = Annotated[str, typer.Option(help="auto, current (ImageId,ClassId,...) or original (ImageId_ClassId,...).")]
# Any: of a tuple typer would make an option with two values
Size = Annotated[Any, typer.Option(parser=_size, metavar="HxW", help="Height x width, as 256x1600.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="A new or empty folder.")],
    seed: Seed = configs.DemoConfig.seed,
) -> None:
    """Write a synthetic steel set and run every stage on it."""
    from severstal_cli.stages import demonstration

    result = demonstration.demonstrate(configs.DemoConfig(out=out, seed=seed), TerminalProgress())
    printing.print_demo(result)
    typer.echo(f"photograph, truth and each model's mask: {result.picture}")


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="A new or empty folder.")],
    images: Annotated[int | None, typer.Option(min=1, help="Training images.")] = configs.SynthConfig.images,
    test_images: Annotated[int, typer.Option(min=0, help="Test images.")] = configs.SynthConfig.test_images,
    size: Size = None,
    annotations: Annotated[Path | None, typer.Option(help="Draw under the masks of this train.csv.")] = None,
    image_list: Annotated[
        Path | None, typer.Option("--list", help="With --annotations: the images, clean ones too (a column ImageId).")
    ] = None,
    seed: Seed = configs.SynthConfig.seed,
) -> None:
    """Write a synthetic set of steel photographs in the competition's layout."""
    from severstal_cli.stages import synthesis

    config = configs.SynthConfig(
        out=out, images=images, test_images=test_images, size=size or configs.SynthConfig.size,
        annotations=annotations, image_list=image_list, seed=seed,
    )  # fmt: skip
    synthesis.synthesise(config, TerminalProgress())
    typer.echo(f"wrote {out}")


@app.command()
def split(
    data: Data = configs.SplitConfig.data,
    holdout: Annotated[float, typer.Option(help="Share of the images kept for score.")] = configs.SplitConfig.holdout,
    folds: Annotated[int, typer.Option(help="Equal parts of the rest.")] = configs.SplitConfig.folds,
    seed: Seed = configs.SplitConfig.seed,
) -> None:
    """Deal the images to folds and a holdout, near-duplicates kept together."""
    from severstal_cli.stages import splitting

    config = configs.SplitConfig(data=data, holdout=holdout, folds=folds, seed=seed)
    result = splitting.split(config, TerminalProgress())
    printing.print_split(result)
    if result.largest_group > 1:
        typer.echo(f"near-duplicates: images in groups, each group in one part; the largest has {result.largest_group}")


@app.command()
def train(
    data: Data = configs.TrainConfig.data,
    arch: Annotated[str, typer.Option(help="A network of `severstal models`.")] = configs.TrainConfig.arch,
    encoder: Annotated[str, typer.Option(help="Its encoder.")] = configs.TrainConfig.encoder,
    encoder_weights: Annotated[
        str, typer.Option(help="imagenet, none or a file.")
    ] = configs.TrainConfig.encoder_weights,
    fold: Annotated[str, typer.Option(help="Fold kept for validation, or none.")] = str(configs.TrainConfig.fold),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = configs.TrainConfig.epochs,
    time_limit: Annotated[
        float | None,
        typer.Option(
            parser=_seconds, metavar="TIME", help="End after this time of training, as 25m; the schedule fits."
        ),
    ] = None,
    seed: Seed = configs.TrainConfig.seed,
    models: Models = configs.TrainConfig.models,
    name: Annotated[str | None, typer.Option(help="The run's folder; default ARCH-ENCODER-foldN.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with this run after its last whole epoch.")] = False,
    batch_size: BatchSize = configs.TrainConfig.batch_size,
    learning_rate: Annotated[float, typer.Option(help="Its highest value.")] = configs.TrainConfig.learning_rate,
    devices: Annotated[int, typer.Option(min=1, max=1, help="Devices to train on.")] = configs.TrainConfig.devices,
) -> None:
    """Train a network: a run under models/."""
    from severstal_cli.stages import training

    config = configs.TrainConfig(
        data=data, arch=arch, encoder=encoder, encoder_weights=encoder_weights, fold=_fold(fold), epochs=epochs,
        time_limit_s=time_limit, seed=seed, models=models, name=name, resume=resume, batch_size=batch_size,
        learning_rate=learning_rate, devices=devices,
    )  # fmt: skip
    try:
        result = training.train(config, TerminalProgress())
    except KeyboardInterrupt:
        typer.echo(
            f"\n{config.run_name}: the same command with --resume goes on after the last whole epoch, if there is one",
            err=True,
        )
        raise
    best = "" if result.validation_dice is None else (
        f", best epoch {result.best_epoch} with validation Dice {result.validation_dice:.4f} "
        f"(predicting nothing {result.nothing_dice:.4f})"
    )  # fmt: skip
    time = f"{result.seconds / 60:.1f} min" if result.seconds >= 100 else f"{result.seconds:.0f} s"
    typer.echo(f"{result.folder}: {result.epochs} epochs in {time}{best}")
    if result.validation_dice is not None:
        typer.echo(f"next: severstal thresholds {result.folder}")


@app.command()
def thresholds(
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="models/NAME; several are averaged.")],
    data: MaybeData = None,
    tta: Tta = configs.ThresholdsConfig.tta,
    out: Annotated[Path | None, typer.Option(help="For several runs: the file to write.")] = None,
    batch_size: BatchSize = configs.ThresholdsConfig.batch_size,
) -> None:
    """Find the best post-processing of a run on its validation fold."""
    from severstal_cli.stages import searching

    config = configs.ThresholdsConfig(runs=tuple(run), data=data, tta=tta, out=out, batch_size=batch_size)
    result = searching.search(config, TerminalProgress())
    printing.print_thresholds(result)
    models = " ".join(f"--model {folder}" for folder in run)
    typer.echo(
        f"wrote {result.path}; next: severstal predict IMAGES {models}" + (f" --thresholds {out}" if out else "")
    )


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Folders and single files.")],
    model: Annotated[
        list[Path] | None, typer.Option(help="A run; several are averaged. Default: the best in models/.")
    ] = None,
    models: Models = configs.PredictConfig.models,
    tta: TtaOfThresholds = configs.PredictConfig.tta,
    out: Annotated[Path, typer.Option(help="The submission.")] = configs.PredictConfig.out,
    layout: Layout = configs.PredictConfig.layout,
    sample: Annotated[
        Path | None, typer.Option(help="Take images, order and layout of this sample submission.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder for pictures with the masks drawn on.")] = None,
    thresholds: Annotated[Path | None, typer.Option(help="A thresholds.json instead of the run's own.")] = None,
    batch_size: BatchSize = configs.PredictConfig.batch_size,
) -> None:
    """Predict the masks of photographs: a submission.csv."""
    from severstal_cli.stages import prediction

    result = prediction.predict(
        configs.PredictConfig(
            images=tuple(images), runs=tuple(model or ()), models=models, tta=tta, out=out, layout=layout,
            sample=sample, masks=masks, thresholds=thresholds, batch_size=batch_size,
        ),
        TerminalProgress(),
    )  # fmt: skip
    counts = ", ".join(f"class {number}: {count}" for number, count in enumerate(result.masks_by_class, start=1))
    rate = result.images / result.seconds
    typer.echo(f"{result.path}: {result.rows} rows for {result.images} images ({rate:.1f} images/s); masks of {counts}")


@app.command()
def encode(
    masks: Annotated[Path, typer.Argument(metavar="MASKS_DIR", help="IMAGE_CLASS.png files, or label images.")],
    out: Annotated[Path, typer.Option(help="The table.")],
    layout: Layout = configs.EncodeConfig.layout,
    label_images: Annotated[
        bool, typer.Option("--label-images", help="One file an image; pixels hold class ids.")
    ] = False,
    images: Annotated[Path | None, typer.Option(help="The images, clean ones too: a folder or a list.")] = None,
    suffix: Annotated[str, typer.Option(help="Of the images, without --images.")] = configs.EncodeConfig.suffix,
    classes: Annotated[int, typer.Option(help="Number of classes; 0: as found.")] = configs.EncodeConfig.classes,
) -> None:
    """Masks as PNG to a table of run lengths."""
    from severstal_cli.stages import encoding

    config = configs.EncodeConfig(
        masks=masks, out=out, layout=layout, label_images=label_images, images=images, suffix=suffix, classes=classes
    )
    result = encoding.encode(config, TerminalProgress())
    typer.echo(
        f"{result.out}: {result.rows} rows, {result.masks} masks of {result.images} images, {result.classes} classes"
    )


@app.command()
def decode(
    table: Annotated[Path, typer.Argument(help="Annotations or a submission.")],
    out: Annotated[Path, typer.Option(metavar="MASKS_DIR", help="Folder for IMAGE_CLASS.png, 0 and 255.")],
    size: Annotated[Any, typer.Option(parser=_size, metavar="HxW", help="Height x width, as 256x1600.")],
) -> None:
    """A table of run lengths to masks as PNG."""
    from severstal_cli.stages import encoding

    result = encoding.decode(configs.DecodeConfig(table=table, out=out, size=size), TerminalProgress())
    typer.echo(f"{result.out}: {result.masks} masks of {result.images} images")


@app.command()
def check(
    submission: Annotated[Path, typer.Argument(help="A submission.csv.")],
    sample: Annotated[Path | None, typer.Option(help="The sample submission: which rows must be there.")] = None,
    images: Annotated[Path | None, typer.Option(help="The images: a folder or a list.")] = None,
    size: Size = None,
    every: Annotated[bool, typer.Option("--all", help="Name every fault, not the first 20 alone.")] = False,
) -> None:
    """Tell every fault of a submission. Exit code 1 if there is one."""
    from severstal_cli.stages import checking

    config = configs.CheckConfig(submission=submission, sample=sample, images=images, size=size)
    result = checking.check(config, TerminalProgress())
    for line in printing.check_lines(result, every=every):
        typer.echo(line)
    if not result.is_valid:
        raise typer.Exit(1)


@app.command()
def score(
    submission: Annotated[Path | None, typer.Argument(help="A submission.csv.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Annotations to score it against.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="The images that count: a folder, or a list with ImageId.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Instead: a run, scored on its holdout.")] = None,
    data: MaybeData = None,
    tta: TtaOfThresholds = configs.ScoreConfig.tta,
    batch_size: BatchSize = configs.ScoreConfig.batch_size,
    as_json: AsJson = False,
) -> None:
    """Mean Dice as the competition counts it, beside predicting nothing."""
    from severstal_cli.stages import scoring

    config = configs.ScoreConfig(
        submission=submission, truth=truth, images=images, run=model, data=data, tta=tta, batch_size=batch_size
    )
    result = scoring.score(config, TerminalProgress())
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(result)))
    else:
        printing.print_score(str(submission or model or "the best run"), result)


@app.command()
def models(models: Models = configs.TrainConfig.models) -> None:
    """List the networks to train and the trained runs."""
    from severstal_cli.learning import registry, run

    found = [(folder, card, (folder / run.THRESHOLDS).exists()) for folder, card in run.find_runs(models)]
    printing.print_models(registry.REGISTRY, found)
    if not found:
        typer.echo(f"no trained run in {models}")
