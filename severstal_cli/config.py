"""What each stage can be told: one frozen dataclass a stage, which owns the defaults, their units and their checks.

The command line takes its defaults from here, so a default stands in one place.
"""

from dataclasses import dataclass
from pathlib import Path

from severstal_cli.errors import UsageError


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
        _check(0 <= self.holdout < 1, "holdout", self.holdout, "at least 0 and below 1")
        _check(2 <= self.folds <= 100, "number of folds", self.folds, "2 to 100")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`train`: a run under `models/`."""

    data: Path = Path("data")
    """Holds `train.csv` and `train_images/`."""
    arch: str = "unet"
    """A name of the registry."""
    encoder: str = "resnet34"
    """An encoder of segmentation-models-pytorch; the small networks have none."""
    encoder_weights: str = "imagenet"
    """"imagenet" (fetched), "none" (random) or a file with the encoder's weights."""
    fold: int | None = 0
    """The part of the split that is kept for validation; None: train on all that is not holdout."""
    epochs: int = 30
    time_limit_s: float | None = None
    """Seconds after which training ends, its schedule fitted to them."""
    seed: int = 0
    models: Path = Path("models")
    """Where runs are kept."""
    name: str | None = None
    """The run's folder; by default made of architecture, encoder and fold."""
    resume: bool = False
    """Go on after the last whole epoch of the run of this name."""
    devices: int = 1
    batch_size: int = 8
    """Images a step."""
    crop_height_px: int = 256
    crop_width_px: int = 512
    """The network trains on pieces of at most this size, in multiples of 32."""
    defect_share: float = 0.5
    """Share of the pieces of an image with defects that are laid over one; the others lie anywhere."""
    learning_rate: float = 1e-3
    """Its highest value; it rises during the warm-up and falls to zero along a cosine."""
    weight_decay: float = 1e-2
    warmup_share: float = 0.05
    """Share of the training during which the learning rate rises."""
    average_decay: float = 0.998
    """Of the exponential moving average of the weights, a step. The averaged weights are the ones kept."""
    brightness: float = 0.1
    """Largest change of brightness, as a share of the full range."""
    contrast: float = 0.2
    """Largest relative change of contrast."""
    dice_weight: float = 1.0
    """Weight of the Dice loss beside binary cross-entropy."""
    precision: str = "auto"
    """A precision of Lightning Fabric: "32-true", "bf16-mixed", "16-mixed"; "auto": the fastest that the device has."""

    def __post_init__(self) -> None:
        name = self.name if self.name is not None else "default"
        _check(name not in ("", ".", "..") and Path(name).name == name, "name", name, "the name of a folder, no path")
        _check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _check(self.time_limit_s is None or self.time_limit_s > 0, "time limit", self.time_limit_s, "above 0 s")
        _check(self.batch_size >= 1, "batch size", self.batch_size, "at least 1")
        _check(self.learning_rate > 0, "learning rate", self.learning_rate, "above 0")
        _check(0 <= self.defect_share <= 1, "defect share", self.defect_share, "between 0 and 1")
        _check(0 <= self.warmup_share < 1, "warm-up share", self.warmup_share, "at least 0 and below 1")
        _check(0 <= self.average_decay < 1, "average decay", self.average_decay, "at least 0 and below 1")
        crop = f"{self.crop_height_px}x{self.crop_width_px}"
        _check(min(self.crop_height_px, self.crop_width_px) >= 32, "crop", crop, "at least 32x32")


