"""The networks that `--arch` can name, in one dict that a decorator fills.

An entry is a factory `(encoder, encoder_weights, in_channels, classes, classifier) -> nn.Module`. The module takes
`images: (N, in_channels, H, W) float`, H and W multiples of `STRIDE`, and returns `Logits`. To add a network, decorate
one function; every command and the conformance test then find it by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from severstal_cli.errors import InputError, MachineError, SeverstalError, UsageError, is_memory
from severstal_cli.learning.networks import fitting, names, pretrained, study
from severstal_cli.learning.networks.pooled_norm import accept_single_images
from severstal_cli.progress import SILENT, Progress

STRIDE = 32
"""Height and width of a network's input are multiples of this, the total stride of the encoders."""


class Logits(NamedTuple):
    """Output of every network. `masks: (N, C, H, W)`; `classes: (N, C)` from the classification head, or None."""

    masks: Tensor
    classes: Tensor | None


Factory = Callable[[str, str | None, int, int, bool], nn.Module]
"""`(encoder, encoder_weights, in_channels, classes, classifier) -> network`."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A registered network."""

    factory: Factory
    has_encoder: bool


REGISTRY: dict[str, Entry] = {}


def register(name: str, *, has_encoder: bool = True) -> Callable[[Factory], Factory]:
    """Decorator: register a factory under `name`; `severstal models` shows the first line of its docstring."""

    def put(factory: Factory) -> Factory:
        if name in REGISTRY:
            raise ValueError(f"{name} is registered twice")
        REGISTRY[name] = Entry(factory=factory, has_encoder=has_encoder)
        return factory

    return put


def entry(arch: str) -> Entry:
    """The entry called `arch`. Raises UsageError."""
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
    """The network `arch`, ready to train. Only named encoder weights may be downloaded.

    Args:
        arch: a name in `REGISTRY`.
        encoder: an encoder of segmentation-models-pytorch; networks without an encoder ignore it.
        encoder_weights: None (random), the name of the library's weights for the encoder, e.g. "imagenet" (downloaded
            from a hub), or the path of the encoder's state dict, written by `torch.save` or safetensors.
        in_channels: 1 for grey images. Weights for three channels are summed over the channels.
        classes: number of masks.
        classifier: add a classification head, which predicts whether each class is present in the image.
        encoders: folder for weight files, named in the message if a download fails.
        progress: gets one line about the loaded weights.

    Raises:
        UsageError: unknown architecture, encoder or weights, or a weights file for a network without an encoder.
        InputError: the network cannot use the encoder, or the weights file is wrong.
        MachineError: the download failed, or the memory is too small.
    """
    chosen = entry(arch)
    from_file = encoder_weights is not None and encoder_weights not in names.WEIGHTS
    if from_file and not chosen.has_encoder:
        what = f"{arch} has no encoder to load weights into"
        raise UsageError(what, str(encoder_weights), "Leave --encoder-weights out")
    if not chosen.has_encoder:
        return chosen.factory(encoder, None, in_channels, classes, classifier)
    names.check_encoder(encoder)
    names.check_weights(encoder, encoder_weights)
    fetched = None if from_file else encoder_weights
    unreachable = ""
    try:
        with pretrained.hub(downloads=fetched is not None) as unreachable:
            network = chosen.factory(encoder, fetched, in_channels, classes, classifier)
    except (OSError, RuntimeError) as error:
        if fetched is None or is_memory(error):
            raise refused(error, f"{arch} cannot use encoder {encoder}") from error
        raise MachineError(
            f"the {'ImageNet' if fetched == 'imagenet' else fetched} weights of {encoder} could not be fetched",
            _short(unreachable or error),
            f"Pass --encoder-weights none, or put them at {encoders / encoder}.safetensors",
        ) from error
    except Exception as error:  # each of a thousand encoders has its own error
        raise refused(error, f"{arch} cannot use encoder {encoder}") from error
    if encoder_weights is not None and (note := pretrained.note_on(encoder)):
        progress.log(note)
    if from_file:
        # networks with an encoder are a _Segmenter, which has this attribute
        progress.log(fitting.load(network.encoder, encoder, Path(str(encoder_weights)), in_channels))  # type: ignore[arg-type]
    return network


def try_out(
    network: nn.Module, arch: str, encoder: str, shape: tuple[int, int, int], *, images: int = 1, learns: bool = False
) -> None:
    """Check that a network takes images of `shape: (in_channels, height, width)`, and with `learns` trains on them.

    Some encoders accept one image size only. Batch norm cannot train on one value per channel: the deepest layer has
    one for a single image of 32 x 32, and a norm after global pooling has one for any single image. So `images` is the
    size of the smallest batch; two are tried if it is larger. Weights, buffers and random states stay as they are; the
    memory format becomes channels last.

    Raises:
        InputError: the network refuses the size.
        MachineError: the memory is too small.
    """
    does_not, size = f"{arch} with encoder {encoder} does not", f"{shape[1]} x {shape[2]} pixels"
    what = f"{does_not} take {size}"
    kept = {name: value.clone() for name, value in network.named_buffers()} if learns else {}
    try:
        network.to(memory_format=torch.channels_last)
        pixels = torch.zeros(min(images, 2), *shape).contiguous(memory_format=torch.channels_last)
        with torch.random.fork_rng(devices=[]), torch.inference_mode(not learns):
            logits: Logits = network.train(learns)(pixels)
            if learns:
                what = f"{does_not} learn from {size}"
                sum(part.sum() for part in logits if part is not None).backward()  # type: ignore[union-attr]
    except Exception as error:  # encoders fail in many ways on sizes that they are not made for
        raise refused(error, what) from error
    network.zero_grad(set_to_none=True)
    if tuple(logits.masks.shape[2:]) != shape[1:]:
        height, width = logits.masks.shape[2:]
        raise InputError(what, f"its masks are {height} x {width}", "Choose another --encoder")
    for name, value in network.named_buffers():
        if name in kept:
            value.copy_(kept[name])


