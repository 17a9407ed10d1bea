"""Settings of the commands on data."""

import re
from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config.checks import JPEG_SIDE_PX, check, check_size, check_table_name

LAYOUTS = {"current": "ImageId,ClassId,...", "original": "ImageId_ClassId,..."}
"""The layouts of a table (steel/tables/headers), and how their headers begin."""


@dataclass(frozen=True, kw_only=True)
class Competition:
    """A Kaggle competition and the contents of its archive."""

    slug: str
    """Name of the competition in URLs."""
    train_images: int
    test_images: int
    masks: int
    """Rows of train.csv."""


COMPETITION = Competition(slug="severstal-steel-defect-detection", train_images=12_568, test_images=5_506, masks=7_095)


@dataclass(frozen=True, kw_only=True)
class NotebookConfig:
    """The competition, and the waits of a command that runs a notebook on Kaggle."""

    competition: Competition = COMPETITION
    poll_s: float = 15.0
    """Interval of polling."""
    dataset_limit_s: float = 3600.0
    """Timeout for Kaggle to unpack the dataset; the same command then resumes."""
    kernel_limit_s: float = 2 * 3600.0
    """Timeout of the notebook, its time in the queue included."""
    place_limit_s: float = 12 * 3600.0
    """Timeout for a free session slot: an account has two."""
    late_s: float = 120.0
    """Delay after which a dataset must be mounted and an output listed."""


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """`download`: the competition's data from Kaggle."""

    data: Path = Path("data")
    stall_s: float = 60.0
    """Time without data after which the download aborts; the downloaded bytes are kept."""
    competition: Competition = COMPETITION

    def __post_init__(self) -> None:
        check(self.stall_s > 0, "stall", self.stall_s, "above 0 s")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """`split`: images to folds and a holdout set."""

    data: Path = Path("data")
    """Holds `train.csv` and `train_images/`."""
    holdout: float = 0.15
    """Share of the images in the holdout set, which no training or threshold search reads; 0: none."""
    folds: int = 5
    """Number of folds of the remaining images."""
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
    """Number of training images; with `annotations` an upper limit, None: all of them."""
    test_images: int = 0
    size: tuple[int, int] = (256, 1600)
    """(height, width)."""
    annotations: Path | None = None
    """A train.csv whose masks the drawn images match."""
    image_list: Path | None = None
    """With `annotations`: a CSV with ImageId of all images, clean ones included."""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.annotations is not None or self.images is not None, "number of images", None, "given by --images")
        check_size(self.size, least_px=32)
        found, limit = "{}x{}".format(*self.size), f"at most {JPEG_SIDE_PX:,} pixels a side, as in a JPEG"
        check(max(self.size) <= JPEG_SIDE_PX, "size", found, limit)
        check(
            self.annotations is not None or self.image_list is None,
            "image list",
            self.image_list,
            "used with --annotations",
        )


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """`encode`: masks to an RLE table."""

    masks: Path
    """A folder of `IMAGE_CLASS.png`, or of `IMAGE.png` (label images, or masks of the class `class_id`); or a file or
    folder of another tool."""
    out: Path
    """Output CSV."""
    layout: str = "current"
    """"current": rows for defects only; "original": one row per image and class."""
    label_images: bool = False
    """One mask file per image, whose pixel values or colours are classes, not one per image and class."""
    class_id: int | None = None
    """Class of all masks, which have the names of their images; None: the file names hold the class."""
    colours: str = ""
    """Class of each colour: `ff0000=1,00ff00=2` (0: background), `voc`, or a labelmap.txt."""
    images: Path | None = None
    """All images, clean ones included: a folder, or a CSV with ImageId."""
    suffix: str = ".jpg"
    """File extension of the images, used without `images`."""
    classes: int = 0
    """Number of classes, which also confirms that names hold class ids; 0: the highest class id in the masks."""
    class_names: tuple[str, ...] = ()
    """Class names of annotations of other tools, in the order of their ids; (): the order of the format."""
    overwrite: bool = False
    """Whether `out` may be replaced."""

    def __post_init__(self) -> None:
        check_table_name(self.out)
        check(self.out.suffix.lower() != ".json", "name for a table", self.out, "that of a CSV file")
        check(self.layout in LAYOUTS, "layout", self.layout, " or ".join(LAYOUTS))
        check(0 <= self.classes <= 254, "number of classes", self.classes, "between 0 and 254")
        check(self.class_id is None or 1 <= self.class_id <= 254, "class", self.class_id, "between 1 and 254")
        check(self.class_id is None or not self.label_images, "class", self.class_id, "left out with --label-images")
        is_suffix = re.fullmatch(r"(\.[A-Za-z0-9]+)?", self.suffix) is not None
        check(is_suffix, "suffix", self.suffix, "a dot and the file extension of the images, as .png")
        fit = all(self.class_names) and len(set(self.class_names)) == len(self.class_names)
        check(fit, "class names", ",".join(self.class_names), "names joined by commas, each once")


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """`decode`: an RLE table to PNG masks `IMAGE_CLASS.png` with values 0 and 255."""

    table: Path
    out: Path
    """Output folder. An empty mask gets no file."""
    size: tuple[int, int] | None = None
    """(height, width) of the images; None: read from `images`."""
    images: Path | None = None
    """Folder of the images, to read their sizes from."""
    trust_size: bool = False
    """Whether to accept a `size` that makes the masks jagged."""
    overwrite: bool = False
    """Whether masks in `out` may be replaced."""

    def __post_init__(self) -> None:
        check(self.size is not None or self.images is not None, "size", None, "given by --size or --images")
        if self.size is not None:
            check_size(self.size)
