"""Validation of an epoch: the competition's Dice on the whole images of the validation fold."""

from collections.abc import Sequence
from os import cpu_count

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from severstal_cli.learning.device import gather, half_type
from severstal_cli.learning.finite import NotFiniteError
from severstal_cli.learning.inference import engines, level_maps, runtimes
from severstal_cli.learning.precision import Agreement, CheckedHalf, share_agreement
from severstal_cli.learning.runs.model_card import ModelCard
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset.data_folder import DataFolder
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.scoring import dice


class Validation:
    """The competition's Dice of a network at threshold 0.5, in evaluation mode."""

    def __init__(
        self,
        data_folder: DataFolder,
        image_ids: Sequence[str],
        card: ModelCard,
        batch_size: int,
        agreement: Agreement | None = None,
        progress: Progress = SILENT,
    ) -> None:
        """`agreement`: batch sizes whose half precision was checked before; new checks are added."""
        self.image_ids = tuple(image_ids)
        self._agreement: Agreement = {} if agreement is None else agreement
        self._progress = progress
        self._data_folder, self._card, self._batch_size = data_folder, card, batch_size
        # the mean skips channels of class ids without annotations
        self._counted = [class_id - 1 for class_id in data_folder.class_ids]
        self._present = np.array(
            [[(image_id, channel) in data_folder.masks for channel in self._counted] for image_id in image_ids]
        )

    @property
    def nothing_dice(self) -> float | None:
        """The Dice of empty predictions; None without images."""
        return float(1 - self._present.mean()) if self.image_ids else None

    def score(self, network: nn.Module, fabric: Fabric) -> tuple[float, float | None] | None:
        """Mean Dice over all (image, class) pairs, and over pairs with a ground-truth mask (None if there are none).

        None without images. The devices share the images and return the same scores; they need the same `network`.
        Raises SeverstalError: the probs of an image are not finite.
        """
        if not self.image_ids:
            return None
        card, cache, masks = self._card, self._data_folder.cache, self._data_folder.masks
        plain = engines.Member(network, card.mean, card.std)
        member: runtimes.Probs = plain
        if half_type(fabric) is not None:
            member = CheckedHalf(
                plain,
                lambda: plain,
                fabric,
                name="validation",
                emulated=plain,
                agreement=self._agreement,
                progress=self._progress,
            )
        mine = self.image_ids[fabric.global_rank :: fabric.world_size]
        pixels = (cache[cache.index[image_id]] for image_id in mine)
        rules = [postprocess.ClassPostprocess()] * card.classes

        def scores_of(item: tuple[str, NDArray[np.uint8]]) -> list[float]:
            image_id, levels = item
            rles = postprocess.levels_to_rle(levels, rules)
            return [dice.dice(rles[at], masks.get((image_id, at), rle.EMPTY)) for at in self._counted]

        levels_of = level_maps.predict_levels(
            [member], pixels, fabric, batch_size=self._batch_size, exclusive=card.exclusive
        )
        scored = map_in_order(scores_of, zip(mine, levels_of, strict=True), ahead=2 * (cpu_count() or 1), name="masks")
        try:
            own_scores = np.array(list(scored)).reshape(len(mine), len(self._counted))
        except NotFiniteError as error:
            raise error.of(
                "the network",
                f"{mine[error.number]} in validation",
                "Lower the learning rate; the last whole epoch is kept",
            ) from None
        share_agreement(self._agreement, fabric)
        scores = np.empty(self._present.shape)
        for rank, rows in enumerate(gather(own_scores.tolist(), fabric)):
            scores[rank :: fabric.world_size] = np.array(rows).reshape(-1, len(self._counted))
        present = scores[self._present]
        return float(scores.mean()), float(present.mean()) if present.size else None
