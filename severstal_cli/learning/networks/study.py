"""The two networks of the original study (gourav19102/Image-Segmentation), in one class.

The encoder has four levels, from 8 filters to 128 in the deepest layer: per level a 3 x 3 convolution, batch norm, ReLU
and max pooling. The decoder uses transposed 3 x 3 convolutions. U-Net concatenates the skip connections, LinkNet adds
them. With three input channels and four classes they have 295,972 and 247,012 weights, including 736 running
statistics.
"""

from torch import Tensor, cat, nn

FILTERS = (8, 16, 32, 64)
DEEPEST = 128
DROPOUT = 0.2


class _Block(nn.Sequential):
    """Convolution, batch norm and ReLU. `(N, ins, H, W) -> (N, outs, H, W)`."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__(nn.Conv2d(ins, outs, 3, padding=1), nn.BatchNorm2d(outs), nn.ReLU(inplace=True))


class SmallNetwork(nn.Module):
    """`images: (N, in_channels, H, W)`, H and W multiples of 16 -> `(masks: (N, classes, H, W), deepest features)`."""

    def __init__(self, in_channels: int, classes: int, *, concatenate: bool) -> None:
        super().__init__()
        self.concatenate = concatenate
        widths = (in_channels, *FILTERS)
        self.down = nn.ModuleList(_Block(widths[i], widths[i + 1]) for i in range(len(FILTERS)))
        self.deepest = _Block(FILTERS[-1], DEEPEST)
        self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout(DROPOUT)
        above = (DEEPEST, *reversed(FILTERS))
        self.rise = nn.ModuleList(
            nn.ConvTranspose2d(above[i], above[i + 1], 3, stride=2, padding=1, output_padding=1)
            for i in range(len(FILTERS))
        )
        self.up = nn.ModuleList(_Block(2 * f if concatenate else f, f) for f in reversed(FILTERS))
        self.out = nn.Conv2d(FILTERS[0], classes, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, skips = images, []
        for block in self.down:
            skips.append(block(features))
            features = self.drop(self.pool(skips[-1]))
        deepest = features = self.deepest(features)
        for rise, block, skip in zip(self.rise, self.up, reversed(skips), strict=True):
            risen = rise(features)
            joined = cat([risen, skip], dim=1) if self.concatenate else risen + skip
            features = block(self.drop(joined))
        return self.out(features), deepest
