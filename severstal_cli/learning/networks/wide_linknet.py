"""LinkNet with a minimum decoder width, for encoders with few channels.

Each step of LinkNet's decoder goes through a quarter of the channels that come in (Chaurasia and Culurciello, 2017,
table 1). The library does so with every encoder: with EfficientNet-Lite0 (16 to 320 channels), 4 to 80 are left.
"""

from typing import Any

from segmentation_models_pytorch import Linknet
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.base.modules import Conv2dReLU
from segmentation_models_pytorch.decoders.linknet.decoder import DecoderBlock, LinknetDecoder
from torch import nn

LEAST_CHANNELS = 32
"""Channels within a step of the decoder, at least."""


def wide_linknet(encoder: str, **settings: Any) -> nn.Module:
    """The library's `Linknet` with at least `LEAST_CHANNELS` channels within each step of its decoder.

    Args:
        encoder: as `Linknet` takes it.
        settings: other arguments of `Linknet`.

    Raises ValueError: an encoder that `Linknet` does not support.
    """
    network: nn.Module = Linknet(encoder, **settings)
    _widen(network.decoder)
    return network


def _widen(decoder: LinknetDecoder) -> None:
    """Replace each step by one of at least the least width, with new weights."""
    for number, step in enumerate(decoder.blocks):
        first, _, last = step.block  # each is a convolution, a batch norm and a ReLU
        decoder.blocks[number] = _block(first[0].in_channels, last[0].out_channels)
    initialize_decoder(decoder)


def _block(ins: int, outs: int) -> DecoderBlock:
    """A step of the decoder: `(N, ins, H, W) -> (N, outs, 2 H, 2 W)`."""
    inner = max(ins // 4, LEAST_CHANNELS)
    step = DecoderBlock(4 * inner, outs)  # a quarter of which is `inner`
    step.block[0] = Conv2dReLU(ins, inner, kernel_size=1)
    return step
