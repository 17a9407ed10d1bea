"""`report`: a page with the predictions of runs or submissions, and with the ground truth if it is known; or a page to
decide on the suspected faults of an audit."""

from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config import ReportConfig
from severstal_cli.progress import SILENT, Progress
from severstal_cli.report import audits, folder, page, sources
from severstal_cli.steel.audit import finding_table
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
    findings: int | None = None
    """Suspected faults on the page of an audit; None for other pages."""


def report(config: ReportConfig, progress: Progress = SILENT) -> ReportResult:
    """Write a folder with a page of runs, of submissions, of both on the images of the runs, or of an audit.

    Raises:
        InputError: an input is missing or wrong, or the output folder holds something else than a report.
        RunError: a run is incomplete, or its data or split has changed since.
        OutputError: the report cannot be written.
    """
    out = config.out or Path("reports") / "-".join(sources.short_names(config.shown))
    findings, scores = None, {}
    with folder.replacing(out) as site:
        if any(finding_table.is_audit(path) for path in config.shown):
            findings, images = audits.write(config, site, progress)
        else:
            content = sources.gather(config, site, progress)
            results = page.write(site, content, progress)
            images = len(content.image_ids)
            scores = dict(zip((candidate.name for candidate in content.candidates), results, strict=True))
    return ReportResult(
        page=out / folder.INDEX,
        images=images,
        size_bytes=sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        scores=scores,
        findings=findings,
    )
