"""Settings of `train`, and the JSON files that they are read from."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from severstal_cli import typed
from severstal_cli.config.checks import AT_LEAST_1, NOT_NEGATIVE, POSITIVE, SHARE, Bounds, check
from severstal_cli.errors import InputError

T = TypeVar("T")

AUTO_STEP_IMAGES = 8
"""Effective batch size where neither it nor a batch size is given."""

PRECISIONS = "auto", "32-true", "bf16-mixed", "16-mixed"


def effective_batch_size(step_images: int | None, batch_size: int | None) -> int:
    """Images per step of the optimiser and device, from these two settings."""
    return step_images or batch_size or AUTO_STEP_IMAGES


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a setting means beyond its value."""

    bounds: Bounds | None = None
    """Limits of the value, or of each value of a tuple; None is always allowed."""
    changes_training: bool = True
    """Runs that differ in this setting were trained differently, so `compare` does not take one for the other."""
    on_resume: Literal["same", "new", "first"] = "same"
    """A resumed training needs the same value, takes the new value, or keeps that of its first session."""
    names_run: bool = False
    """The setting names a run or its folder, so it is not taken from the file of another run."""
    is_local: bool = False
    """The value is a path or a name on this machine, so it is not sent to Kaggle."""
    is_of_machine: bool = False
    """The value depends on the machine, so it is not sent to Kaggle either."""


