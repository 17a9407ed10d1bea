"""What `train` is told, and how its settings are read from a file."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from severstal_cli import typed
from severstal_cli.config.checks import check
from severstal_cli.errors import InputError

AUTO_STEP_IMAGES = 8
"""Images of a step of the optimiser where neither they nor a batch size is given."""


PRECISIONS = "auto", "32-true", "bf16-mixed", "16-mixed"


def images_of_step(step_images: int | None, batch_size: int | None) -> int:
    """What a step of the optimiser takes by these two settings."""
    return step_images or batch_size or AUTO_STEP_IMAGES


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`train`: a run under `models/`."""

    data: Path = Path("data")
    """Holds `train.csv` and `train_images/`."""
    arch: str = "unet"
    """A name of the registry."""
    encoder: str = "resnet34"
    """An encoder of segmentation-models-pytorch, or "tu-" and a model of timm; the small networks have none."""
    encoder_weights: str = "imagenet"
    """"imagenet" or another name that the library has for the encoder, "none" (random) or a file with its weights.
    Those of ImageNet are fetched, unless there is a file `encoders/ENCODER.safetensors` or `.pth` in `models`."""
    init: Path | None = None
    """A run to start from: its weights instead of the encoder's, as far as they fit."""
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
    """Processes to train with on this machine, a GPU each where there are any; under torchrun it tells how many."""
    batch_size: int | None = 8
    """Images that a device takes at once. None: as many as fit its memory, of the divisors of `step_images`, which is
    then `AUTO_STEP_IMAGES` unless given; what is learnt stays the same but for batch norm. On a CPU, where more at
    once are hardly faster, all images of a step. A run's `model.json` has the number that was found."""
    step_images: int | None = None
    """Images of a step of the optimiser, gathered over several batches where they are more; None: one batch.

    Of each device: with several the step grows, the learning rate does not.
    """
    compile: bool = False
    """Compile the network's training by torch.compile, which takes a C++ compiler on a CPU and triton on a GPU. It
    gives other bits, and not the same ones after a resume; compiling itself takes minutes on a few cores."""
    crop_height_px: int = 256
    crop_widths_px: tuple[int, ...] = (512,)
    """The network trains on pieces of at most this size, in multiples of 32; each step takes one of the widths."""
    half_size_share: float = 0.0
    """Share of the training, at its start, on pieces at half their size: four times as fast."""
    whole_image_share: float = 0.0
    """Share of the training, at its end, on whole images, of which a device takes as many pixels at once."""
    defect_share: float = 0.5
    """Share of the pieces of an image with defects that are laid over one; the others lie anywhere."""
    learning_rate: float = 1e-3
    """Its highest value; it rises during the warm-up and falls to zero along a cosine."""
    first_layer_rate: float = 1.0
    """Learning rate of the encoder's first layer as a share of the decoder's; the layers between lie on a geometric
    scale. Networks without an encoder learn at one rate."""
    weight_decay: float = 1e-2
    warmup_share: float = 0.05
    """Share of the training during which the learning rate rises."""
    average_decay: float = 0.998
    """Of the exponential moving average of the weights, a step. The averaged weights are the ones kept."""
    best_epochs: int = 1
    """The weights of so many of the best epochs are averaged at the end, and kept if they validate better."""
    brightness: float = 0.1
    """Largest change of brightness, as a share of the full range."""
    contrast: float = 0.2
    """Largest relative change of contrast."""
    gamma: float = 0.0
    """Largest relative change of the exponent of the grey values."""
    detail: float = 0.0
    """Largest share of fine detail that is taken away (blurred) or added (sharpened)."""
    noise: float = 0.0
    """Largest standard deviation of noise, as a share of the full range."""
    paste_share: float = 0.0
    """Share of the pieces that get a defect of another image, rare classes as often as common ones."""
    black_end_share: float = 0.0
    """Share of the pieces with an end blacked out."""
    warp_share: float = 0.0
    """Share of the pieces that are turned, zoomed and stretched; at most by the next three."""
    turn_deg: float = 10.0
    zoom: float = 0.2
    stretch: float = 0.1
    bce_weight: float = 1.0
    """Weight of binary cross-entropy in the loss; so the others."""
    dice_weight: float = 1.0
    false_alarm_weight: float = 0.0
    """Of the part of the Dice loss that counts false alarms where there is no mask. With a head it is needless, and
    keeps rare classes from being learnt; without one 1 is a good value."""
    lovasz_weight: float = 0.0
    lovasz_share: float = 1.0
    """Share of the training, at its end, in which the Lovasz loss counts."""
    focal_gamma: float = 0.0
    """Above 0 the cross-entropy is focal."""
    class_weights: tuple[float, ...] = ()
    """Of the cross-entropy, one a class; none: equal ones."""
    head_weight: float = 0.5
    """Above 0 the network gets a head that tells whether a class is in the picture at all; weight of its loss."""
    pseudo: Path | None = None
    """A submission to train on as well, as annotations of `pseudo_images`: pseudo labels. Never in validation."""
    pseudo_images: Path | None = None
    """The folder of its images; none of them is in `train_images`."""
    pseudo_share: float = 0.25
    """Share of them in the images of a step: at least one image, and at least one annotated one."""
    pseudo_min_score: float = 0.9
    """Only images are taken whose every row has at least this score (steel/tables/confidence) beside the submission."""
    precision: str = "auto"
    """One of `PRECISIONS`, Lightning Fabric's names; "auto": the fastest that the device has."""

    def __post_init__(self) -> None:
        name = self.name if self.name is not None else "default"
        check(name not in ("", ".", "..") and Path(name).name == name, "name", name, "the name of a folder, no path")
        check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        check(self.time_limit_s is None or self.time_limit_s > 0, "time limit", self.time_limit_s, "above 0 s")
        check(self.devices >= 1, "devices", self.devices, "at least 1")
        check(self.batch_size is None or self.batch_size >= 1, "batch size", self.batch_size, "at least 1")
        check(self.step_images is None or self.step_images >= 1, "images of a step", self.step_images, "at least 1")
        check(self.best_epochs >= 1, "best epochs", self.best_epochs, "at least 1")
        check(0 < self.learning_rate < math.inf, "learning rate", self.learning_rate, "above 0")
        check(0 < self.first_layer_rate <= 1, "first layer rate", self.first_layer_rate, "above 0 and at most 1")
        check(0 <= self.warmup_share < 1, "warm-up share", self.warmup_share, "at least 0 and below 1")
        check(0 <= self.average_decay < 1, "average decay", self.average_decay, "at least 0 and below 1")
        for name in (
            "defect_share",
            "paste_share",
            "black_end_share",
            "warp_share",
            "noise",
            "detail",
            "half_size_share",
            "whole_image_share",
            "lovasz_share",
            "pseudo_min_score",
        ):
            value = getattr(self, name)
            check(0 <= value <= 1, name.replace("_", " "), value, "between 0 and 1")
        for name in ("brightness", "contrast", "gamma", "zoom", "stretch", "turn_deg", "focal_gamma", "weight_decay"):
            value = getattr(self, name)
            check(0 <= value < math.inf, name.replace("_", " "), value, "at least 0")
        weights = self.bce_weight, self.dice_weight, self.lovasz_weight, self.head_weight, self.false_alarm_weight
        always = sum(weights[: 3 if self.lovasz_share == 1 else 2])
        fit = all(0 <= weight < math.inf for weight in weights) and always > 0
        check(fit, "weights of the loss", weights, "at least 0, and not all 0 at any time")
        check(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        check(0 <= self.seed < 2**32, "seed", self.seed, "at least 0 and below 2^32")
        check(
            all(0 < weight < math.inf for weight in self.class_weights), "class weights", self.class_weights, "above 0"
        )
        check(self.crop_height_px >= 32, "crop height", self.crop_height_px, "at least 32")
        widths = self.crop_widths_px
        check(min(widths, default=0) >= 32, "crop widths", widths, "at least 32 each, and at least one")
        alone = (self.pseudo is None) != (self.pseudo_images is None)
        check(
            not alone,
            "pseudo labels",
            self.pseudo or self.pseudo_images,
            "a submission together with the folder of its images",
        )
        check(0 < self.pseudo_share < 1, "pseudo share", self.pseudo_share, "above 0 and below 1")
        of_step = self.images_of_step
        check(self.pseudo is None or of_step >= 2, "images of a step", of_step, "at least 2 with pseudo labels")

    @property
    def images_of_step(self) -> int:
        """What a step of the optimiser takes."""
        return images_of_step(self.step_images, self.batch_size)


def read_settings(path: Path) -> dict[str, Any]:
    """Settings of `TrainConfig` by their names: of a `model.json`, or of a JSON file that holds some of them.

    Not taken over are the name of a run, where it lay, and whether it was resumed. Raises InputError.
    """
    try:
        content = typed.read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}", str(error), "Give a model.json, or a JSON file of settings") from error
    settings = content.get("config", content) if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        raise InputError(f"{path} holds no settings", "", "Give a model.json, or a JSON file of settings")
    kinds = get_type_hints(TrainConfig)
    found = {}
    for name, value in settings.items():
        if name in ("name", "models", "resume"):
            continue
        if name not in kinds:
            raise InputError(
                f"{path} has an unknown setting", name, "See TrainConfig in severstal_cli/config/training.py"
            )
        try:
            found[name] = typed.as_type(kinds[name], value, name)
        except ValueError as error:
            raise InputError(f"{path} has a wrong setting", str(error), "See severstal train --help") from error
    return found
