"""Copy-paste augmentation: defects of one image pasted into another, with equal frequency of the classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from severstal_cli.steel.images.cache import ImageCache
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle

FEATHER_PX = 6
"""Width in pixels of the blend around a pasted mask."""


class Donors:
    """The annotated defects of the images `image_ids`; `masks` may have other images, too."""

    def __init__(
        self, cache: ImageCache, image_ids: Sequence[str], masks: Mapping[tuple[str, int], rle.RLE], classes: int
    ) -> None:
        self._cache, self._masks = cache, masks
        self._of_class = {
            channel: found
            for channel in range(classes)
            if (found := [image_id for image_id in image_ids if (image_id, channel) in masks])
        }

    def paste(self, rng: np.random.Generator, image: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        """Paste one defect of a random class into `image: (h, w)` and `masks: (C, h, w)`, in place.

        The image stays unchanged if the defect would touch another one.
        """
        if not self._of_class:
            return
        channel = list(self._of_class)[int(rng.integers(len(self._of_class)))]
        donors = self._of_class[channel]
        patch, mask = self._defect(rng, donors[int(rng.integers(len(donors)))], channel, image.shape)
        top, left = (int(rng.integers(0, image.shape[axis] - mask.shape[axis] + 1)) for axis in range(2))
        window = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
        around = cv2.dilate(mask, np.ones((3, 3), np.uint8)).astype(bool)
        if masks[(slice(None), *window)][:, around].any():
            return
        distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3)
        alpha = np.clip(1 - distance / FEATHER_PX, 0, 1)
        ring = mask == 0
        below = image[window].astype(np.float32)
        # shift the patch so that its surroundings have the brightness of the target
        shift = float(below[ring].mean() - patch[ring].mean()) if ring.any() else 0.0
        blended = below + alpha * (patch + shift - below)
        image[window] = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
        masks[(channel, *window)] |= mask

    def _defect(
        self, rng: np.random.Generator, image_id: str, channel: int, limit: tuple[int, ...]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """One component of a mask with its surroundings, at most `limit` large: grey values, and its mask (0 or 1)."""
        image = self._cache[self._cache.index[image_id]]
        mask = rle.decode(self._masks[image_id, channel], (image.shape[0], image.shape[1])).view(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        chosen = int(rng.integers(1, count))
        spans = []
        for axis, (start, length) in enumerate((stats[chosen, [1, 3]], stats[chosen, [0, 2]])):
            first, last = max(0, start - FEATHER_PX), min(image.shape[axis], start + length + FEATHER_PX)
            if last - first > limit[axis]:  # a defect that is too long: a random section
                first = int(rng.integers(first, last - limit[axis] + 1))
                last = first + limit[axis]
            spans.append(slice(int(first), int(last)))
        rows, columns = spans
        return image[rows, columns].astype(np.float32), (labels[rows, columns] == chosen).astype(np.uint8)
