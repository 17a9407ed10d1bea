"""The networks that `--arch` can name: one dict, filled by a decorator.

An entry is a factory `(encoder, encoder_weights, in_channels, classes, classifier) -> nn.Module`. The module takes
`images: (N, in_channels, H, W) float`, H and W multiples of `STRIDE`, and returns `Logits`. A new entry is one
decorated function; every command and the conformance test reach it by its name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from severstal_cli.errors import InputError, MachineError, UsageError
from severstal_cli.learning import small

STRIDE = 32
"""Height and width of what a network is given are multiples of this; it is the deepest stride of the encoders."""


class Logits(NamedTuple):
    """What every network returns. `masks: (N, C, H, W)`; `classes: (N, C)` from the classification head, or None."""

    masks: Tensor
    classes: Tensor | None


Factory = Callable[[str, str | None, int, int, bool], nn.Module]
"""`(encoder, encoder_weights, in_channels, classes, classifier) -> network`."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A registered network: its factory, one line about it, and whether it takes an encoder from a library."""

    factory: Factory
    about: str
    has_encoder: bool


REGISTRY: dict[str, Entry] = {}


def register(name: str, *, has_encoder: bool = True) -> Callable[[Factory], Factory]:
    """Decorator: put a factory into the registry under `name`; the first line of its docstring describes it."""

    def put(factory: Factory) -> Factory:
        if name in REGISTRY:
            raise ValueError(f"{name} is registered twice")
        about = (factory.__doc__ or "").strip().splitlines()[0]
        REGISTRY[name] = Entry(factory=factory, about=about, has_encoder=has_encoder)
        return factory

    return put


def entry(arch: str) -> Entry:
    """The entry of a name. Raises UsageError."""
    if arch not in REGISTRY:
        raise UsageError("unknown architecture", arch, f"Choose one of {', '.join(sorted(REGISTRY))}")
    return REGISTRY[arch]


def build(
    arch: str,
    *,
    encoder: str = "resnet34",
    encoder_weights: str | None = None,
    in_channels: int = 1,
    classes: int,
    classifier: bool = False,
    encoders: Path = Path("models/encoders"),
) -> nn.Module:
    """The network `arch`, ready to train.

    Args:
        arch: a name in `REGISTRY`.
        encoder: an encoder of segmentation-models-pytorch; entries without one ignore it.
        encoder_weights: None (random), "imagenet" (fetched from a hub) or the path of a file with the encoder's
            state dict, as `torch.save` or safetensors writes it.
        in_channels: 1 for grey pictures. Weights for three channels are summed over the channels.
        classes: number of masks.
        classifier: add a head that tells for each class whether it is in the picture at all.
        encoders: where a person may put files for `encoder_file`; told when fetching fails.

    Raises:
        UsageError: unknown architecture or encoder.
        InputError: a pair that does not go together, or a wrong file of weights.
        MachineError: the ImageNet weights could not be fetched.
    """
    chosen = entry(arch)
    from_file = encoder_weights if encoder_weights not in (None, "imagenet") else None
    if chosen.has_encoder:
        _check_encoder(encoder)
    fetches, unreachable = chosen.has_encoder and encoder_weights == "imagenet", ""
    try:
        with _hub() if fetches else nullcontext("") as unreachable:
            network = chosen.factory(encoder, None if from_file else encoder_weights, in_channels, classes, classifier)
    except (OSError, RuntimeError) as error:
        if encoder.startswith("tu-") and "Unknown model" in str(error):
            raise UsageError("unknown encoder", encoder, "After tu- stands the name of a model of timm") from error
        if encoder_weights != "imagenet":
            raise
        raise MachineError(
            f"the ImageNet weights of {encoder} could not be fetched",
            " ".join((unreachable or str(error)).split())[:120] or type(error).__name__,
            f"Pass --encoder-weights none, or put them at {encoders / encoder}.safetensors",
        ) from error
    except KeyError as error:
        raise InputError(f"{encoder} has no weights of this name", str(encoder_weights),
                         "Pass --encoder-weights none, or --encoder-weights FILE") from error  # fmt: skip
    except ValueError as error:  # the library refuses this encoder for this decoder
        raise InputError(f"{arch} cannot use encoder {encoder}", str(error), "Choose another --encoder") from error
    if from_file and chosen.has_encoder:
        _load_encoder(network, Path(from_file), in_channels)
    return network


def encoder_file(encoders: Path, encoder: str) -> Path | None:
    """The file in the folder `encoders` with the weights of an encoder, or None."""
    # not with_suffix: names of timm have points
    paths = [encoders / f"{encoder}{suffix}" for suffix in (".safetensors", ".pth")]
    return next((path for path in paths if path.is_file()), None)


