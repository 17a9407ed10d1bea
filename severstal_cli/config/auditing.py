"""Settings of `audit`."""

from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config.checks import check, check_table_name


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """`audit`: runs to a table of suspected faults in the annotations of their data."""

    runs: tuple[Path, ...]
    """Run folders; each image is judged by those that were not trained on it."""
    data: Path | None = None
    """Data folder; default: that of the training."""
    out: Path | None = None
    """Output CSV; default: `audits/NAME.csv`."""
    tta: str = "none"
    """TTA views."""
    batch_size: int = 8
    overwrite: bool = False
    """Whether `out` may be replaced: it may hold decisions."""

    def __post_init__(self) -> None:
        check(bool(self.runs), "number of runs", len(self.runs), "at least 1")
        if self.out is not None:
            check_table_name(self.out)


@dataclass(frozen=True, kw_only=True)
class AcceptConfig:
    """`audit --apply`: decisions on an audit to new annotations."""

    decisions: Path
    """An `audit.csv` with a column Decision."""
    data: Path
    """Data folder that was audited."""
    out: Path
    """Output CSV, in the layout of the audited annotations."""
    overwrite: bool = False
    """Whether `out` may be replaced; never the audited annotations."""

    def __post_init__(self) -> None:
        check_table_name(self.out)
