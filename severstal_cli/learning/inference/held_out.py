"""Out-of-fold and holdout predictions: each run predicts only images of its data that it was not trained on.

Runs with different validation folds are pooled: the images of a fold are predicted by the runs that validated on it,
as all others trained on them. So five runs of a 5-fold cross-validation together predict every image once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from severstal_cli.config.checks import check_weights
from severstal_cli.errors import InputError, RunError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.finite import NotFiniteError
from severstal_cli.learning.inference import engines, level_maps
from severstal_cli.learning.inference.runtimes import Probs
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.progress import Progress
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.data_folder import DataFolder, open_data_folder
from severstal_cli.steel.images.decoding import FULL_DEPTH


@dataclass(frozen=True, kw_only=True)
class Share:
    """The images of one fold or of the holdout, and the runs that predict them."""

    part: str
    """The fold's number, or `HOLDOUT`."""
    members: tuple[int, ...]
    """Indices of the runs."""
    image_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Images that none of their predicting runs was trained on, with the data folder that holds their ground truth."""

    folders: tuple[Path, ...]
    cards: tuple[model_card.ModelCard, ...]
    weights: tuple[float, ...]
    """Ensemble weight of each run."""
    data_folder: DataFolder
    split: splits.Split
    shares: tuple[Share, ...]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """All images, in order of prediction."""
        return tuple(image_id for share in self.shares for image_id in share.image_ids)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of the data as it is now, else of the runs; () without any."""
        return self.data_folder.class_names or model_card.class_names_of(self.cards)

    def levels(
        self,
        *,
        views: str,
        exclusive: bool,
        batch_size: int,
        progress: Progress,
        members: Sequence[Probs] | None = None,
    ) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """`(image_id, levels (C, H, W))` of each image: the weighted mean of its runs over all TTA views.

        exclusive: one class per pixel, as in `level_maps.predict_levels`. members: other networks of the runs, if there
        is one share; by default those of their files.
        """
        fabric = open_device()
        with progress.bar("predicting", len(self.image_ids), "images") as bar:
            for share in self.shares:
                for item in self._levels_of(share, fabric, views, exclusive, batch_size, progress, members):
                    yield item
                    bar.advance()

    def _levels_of(
        self,
        share: Share,
        fabric: Fabric,
        views: str,
        exclusive: bool,
        batch_size: int,
        progress: Progress,
        members: Sequence[Probs] | None,
    ) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """`levels` of one share. Its runs are in memory only while this generator is open."""
        folders = [self.folders[member] for member in share.members]
        cards = [self.cards[member] for member in share.members]
        weights = [self.weights[member] for member in share.members]
        if members is None:
            members = engines.load_members(folders, cards, fabric, progress=progress)
        cache = self.data_folder.cache
        pixels = (cache[cache.index[image_id]] for image_id in share.image_ids)
        levels_of = level_maps.predict_levels(
            members, pixels, fabric, views=views, batch_size=batch_size, weights=weights, exclusive=exclusive
        )
        try:
            yield from zip(share.image_ids, levels_of, strict=True)
        except NotFiniteError as error:
            raise error.of(folders[error.member], share.image_ids[error.number]) from None


def open_validation(
    folders: Sequence[Path], data: Path | None, progress: Progress, weights: Sequence[float] = ()
) -> Subset:
    """The validation folds of these runs. `weights`: one per run; empty for equal weights.

    Raises:
        InputError: a run has no validation fold, a run is named twice, or runs or weights do not match.
        RunError: a run is incomplete, or its data or split has changed since its training.
    """
    cards = run_folder.read_cards(folders)
    for folder, card in zip(folders, cards, strict=True):
        if card.fold is None:
            raise InputError(
                f"{folder} was trained on every image",
                "none is left to search thresholds on",
                "Take the thresholds of a run with a fold: predict --thresholds FILE",
            )
    subset = _open(folders, cards, [(str(card.fold),) for card in cards], data, progress, weights)
    if len(folders) > 1:
        progress.log(_pooling_line(subset))
    return subset


def open_holdout(
    folders: Sequence[Path], data: Path | None, progress: Progress, weights: Sequence[float] = ()
) -> Subset:
    """The holdout of the split that these runs were trained with. `weights` and errors as of `open_validation`."""
    cards = run_folder.read_cards(folders)
    return _open(folders, cards, [(splits.HOLDOUT,)] * len(cards), data, progress, weights)


