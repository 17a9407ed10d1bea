"""Training batches: crops of the cached images, with masks decoded from the RLE of the crop alone.

The crop at position `p` of epoch `e` depends on (seed, e, p) only, so a resumed training sees the crops that an
uninterrupted one would see. One optimiser step may take several batches (gradient accumulation). With pseudo-labels,
every step mixes some of their images with annotated ones.

Device `r` of `n` takes every n-th image of a batch, starting with image `r`. So the position of an image, and thus its
crop, is independent of the number of devices. All devices get the same number of batches, because they wait for each
other at each step.
"""

import copy
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from severstal_cli.config import TrainConfig
from severstal_cli.learning.networks.registry import STRIDE
from severstal_cli.learning.training import augmentation, schedule
from severstal_cli.learning.training.copy_paste import Donors
from severstal_cli.parallel import map_in_order
from severstal_cli.steel.dataset.data_folder import DataFolder
from severstal_cli.steel.dataset.pseudo_labels import PseudoLabels
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle

THREADS = max(1, (os.cpu_count() or 1) // 4)
"""Threads that prepare batches, one batch each: few, as on a CPU the network needs the same cores."""


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


@dataclass(frozen=True, kw_only=True)
class Batch:
    """`images: (N, 1, h, w) uint8`, `masks: (N, C, h, w) uint8`, 0 or 1; `changes` are applied on the device."""

    image_ids: tuple[str, ...]
    """Empty if the batch has fewer images than devices: `images` then repeats one of another device, with weight 0."""
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    changes: augmentation.Changes
    halved: bool
    """Whether the device halves height and width first."""
    loss_weight: float
    """Weight of the mean loss: the batch's share of the step's images, times the devices, which average gradients."""
    ends_step: bool


class TrainingSet:
    """The training images of a split, as batches of crops of one size."""

    def __init__(
        self,
        data_folder: DataFolder,
        image_ids: Sequence[str],
        config: TrainConfig,
        pseudo: PseudoLabels | None = None,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """The batches are for device `rank` of `world`."""
        if not image_ids:
            raise ValueError("no images to train on")
        self._rank, self._world = rank, world
        self.image_ids, self.classes = tuple(image_ids), data_folder.classes
        cache, masks = data_folder.cache, data_folder.masks
        self.step_images = config.effective_batch_size
        """Of one device."""
        self._global_step_images = world * self.step_images
        self.at_once = config.batch_size or self.step_images
        """Crops per batch, fewer at the end of a step. May be lowered before the first batch."""
        self._masks, self._config = dict(masks), config
        self._images = [(image_id, cache, cache.index[image_id]) for image_id in image_ids]
        self._pseudo_of_step = 0
        if pseudo is not None:  # no image id is in both, so one mapping holds all masks
            self._masks |= pseudo.masks
            self._images += [(name, pseudo.cache, pseudo.cache.index[name]) for name in pseudo.image_ids]
            wanted = round(self._global_step_images * config.pseudo_share)
            self._pseudo_of_step = min(max(wanted, 1), self._global_step_images - 1)
        self._donors = Donors(cache, image_ids, masks, self.classes)
        sizes = np.array([cache.sizes[cache.index[image_id]] for image_id in image_ids])
        self._largest = int(sizes[:, 0].max()), int(sizes[:, 1].max())

    @property
    def piece(self) -> tuple[int, int]:
        """(height, width) of the largest crops, whole images aside."""
        crops = self._crops(STRIDE)
        return crops.height, max(crops.widths)

    def __len__(self) -> int:
        """Steps per epoch. The last one may have fewer images."""
        return math.ceil(len(self.image_ids) / (self._global_step_images - self._pseudo_of_step))

    @property
    def epoch_images(self) -> int:
        """Images per epoch on all devices, pseudo-labelled ones included."""
        return len(self.image_ids) + len(self) * self._pseudo_of_step

    @property
    def largest_batch(self) -> tuple[int, int, int]:
        """(images, height, width) of the batches with the most pixels."""
        phases = [self._crops(STRIDE), *([self._whole()] if self._config.whole_image_share else [])]
        shapes = [(min(phase.batch_size, self.step_images), phase.height, max(phase.widths)) for phase in phases]
        return max(shapes, key=math.prod)

    def batches(self, epoch: int, share_done: float = 0.0) -> Iterator[Batch]:
        """The batches of an epoch for this device, prepared ahead in threads; the devices share the annotated images.

        `share_done`: the share of the whole training before this epoch, which decides on the crop size.
        """
        crops = self._crops_at(share_done)
        items = (
            (number * self._global_step_images, step, first)
            for number, step in enumerate(self._steps(epoch))
            for first in range(0, len(step), crops.batch_size * self._world)
        )
        return map_in_order(
            lambda item: self._batch(epoch, *item, crops), items, threads=THREADS, ahead=THREADS + 1, name="batches"
        )

    def trials(self) -> Iterator[Batch]:
        """One batch of each size that any device trains on, with images of the first epoch; equal on all devices."""
        alone = copy.copy(self)
        alone._rank, alone._world = 0, 1
        longest = max(self._steps(0), key=len)
        for crops in self._batch_sizes():
            yield alone._batch(0, 0, longest[: crops.batch_size], 0, crops)

    @property
    def smallest_batch(self) -> tuple[int, int, int]:
        """(images, height, width) of the batches with the fewest images, and of these with the fewest pixels."""
        sizes = ((crops.batch_size, *crops.smallest_size) for crops in self._batch_sizes())
        return min(sizes, key=lambda size: (size[0], math.prod(size)))

    def _batch_sizes(self) -> Iterator[Crops]:
        """Each size of batch that any device trains on, as crops of one width."""
        half, whole = self._config.half_size_share, self._config.whole_image_share
        phases = [self._crops_at(0.0)] if half else []
        phases += [self._crops(STRIDE)] if half + whole < 1 else []
        phases += [self._whole()] if whole else []
        steps = {len(step) for step in self._steps(0)}
        for phase in phases:
            most = phase.batch_size * self._world
            ends = {(first, min(first + most, size)) for size in steps for first in range(0, size, most)}
            counts = {
                max(1, len(range(first + rank, end, self._world))) for first, end in ends for rank in range(self._world)
            }
            for count in sorted(counts, reverse=True):
                for width in phase.widths:
                    yield dataclasses.replace(phase, widths=(width,), batch_size=count)

    def _steps(self, epoch: int) -> list[NDArray[np.int64]]:
        """The images of each step, as positions in `_images`, which has the annotated ones first."""
        order = self._rng(epoch, -1).permutation(len(self.image_ids))
        of_step = self._global_step_images - self._pseudo_of_step
        steps = [order[start : start + of_step] for start in range(0, len(order), of_step)]
        if not self._pseudo_of_step:
            return steps
        rng = np.random.default_rng((self._config.seed, epoch, 0, 2))  # a stream of its own
        pseudo = rng.permutation(np.arange(len(order), len(self._images)))
        added = np.resize(pseudo, (len(steps), self._pseudo_of_step))  # repeats them if they are too few
        # shuffled, as a step may take several batches
        return [rng.permutation(np.concatenate(both)) for both in zip(steps, added, strict=True)]

    def _crops_at(self, share_done: float) -> Crops:
        """Crops at half resolution first (`half_size_share`), whole images last (`whole_image_share`), else crops."""
        if schedule.is_half_size(self._config, share_done):
            return dataclasses.replace(self._crops(2 * STRIDE), halved=True)
        return self._crops(STRIDE) if share_done < 1 - self._config.whole_image_share else self._whole()

    def _whole(self) -> Crops:
        crops, (height, width) = self._crops(STRIDE), (crop_side(side) for side in self._largest)
        batch_px = self.at_once * crops.height * max(crops.widths)
        return Crops(height=height, widths=(width,), batch_size=max(1, batch_px // (height * width)))

    def _crops(self, multiple: int) -> Crops:
        height, width = self._largest
        return Crops(
            height=crop_side(min(height, self._config.crop_height_px), multiple),
            widths=tuple(crop_side(min(width, widest), multiple) for widest in self._config.crop_widths_px),
            batch_size=self.at_once,
        )

    def _rng(self, epoch: int, position: int) -> np.random.Generator:
        return np.random.default_rng((self._config.seed, epoch, position + 1))

    def _batch(self, epoch: int, start: int, step: NDArray[np.int64], first: int, crops: Crops) -> Batch:
        """The batch that begins with image `first` of a step; the epoch has `start` images before the step."""
        end = min(first + crops.batch_size * self._world, len(step))
        positions = list(range(first + self._rank, end, self._world))
        counted = len(positions)
        positions = positions or [first]  # the other devices would wait for ever for one without a batch
        chunk = step[positions]
        # one width for all batches of a step, from a stream of its own
        width = np.random.default_rng((self._config.seed, epoch, start, 1)).choice(crops.widths)
        images = np.empty((len(chunk), 1, crops.height, width), np.uint8)
        masks = np.zeros((len(chunk), self.classes, crops.height, width), np.uint8)
        changes = []
        for row, (position, number) in enumerate(zip(positions, chunk, strict=True)):
            rng = self._rng(epoch, start + position)
            changes.append(augmentation.draw(rng, self._config))
            self._cut(rng, number, changes[-1], images[row, 0], masks[row])
            if rng.random() < self._config.paste_share:
                self._donors.paste(rng, images[row, 0], masks[row])
        return Batch(
            image_ids=tuple(self._images[number][0] for number in chunk[:counted]),
            images=images,
            masks=masks,
            changes=augmentation.Changes.of(changes),
            halved=crops.halved,
            loss_weight=counted * self._world / len(step),
            ends_step=end == len(step),
        )

    def _cut(
        self,
        rng: np.random.Generator,
        number: int,
        change: augmentation.Change,
        image_out: NDArray[np.uint8],
        masks_out: NDArray[np.uint8],
    ) -> None:
        """Write one crop of an image, flipped, and its masks into the rows of a batch."""
        image_id, cache, position = self._images[number]
        image = cache[position]
        height, width = image.shape
        present = [channel for channel in range(self.classes) if (image_id, channel) in self._masks]
        crop = crop_height, crop_width = image_out.shape
        y, x = self._corner(rng, image_id, present, (height, width), crop)
        bottom, right = min(y + crop_height, height), min(x + crop_width, width)
        rows = slice(None, None, -1 if change.flip_rows else 1)
        columns = slice(None, None, -1 if change.flip_columns else 1)
        image_out[:] = _fill(image[y:bottom, x:right], crop)[rows, columns]
        for channel in present:
            strip = rle.decode(self._masks[image_id, channel], (height, width), columns=(x, right))
            masks_out[channel] = _fill(strip[y:bottom].view(np.uint8), crop)[rows, columns]

    def _corner(
        self,
        rng: np.random.Generator,
        image_id: str,
        present: list[int],
        size: tuple[int, int],
        crop: tuple[int, int],
    ) -> tuple[int, int]:
        """Top left corner of a crop: with probability `defect_share` the crop contains a defect pixel, else uniform."""
        room = [max(0, size[axis] - crop[axis]) for axis in range(2)]
        corner = [int(rng.integers(0, space + 1)) for space in room]
        over_defect, which = rng.random(2)
        if present and any(room) and over_defect < self._config.defect_share:
            runs = self._masks[image_id, present[int(which * len(present))]]
            run = runs[int(rng.integers(len(runs)))]
            pixel = int(run[0] + rng.integers(run[1]))
            x, y = divmod(pixel, size[0])
            for axis, at in enumerate((y, x)):
                offset = int(rng.integers(crop[axis]))
                corner[axis] = min(max(at - offset, 0), room[axis])
        return corner[0], corner[1]


def _fill(pixels: NDArray[np.uint8], crop: tuple[int, int]) -> NDArray[np.uint8]:
    """`pixels`, padded by reflection at the bottom and at the right if the image is smaller than the crop."""
    down, right = crop[0] - pixels.shape[0], crop[1] - pixels.shape[1]
    if down or right:
        return cv2.copyMakeBorder(pixels, 0, down, 0, right, cv2.BORDER_REFLECT_101)  # type: ignore[return-value]
    return pixels
