"""The networks that `--arch` can name: one dict, filled by a decorator.

An entry is a factory `(encoder, encoder_weights, in_channels, classes, classifier) -> nn.Module`. The module takes
`images: (N, in_channels, H, W) float`, H and W multiples of `STRIDE`, and returns `Logits`. A new entry is one
decorated function; every command and the conformance test reach it by its name.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from severstal_cli.errors import InputError, MachineError, UsageError, check_memory
from severstal_cli.learning import pretrained, small

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
        encoders: where a person may put files for `pretrained.find_file`; told when fetching fails.

    Raises:
        UsageError: unknown architecture or encoder, or a file of weights for a network without one.
        InputError: a pair that does not go together, or a wrong file of weights.
        MachineError: the ImageNet weights could not be fetched.
    """
    chosen = entry(arch)
    from_file = encoder_weights if encoder_weights not in (None, "imagenet") else None
    if from_file and not chosen.has_encoder:
        raise UsageError(f"{arch} has no encoder for weights of a file", from_file, "Leave --encoder-weights out")
    if chosen.has_encoder:
        pretrained.check_encoder(encoder)
    fetches, unreachable = chosen.has_encoder and encoder_weights == "imagenet", ""
    try:
        with pretrained.hub() if fetches else nullcontext("") as unreachable:
            network = chosen.factory(encoder, None if from_file else encoder_weights, in_channels, classes, classifier)
    except (OSError, RuntimeError) as error:
        check_memory(error, f"building {arch}")
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
        # entries with an encoder have this attribute: see _Segmenter
        pretrained.load(network.encoder, Path(from_file), in_channels)  # type: ignore[arg-type]
    return network


def try_out(network: nn.Module, arch: str, encoder: str, shape: tuple[int, int, int]) -> None:
    """See that a network takes pictures of `shape: (in_channels, height, width)`. Raises InputError.

    Some encoders take pictures of one size alone, and tell so when they get another one.
    """
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *shape))
    except (AssertionError, RuntimeError, ValueError) as error:
        check_memory(error, f"trying {arch} on an image of {shape[1]} x {shape[2]}")
        found = " ".join(str(error).split())[:120].rstrip(".")
        raise InputError(f"{arch} with encoder {encoder} does not take {shape[1]} x {shape[2]} pixels", found,
                         "Choose another --encoder") from error  # fmt: skip


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
