"""The ensemble that `predict`, `score` and `submit` use: runs to average, their weights, TTA views and thresholds.

Options that are not given take the values of the threshold search.
"""

import hashlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from severstal_cli import files
from severstal_cli.config.checks import check_weights
from severstal_cli.errors import RunError
from severstal_cli.learning.inference import tta
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.runs.listing import best_run, validation_rank
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.progress import SILENT, Progress
from severstal_cli.wording import listed


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Runs to average, and the post-processing of their levels."""

    folders: tuple[Path, ...]
    cards: tuple[model_card.ModelCard, ...]
    weights: tuple[float, ...]
    """Ensemble weight of each run; empty: equal weights."""
    views: str
    thresholds_path: Path
    thresholds: Thresholds

    def notes(self) -> Iterator[str]:
        """Log lines for differences between this ensemble and the threshold search."""
        path, names = self.thresholds_path, " ".join(map(str, self.folders))
        named = [(folder, card.class_names) for folder, card in zip(self.folders, self.cards, strict=True)]
        named = [(folder, class_names) for folder, class_names in named if class_names]
        for folder, other in named[1:]:
            if other != named[0][1]:
                first, first_names = named[0]
                yield f"warning: {first} names its classes {listed(first_names)}, {folder} names them {listed(other)}"
        searched = self.thresholds.weights_for(self.folders)
        if searched is not None:
            if _uneven(searched) != self.weights:
                yield f"{path} was searched with {_shown(_uneven(searched))}, this is with {_shown(self.weights)}"
        elif path.parent in self.folders and len(self.thresholds.runs) < 2:
            if len(self.folders) > 1:
                yield (
                    f"using {path}, which was searched for that run alone; for the average search "
                    f"`severstal thresholds {shlex.join(map(str, self.folders))} --out FILE` and pass --thresholds FILE"
                )
        elif self.thresholds.runs:
            before, now = _uneven(self.thresholds.weights), self.weights
            how, this = ("", "") if before == now else (f" with {_shown(before)}", f" with {_shown(now)}")
            yield f"{path} was searched for {' '.join(self.thresholds.runs)}{how}, this is {names}{this}"
        if self.views != self.thresholds.tta:
            yield f"{path} was searched with --tta {self.thresholds.tta}, this is --tta {self.views}"

    def metadata(self) -> dict[str, Any]:
        """Metadata for the JSON file beside a submission, as JSON values."""
        return {
            "runs": [
                {"folder": str(folder), "arch": card.arch, "encoder": card.encoder, "fold": card.fold,
                 "validation_dice": card.validation_dice, "data": card.data_fingerprint,
                 "split": card.split_fingerprint, "seen": card.seen}
                for folder, card in zip(self.folders, self.cards, strict=True)
            ],
            "weights": self.weights,
            "tta": self.views,
            "thresholds": str(self.thresholds_path),
            "rules": [rule.to_dict() for rule in self.thresholds.rules],
            "exclusive": self.thresholds.exclusive,
        }  # fmt: skip

    def fingerprints(self) -> dict[str, Any]:
        """Everything that the masks of an image depend on, as JSON values."""
        return {
            "runs": [_fingerprint(folder) for folder in self.folders],
            "weights": self.weights,
            "views": self.views,
            "rules": [rule.to_dict() for rule in self.thresholds.rules],
            "exclusive": self.thresholds.exclusive,
        }


def runs_for(
    runs: Sequence[Path], thresholds: Path | None, models: Path, progress: Progress = SILENT
) -> tuple[Path, ...]:
    """The runs that predict: `runs`, else the runs of the file `thresholds`, else the best run in `models`.

    A thresholds file names the runs that it was searched for, by paths relative to the current folder. A file in the
    folder of a single run belongs to that run, even if the folder was moved. Raises RunError: no run, or no thresholds.
    """
    if runs or thresholds is None:
        return tuple(runs) or (best_run(models, progress),)
    searched = run_folder.read_thresholds(thresholds, remedy="Check the path").runs
    if len(searched) < 2 and (thresholds.parent / model_card.CARD).is_file():
        return (thresholds.parent,)
    if missing := [name for name in searched if not Path(name).is_dir()]:
        raise RunError(
            f"{thresholds} was searched for runs that do not exist", ", ".join(missing), "Name them with --model"
        )
    return tuple(map(Path, searched)) or (best_run(models, progress),)


def read(
    folders: Sequence[Path], *, thresholds: Path | None = None, views: str | None = None, weights: Sequence[float] = ()
) -> Ensemble:
    """Read and check an ensemble.

    Args:
        folders: runs.
        thresholds: a thresholds.json; by default that of the best run by `validation_rank`.
        views: TTA views; by default those of the threshold search.
        weights: one per run; by default those of the threshold search, if it was for these runs.

    Raises:
        InputError: no run, the same run twice, other classes, or wrong weights or views.
        RunError: a folder is no run, is incomplete, or has no thresholds.
    """
    if views is not None:
        tta.views_of(views)
    cards = tuple(run_folder.read_cards(folders))
    check_weights(weights, len(folders))
    if thresholds is None:
        best = max(range(len(cards)), key=lambda number: validation_rank(cards[number]))
        path, rules = folders[best] / run_folder.THRESHOLDS, run_folder.thresholds_of(folders[best], cards[best])
    else:
        path, rules = (
            thresholds,
            run_folder.read_thresholds(thresholds, classes=cards[0].classes, remedy="Check the path"),
        )
    tta.views_of(rules.tta)
    return Ensemble(
        folders=tuple(folders),
        cards=cards,
        weights=_uneven(weights or rules.weights_for(folders) or ()),
        views=views or rules.tta,
        thresholds_path=path,
        thresholds=rules,
    )


def _uneven(weights: Sequence[float]) -> tuple[float, ...]:
    """`weights`; empty if they are equal."""
    return tuple(weights) if len(set(weights)) > 1 else ()


def _shown(weights: Sequence[float]) -> str:
    return f"--weights {','.join(f'{weight:g}' for weight in weights)}" if weights else "equal weights"


def _fingerprint(folder: Path) -> str:
    """Hash of the names and contents of a run's model files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("model.*")):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise files.unreadable(path, error, RunError) from error
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
