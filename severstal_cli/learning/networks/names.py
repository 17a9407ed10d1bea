"""Checks of the networks, encoders and runs that a user names, without importing torch, which takes seconds.

Networks are read from the source of `registry`, timm models from the source of timm. The encoders of
segmentation-models-pytorch are listed in this file, because that library fills its table at run time; a test compares
both.

An encoder name is an architecture alone. timm would accept more: `hf-hub:USER/MODEL` asks a server, with the user's
token, and `local-dir:FOLDER` reads any folder. Both are refused, as a name may come from someone else's model card.
"""

import ast
import difflib
import importlib.util
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError, RunError, UsageError

_WEIGHTS = {
    "imagenet": (
        "resnet34 resnet101 resnet152 dpn68 dpn98 dpn131 vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn "
        "senet154 se_resnet50 se_resnet101 se_resnet152 se_resnext50_32x4d se_resnext101_32x4d densenet121 "
        "densenet169 densenet201 densenet161 mobilenet_v2 xception timm-tf_efficientnet_lite0 "
        "timm-tf_efficientnet_lite1 timm-tf_efficientnet_lite2 timm-tf_efficientnet_lite3 timm-tf_efficientnet_lite4 "
        "timm-skresnet18 timm-skresnet34 timm-skresnext50_32x4d mit_b0 mit_b1 mit_b2 mit_b3 mit_b4 mit_b5 "
        "mobileone_s0 mobileone_s1 mobileone_s2 mobileone_s3 mobileone_s4"
    ),
    "imagenet ssl swsl": "resnet18 resnet50 resnext50_32x4d",
    "ssl swsl": "resnext101_32x4d",
    "imagenet instagram ssl swsl": "resnext101_32x8d",
    "instagram ssl swsl": "resnext101_32x16d",
    "instagram": "resnext101_32x32d resnext101_32x48d",
    "imagenet+5k": "dpn68b dpn92 dpn107",
    "imagenet imagenet+background": "inceptionresnetv2 inceptionv4",
    "imagenet advprop": (
        "efficientnet-b0 efficientnet-b1 efficientnet-b2 efficientnet-b3 efficientnet-b4 efficientnet-b5 "
        "efficientnet-b6 efficientnet-b7 timm-efficientnet-b8"
    ),
    "imagenet noisy-student advprop": (
        "timm-efficientnet-b0 timm-efficientnet-b1 timm-efficientnet-b2 timm-efficientnet-b3 timm-efficientnet-b4 "
        "timm-efficientnet-b5 timm-efficientnet-b6 timm-efficientnet-b7"
    ),
    "noisy-student noisy-student-475": "timm-efficientnet-l2",
}

ENCODERS: dict[str, tuple[str, ...]] = {
    encoder: tuple(weights.split()) for weights, encoders in _WEIGHTS.items() for encoder in encoders.split()
}
"""The encoders of segmentation-models-pytorch, with the names of their weights."""

WEIGHTS = frozenset(name for names in ENCODERS.values() for name in names)
"""All names of weights; anything else is the path of a file."""

CARD, WEIGHTS_FILE, CHECKPOINT = "model.json", "model.safetensors", "training.ckpt"
THRESHOLDS_FILE, SCORE_FILE = "thresholds.json", "score.json"
"""Files of a run."""

TIMM = "tu-"
"""Prefix of a timm model."""


@cache
def networks() -> dict[str, bool]:
    """The names of the registry, in order, and whether each network takes an encoder."""
    return {name: has_encoder for name, has_encoder, _ in _registered()}


def descriptions() -> dict[str, str]:
    """The names of the registry, in order, and a line about each network."""
    return {name: about for name, _, about in _registered()}


@cache
def _registered() -> tuple[tuple[str, bool, str], ...]:
    """(name, whether it takes an encoder, first line of its docstring) of each function under `@register(...)`."""
    found = []
    for function in ast.parse(Path(__file__).with_name("registry.py").read_text(encoding="utf-8")).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in function.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "register":
                name, has_encoder = ast.literal_eval(call.args[0]), not call.keywords
                found.append((name, has_encoder, (ast.get_docstring(function) or "").partition("\n")[0]))
    return tuple(found)


def check_network(arch: str) -> None:
    """Check that a network exists. Raises UsageError."""
    if arch not in networks():
        raise UsageError("unknown architecture", arch, f"Choose one of {', '.join(sorted(networks()))}")


def check_encoder(encoder: str) -> None:
    """Check that an encoder exists. Raises UsageError."""
    if encoder in ENCODERS:
        return
    if not encoder.startswith(TIMM):
        raise UsageError("unknown encoder", encoder, _remedy(encoder))
    model = encoder.removeprefix(TIMM)
    if not re.fullmatch(r"\w+(\.\w+)?", model, re.ASCII):
        raise UsageError(
            "not the name of an encoder",
            encoder,
            "After tu- give the name of a timm model alone, e.g. tu-convnext_tiny",
        )
    models, sources = _timm()
    name = model.partition(".")[0]
    if name not in models and not any(f"{quote}{name}{quote}" in sources for quote in "'\""):
        near = _meant(name, models, TIMM)
        raise UsageError("unknown encoder", encoder, f"{near}After tu- give the name of a timm model")