def open_unseen(folders: Sequence[Path], data: Path | None, progress: Progress) -> Subset:
    """Every image that one of these runs was not trained on: their validation folds, and the holdout, by all of them.

    Raises:
        InputError: a run was trained on every image, a run is named twice, or runs do not match.
        RunError: a run is incomplete, or its data or split has changed since its training.
    """
    cards = run_folder.read_cards(folders)
    known = splits.split_in(data or Path(cards[0].data))
    holdout = (splits.HOLDOUT,) if known is None or splits.HOLDOUT in known.subset_names() else ()
    left_out = [((str(card.fold),) if card.fold is not None else ()) + holdout for card in cards]
    for folder, parts in zip(folders, left_out, strict=True):
        if not parts:
            raise InputError(
                f"{folder} was trained on every image",
                "it cannot judge annotations that it learnt",
                "Give runs with a fold, as of train --fold all",
            )
    subset = _open(folders, cards, left_out, data, progress, ())
    progress.log(_pooling_line(subset, for_thresholds=False))
    return subset


def _open(
    folders: Sequence[Path],
    cards: Sequence[model_card.ModelCard],
    left_out: Sequence[tuple[str, ...]],
    data: Path | None,
    progress: Progress,
    weights: Sequence[float],
) -> Subset:
    """`left_out`: the subsets that each run predicts: its fold, or `HOLDOUT`."""
    check_weights(weights, len(folders))
    data_folder = open_data_folder(data or Path(cards[0].data), progress)
    split = splits.read_splits(splits.splits_path(data_folder.folder), data_folder.cache.index)
    for folder, card in zip(folders, cards, strict=True):
        for kind, trained, current in (
            ("data", card.data_fingerprint, data_folder.fingerprint),
            ("split", card.split_fingerprint, split.fingerprint),
        ):
            if trained != current:
                raise RunError(
                    f"{folder} was trained with another {kind} than that of {data_folder.folder}",
                    f"{kind} {trained}, now {current}",
                    "Restore it, or train again",
                )
        _check_pixels(folder, card, data_folder, progress)
    missing = sorted(set().union(*left_out) - set(split.subset_names()))
    if missing:
        raise InputError(
            f"{data_folder.folder} has no images to score",
            f"its split has no {missing[0]}",
            "Split with --holdout above 0, and train again",
        )
    weights = tuple(weights) or (1.0,) * len(cards)
    members_of: dict[str, list[int]] = {part: [] for part in split.subset_names()}
    for number, (parts, weight) in enumerate(zip(left_out, weights, strict=True)):
        for part in parts if weight > 0 else ():  # a fold that only runs of weight 0 validated on is not predicted
            members_of[part].append(number)
    shares = tuple(
        Share(part=part, members=tuple(members), image_ids=tuple(split.ids_of(part)))
        for part, members in members_of.items()
        if members
    )
    return Subset(
        folders=tuple(folders),
        cards=tuple(cards),
        weights=weights,
        data_folder=data_folder,
        split=split,
        shares=shares,
    )


def _check_pixels(folder: Path, card: model_card.ModelCard, data_folder: DataFolder, progress: Progress) -> None:
    """Check that the pixels are those that a run was trained on. Raises RunError."""
    cache = data_folder.cache
    if card.pixels_fingerprint is None:
        if cache.bits not in (None, FULL_DEPTH):
            raise RunError(
                f"{folder} was trained by an earlier version, which read 16-bit images too dark",
                f"those of {data_folder.folder} use {cache.bits} bits",
                "Train again",
            )
        progress.log(
            f"{folder} was trained by an earlier version, so changes of the pixels of {data_folder.folder} "
            "since then cannot be detected"
        )
    elif card.pixels_fingerprint != cache.pixels_fingerprint:
        raise RunError(
            f"the images of {data_folder.folder} have changed since {folder} was trained",
            f"pixels {card.pixels_fingerprint}, now {cache.pixels_fingerprint}",
            "Restore them, or train again",
        )


def batches_ahead() -> int:
    """How many batches `Subset.levels` may predict before their levels are used: none on a CPU."""
    return 2 * level_maps.AHEAD if open_device().device.type == "cuda" else 0


def _pooling_line(subset: Subset, *, for_thresholds: bool = True) -> str:
    """One line with the runs that predict each fold."""
    folds = [
        f"{'' if share.part == splits.HOLDOUT else 'fold '}{share.part}, {len(share.image_ids):,} images: "
        + " + ".join(f"{subset.weights[member]:g} x {subset.folders[member]}" for member in share.members)
        for share in subset.shares
    ]
    if for_thresholds and len(subset.shares) > 1:
        folds.append(
            "note: thresholds are tuned on out-of-fold predictions, i.e. fewer models per image than `predict` averages"
        )
    return "; ".join(folds)
