"""What predicts, for `predict` and `submit`: runs to average, their weights, the views, and the rules behind them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from severstal_cli.errors import InputError
from severstal_cli.learning import run, tta


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Runs that go together, and how their levels become masks."""

    folders: tuple[Path, ...]
    cards: tuple[run.ModelCard, ...]
    weights: tuple[float, ...]
    """What each run counts in the mean; none: all the same."""
    views: str
    thresholds_path: Path
    thresholds: run.Thresholds

    def notes(self) -> Iterator[str]:
        """What a person should know of it."""
        names = " ".join(map(str, self.folders))
        if len(self.folders) > 1 and self.thresholds_path.parent in self.folders:
            yield (
                f"using {self.thresholds_path}, which was searched for that run alone; for the average search "
                f"`severstal thresholds {names} --out FILE` and pass --thresholds FILE"
            )
        if self.views != self.thresholds.tta:
            yield f"{self.thresholds_path} was searched with --tta {self.thresholds.tta}, this is --tta {self.views}"

    def story(self) -> dict[str, Any]:
        """What a person may want to know later of how a submission was made, as JSON values."""
        return {
            "runs": [
                {"folder": str(folder), "arch": card.arch, "encoder": card.encoder, "fold": card.fold,
                 "validation_dice": card.validation_dice, "data": card.data_fingerprint,
                 "split": card.split_fingerprint}
                for folder, card in zip(self.folders, self.cards, strict=True)
            ],
            "weights": self.weights,
            "tta": self.views,
            "thresholds": str(self.thresholds_path),
            "rules": [rule.to_dict() for rule in self.thresholds.rules],
            "exclusive": self.thresholds.exclusive,
        }  # fmt: skip

    def fingerprints(self) -> dict[str, Any]:
        """All that decides the masks of a photograph, as JSON values."""
        return {
            "runs": [_fingerprint(folder) for folder in self.folders],
            "weights": self.weights,
            "views": self.views,
            "rules": [rule.to_dict() for rule in self.thresholds.rules],
            "exclusive": self.thresholds.exclusive,
        }


def read(
    folders: Sequence[Path], *, thresholds: Path | None = None, views: str | None = None, weights: Sequence[float] = ()
) -> Recipe:
    """Read and check what predicts.

    Args:
        folders: of trained models.
        thresholds: a thresholds.json; by default that of the best validated run.
        views: by default those that the thresholds were searched with.
        weights: one a run, or none.

    Raises:
        InputError: no runs, one twice, or runs, weights or views that do not go together.
        RunError: no run, an incomplete one, or one without thresholds.
    """
    if views is not None:
        tta.views_of(views)
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a run is named twice", " ".join(map(str, folders)), "Name each once")
    cards = tuple(run.read_cards(folders))
    if weights and (len(weights) != len(folders) or min(weights) < 0 or sum(weights) <= 0):
        raise InputError("wrong weights", ", ".join(f"{weight:g}" for weight in weights),
                         f"Give {len(folders)}, one a run, none below 0 and not all 0")  # fmt: skip
    if thresholds is None:
        best = max(range(len(cards)), key=lambda number: run.validation_rank(cards[number]))
        path, rules = folders[best] / run.THRESHOLDS, run.thresholds_of(folders[best], cards[best])
    else:
        path, rules = thresholds, run.read_thresholds(thresholds, classes=cards[0].classes, remedy="Check the path")
    tta.views_of(rules.tta)
    return Recipe(folders=tuple(folders), cards=cards, weights=tuple(weights), views=views or rules.tta,
                  thresholds_path=path, thresholds=rules)  # fmt: skip


def _fingerprint(folder: Path) -> str:
    """Of a run's weights and card, by their names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("model.*")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
