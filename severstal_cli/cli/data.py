"""The commands that make or change data: images, annotations, splits."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from severstal_cli import config as configs
from severstal_cli import printing
from severstal_cli.cli.app import DATA, app
from severstal_cli.cli.options import (
    Data,
    Layout,
    Overwrite,
    Seed,
    Size,
    parse_class_names,
    parse_seconds,
    parse_suffix,
)
from severstal_cli.progress import TerminalProgress


@app.command(rich_help_panel=DATA)
def download(
    data: Annotated[Path, typer.Option(help="Folder to fill.")] = configs.DownloadConfig.data,
    stall: Annotated[
        float,
        typer.Option(parser=parse_seconds, metavar="TIME", help="End when nothing arrives for so long, as 60s."),
    ] = f"{configs.DownloadConfig.stall_s:.0f}s",  # type: ignore[assignment]  # the parser makes it a number
) -> None:
    """Fetch the competition's data from Kaggle, checked and unpacked."""
    from severstal_cli.stages import downloading

    try:
        result = downloading.download(configs.DownloadConfig(data=data, stall_s=stall), TerminalProgress())
    except KeyboardInterrupt:
        typer.echo(f"\n{data}: what arrived is kept, the same command goes on", err=True)
        raise
    done = "complete already, nothing to do" if result.was_there else "downloaded"
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
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="A new or empty folder.")],
    seed: Seed = configs.DemoConfig.seed,
) -> None:
    """Write a synthetic steel set and run every stage on it."""
    from severstal_cli.stages import demo

    result = demo.demonstrate(configs.DemoConfig(out=out, seed=seed), TerminalProgress())
    printing.print_demo(result)
    typer.echo(f"image, truth and each model's mask: {result.picture}")


@app.command(rich_help_panel=DATA)
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
    """Write a synthetic set of steel images in the competition's layout."""
    from severstal_cli.stages import synthesis

    config = configs.SynthConfig(
        out=out, images=images, test_images=test_images, size=size or configs.SynthConfig.size,
        annotations=annotations, image_list=image_list, seed=seed,
    )  # fmt: skip
    synthesis.synthesise(config, TerminalProgress())
    typer.echo(f"wrote {out}")


@app.command(rich_help_panel=DATA)
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
        typer.echo(
            f"near-duplicates: images in groups, the largest of {result.largest_group}; images with one in another "
            f"part: {result.apart} (image by image it would be {result.apart_if_single})"
        )


@app.command(rich_help_panel=DATA)
def encode(
    masks: Annotated[
        Path,
        typer.Argument(
            metavar="MASKS",
            help="Mask files (IMAGE_CLASS.png, label images) or COCO, YOLO, labelme, CVAT, Supervisely.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The table.")],
    layout: Layout = configs.EncodeConfig.layout,
    label_images: Annotated[
        bool, typer.Option("--label-images", help="One file an image; pixel values or colours are classes.")
    ] = False,
    class_id: Annotated[
        int,
        typer.Option(
            "--class", metavar="N", help="Class of all masks, which are named as their images.", show_default=False
        ),
    ] = configs.EncodeConfig.class_id,
    colours: Annotated[
        str,
        typer.Option(
            metavar="RRGGBB=N,...",
            help="Class of each colour, e.g. ff0000=1,00ff00=2 (0: background); voc; or a labelmap.txt.",
        ),
    ] = configs.EncodeConfig.colours,
    images: Annotated[Path | None, typer.Option(help="The images, clean ones too: a folder or a list.")] = None,
    suffix: Annotated[
        str, typer.Option(parser=parse_suffix, metavar="SUFFIX", help="Ending of the images; only without --images.")
    ] = configs.EncodeConfig.suffix,
    classes: Annotated[int, typer.Option(help="Number of classes; 0: as found.")] = configs.EncodeConfig.classes,
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
    """Mask files, or annotations of other tools, to a table of RLE."""
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
    table: Annotated[Path, typer.Argument(help="Annotations or a submission.")],
    out: Annotated[Path, typer.Option(metavar="MASKS_DIR", help="Folder for IMAGE_CLASS.png, 0 and 255.")],
    size: Size = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, whose sizes are used.")] = None,
    trust_size: Annotated[
        bool, typer.Option("--trust-size", help="Accept --size even if it makes the masks jagged.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """A table of run lengths to masks as PNG."""
    from severstal_cli.stages import encoding

    config = configs.DecodeConfig(
        table=table, out=out, size=size, images=images, trust_size=trust_size, overwrite=overwrite
    )
    result = encoding.decode(config, TerminalProgress())
    typer.echo(f"{result.out}: {result.masks} masks of {result.images} images")