def setting(default: T, bounds: Bounds | None = None, **traits: Any) -> T:
    """A field of `TrainConfig` with its `Traits`."""
    return dataclasses.field(default=default, metadata={"traits": Traits(bounds=bounds, **traits)})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`train`: a run under `models/`."""

    data: Path = setting(Path("data"), changes_training=False, on_resume="new", is_local=True)
    """Folder with `train.csv` and `train_images/`."""
    arch: str = "unet"
    """Network: a name of the registry."""
    encoder: str = "resnet34"
    """Encoder of segmentation-models-pytorch, or "tu-" and a model of timm; the small networks have none."""
    encoder_weights: str = setting("imagenet", on_resume="first", is_local=True)
    """"imagenet" or another name that the library has for the encoder, "none" (random) or a file of weights.
    ImageNet weights are downloaded, unless `models` has `encoders/ENCODER.safetensors` or `.pth`."""
    init: Path | None = setting(None, on_resume="first", is_local=True)
    """Run whose weights initialise the network, as far as they fit."""
    fold: int | None = 0
    """Fold for validation; None: train on everything but the holdout set."""
    epochs: int = setting(30, AT_LEAST_1, on_resume="new")
    time_limit_s: float | None = setting(None, Bounds(POSITIVE.hold, "above 0 s"), on_resume="new")
    """Wall-clock budget; the schedule is scaled to it."""
    seed: int = setting(
        0, Bounds(lambda value: 0 <= value < 2**32, "at least 0 and below 2^32"), changes_training=False
    )
    models: Path = setting(Path("models"), changes_training=False, on_resume="new", names_run=True, is_local=True)
    """Folder of all runs."""
    name: str | None = setting(None, changes_training=False, on_resume="first", names_run=True, is_local=True)
    """Folder of the run in `models`; default: architecture, encoder and fold."""
    resume: bool = setting(False, changes_training=False, on_resume="first", names_run=True, is_local=True)
    """Resume the run of this name after its last complete epoch."""
    devices: int = setting(1, AT_LEAST_1, changes_training=False, on_resume="new", is_of_machine=True)
    """Processes on this machine, each with a GPU where there are GPUs. torchrun sets the number itself."""
    batch_size: int | None = setting(8, AT_LEAST_1, on_resume="new")
    """Images per device and forward pass. None: as many as fit the GPU's memory, a divisor of `step_images`, which then
    defaults to `AUTO_STEP_IMAGES`; only batch norm sees the difference. On a CPU None is the whole step, since
    larger batches are hardly faster. `model.json` records the number."""
    step_images: int | None = setting(None, AT_LEAST_1, on_resume="new")
    """Effective batch size per device, by gradient accumulation; None: `batch_size`. More devices make larger steps;
    the learning rate stays the same."""
    crop_height_px: int = setting(256, Bounds(lambda value: value >= 32, "at least 32"))
    crop_widths_px: tuple[int, ...] = setting((512,), Bounds(lambda value: value >= 32, "at least 32 each"))
    """Largest crops, rounded to multiples of 32; each step uses one of the widths."""
    half_size_share: float = setting(0.0, SHARE)
    """Share of the training, at its start, with crops at half resolution, which are four times as fast."""
    whole_image_share: float = setting(0.0, SHARE)
    """Share of the training, at its end, on whole images; batches have as many pixels as those of crops."""
    defect_share: float = setting(0.5, SHARE)
    """Probability that a crop of an image with defects contains one; other crops are uniform."""
    learning_rate: float = setting(1e-3, POSITIVE)
    """Peak learning rate, after a warm-up and before a cosine decay to zero."""
    weight_decay: float = setting(1e-2, NOT_NEGATIVE)
    warmup_share: float = setting(0.05, Bounds(lambda value: 0 <= value < 1, "at least 0 and below 1"))
    """Share of the training with a rising learning rate."""
    average_decay: float = setting(0.998, Bounds(lambda value: 0 <= value < 1, "at least 0 and below 1"))
    """Decay of the EMA weights per step. The run keeps the EMA weights."""
    best_epochs: int = setting(1, AT_LEAST_1)
    """Checkpoint averaging: the number of best epochs whose mean is kept if it validates better."""
    brightness: float = setting(0.1, NOT_NEGATIVE)
    """Largest brightness shift, as a share of the full range."""
    contrast: float = setting(0.2, NOT_NEGATIVE)
    """Largest relative change of contrast."""
    paste_share: float = setting(0.0, SHARE)
    """Probability that a crop gets a defect of another image, with all classes equally likely."""
    bce_weight: float = setting(1.0, NOT_NEGATIVE)
    """Weight of binary cross-entropy in the loss; likewise the next weights."""
    dice_weight: float = setting(1.0, NOT_NEGATIVE)
    lovasz_weight: float = setting(0.0, NOT_NEGATIVE)
    lovasz_share: float = setting(1.0, SHARE)
    """Share of the training, at its end, with the Lovasz loss."""
    class_weights: tuple[float, ...] = setting((), POSITIVE)
    """Weights of the classes in the cross-entropy; none: equal."""
    head_weight: float = setting(0.5, NOT_NEGATIVE)
    """Weight of the classification head's loss (is a class present in the image?); 0: no head."""
    pseudo: Path | None = setting(None, on_resume="new", is_local=True)
    """Submission with pseudo-labels of `pseudo_images`, which never enter validation."""
    pseudo_images: Path | None = setting(None, on_resume="new", is_local=True)
    """Folder of the pseudo-labelled images, none of which is in `train_images`."""
    pseudo_share: float = setting(0.25, Bounds(lambda value: 0 < value < 1, "above 0 and below 1"))
    """Share of pseudo-labelled images in each step: at least one of them, and at least one annotated image."""
    pseudo_min_score: float = setting(0.9, SHARE)
    """Minimum confidence (steel/tables/confidence) that every row of a pseudo-labelled image must reach."""
    precision: str = "auto"
    """One of `PRECISIONS`, the names of Lightning Fabric; "auto": the fastest that the device has."""

    def __post_init__(self) -> None:
        name = self.name if self.name is not None else "default"
        check(name not in ("", ".", "..") and Path(name).name == name, "name", name, "the name of a folder, no path")
        for field, traits in _traits().items():
            value = getattr(self, field)
            if traits.bounds is not None and value is not None:
                each = value if isinstance(value, tuple) else (value,)
                check(
                    all(map(traits.bounds.hold, each)),
                    _LABELS.get(field, field.replace("_", " ")),
                    value,
                    traits.bounds.words,
                )
        check(bool(self.crop_widths_px), "crop widths", (), "at least one width")
        always = self.bce_weight + self.dice_weight + (self.lovasz_weight if self.lovasz_share == 1 else 0)
        check(always > 0, "weights of the loss", 0, "above 0 for one of bce, dice and lovasz throughout the training")
        check(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        check(
            (self.pseudo is None) == (self.pseudo_images is None),
            "pseudo-labels",
            self.pseudo or self.pseudo_images,
            "a submission together with the folder of its images",
        )
        step = self.effective_batch_size
        check(self.pseudo is None or step >= 2, "effective batch size", step, "at least 2 with pseudo-labels")

    @property
    def effective_batch_size(self) -> int:
        """Images per step of the optimiser and device."""
        return effective_batch_size(self.step_images, self.batch_size)

    def as_json(self) -> dict[str, Any]:
        """The settings as `model.json` holds them: paths are text."""
        content = dataclasses.asdict(self)
        return {name: str(value) if isinstance(value, Path) else value for name, value in content.items()}


REMOVED: dict[str, Any] = {
    "first_layer_rate": 1.0, "gamma": 0.0, "detail": 0.0, "noise": 0.0, "black_end_share": 0.0, "warp_share": 0.0,
    "turn_deg": 10.0, "zoom": 0.2, "stretch": 0.1, "false_alarm_weight": 0.0, "focal_gamma": 0.0,
}  # fmt: skip
"""Settings of runs of earlier versions, and their values that had no effect."""

UNUSED: dict[str, Any] = {"compile": False}
"""Settings of runs of earlier versions that changed the speed alone, and their defaults."""

_LABELS = {
    "time_limit_s": "time limit",
    "step_images": "effective batch size",
    "warmup_share": "warm-up share",
    "crop_height_px": "crop height",
    "crop_widths_px": "crop widths",
}


def _traits() -> dict[str, Traits]:
    return {field.name: field.metadata.get("traits", Traits()) for field in dataclasses.fields(TrainConfig)}


def settings_with(**wanted: Any) -> frozenset[str]:
    """Names of the settings that have all these values of `Traits`: `settings_with(on_resume="new")`."""
    return frozenset(
        name for name, traits in _traits().items() if all(getattr(traits, key) == wanted[key] for key in wanted)
    )


def different_settings(
    saved: Mapping[str, Any], settings: Mapping[str, Any], names: frozenset[str]
) -> Iterator[tuple[str, Any, Any]]:
    """(name, saved value, new value) of the settings among `names` that differ. Both are as `as_json` has them.

    A setting that a run of an earlier version lacks had the default value. Those in `REMOVED` are always compared.
    """
    for name in {**settings, **saved}:
        usual = REMOVED.get(name, getattr(TrainConfig, name, None))
        values = (each.get(name, usual) for each in (saved, settings))
        before, now = (list(value) if isinstance(value, tuple) else value for value in values)
        if (name in names or name in REMOVED) and before != now:
            yield name, before, now


def resumed_settings(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a checkpoint that a resumed training starts from, by name. Raises ValueError: a wrong value.

    Those of the first session alone and those that name the run are left out, and so are unknown ones.
    """
    kinds, left_out = get_type_hints(TrainConfig), settings_with(names_run=True) | settings_with(on_resume="first")
    return {
        name: typed.as_type(kinds[name], value, name)
        for name, value in saved.items()
        if name in kinds and name not in left_out
    }


def read_settings(path: Path) -> dict[str, Any]:
    """Settings of `TrainConfig` by name, from a `model.json` or from a JSON file with some of them.

    Settings that name a run are left out. Raises InputError.
    """
    try:
        content = typed.read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}", str(error), "Give a model.json, or a JSON file of settings") from error
    settings = content.get("config", content) if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        raise InputError(f"{path} holds no settings", "", "Give a model.json, or a JSON file of settings")
    kinds, of_run = get_type_hints(TrainConfig), settings_with(names_run=True)
    read = {}
    for name, value in settings.items():
        if name in of_run or name in UNUSED or (name in REMOVED and value == REMOVED[name]):
            continue
        if name in REMOVED:
            remedy = f"Leave it out: this version trains as with {REMOVED[name]}"
            raise InputError(f"{path} has a setting that was removed", f"{name} {value}", remedy)
        if name not in kinds:
            raise InputError(
                f"{path} has an unknown setting", name, "See TrainConfig in severstal_cli/config/training.py"
            )
        try:
            read[name] = typed.as_type(kinds[name], value, name)
        except ValueError as error:
            raise InputError(f"{path} has a wrong setting", str(error), "See severstal train --help") from error
    return read
