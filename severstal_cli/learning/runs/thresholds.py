"""`thresholds.json`: the post-processing that belongs to a run, or to several averaged ones.

    {"exclusive": true, "tta": "none", "runs": ["models/a", "models/b"], "weights": [2.0, 1.0],
     "rules": [{"pixel_threshold": 131, "min_component_px": 64, "min_mask_px": 300, "min_image_score": 0}, ...], ...}

`runs` and `weights` may be missing: the runs are not known, or all count the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from severstal_cli import typed
from severstal_cli.config.checks import are_weights
from severstal_cli.steel.masks.postprocess import ClassPostprocess


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The rules of the classes, and what levels they were searched on.

    Raises ValueError when the weights are not those of the runs.
    """

    rules: tuple[ClassPostprocess, ...]
    exclusive: bool
    tta: str
    """The views it was searched with: prediction should use the same."""
    runs: tuple[str, ...] = ()
    """Folders of the runs, as they were named for the search; empty where that is not known."""
    weights: tuple[float, ...] = ()
    """What each of `runs` counts in the mean of their probabilities; empty: all the same."""
    data_fingerprint: str = field(default="", compare=False)
    split_fingerprint: str = field(default="", compare=False)
    """Of the images that they were searched on, and of their split; empty where that is not known."""

    def __post_init__(self) -> None:
        if self.weights and not are_weights(self.weights, len(self.runs)):
            raise ValueError(f"weights {list(self.weights)} of {len(self.runs)} runs")

    def weights_for(self, folders: Sequence[Path]) -> tuple[float, ...] | None:
        """The weights that these runs were searched with, in this order; empty: all the same. None: other runs.

        Runs that were moved are known by the names of their folders.
        """
        known, given = ([Path(folder).resolve() for folder in some] for some in (self.runs, folders))
        for own, wanted in (
            (list(map(str, known)), list(map(str, given))),
            ([path.name for path in known], [path.name for path in given]),
        ):
            if len(set(own)) == len(own) == len(wanted) and set(own) == set(wanted):
                return tuple(self.weights[own.index(name)] for name in wanted) if self.weights else ()
        return None

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without what is empty."""
        return {
            "exclusive": self.exclusive,
            "tta": self.tta,
            **({"runs": list(self.runs)} if self.runs else {}),
            **({"weights": list(self.weights)} if self.weights else {}),
            "rules": [rule.to_dict() for rule in self.rules],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Thresholds":
        """The thresholds of `to_dict`; there may be more. Raises ValueError where damaged."""
        names = {field.name for field in fields(cls)}
        return typed.make(cls, {name: value for name, value in content.items() if name in names})