def check_weights(encoder: str, weights: str | None) -> None:
    """Check that `weights` is a file, or the name of the library's weights for an encoder.

    Raises:
        UsageError: the encoder has no weights of this name.
        InputError: no such file.
    """
    if weights is None:
        return
    if weights not in WEIGHTS:
        if not Path(weights).is_file():
            near, named = _meant(weights, {*WEIGHTS, "none"}), ", ".join(ENCODERS.get(encoder, ("imagenet",)))
            raise InputError("no such file of encoder weights", weights, f"{near}Give a file, or {named}, or none")
    elif encoder.startswith(TIMM):
        if weights != "imagenet":
            raise UsageError(
                f"{encoder} has no weights of this name",
                weights,
                "For timm they are part of the name: "
                "--encoder tu-resnet18.fb_ssl_yfcc100m_ft_in1k --encoder-weights imagenet",
            )
    elif weights not in ENCODERS[encoder]:
        raise UsageError(
            f"{encoder} has no weights of this name",
            weights,
            f"Pass --encoder-weights {', '.join(ENCODERS[encoder])}, none or a file",
        )


def check_run(folder: Path, models: Path = TrainConfig.models) -> None:
    """Check that a folder is a run. Raises RunError: it does not exist, or has no card.

    `models`: where runs of a similar name are looked for, besides the parent of `folder`.
    """
    if not folder.is_dir():
        raise RunError(
            "no such run", str(folder), f"{near_run(folder, models)}`severstal models` lists the trained runs"
        )
    if not (folder / CARD).exists():
        raise RunError(
            f"{folder / CARD} is missing", "", "The training has not finished its first epoch, or this is no run"
        )


def check_any_run(models: Path) -> None:
    """Check that a folder has at least one run. Raises RunError."""
    if not any(models.glob(f"*/{CARD}")):
        raise RunError(f"no trained run in {models}", "", "Train one: severstal train --arch unet --data DATA")


def check_candidate(name: str, models: Path = TrainConfig.models) -> None:
    """Check that a candidate of `compare` is a network or a run. Raises InputError, RunError."""
    if name in networks():
        return
    if not Path(name).is_dir():
        near = _meant(name, networks()) or near_run(Path(name), models)
        remedy = f"{near}`severstal models` lists both; a submission ends with .csv"
        raise InputError(f"{name} is neither a network nor the folder of a run", "", remedy)
    check_run(Path(name))


def folder_for(config: TrainConfig) -> Path:
    """The run folder of a training. Raises UsageError: unknown architecture."""
    check_network(config.arch)
    encoder = f"-{config.encoder}" if networks()[config.arch] else ""
    fold = "nofold" if config.fold is None else f"fold{config.fold}"
    return config.models / (config.name or f"{config.arch}{encoder}-{fold}")


def check_new(folder: Path) -> None:
    """Check that a folder holds no run yet. Raises InputError."""
    if (folder / CHECKPOINT).exists():
        raise InputError("a run of this name exists", str(folder), "Give --resume, another --name, or remove it")
    if (folder / CARD).exists():
        raise InputError("a run of this name exists", str(folder), "Give another --name, or remove it")


def check_encoder_of(folder: Path, encoder: str) -> None:
    """Check that the model card of a run names an encoder. Raises RunError."""
    try:
        check_encoder(encoder)
    except UsageError as error:
        raise RunError(
            f"{folder / CARD} names no encoder of this program",
            str(error),
            "Restore the file, or use the versions that wrote it",
        ) from error


def check_has_weights(folder: Path) -> None:
    """Check that a run has weights for torch. Raises RunError."""
    if (folder / WEIGHTS_FILE).exists():
        return
    exported = [path.name for path in sorted(folder.glob("model.*")) if path.name != CARD]
    if exported == ["model.pt2"]:
        raise RunError(
            f"{folder} has its network as model.pt2 alone",
            "this format can run code while it is read",
            "Export the original run again, with --format onnx or openvino",
        )
    remedy = "Use the run that it was exported from" if exported else "Train again, or restore the file"
    raise RunError(f"{folder / WEIGHTS_FILE} is missing", ", ".join(exported), remedy)


@cache
def _timm() -> tuple[tuple[str, ...], str]:
    """The models of timm, and its source, which has deprecated names, too; both empty if timm is not installed."""
    found = importlib.util.find_spec("timm")
    if found is None or found.origin is None:
        return (), ""
    paths = Path(found.origin).parent.glob("models/*.py")
    sources = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    return tuple(re.findall(r"^@register_model\s+def (\w+)\(", sources, re.MULTILINE)), sources


def _remedy(encoder: str) -> str:
    """A suggestion for an unknown encoder. The library once had more timm models, as `timm-...`."""
    models, name = _timm()[0], encoder.removeprefix("timm-").replace("-", "_")
    for model in (f"tf_{name}", name):
        if model in models:
            return f"Its name is {TIMM}{model}"
    near = _meant(encoder, (*ENCODERS, *(TIMM + model for model in models)))
    return near or "For example resnet18, resnet34, efficientnet-b3, se_resnext50_32x4d, tu-convnext_tiny"


def near_run(folder: Path, models: Path = TrainConfig.models) -> str:
    """`Did you mean models/unet-resnet34-fold0? `, or nothing if no run has a similar name."""
    runs = {path.parent.name: path.parent for place in (models, folder.parent) for path in place.glob(f"*/{CARD}")}
    near = difflib.get_close_matches(folder.name, runs, n=1)
    return f"Did you mean {runs[near[0]]}? " if near else ""


def _meant(name: str, known: Iterable[str], start: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {start}{near[0]}? " if near else ""