@contextmanager
def _hub() -> Iterator[str]:
    """Yield what keeps us from the hub of weights, or ""; if anything does, only weights fetched before are used.

    The hub's library alone would ask six times in half a minute, with a line for each.
    """
    from huggingface_hub import constants, get_session

    was_offline = constants.HF_HUB_OFFLINE
    reason = "HF_HUB_OFFLINE is set" if was_offline else ""
    try:
        if not was_offline:
            get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # which kinds there are depends on the library's version
        constants.HF_HUB_OFFLINE, reason = True, f"{constants.ENDPOINT}: {error}"
    try:
        yield reason
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def _check_encoder(encoder: str) -> None:
    import segmentation_models_pytorch as smp

    if encoder not in smp.encoders.get_encoder_names() and not encoder.startswith("tu-"):
        raise UsageError(
            "unknown encoder", encoder, "For example resnet18, resnet34, efficientnet-b3, se_resnext50_32x4d"
        )


def _load_encoder(network: nn.Module, path: Path, in_channels: int) -> None:
    """Put the weights of a file into the network's encoder; the first convolution is summed to `in_channels`."""
    if not path.is_file():
        raise InputError("no such file of encoder weights", str(path), "Give a file, or imagenet, or none")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries raise many kinds for a file that is not theirs
        raise InputError(f"cannot read {path} as weights", type(error).__name__, "Give a state dict") from error
    encoder: Any = network.encoder  # entries with an encoder have this attribute: see _Segmenter
    own = encoder.state_dict()
    state = {key.removeprefix("encoder."): value for key, value in state.items()}
    missing = sorted(key for key in own if key not in state and not key.endswith("num_batches_tracked"))
    if missing:
        raise InputError(f"{path} does not fit the encoder", f"{len(missing)} weights are missing, first {missing[0]}",
                         "Give the weights of the encoder that --encoder names")  # fmt: skip
    picked = {key: state[key] for key in own if key in state}
    for key, value in picked.items():
        if value.shape != own[key].shape and value.ndim == 4 and own[key].shape[1] == in_channels:
            picked[key] = value.sum(dim=1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels
        if picked[key].shape != own[key].shape:
            raise InputError(
                f"{path} does not fit the encoder", f"{key} is {tuple(value.shape)}, not {tuple(own[key].shape)}"
            )
    encoder.load_state_dict(picked, strict=False)


class _Segmenter(nn.Module):
    """A network of segmentation-models-pytorch that always returns `Logits`, with or without the head."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def encoder(self) -> nn.Module:
        """The pretrained part, for loading weights."""
        encoder: nn.Module = self.network.encoder  # type: ignore[assignment]
        return encoder

    def forward(self, images: Tensor) -> Logits:
        found = self.network(images)
        return Logits(*found) if isinstance(found, tuple) else Logits(found, None)


class _Small(nn.Module):
    """A network of the original study that returns `Logits`, with a head on its deepest features if wanted."""

    def __init__(self, network: small.SmallNetwork, classes: int, classifier: bool) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(small.DEEPEST, classes) if classifier else None

    def forward(self, images: Tensor) -> Logits:
        masks, deepest = self.network(images)
        return Logits(masks, self.head(deepest.mean(dim=(2, 3))) if self.head is not None else None)


def _from_library(
    kind: str, encoder: str, weights: str | bool | None, in_channels: int, classes: int, head: bool
) -> nn.Module:
    import segmentation_models_pytorch as smp

    if encoder.startswith("tu-") and weights:
        weights = True  # its names of weights are part of the encoder's
    aux = {"classes": classes, "pooling": "avg", "dropout": 0.2} if head else None
    maker: Callable[..., nn.Module] = getattr(smp, kind)
    return _Segmenter(maker(encoder, encoder_weights=weights, in_channels=in_channels, classes=classes, aux_params=aux))


@register("unet")
def unet(encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool) -> nn.Module:
    """U-Net: features of the encoder are concatenated on the way up (Ronneberger et al., 2015)."""
    return _from_library("Unet", encoder, encoder_weights, in_channels, classes, classifier)


@register("linknet")
def linknet(encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool) -> nn.Module:
    """LinkNet: features of the encoder are added on the way up (Chaurasia and Culurciello, 2017)."""
    return _from_library("Linknet", encoder, encoder_weights, in_channels, classes, classifier)


@register("fpn")
def fpn(encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool) -> nn.Module:
    """Feature pyramid: all scales are predicted from and added (Kirillov et al., 2017)."""
    return _from_library("FPN", encoder, encoder_weights, in_channels, classes, classifier)


@register("unetplusplus")
def unetplusplus(
    encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool
) -> nn.Module:
    """U-Net++: nested, dense skip connections (Zhou et al., 2018)."""
    return _from_library("UnetPlusPlus", encoder, encoder_weights, in_channels, classes, classifier)


@register("unet-small", has_encoder=False)
def unet_small(
    encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool
) -> nn.Module:
    """The study's U-Net from scratch: 8 filters at the top, one convolution a level."""
    return _Small(small.SmallNetwork(in_channels, classes, concatenate=True), classes, classifier)


@register("linknet-small", has_encoder=False)
def linknet_small(
    encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool
) -> nn.Module:
    """The study's LinkNet from scratch: 8 filters at the top, one convolution a level."""
    return _Small(small.SmallNetwork(in_channels, classes, concatenate=False), classes, classifier)