@dataclass(frozen=True, kw_only=True)
class ThresholdsConfig:
    """`thresholds`: the best post-processing for a run, found on its validation fold."""

    runs: tuple[Path, ...]
    """Folders of trained models. Several are averaged; they must share split and fold."""
    data: Path | None = None
    """By default where the run was trained."""
    tta: str = "none"
    """Views to average: none, hflip or flips. Predict with the same."""
    out: Path | None = None
    """By default `thresholds.json` in the run's folder; needed for several runs."""
    batch_size: int = 8


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """`predict`: photographs to a submission."""

    images: tuple[Path, ...]
    """Folders and single files."""
    runs: tuple[Path, ...] = ()
    """Folders of trained models, averaged; none: the best validated one in `models`."""
    models: Path = Path("models")
    tta: str | None = None
    """Views to average; None: those that the thresholds were searched with."""
    out: Path = Path("submissions/submission.csv")
    layout: str = "auto"
    """"auto": that of the sample, else original; or "current", "original"."""
    sample: Path | None = None
    """A sample file: its images, in its order, in its layout."""
    masks: Path | None = None
    """A folder for pictures of the photographs with the predicted masks drawn on."""
    thresholds: Path | None = None
    """A `thresholds.json`; by default the run's own."""
    batch_size: int = 8

    def __post_init__(self) -> None:
        _check(self.layout in ("auto", "current", "original"), "layout", self.layout, "auto, current or original")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """`score`: mean Dice of a submission, or of a run on the holdout."""

    submission: Path | None = None
    truth: Path | None = None
    """Annotations to score the submission against."""
    images: Path | None = None
    """The images that count: a folder, or a table with a column ImageId."""
    run: Path | None = None
    """The folder of a trained model, instead of a submission; with neither, the best validated one in `models`."""
    models: Path = Path("models")
    data: Path | None = None
    """For a run: by default where it was trained."""
    tta: str | None = None
    """Views to average; None: those that the thresholds were searched with."""
    batch_size: int = 8


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """`demo`: every stage on synthetic steel."""

    out: Path
    """A new or empty folder, or that of an earlier demo."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """`synth`: a synthetic set of steel photographs, in the competition's layout."""

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
        _check(self.annotations is not None or self.images is not None, "number of images", None, "given by --images")
        _check_size(self.size, least_px=32)
        _check(
            self.annotations is not None or self.image_list is None,
            "image list",
            self.image_list,
            "used with --annotations",
        )


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """`encode`: masks as PNG to a table of run lengths."""

    masks: Path
    """A folder of `IMAGE_CLASS.png`, or of label images `IMAGE.png`."""
    out: Path
    """The table."""
    layout: str = "current"
    """"current": rows for defects only; "original": a row for every image and class."""
    label_images: bool = False
    """One file an image, whose pixel values are class ids, instead of one an image and class."""
    images: Path | None = None
    """The images, clean ones too: their folder, or a table with a column ImageId."""
    suffix: str = ".jpg"
    """Makes the name of an image from that of its mask, where `images` is not given."""
    classes: int = 0
    """The number of classes; 0: the highest class id that is found."""

    def __post_init__(self) -> None:
        _check(self.layout in ("current", "original"), "layout", self.layout, "current or original")
        _check(0 <= self.classes <= 254, "number of classes", self.classes, "between 0 and 254")


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """`decode`: a table of run lengths to masks as PNG, `IMAGE_CLASS.png`, 0 and 255."""

    table: Path
    out: Path
    """The folder for the masks. An empty mask gets no file."""
    size: tuple[int, int]
    """(height, width) of the images."""

    def __post_init__(self) -> None:
        _check_size(self.size)


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """`check`: is this file a valid submission?"""

    submission: Path
    sample: Path | None = None
    """A sample file: its images, and for the original layout its rows, must be there."""
    images: Path | None = None
    """The images, as a folder, which also tells their sizes, or as a table with a column ImageId."""
    size: tuple[int, int] | None = None
    """(height, width) of every image; by default as the folder of images says."""

    def __post_init__(self) -> None:
        if self.size is not None:
            _check_size(self.size)


def _check_size(size: tuple[int, int], least_px: int = 1) -> None:
    fits = min(size) >= least_px and size[0] * size[1] < 2**31  # run lengths count no further
    _check(fits, "size", "{}x{}".format(*size), f"at least {least_px}x{least_px}, and fewer than 2,147,483,648 pixels")


def _check(fits: bool, name: str, found: object, wanted: str) -> None:
    if not fits:
        raise UsageError(f"wrong {name}", str(found), f"It must be {wanted}")
