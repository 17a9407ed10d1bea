"""What an epoch is judged by: the competition's Dice on the whole images that the training does not see."""

from collections.abc import Sequence
from os import cpu_count

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from severstal_cli.learning.device import gather, half_type
from severstal_cli.learning.finite import NotFiniteError
from severstal_cli.learning.inference import engines, level_maps
from severstal_cli.learning.precision import Careful, Verdicts, share_verdicts
from severstal_cli.learning.runs.model_card import ModelCard
from severstal_cli.parallel import map_in_order
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.dataset.data_folder import DataFolder
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.scoring import dice


class Validation:
    """The competition's Dice of a network at threshold 0.5, in the mode of prediction."""

    def __init__(
        self,
        data_folder: DataFolder,
        image_ids: Sequence[str],
        card: ModelCard,
        batch_size: int,
        verdicts: Verdicts | None = None,
        progress: Progress = SILENT,
    ) -> None:
        """`verdicts`: of the sizes that were tried before; those that are tried now are added to it."""
        self.image_ids = tuple(image_ids)
        self._verdicts: Verdicts = {} if verdicts is None else verdicts
        self._progress = progress
        self._photographs, self._card, self._batch_size = data_folder, card, batch_size
        # the mean leaves out channels between class ids that no annotation names
        self._counted = [class_id - 1 for class_id in data_folder.class_ids]
        self._present = np.array(
            [[(image_id, channel) in data_folder.masks for channel in self._counted] for image_id in image_ids]
        )

    @property
    def nothing_dice(self) -> float | None:
        """What predicting nothing scores; None without images."""
        return float(1 - self._present.mean()) if self.image_ids else None

    def score(self, network: nn.Module, fabric: Fabric) -> tuple[float, float | None] | None:
        """Mean Dice over all pairs, and over those with a true mask (None without any); None without images.

        Devices share the images, and each has the scores of all in the end. They must have the same `network`.
        Raises SeverstalError: the network gives an image numbers that are not finite.
        """
        if not self.image_ids:
            return None
        card, cache, masks = self._card, self._photographs.cache, self._photographs.masks
        plain = engines.Member(network, card.mean, card.std)
        member: engines.Probs = plain
        if half_type(fabric) is not None:
            member = Careful(plain, lambda: plain, fabric, name="validation", emulated=plain,
                             verdicts=self._verdicts, progress=self._progress)  # fmt: skip
        mine = self.image_ids[fabric.global_rank :: fabric.world_size]
        pixels = (cache[cache.index[image_id]] for image_id in mine)
        rules = [postprocess.ClassPostprocess()] * card.classes

        def scores_of(found: tuple[str, NDArray[np.uint8]]) -> list[float]:
            image_id, levels = found
            runs = postprocess.masks_to_runs(levels, rules)
            return [dice.dice(runs[at], masks.get((image_id, at), rle.EMPTY)) for at in self._counted]

        levels_of = level_maps.predict_levels(
            [member], pixels, fabric, batch_size=self._batch_size, exclusive=card.exclusive
        )
        found = map_in_order(scores_of, zip(mine, levels_of, strict=True), ahead=2 * (cpu_count() or 1), name="masks")
        try:
            own_scores = np.array(list(found)).reshape(len(mine), len(self._counted))
        except NotFiniteError as error:
            raise error.of("the network", f"{mine[error.number]} in validation",
                           "Lower the learning rate; the last whole epoch is kept") from None  # fmt: skip
        share_verdicts(self._verdicts, fabric)
        scores = np.empty(self._present.shape)
        for rank, rows in enumerate(gather(own_scores.tolist(), fabric)):
            scores[rank :: fabric.world_size] = np.array(rows).reshape(-1, len(self._counted))
        present = scores[self._present]
        return float(scores.mean()), float(present.mean()) if present.size else None
