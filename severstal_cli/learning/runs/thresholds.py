"""`thresholds.json`: the post-processing of a run or of an ensemble.

    {"exclusive": true, "tta": "none", "runs": ["models/a", "models/b"], "weights": [2.0, 1.0],
     "rules": [{"pixel_threshold": 131, "min_component_px": 64, "min_mask_px": 300, "min_image_score": 0}, ...], ...}

Without `runs` the runs are unknown; without `weights` they have equal weights.
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
    """The post-processing of each class, and the ensemble that it was tuned for.

    Raises ValueError: the weights do not match the runs.
    """

    rules: tuple[ClassPostprocess, ...]
    exclusive: bool
    tta: str
    """TTA views of the search; prediction should use the same."""
    runs: tuple[str, ...] = ()
    """Folders of the runs, as named for the search; empty if unknown."""
    weights: tuple[float, ...] = ()
    """Ensemble weight of each of `runs`; empty: equal weights."""
    data_fingerprint: str = field(default="", compare=False)
    split_fingerprint: str = field(default="", compare=False)
    """Fingerprints of the data and the split of the search; empty if unknown."""

    def __post_init__(self) -> None:
        if self.weights and not are_weights(self.weights, len(self.runs)):
            raise ValueError(f"weights {list(self.weights)} of {len(self.runs)} runs")

    def weights_for(self, folders: Sequence[Path]) -> tuple[float, ...] | None:
        """The weights of these runs in the search, in this order; empty: equal weights. None: other runs.

        Runs that were moved are recognised by the names of their folders.
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
        """As JSON values, without empty fields."""
        return {
            "exclusive": self.exclusive,
            "tta": self.tta,
            **({"runs": list(self.runs)} if self.runs else {}),
            **({"weights": list(self.weights)} if self.weights else {}),
            "rules": [rule.to_dict() for rule in self.rules],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Thresholds":
        """The thresholds that `to_dict` returned; other keys are ignored. Raises ValueError: damaged values."""
        names = {field.name for field in fields(cls)}
        return typed.make(cls, {name: value for name, value in content.items() if name in names})
