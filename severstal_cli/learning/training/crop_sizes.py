"""The size of the crops that an epoch trains on."""

from dataclasses import dataclass

from severstal_cli.learning.networks.registry import STRIDE


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Crop sizes of an epoch: `height` by one of `widths`, and the crops of a batch."""

    height: int
    widths: tuple[int, ...]
    batch_size: int
    halved: bool = False

    @property
    def smallest_size(self) -> tuple[int, int]:
        """(height, width) that the network gets of the narrowest crop."""
        scale = 2 if self.halved else 1
        return self.height // scale, min(self.widths) // scale


def crop_side(side_px: int, multiple: int = STRIDE) -> int:
    """`side_px` rounded to a multiple: down if that loses at most an eighth, else up, with reflection padding.

    Rounding down is cheaper, and leaves room for random positions.
    """
    below = side_px // multiple * multiple
    return below if side_px - below <= side_px / 8 else below + multiple
