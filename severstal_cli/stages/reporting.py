"""`report`: a page with the predictions of runs or submissions, and with the ground truth if it is known."""

from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config import ReportConfig
from severstal_cli.progress import SILENT, Progress
from severstal_cli.report import folder, page, sources
from severstal_cli.steel.scoring.scores import ScoreResult


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """What the page shows, and its path."""

    page: Path
    images: int
    size_bytes: int
    """Size of the whole folder."""
    scores: dict[str, ScoreResult | None]
    """By name of the run or submission on the page; None without ground truth."""


def report(config: ReportConfig, progress: Progress = SILENT) -> ReportResult:
    """Write a folder with a page of runs, of submissions, or of both on the images of the runs.

    Raises:
        InputError: an input is missing or wrong, or the output folder holds something else than a report.
        RunError: a run is incomplete, or its data or split has changed since.
        OutputError: the report cannot be written.
    """
    out = config.out or Path("reports") / "-".join(sources.short_names(config.shown))
    with folder.replacing(out) as site:
        content = sources.gather(config, site, progress)
        results = page.write(site, content, progress)
    return ReportResult(
        page=out / folder.INDEX,
        images=len(content.image_ids),
        size_bytes=sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        scores=dict(zip((candidate.name for candidate in content.candidates), results, strict=True)),
    )
