"""The networks that `--arch` can name: one dict, filled by a decorator.

An entry is a factory `(encoder, encoder_weights, in_channels, classes, classifier) -> nn.Module`. The module takes
`images: (N, in_channels, H, W) float`, H and W multiples of `STRIDE`, and returns `Logits`. A new entry is one
decorated function; every command and the conformance test reach it by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from severstal_cli.errors import InputError, MachineError, SeverstalError, UsageError, is_memory
from severstal_cli.learning.networks import fitting, names, pretrained, study
from severstal_cli.progress import SILENT, Progress

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
        names.check_network(arch)
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
    progress: Progress = SILENT,
) -> nn.Module:
    """The network `arch`, ready to train. Without `encoder_weights`, or with those of a file, it asks no network.

    Args:
        arch: a name in `REGISTRY`.
        encoder: an encoder of segmentation-models-pytorch; entries without one ignore it.
        encoder_weights: None (random), the name of weights that the library has for the encoder, as "imagenet" (fetched
            from a hub), or the path of a file with the encoder's state dict, as `torch.save` or safetensors writes it.
        in_channels: 1 for grey pictures. Weights for three channels are summed over the channels.
        classes: number of masks.
        classifier: add a head that tells for each class whether it is in the picture at all.
        encoders: where a person may put files for `pretrained.find_file`; told when fetching fails.
        progress: is given a line about the weights that were taken.

    Raises:
        UsageError: unknown architecture, encoder or weights, or weights of a file for a network without an encoder.
        InputError: a pair that does not go together, or a wrong file of weights.
        MachineError: the weights could not be fetched, or the memory is too small.
    """
    chosen = entry(arch)
    from_file = encoder_weights is not None and encoder_weights not in names.WEIGHTS
    if from_file and not chosen.has_encoder:
        raise UsageError(f"{arch} has no encoder for weights of a file", str(encoder_weights),
                         "Leave --encoder-weights out")  # fmt: skip
    if not chosen.has_encoder:
        return chosen.factory(encoder, None, in_channels, classes, classifier)
    names.check_encoder(encoder)
    names.check_weights(encoder, encoder_weights)
    fetched = None if from_file else encoder_weights
    unreachable = ""
    try:
        with pretrained.offline() if fetched is None else pretrained.hub() as unreachable:
            network = chosen.factory(encoder, fetched, in_channels, classes, classifier)
    except (OSError, RuntimeError) as error:
        if fetched is None or is_memory(error):
            raise _refused(error, f"{arch} cannot use encoder {encoder}") from error
        raise MachineError(
            f"the {'ImageNet' if fetched == 'imagenet' else fetched} weights of {encoder} could not be fetched",
            _short(unreachable or error),
            f"Pass --encoder-weights none, or put them at {encoders / encoder}.safetensors",
        ) from error
    except Exception as error:  # two libraries and a thousand encoders: each refuses in its own way what it cannot do
        raise _refused(error, f"{arch} cannot use encoder {encoder}") from error
    if encoder_weights is not None and (note := pretrained.note_on(encoder)):
        progress.log(note)
    if from_file:
        # entries with an encoder have this attribute: see _Segmenter
        progress.log(fitting.load(network.encoder, encoder, Path(str(encoder_weights)), in_channels))  # type: ignore[arg-type]
    return network


def try_out(network: nn.Module, arch: str, encoder: str, shape: tuple[int, int, int], *, learns: bool = False) -> None:
    """See that a network takes pictures of `shape: (in_channels, height, width)`, and `learns` from them.

    Some encoders take pictures of one size alone, and tell so when they get another one. The network keeps its weights,
    laid out as a training has them (channels last, which not every network takes), and the random numbers their state.

    Raises:
        InputError: it does not.
        MachineError: the memory is too small.
    """
    does_not, size = f"{arch} with encoder {encoder} does not", f"{shape[1]} x {shape[2]} pixels"
    what = f"{does_not} take {size}"
    kept = {name: value.clone() for name, value in network.named_buffers()} if learns else {}
    try:
        network.to(memory_format=torch.channels_last)
        pixels = torch.zeros(1, *shape).contiguous(memory_format=torch.channels_last)
        with torch.random.fork_rng(devices=[]), torch.inference_mode(not learns):
            logits: Logits = network.train(learns)(pixels)
            if learns:
                what = f"{does_not} learn from {size}"
                sum(part.sum() for part in logits if part is not None).backward()  # type: ignore[union-attr]
    except Exception as error:  # what is not made for such a size fails anywhere
        raise _refused(error, what) from error
    network.zero_grad(set_to_none=True)
    if tuple(logits.masks.shape[2:]) != shape[1:]:
        raise InputError(what, f"its masks are {logits.masks.shape[2]} x {logits.masks.shape[3]}",
                         "Choose another --encoder")  # fmt: skip
    for name, value in network.named_buffers():
        if name in kept:
            value.copy_(kept[name])


def _refused(error: Exception, what: str) -> SeverstalError:
    """What to tell of an error of the libraries."""
    if isinstance(error, SeverstalError):
        return error
    if is_memory(error):
        return MachineError(what, "the memory is too small for it", "Free some, or choose a smaller --encoder")
    found = _short(error).rstrip(" .") or type(error).__name__
    return InputError(what, found, "Choose another --encoder")


def _short(found: object) -> str:
    """One line of it."""
    return " ".join(str(found).split())[:120] or type(found).__name__


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

    def __init__(self, network: study.SmallNetwork, classes: int, classifier: bool) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(study.DEEPEST, classes) if classifier else None

    def forward(self, images: Tensor) -> Logits:
        masks, deepest = self.network(images)
        return Logits(masks, self.head(deepest.mean(dim=(2, 3))) if self.head is not None else None)


def _from_library(
    kind: str | Callable[..., nn.Module],
    encoder: str,
    weights: str | bool | None,
    in_channels: int,
    classes: int,
    head: bool,
) -> nn.Module:
    """A network of the library by its name there, or one that is made as they are."""
    import segmentation_models_pytorch as smp

    if encoder.startswith("tu-") and weights:
        weights = True  # its names of weights are part of the encoder's
    aux = {"classes": classes, "pooling": "avg", "dropout": 0.2} if head else None
    maker: Callable[..., nn.Module] = getattr(smp, kind) if isinstance(kind, str) else kind
    return _Segmenter(maker(encoder, encoder_weights=weights, in_channels=in_channels, classes=classes, aux_params=aux))


@register("unet")
def unet(encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool) -> nn.Module:
    """U-Net: features of the encoder are concatenated on the way up (Ronneberger et al., 2015)."""
    return _from_library("Unet", encoder, encoder_weights, in_channels, classes, classifier)


@register("linknet")
def linknet(encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool) -> nn.Module:
    """LinkNet: features of the encoder are added on the way up (Chaurasia and Culurciello, 2017)."""
    return _from_library("Linknet", encoder, encoder_weights, in_channels, classes, classifier)


@register("linknet-wide")
def linknet_wide(
    encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool
) -> nn.Module:
    """LinkNet with a wider decoder, for encoders of few channels, as EfficientNet-Lite0."""
    from severstal_cli.learning.networks.wide_linknet import wide_linknet

    return _from_library(wide_linknet, encoder, encoder_weights, in_channels, classes, classifier)


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
    return _Small(study.SmallNetwork(in_channels, classes, concatenate=True), classes, classifier)


@register("linknet-small", has_encoder=False)
def linknet_small(
    encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool
) -> nn.Module:
    """The study's LinkNet from scratch: 8 filters at the top, one convolution a level."""
    return _Small(study.SmallNetwork(in_channels, classes, concatenate=False), classes, classifier)
