"""What the commands are told that make or change data."""

import re
from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config.checks import check, check_size, check_unpacked


@dataclass(frozen=True, kw_only=True)
class Competition:
    """A competition of Kaggle, and what its archive holds."""

    slug: str
    """Its name in addresses."""
    train_images: int
    test_images: int
    masks: int
    """Rows of train.csv."""


COMPETITION = Competition(slug="severstal-steel-defect-detection", train_images=12_568, test_images=5_506, masks=7_095)


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """`download`: the competition's data, from Kaggle to a folder."""

    data: Path = Path("data")
    stall_s: float = 60.0
    """A download that stands still for so long ends; what arrived is kept."""
    competition: Competition = COMPETITION

    def __post_init__(self) -> None:
        check(self.stall_s > 0, "stall", self.stall_s, "above 0 s")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """`split`: which images train, validate and are held out."""

    data: Path = Path("data")
    """Holds `train.csv` and `train_images/`."""
    holdout: float = 0.15
    """Share of the images that only `score` and `compare` read; 0: none."""
    folds: int = 5
    """Equal parts of the rest, each in turn for validation."""
    seed: int = 0

    def __post_init__(self) -> None:
        check(0 <= self.holdout < 1, "holdout", self.holdout, "at least 0 and below 1")
        check(2 <= self.folds <= 100, "number of folds", self.folds, "2 to 100")


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """`synth`: a synthetic set of steel images, in the competition's layout."""

    out: Path
    """A new or empty folder, or an earlier synthetic set."""
    images: int | None = None
    """Training images; with `annotations` at most so many, None: all of them."""
    test_images: int = 0
    size: tuple[int, int] = (256, 1600)
    """(height, width)."""
    annotations: Path | None = None
    """A train.csv: its masks are kept and steel is drawn under them."""
    image_list: Path | None = None
    """A table with a column ImageId: the images to draw under `annotations`, clean where these have no row."""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.annotations is not None or self.images is not None, "number of images", None, "given by --images")
        check_size(self.size, least_px=32)
        check(
            self.annotations is not None or self.image_list is None,
            "image list",
            self.image_list,
            "used with --annotations",
        )


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """`encode`: mask files to a table of run lengths."""

    masks: Path
    """A folder of `IMAGE_CLASS.png`, or of files `IMAGE.png`: label images, or masks of the class `class_id`; or a file
    or folder of another tool."""
    out: Path
    """The table."""
    layout: str = "current"
    """"current": rows for defects only; "original": a row for every image and class."""
    label_images: bool = False
    """One file an image, whose pixel values or colours are classes, instead of one an image and class."""
    class_id: int | None = None
    """Class of all masks, which have the names of their images; None: the file names hold the class."""
    colours: str = ""
    """Which colours are which classes: `ff0000=1,00ff00=2`, 0 for the background; `voc`; or a labelmap.txt."""
    images: Path | None = None
    """The images, clean ones too: their folder, or a table with a column ImageId."""
    suffix: str = ".jpg"
    """Makes the name of an image from that of its mask, where `images` is not given."""
    classes: int = 0
    """The number of classes, which also says that names hold class ids; 0: the highest class id that is found."""
    class_names: tuple[str, ...] = ()
    """Of annotations of other tools: the classes by name, class_id 1 first; (): in the order of the format."""
    overwrite: bool = False
    """Whether `out` may be replaced."""

    def __post_init__(self) -> None:
        check_unpacked(self.out)
        check(self.layout in ("current", "original"), "layout", self.layout, "current or original")
        check(0 <= self.classes <= 254, "number of classes", self.classes, "between 0 and 254")
        check(self.class_id is None or 1 <= self.class_id <= 254, "class", self.class_id, "between 1 and 254")
        check(self.class_id is None or not self.label_images, "class", self.class_id, "left out with --label-images")
        is_suffix = re.fullmatch(r"(\.[A-Za-z0-9]+)?", self.suffix) is not None
        check(is_suffix, "suffix", self.suffix, "a dot and the ending of the images, as .png")
        fit = all(self.class_names) and len(set(self.class_names)) == len(self.class_names)
        check(fit, "class names", ",".join(self.class_names), "names joined by commas, each once")


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """`decode`: a table of run lengths to masks as PNG, `IMAGE_CLASS.png`, 0 and 255."""

    table: Path
    out: Path
    """The folder for the masks. An empty mask gets no file."""
    size: tuple[int, int] | None = None
    """(height, width) of the images; None: as `images` have it."""
    images: Path | None = None
    """The folder of the images: each size is looked up."""
    trust_size: bool = False
    """Whether `size` is taken even where it makes the masks jagged."""
    overwrite: bool = False
    """Whether masks in `out` may be replaced."""

    def __post_init__(self) -> None:
        check(self.size is not None or self.images is not None, "size", None, "given by --size or --images")
        if self.size is not None:
            check_size(self.size)
