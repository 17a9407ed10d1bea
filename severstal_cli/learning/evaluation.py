"""A run on a part of its own data: the fold it did not train on, or the holdout that nothing else reads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from severstal_cli.errors import InputError, RunError
from severstal_cli.learning import engines, inference, run
from severstal_cli.learning.device import open_device
from severstal_cli.progress import Progress
from severstal_cli.steel import splits
from severstal_cli.steel.photographs import Photographs, open_photographs


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images that no run of `folders` was trained on, and what is true of them."""

    folders: tuple[Path, ...]
    cards: tuple[run.ModelCard, ...]
    photographs: Photographs
    image_ids: tuple[str, ...]

    def levels(self, *, views: str, batch_size: int, progress: Progress) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """`(image_id, levels (C, H, W))` of each image: the mean of the runs over the views."""
        fabric = open_device()
        members = engines.load_members(self.folders, self.cards, fabric)
        cache = self.photographs.cache
        pixels = (cache[cache.index[image_id]] for image_id in self.image_ids)
        levels_of = inference.predict_levels(members, pixels, fabric, views=views, batch_size=batch_size)
        with progress.bar("predicting", len(self.image_ids), "images") as bar:
            for image_id, levels in zip(self.image_ids, levels_of, strict=True):
                yield image_id, levels
                bar.advance()


def open_validation(folders: Sequence[Path], data: Path | None, progress: Progress) -> Part:
    """The fold that all of these runs left out. Raises InputError when it is not one and the same."""
    return _open(folders, data, progress, _common_fold)


def open_holdout(folders: Sequence[Path], data: Path | None, progress: Progress) -> Part:
    """The holdout of the split that these runs were trained with."""
    return _open(folders, data, progress, lambda *_: splits.HOLDOUT)


def _open(
    folders: Sequence[Path],
    data: Path | None,
    progress: Progress,
    part_of: Callable[[Sequence[Path], Sequence[run.ModelCard]], str],
) -> Part:
    cards = run.read_cards(folders)
    part = part_of(folders, cards)
    photographs = open_photographs(data or Path(cards[0].data), progress)
    split = splits.read_splits(splits.splits_path(photographs.folder), photographs.cache.index)
    for folder, card in zip(folders, cards, strict=True):
        for kind, own, here in (
            ("data", card.data_fingerprint, photographs.fingerprint),
            ("split", card.split_fingerprint, split.fingerprint),
        ):
            if own != here:
                raise RunError(f"{folder} was trained with another {kind} than that of {photographs.folder}",
                               f"{kind} {own}, here {here}", "Restore it, or train again")  # fmt: skip
    image_ids = split.ids_of(part)
    if not image_ids:
        raise InputError(f"{photographs.folder} has no images to score", f"its split has no {part}",
                         "Split with --holdout above 0, and train again")  # fmt: skip
    return Part(folders=tuple(folders), cards=tuple(cards), photographs=photographs, image_ids=tuple(image_ids))


def _common_fold(folders: Sequence[Path], cards: Sequence[run.ModelCard]) -> str:
    for folder, card in zip(folders, cards, strict=True):
        if card.fold is None:
            raise InputError(f"{folder} was trained on every image", "none is left to search thresholds on",
                             "Take the thresholds of a run with a fold: predict --thresholds FILE")  # fmt: skip
        if card.fold != cards[0].fold:
            found = f"{folders[0]}: {cards[0].fold}, {folder}: {card.fold}"
            raise InputError("the runs left out different folds", found, "Give runs of one fold")
    return str(cards[0].fold)
