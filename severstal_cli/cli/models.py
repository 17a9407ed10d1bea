"""The commands that make trained runs."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from severstal_cli import config as configs
from severstal_cli import printing
from severstal_cli.cli import completion, early, remote
from severstal_cli.cli.app import RUNS, app
from severstal_cli.cli.options import (
    BatchSize,
    Data,
    MaybeData,
    Models,
    Seed,
    Tta,
    Weights,
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
    data: Data = configs.TrainConfig.data,
    arch: Annotated[
        str, typer.Option(help="A network of `severstal models`.", autocompletion=completion.networks)
    ] = configs.TrainConfig.arch,
    encoder: Annotated[str, typer.Option(help="Its encoder.")] = configs.TrainConfig.encoder,
    encoder_weights: Annotated[
        str, typer.Option(help="Name of pretrained weights (imagenet, ssl, ...), none, or a file.")
    ] = configs.TrainConfig.encoder_weights,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="A run to start from, instead of the encoder's weights.",
            autocompletion=completion.runs,
        ),
    ] = configs.TrainConfig.init,
    fold: Annotated[str, typer.Option(help="Fold kept for validation; all: one run for each; or none.")] = str(
        configs.TrainConfig.fold
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = configs.TrainConfig.epochs,
    time_limit: Annotated[
        float | None,
        typer.Option(
            parser=parse_seconds,
            metavar="TIME",
            help="End after this time of training, of each fold, as 25m; the schedule fits.",
        ),
    ] = None,
    seed: Seed = configs.TrainConfig.seed,
    models: Models = configs.TrainConfig.models,
    name: Annotated[str | None, typer.Option(help="The run's folder; default ARCH-ENCODER-foldN.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with this run after its last whole epoch.")] = False,
    batch_size: Annotated[
        str, typer.Option(metavar="N|auto", help="Images a device takes at once; auto: as many as fit its memory.")
    ] = str(configs.TrainConfig.batch_size),
    step_images: Annotated[
        int | None, typer.Option(min=1, help="Images of a step, gathered over batches; default one batch, for auto 8.")
    ] = configs.TrainConfig.step_images,
    compile_network: Annotated[
        bool, typer.Option("--compile", help="Compile the network's training with torch.compile.")
    ] = configs.TrainConfig.compile,
    learning_rate: Annotated[float, typer.Option(help="Its highest value.")] = configs.TrainConfig.learning_rate,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on the CPU.")] = configs.TrainConfig.devices,
    pseudo: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A submission to train on, too, where it is sure: pseudo labels."),
    ] = None,
    pseudo_images: Annotated[Path | None, typer.Option(help="Folder of its images.")] = None,
    pseudo_share: Annotated[
        float, typer.Option(help="Share of them in the images of a step.")
    ] = configs.TrainConfig.pseudo_share,
    pseudo_min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Take images whose every row has this score.")
    ] = configs.TrainConfig.pseudo_min_score,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Settings: a run's model.json, or some of them; options win."),
    ] = None,
    on: Annotated[
        str, typer.Option("--on", metavar="here|kaggle", help="kaggle: in a private notebook on its two GPUs.")
    ] = PLACES[0],
    cancel: Annotated[bool, typer.Option("--cancel", help="With --on kaggle: end the notebook of this run.")] = False,
    discard: Annotated[
        bool,
        typer.Option("--discard", help="With --cancel: delete the notebook if nothing else ends it."),
    ] = False,
) -> None:
    """Train a network: a run under models/."""
    options = {
        "data": data, "arch": arch, "encoder": encoder, "encoder_weights": encoder_weights, "init": init,
        "fold": None if fold == "all" else parse_fold(fold),
        "epochs": epochs, "time_limit": time_limit, "seed": seed, "models": models, "name": name, "resume": resume,
        "batch_size": parse_batch_size(batch_size), "step_images": step_images, "compile_network": compile_network,
        "learning_rate": learning_rate, "devices": devices,
        "pseudo": pseudo, "pseudo_images": pseudo_images, "pseudo_share": pseudo_share,
        "pseudo_min_score": pseudo_min_score,
    }  # fmt: skip
    settings = configs.read_settings(config_file) if config_file is not None else {}
    fields = {"time_limit": "time_limit_s", "compile_network": "compile"}
    for option, value in options.items():
        field, source = fields.get(option, option), context.get_parameter_source(option)
        if field not in settings or (source is not None and source.name == "COMMANDLINE"):
            settings[field] = value
    if on != PLACES[0] or cancel or discard:
        source = context.get_parameter_source("devices")
        if source is not None and source.name != "COMMANDLINE" and settings["devices"] == 1:
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
            f"\n{config.models if fold == 'all' else names.folder_for(config)}: with --resume the same command goes on "
            "after the last whole epoch, if there is one",
            err=True,
        )
        raise
    if not distributed.is_first():
        return  # the first of torchrun's processes tells it
    for line in printing.training_lines(results):
        typer.echo(line)


@app.command(rich_help_panel=RUNS)
def thresholds(
    run: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="models/NAME; several are averaged.", autocompletion=completion.runs),
    ],
    data: MaybeData = None,
    weights: Weights = None,
    tta: Tta = configs.ThresholdsConfig.tta,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For several runs: the file to write, for predict --thresholds.")
    ] = None,
    batch_size: BatchSize = configs.ThresholdsConfig.batch_size,
) -> None:
    """Find the best post-processing of a run, or of the mean of several, on the folds that they left out."""
    config = configs.ThresholdsConfig(
        runs=tuple(run), weights=weights or (), data=data, tta=tta, out=out, batch_size=batch_size
    )
    early.check_runs(config.runs, data)
    from severstal_cli.stages import threshold_search

    result = threshold_search.search(config, TerminalProgress())
    printing.print_thresholds(result)
    by_what = shlex.join(["--thresholds", str(out)] if out else ["--model", str(run[0])])
    typer.echo(f"wrote {result.path}; next: severstal predict IMAGES {by_what}")


@app.command(rich_help_panel=RUNS)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="models/NAME.", autocompletion=completion.runs)],
    form: Annotated[str, typer.Option("--format", metavar="onnx|openvino", help="Of the network's file.")],
    out: Annotated[Path | None, typer.Option(help="The folder to write; default: RUN-FORMAT.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="A image to check it with; default: one that it was trained on.")
    ] = None,
) -> None:
    """Write a run in another format, checked, for `predict` here and other programs elsewhere."""
    config = configs.ExportConfig(run=run, format=form, out=out, image=image)
    early.check_runs([run])
    from severstal_cli.stages import exporting

    result = exporting.export_run(config, TerminalProgress())
    typer.echo(printing.export_line(result))


@app.command(rich_help_panel=RUNS)
def models(models: Models = configs.TrainConfig.models) -> None:
    """List the networks to train and the trained runs."""
    from severstal_cli.learning.networks import registry
    from severstal_cli.learning.runs import listing, run_folder

    found = listing.find_runs(models)
    trained = [(folder, card, (folder / run_folder.THRESHOLDS).exists()) for folder, card in found.trained]
    printing.print_models(registry.REGISTRY, trained, found.damaged)
    if not trained and not found.damaged:
        typer.echo(f"no trained run in {models}")