def refused(error: Exception, what: str) -> SeverstalError:
    """An error of the network libraries as one line; `what`: what the network cannot do."""
    if isinstance(error, SeverstalError):
        return error
    if "more than 1 value per channel" in str(error):
        found = "batch norm cannot train on one value per channel (a batch of a single image)"
        return InputError(what, found, "Use larger crops, or a batch size that leaves no batch with a single image")
    if is_memory(error):
        return MachineError(what, "the memory is too small for it", "Free some, or choose a smaller --encoder")
    return InputError(what, _short(error).rstrip(" .") or type(error).__name__, "Choose another --encoder")


def _short(found: object) -> str:
    """An error or text as one short line."""
    return " ".join(str(found).split())[:120] or type(found).__name__


class _Segmenter(nn.Module):
    """A network of segmentation-models-pytorch that returns `Logits`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are loaded into."""
        encoder: nn.Module = self.network.encoder  # type: ignore[assignment]
        return encoder

    def forward(self, images: Tensor) -> Logits:
        found = self.network(images)
        return Logits(*found) if isinstance(found, tuple) else Logits(found, None)


class _Small(nn.Module):
    """A network of the original study that returns `Logits`; the optional head takes the deepest features."""

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
        weights = True  # an encoder name of timm includes the name of its weights
    aux = {"classes": classes, "pooling": "avg", "dropout": 0.2} if head else None
    maker: Callable[..., nn.Module] = getattr(smp, kind) if isinstance(kind, str) else kind
    made = maker(encoder, encoder_weights=weights, in_channels=in_channels, classes=classes, aux_params=aux)
    accept_single_images(made)
    return _Segmenter(made)


@register("unet")
def unet(encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool) -> nn.Module:
    """U-Net: skip connections are concatenated (Ronneberger et al., 2015)."""
    return _from_library("Unet", encoder, encoder_weights, in_channels, classes, classifier)


@register("linknet")
def linknet(encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool) -> nn.Module:
    """LinkNet: skip connections are added (Chaurasia and Culurciello, 2017)."""
    return _from_library("Linknet", encoder, encoder_weights, in_channels, classes, classifier)


@register("linknet-wide")
def linknet_wide(
    encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool
) -> nn.Module:
    """LinkNet with a wider decoder, for encoders with few channels, such as EfficientNet-Lite0."""
    from severstal_cli.learning.networks.wide_linknet import wide_linknet

    return _from_library(wide_linknet, encoder, encoder_weights, in_channels, classes, classifier)


@register("fpn")
def fpn(encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool) -> nn.Module:
    """Feature pyramid: predictions of all scales are added (Kirillov et al., 2017)."""
    return _from_library("FPN", encoder, encoder_weights, in_channels, classes, classifier)


@register("unetplusplus")
def unetplusplus(
    encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool
) -> nn.Module:
    """U-Net++: nested, dense skip connections (Zhou et al., 2018)."""
    return _from_library("UnetPlusPlus", encoder, encoder_weights, in_channels, classes, classifier)


@register("deeplabv3plus")
def deeplabv3plus(
    encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool
) -> nn.Module:
    """DeepLabV3+: dilated convolutions in place of the last stride (Chen et al., 2018)."""
    return _from_library("DeepLabV3Plus", encoder, encoder_weights, in_channels, classes, classifier)


@register("segformer")
def segformer(encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool) -> nn.Module:
    """SegFormer's decoder: one linear layer per scale (Xie et al., 2021)."""
    return _from_library("Segformer", encoder, encoder_weights, in_channels, classes, classifier)


@register("upernet")
def upernet(encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool) -> nn.Module:
    """UPerNet: pyramid pooling on top of a feature pyramid (Xiao et al., 2018)."""
    return _from_library("UPerNet", encoder, encoder_weights, in_channels, classes, classifier)


@register("unet-small", has_encoder=False)
def unet_small(
    encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool
) -> nn.Module:
    """The study's U-Net, trained from scratch: 8 filters at the top, one convolution per level."""
    return _Small(study.SmallNetwork(in_channels, classes, concatenate=True), classes, classifier)


@register("linknet-small", has_encoder=False)
def linknet_small(
    encoder: str, encoder_weights: str | None, in_channels: int, classes: int, classifier: bool
) -> nn.Module:
    """The study's LinkNet, trained from scratch: 8 filters at the top, one convolution per level."""
    return _Small(study.SmallNetwork(in_channels, classes, concatenate=False), classes, classifier)
