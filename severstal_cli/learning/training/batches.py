"""Batches to train on: pieces cut from the memory map, their masks rasterised from the run lengths of that piece only.

An image of epoch `e` at position `p` depends on (seed, e, p) and on nothing before it, so a training that was
interrupted goes on with the very pieces it would have had. A step of the optimiser may take several batches. With
pseudo labels each step has some of their images beside the annotated ones.

Of several devices each takes every so many-th image of a batch, so where an image stands, and with it its piece, does
not depend on how many there are. All devices have equally many batches, as they wait for each other at each step.
"""

import copy
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from severstal_cli.config import TrainConfig
from severstal_cli.learning.networks.registry import STRIDE
from severstal_cli.learning.training import augmentation, schedule
from severstal_cli.learning.training.copy_paste import Donors
from severstal_cli.steel.dataset.data_folder import DataFolder
from severstal_cli.steel.dataset.pseudo_labels import PseudoLabels
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle

BLACK = 12
"""The brightest grey of an end where the strip has stopped."""

THREADS = max(1, (os.cpu_count() or 1) // 4)
"""They prepare batches, one each: a few beside a GPU, one where the network computes on the same few cores."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """`images: (N, 1, h, w) uint8`, `masks: (N, C, h, w) uint8`, 0 or 1; `changes` are left to do on the device."""

    image_ids: tuple[str, ...]
    """Empty where the images were too few for all devices: then `images` has one of another device, of weight 0."""
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    changes: augmentation.Changes
    halved: bool
    """The device is to halve both sides first."""
    loss_weight: float
    """Weight of its mean loss: its share of the step's images, times the devices, as these average gradients."""
    ends_step: bool


@dataclass(frozen=True, kw_only=True)
class _Pieces:
    """What an epoch trains on: pieces of `height` by one of `widths`, so many at once."""

    height: int
    widths: tuple[int, ...]
    at_once: int
    halved: bool = False


def _piece_side(side_px: int, multiple: int = STRIDE) -> int:
    """The side as a multiple, of `STRIDE` at least: a little less than it is, or else grown by reflection.

    Less is better, as it costs less and shifts the piece at random, unless too much of the image would be left out.
    """
    below = side_px // multiple * multiple
    return below if side_px - below <= side_px / 8 else below + multiple


class TrainingSet:
    """The images of some parts of the split, as batches of equally large pieces."""

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
        """`rank`: which one of `world` devices the batches are for."""
        if not image_ids:
            raise ValueError("no images to train on")
        self._rank, self._world = rank, world
        self.image_ids, self.classes = tuple(image_ids), data_folder.classes
        cache, masks = data_folder.cache, data_folder.masks
        self.step_images = config.effective_batch_size
        """Of one device."""
        self._global_step_images = world * self.step_images
        self.at_once = config.batch_size or self.step_images
        """Pieces of a batch but where a step has fewer; may be lowered before the first one."""
        self._masks, self._config = dict(masks), config
        self._photographs = [(image_id, cache, cache.index[image_id]) for image_id in image_ids]
        self._pseudo_of_step = 0
        if pseudo is not None:  # its names are others, so one mapping holds all masks
            self._masks |= pseudo.masks
            self._photographs += [(name, pseudo.cache, pseudo.cache.index[name]) for name in pseudo.image_ids]
            wanted = round(self._global_step_images * config.pseudo_share)
            self._pseudo_of_step = min(max(wanted, 1), self._global_step_images - 1)
        self._donors = Donors(cache, image_ids, masks, self.classes)
        sizes = np.array([cache.sizes[cache.index[image_id]] for image_id in image_ids])
        self._largest = int(sizes[:, 0].max()), int(sizes[:, 1].max())

    @property
    def piece(self) -> tuple[int, int]:
        """(height, width) of the largest pieces but for whole images."""
        pieces = self._crops(STRIDE)
        return pieces.height, max(pieces.widths)

    def __len__(self) -> int:
        """Steps an epoch. The last one may have fewer images."""
        return math.ceil(len(self.image_ids) / (self._global_step_images - self._pseudo_of_step))

    @property
    def epoch_images(self) -> int:
        """Images of a whole epoch on all devices, those of pseudo labels included."""
        return len(self.image_ids) + len(self) * self._pseudo_of_step

    @property
    def largest_batch(self) -> tuple[int, int, int]:
        """(images, height, width) of the batches with the most pixels."""
        stages = [self._crops(STRIDE), *([self._whole()] if self._config.whole_image_share else [])]
        shapes = [(min(stage.at_once, self.step_images), stage.height, max(stage.widths)) for stage in stages]
        return max(shapes, key=math.prod)

    def batches(self, epoch: int, share_done: float = 0.0) -> Iterator[Batch]:
        """The batches of an epoch for this device, each annotated image on one of them; prepared ahead in threads.

        `share_done`: how much of the whole training is done as the epoch begins, which decides on what it trains.
        """
        pieces = self._pieces(share_done)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="batches") as pool:
            waiting: list[Future[Batch]] = []
            try:
                for number, step in enumerate(self._steps(epoch)):
                    start = number * self._global_step_images
                    for first in range(0, len(step), pieces.at_once * self._world):
                        waiting.append(pool.submit(self._batch, epoch, start, step, first, pieces))
                        if len(waiting) > THREADS + 1:
                            yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def trials(self) -> Iterator[Batch]:
        """A batch of each size that the training may have on any device, of images of the first epoch.

        The same on all devices.
        """
        alone = copy.copy(self)
        alone._rank, alone._world = 0, 1
        half, whole = self._config.half_size_share, self._config.whole_image_share
        stages = [self._pieces(0.0)] if half else []
        stages += [self._crops(STRIDE)] if half + whole < 1 else []
        stages += [self._whole()] if whole else []
        steps = self._steps(0)
        for stage in stages:
            most = stage.at_once * self._world
            ends = {(first, min(first + most, size)) for size in {len(step) for step in steps}
                    for first in range(0, size, most)}  # fmt: skip
            counts = {max(1, len(range(first + rank, end, self._world)))
                      for first, end in ends for rank in range(self._world)}  # fmt: skip
            longest = max(steps, key=len)
            for count in sorted(counts, reverse=True):
                for width in stage.widths:
                    pieces = dataclasses.replace(stage, widths=(width,), at_once=count)
                    yield alone._batch(0, 0, longest[:count], 0, pieces)

    def _steps(self, epoch: int) -> list[NDArray[np.int64]]:
        """The images of each step, as positions in `_photographs`: the annotated ones stand first there."""
        order = self._rng(epoch, -1).permutation(len(self.image_ids))
        of_step = self._global_step_images - self._pseudo_of_step
        steps = [order[start : start + of_step] for start in range(0, len(order), of_step)]
        if not self._pseudo_of_step:
            return steps
        rng = np.random.default_rng((self._config.seed, epoch, 0, 2))  # a stream of its own
        pseudo = rng.permutation(np.arange(len(order), len(self._photographs)))
        drawn = np.resize(pseudo, (len(steps), self._pseudo_of_step))  # begins anew where they are too few
        # mixed, as a step may take several batches
        return [rng.permutation(np.concatenate(both)) for both in zip(steps, drawn, strict=True)]

    def _pieces(self, share_done: float) -> _Pieces:
        """Half-size pieces first, whole images last, pieces at full size between: in the shares of the settings."""
        if schedule.is_half_size(self._config, share_done):
            return dataclasses.replace(self._crops(2 * STRIDE), halved=True)
        return self._crops(STRIDE) if share_done < 1 - self._config.whole_image_share else self._whole()

    def _whole(self) -> _Pieces:
        crops, (height, width) = self._crops(STRIDE), (_piece_side(side) for side in self._largest)
        of_batch = self.at_once * crops.height * max(crops.widths)
        return _Pieces(height=height, widths=(width,), at_once=max(1, of_batch // (height * width)))

    def _crops(self, multiple: int) -> _Pieces:
        height, width = self._largest
        return _Pieces(
            height=_piece_side(min(height, self._config.crop_height_px), multiple),
            widths=tuple(_piece_side(min(width, widest), multiple) for widest in self._config.crop_widths_px),
            at_once=self.at_once,
        )

    def _rng(self, epoch: int, position: int) -> np.random.Generator:
        return np.random.default_rng((self._config.seed, epoch, position + 1))

    def _batch(self, epoch: int, start: int, step: NDArray[np.int64], first: int, pieces: _Pieces) -> Batch:
        """The images of a step from its `first` one on, as many as are taken at once; `start` images came before."""
        end = min(first + pieces.at_once * self._world, len(step))
        places = list(range(first + self._rank, end, self._world))
        counted = len(places)
        places = places or [first]  # a device without a batch would keep the others waiting
        chunk = step[places]
        # one width for all batches of a step, from a stream of its own
        width = np.random.default_rng((self._config.seed, epoch, start, 1)).choice(pieces.widths)
        images = np.empty((len(chunk), 1, pieces.height, width), np.uint8)
        masks = np.zeros((len(chunk), self.classes, pieces.height, width), np.uint8)
        changes = []
        for row, (place, number) in enumerate(zip(places, chunk, strict=True)):
            rng = self._rng(epoch, start + place)
            changes.append(augmentation.draw(rng, self._config))
            self._cut(rng, number, changes[-1], images[row, 0], masks[row])
            self._add(rng, images[row, 0], masks[row])
        return Batch(
            image_ids=tuple(self._photographs[number][0] for number in chunk[:counted]),
            images=images,
            masks=masks,
            changes=augmentation.Changes.of(changes),
            halved=pieces.halved,
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
        """Write one piece of an image, flipped, and its masks into the rows of a batch."""
        image_id, cache, position = self._photographs[number]
        image = cache[position]
        height, width = image.shape
        present = [channel for channel in range(self.classes) if (image_id, channel) in self._masks]
        piece = piece_height, piece_width = image_out.shape
        y, x = self._corner(rng, image_id, present, (height, width), piece)
        bottom, right = min(y + piece_height, height), min(x + piece_width, width)
        rows = slice(None, None, -1 if change.flip_rows else 1)
        columns = slice(None, None, -1 if change.flip_columns else 1)
        image_out[:] = _fill(image[y:bottom, x:right], piece)[rows, columns]
        for channel in present:
            strip = rle.decode(self._masks[image_id, channel], (height, width), columns=(x, right))
            masks_out[channel] = _fill(strip[y:bottom].view(np.uint8), piece)[rows, columns]

    def _add(self, rng: np.random.Generator, image: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        """Paste a defect, or black out an end as where the strip stops, in the shares that the settings give."""
        paste, end, side = rng.random(3)
        if paste < self._config.paste_share:
            self._donors.paste(rng, image, masks)
        if end < self._config.black_end_share:
            width = int(rng.integers(1, image.shape[1] // 2))
            columns = slice(0, width) if side < 0.5 else slice(image.shape[1] - width, None)
            image[:, columns] = rng.integers(0, BLACK + 1)
            masks[:, :, columns] = 0

    def _corner(
        self,
        rng: np.random.Generator,
        image_id: str,
        present: list[int],
        size: tuple[int, int],
        piece: tuple[int, int],
    ) -> tuple[int, int]:
        """Top left of the piece: laid over a pixel of a defect for a share of the pieces, else anywhere."""
        room = [max(0, size[axis] - piece[axis]) for axis in range(2)]
        corner = [int(rng.integers(0, space + 1)) for space in room]
        over_defect, which = rng.random(2)
        if present and any(room) and over_defect < self._config.defect_share:
            runs = self._masks[image_id, present[int(which * len(present))]]
            run = runs[int(rng.integers(len(runs)))]
            pixel = int(run[0] + rng.integers(run[1]))
            x, y = divmod(pixel, size[0])
            for axis, at in enumerate((y, x)):
                offset = int(rng.integers(piece[axis]))
                corner[axis] = min(max(at - offset, 0), room[axis])
        return corner[0], corner[1]


def _fill(part: NDArray[np.uint8], piece: tuple[int, int]) -> NDArray[np.uint8]:
    """`part`, grown by reflection at the bottom and at the right where the image is smaller than a piece."""
    down, right = piece[0] - part.shape[0], piece[1] - part.shape[1]
    if down or right:
        return cv2.copyMakeBorder(part, 0, down, 0, right, cv2.BORDER_REFLECT_101)  # type: ignore[return-value]
    return part
