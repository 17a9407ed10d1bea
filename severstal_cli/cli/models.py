"""The commands on networks and runs: train, thresholds, export, models."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from severstal_cli import config as configs
from severstal_cli import printing
from severstal_cli.cli import completion, early, remote, resuming, runs
from severstal_cli.cli.app import RUNS, app
from severstal_cli.cli.options import (
    BatchSize,
    Data,
    MaybeData,
    Models,
    Seed,
    Tta,
    Weights,
    is_given,
    parse_batch_size,
    parse_fold,
    parse_seconds,
)
from severstal_cli.config.remote import GPUS, PLACES
from severstal_cli.learning.networks import names
from severstal_cli.progress import TerminalProgress


@app.command(rich_help_panel=RUNS)
def train(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN", help="With --resume: name of the run, or its folder.", autocompletion=completion.runs
        ),
    ] = None,
    data: Data = configs.TrainConfig.data,
    arch: Annotated[
        str, typer.Option(help="Network; `severstal models` lists them.", autocompletion=completion.networks)
    ] = configs.TrainConfig.arch,
    encoder: Annotated[str, typer.Option(help="Encoder of the network.")] = configs.TrainConfig.encoder,
    encoder_weights: Annotated[
        str, typer.Option(help="Pretrained weights of the encoder: a name (imagenet, ssl, ...), none, or a file.")
    ] = configs.TrainConfig.encoder_weights,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Run to initialise the weights from, instead of the encoder's pretrained ones.",
            autocompletion=completion.runs,
        ),
    ] = configs.TrainConfig.init,
    fold: Annotated[
        str, typer.Option(help="Fold for validation; all: one run per fold; none: train on every fold.")
    ] = str(configs.TrainConfig.fold),
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs.")] = configs.TrainConfig.epochs,
    time_limit_s: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            parser=parse_seconds,
            metavar="TIME",
            help="Wall-clock budget per fold, e.g. 25m; the LR schedule is scaled to it.",
        ),
    ] = None,
    seed: Seed = configs.TrainConfig.seed,
    models: Models = configs.TrainConfig.models,
    name: Annotated[str | None, typer.Option(help="Name of the run (default: ARCH-ENCODER-foldN).")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume a run after its last complete epoch, with its settings.")
    ] = False,
    batch_size: Annotated[
        str, typer.Option(metavar="N|auto", help="Batch size per device; auto: as many images as fit the GPU's memory.")
    ] = str(configs.TrainConfig.batch_size),
    step_images: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Effective batch size per device, by gradient accumulation (default: --batch-size; 8 with auto).",
        ),
    ] = configs.TrainConfig.step_images,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = configs.TrainConfig.learning_rate,
    devices: Annotated[
        int, typer.Option(min=1, help="Number of GPUs, or of processes on the CPU.")
    ] = configs.TrainConfig.devices,
    pseudo: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Submission CSV to use as pseudo-labels (confident images only)."),
    ] = None,
    pseudo_images: Annotated[Path | None, typer.Option(help="Folder of the pseudo-labelled images.")] = None,
    pseudo_share: Annotated[
        float, typer.Option(help="Share of pseudo-labelled images in each step.")
    ] = configs.TrainConfig.pseudo_share,
    pseudo_min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum confidence that every row of an image must reach.")
    ] = configs.TrainConfig.pseudo_min_score,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="JSON file of settings, e.g. the model.json of a run; options override it."
        ),
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            "--on", metavar="here|kaggle", help="Where to train; kaggle: in a private notebook with two GPUs."
        ),
    ] = PLACES[0],
    cancel: Annotated[bool, typer.Option("--cancel", help="With --on kaggle: stop the notebook of this run.")] = False,
    discard: Annotated[
        bool,
        typer.Option(
            "--discard", help="With --cancel: delete a notebook that does not stop, give up what is not fetched."
        ),
    ] = False,
) -> None:
    """Train a network and save it as a run in models/."""
    if run is not None:
        models, name = resuming.place_of(run, models, name, resume=resume)
    init = init and runs.find(init, models)
    options = locals() | {"fold": parse_fold(fold), "batch_size": parse_batch_size(batch_size)}
    options = {name: options[name] for name in configs.TrainConfig.__dataclass_fields__ if name in options}
    of_file = configs.read_settings(runs.find_card(config_file, models)) if config_file is not None else {}
    settings = options | {name: value for name, value in of_file.items() if not is_given(context, name)}
    if resume and not cancel:
        saved = resuming.settings_of(settings, every_fold=fold == "all", is_here=on == PLACES[0])
        settings |= {name: value for name, value in (saved | of_file).items() if not is_given(context, name)}
    if on != PLACES[0] or cancel or discard:
        if settings["devices"] == 1 and not is_given(context, "devices"):
            settings["devices"] = GPUS
        remote.train(settings, on=on, cancel=cancel, discard=discard, every_fold=fold == "all")
        return
    config = configs.TrainConfig(**settings)
    early.check_training(config, folds=fold == "all")
    from severstal_cli.learning import distributed
    from severstal_cli.stages import training

    try:
        if fold == "all":
            results = training.train_folds(config, TerminalProgress())
        else:
            results = [training.train(config, TerminalProgress())]
    except KeyboardInterrupt:
        typer.echo(
            f"\n{config.models if fold == 'all' else names.folder_for(config)}: give --resume to continue "
            "after the last complete epoch, if there is one",
            err=True,
        )
        raise
    if not distributed.is_first():
        return  # the first of torchrun's processes prints the result
    for line in printing.training_lines(results):
        typer.echo(line)


@app.command(rich_help_panel=RUNS)
def thresholds(
    run: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Name of a run, or its folder; several are averaged.", autocompletion=completion.runs
        ),
    ],
    data: MaybeData = None,
    weights: Weights = None,
    tta: Tta = configs.ThresholdsConfig.tta,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Output file for several runs; predict --thresholds reads it.")
    ] = None,
    batch_size: BatchSize = configs.ThresholdsConfig.batch_size,
) -> None:
    """Search the post-processing of a run or an ensemble on its validation folds."""
    config = configs.ThresholdsConfig(
        runs=runs.find_all(run), weights=weights or (), data=data, tta=tta, out=out, batch_size=batch_size
    )
    early.check_runs(config.runs, data)
    from severstal_cli.stages import threshold_search

    result = threshold_search.search(config, TerminalProgress())
    printing.print_thresholds(result)
    by_what = shlex.join(["--thresholds", str(out)] if out else ["--model", str(config.runs[0])])
    typer.echo(f"wrote {result.path}; next: severstal predict IMAGES {by_what}")


@app.command(rich_help_panel=RUNS)
def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Name of a run, or its folder.", autocompletion=completion.runs)
    ],
    form: Annotated[str, typer.Option("--format", metavar="onnx|openvino", help="Export format.")],
    out: Annotated[Path | None, typer.Option(help="Output folder (default: RUN-FORMAT).")] = None,
    image: Annotated[
        Path | None, typer.Option(help="Image to compare both networks on (default: a training image).")
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Quantise to int8, with thresholds of its own, checked on the validation fold."),
    ] = configs.ExportConfig.int8,
    max_drop: Annotated[
        float | None,
        typer.Option(help=f"With --int8: largest accepted loss of mean Dice (default: {configs.MAX_DROP})."),
    ] = configs.ExportConfig.max_drop,
    data: MaybeData = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="With --int8: images per forward pass (default: 8).")
    ] = configs.ExportConfig.batch_size,
) -> None:
    """Export a run to ONNX or OpenVINO, for `predict` and other programs, and check the result."""
    run = runs.find(run)
    config = configs.ExportConfig(
        run=run, format=form, out=out, image=image, int8=int8, max_drop=max_drop, data=data, batch_size=batch_size
    )
    early.check_runs([run], data)
    from severstal_cli.stages import exporting

    result = exporting.export_run(config, TerminalProgress())
    typer.echo(printing.export_line(result))


@app.command(rich_help_panel=RUNS)
def models(
    shown: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER|RUN",
            help="Folders of runs to list, or runs to show with their settings (default: --models).",
            autocompletion=completion.runs,
        ),
    ] = None,
    models: Models = configs.TrainConfig.models,
) -> None:
    """List the networks and the trained runs, or show the settings of a run."""
    folders, found = runs.sort_out(shown or (), models)
    early.check_runs(found, models=models)
    from severstal_cli.config.training import REMOVED, UNUSED
    from severstal_cli.learning.runs import listing, model_card

    defaults = configs.TrainConfig().as_json() | REMOVED | UNUSED
    for run in found:
        card = model_card.read_card(run)
        printing.print_run(run, card, listing.facts_of(run), defaults)
    if not shown:
        printing.print_networks(names.descriptions())
    for folder in folders if shown else [models]:
        listed = listing.find_runs(folder)
        trained = [(run, card, listing.facts_of(run)) for run, card in listed.trained]
        printing.print_runs(folder, trained, listed.damaged)
        if not trained and not listed.damaged:
            typer.echo(f"no trained run in {folder}")
