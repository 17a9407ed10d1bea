"""The commands on data: download, demo, synth, split, encode, decode."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from severstal_cli import config as configs
from severstal_cli import printing
from severstal_cli.cli.app import DATA, app
from severstal_cli.cli.options import (
    LAYOUTS,
    Data,
    OpenPage,
    Overwrite,
    Seed,
    Size,
    parse_class_names,
    parse_seconds,
    parse_suffix,
    show_page,
)
from severstal_cli.progress import TerminalProgress


@app.command(rich_help_panel=DATA)
def download(
    data: Annotated[Path, typer.Option(help="Output folder.")] = configs.DownloadConfig.data,
    stall: Annotated[
        float,
        typer.Option(parser=parse_seconds, metavar="TIME", help="Abort when no data arrives for this time, e.g. 60s."),
    ] = f"{configs.DownloadConfig.stall_s:.0f}s",  # type: ignore[assignment]  # the parser makes it a number
) -> None:
    """Download, verify and unpack the competition's data."""
    from severstal_cli.stages import downloading

    try:
        result = downloading.download(configs.DownloadConfig(data=data, stall_s=stall), TerminalProgress())
    except KeyboardInterrupt:
        typer.echo(f"\n{data}: the downloaded bytes are kept, the same command resumes", err=True)
        raise
    done = "already complete, nothing to do" if result.was_there else "downloaded"
    found = result.counts
    typer.echo(
        f"{data}: {done}; {found.train_images:,} train images with {found.masks:,} masks, "
        f"{found.test_images:,} test images"
    )
    typer.echo(
        "next: severstal split" + ("" if data == configs.SplitConfig.data else f" --data {shlex.quote(str(data))}")
    )


@app.command(rich_help_panel=DATA)
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="A new or empty folder, or an earlier demo.")],
    fast: Annotated[bool, typer.Option("--fast", help="Fewer images and epochs: a look in two minutes.")] = False,
    open_page: OpenPage = False,
    seed: Seed = configs.DemoConfig.seed,
) -> None:
    """Draw a synthetic data set and run the whole pipeline on it."""
    from severstal_cli.stages import demo

    result = demo.demonstrate(configs.DemoConfig(out=out, fast=fast, seed=seed), TerminalProgress())
    printing.print_comparison(result.comparison)
    for line in printing.demo_lines(result):
        typer.echo(line)
    if open_page:
        show_page(result.report)


@app.command(rich_help_panel=DATA)
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="A new or empty folder, or an earlier synthetic set.")],
    images: Annotated[int | None, typer.Option(min=1, help="Number of training images.")] = configs.SynthConfig.images,
    test_images: Annotated[int, typer.Option(min=0, help="Number of test images.")] = configs.SynthConfig.test_images,
    size: Size = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Draw images that match the masks of this train.csv.")
    ] = None,
    image_list: Annotated[
        Path | None,
        typer.Option("--list", help="With --annotations: CSV with ImageId of all images, clean ones included."),
    ] = None,
    seed: Seed = configs.SynthConfig.seed,
) -> None:
    """Draw a synthetic data set in the competition's layout."""
    from severstal_cli.stages import synthesis

    config = configs.SynthConfig(
        out=out,
        images=images,
        test_images=test_images,
        size=size or configs.SynthConfig.size,
        annotations=annotations,
        image_list=image_list,
        seed=seed,
    )
    synthesis.synthesise(config, TerminalProgress())
    typer.echo(f"wrote {out}")


@app.command(rich_help_panel=DATA)
def split(
    data: Data = configs.SplitConfig.data,
    holdout: Annotated[
        float, typer.Option(help="Share of the images in the holdout set, which no training or search reads.")
    ] = configs.SplitConfig.holdout,
    folds: Annotated[int, typer.Option(help="Number of folds of the remaining images.")] = configs.SplitConfig.folds,
    seed: Seed = configs.SplitConfig.seed,
) -> None:
    """Assign images to folds and a holdout set, keeping near-duplicates together."""
    from severstal_cli.stages import splitting

    config = configs.SplitConfig(data=data, holdout=holdout, folds=folds, seed=seed)
    result = splitting.split(config, TerminalProgress())
    printing.print_split(result)
    if result.largest_group > 1:
        typer.echo(f"near-duplicates: the largest group has {result.largest_group} images; each group is in one subset")


@app.command(rich_help_panel=DATA)
def encode(
    masks: Annotated[
        Path,
        typer.Argument(
            metavar="MASKS",
            help="Folder of masks (IMAGE_CLASS.png or label images), or COCO, YOLO, labelme, CVAT or Supervisely data.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output CSV.")],
    layout: Annotated[str, typer.Option(help=f"CSV layout: {LAYOUTS}.")] = configs.EncodeConfig.layout,
    label_images: Annotated[
        bool, typer.Option("--label-images", help="One mask file per image, whose pixel values or colours are classes.")
    ] = False,
    class_id: Annotated[
        int | None,
        typer.Option("--class", metavar="N", help="Class of all masks, which have the names of their images."),
    ] = configs.EncodeConfig.class_id,
    colours: Annotated[
        str,
        typer.Option(
            metavar="RRGGBB=N,...",
            help="Class of each colour: ff0000=1,00ff00=2 (0: background), voc, or a labelmap.txt.",
        ),
    ] = configs.EncodeConfig.colours,
    images: Annotated[
        Path | None, typer.Option(help="All images, clean ones included: a folder, or a CSV with ImageId.")
    ] = None,
    suffix: Annotated[
        str,
        typer.Option(
            parser=parse_suffix, metavar="SUFFIX", help="File extension of the images; only without --images."
        ),
    ] = configs.EncodeConfig.suffix,
    classes: Annotated[
        int, typer.Option(help="Number of classes; 0: the highest class id in the masks.")
    ] = configs.EncodeConfig.classes,
    class_names: Annotated[
        Any,
        typer.Option(
            parser=parse_class_names,
            metavar="FILE|A,B,...",
            help="Class names by id, for annotations of other tools: a file, one per line, or a list.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert masks or annotations of other tools to an RLE table."""
    from severstal_cli.stages import encoding

    config = configs.EncodeConfig(
        masks=masks, out=out, layout=layout, label_images=label_images, class_id=class_id, colours=colours,
        images=images, suffix=suffix, classes=classes, overwrite=overwrite,
        class_names=class_names or (),
    )  # fmt: skip
    result = encoding.encode(config, TerminalProgress())
    typer.echo(
        f"{result.out}: {result.rows} rows, {result.masks} masks of {result.images} images, {result.classes} classes"
    )
    if result.names:
        typer.echo(printing.class_line(result))


@app.command(rich_help_panel=DATA)
def decode(
    table: Annotated[Path, typer.Argument(help="Annotations or a submission, as CSV.")],
    out: Annotated[
        Path, typer.Option(metavar="MASKS_DIR", help="Output folder for IMAGE_CLASS.png, with values 0 and 255.")
    ],
    size: Size = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, to read their sizes from.")] = None,
    trust_size: Annotated[
        bool, typer.Option("--trust-size", help="Accept --size even if it makes the masks jagged.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Convert an RLE table to PNG masks."""
    from severstal_cli.stages import encoding

    config = configs.DecodeConfig(
        table=table, out=out, size=size, images=images, trust_size=trust_size, overwrite=overwrite
    )
    result = encoding.decode(config, TerminalProgress())
    typer.echo(f"{result.out}: {result.masks} masks of {result.images} images")
