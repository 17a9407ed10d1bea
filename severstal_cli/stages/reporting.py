"""`report`: a page to look at what runs or submissions predict, beside the truth where that is known."""

from dataclasses import dataclass
from pathlib import Path

from severstal_cli.config import ReportConfig
from severstal_cli.progress import SILENT, Progress
from severstal_cli.report import folder, page, sources
from severstal_cli.steel.scoring.scores import ScoreResult


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """What was shown, and where."""

    page: Path
    images: int
    size_bytes: int
    """Of the folder."""
    scores: dict[str, ScoreResult | None]
    """Of each run or submission, by its name on the page; None without the truth."""


def report(config: ReportConfig, progress: Progress = SILENT) -> ReportResult:
    """Write a folder with a page of runs, of submissions, or of both on the images of the runs.

    Raises:
        InputError: something is missing or wrong, or what stands in the place of the report is none.
        RunError: a run is incomplete, or its data or split has changed since.
        OutputError: the report cannot be written.
    """
    out = config.out or Path("reports") / "-".join(sources.short_names(config.shown))
    with folder.making(out) as place:
        content = sources.gather(config, place, progress)
        results = page.write(place, content, progress)
    return ReportResult(
        page=out / folder.INDEX,
        images=len(content.image_ids),
        size_bytes=sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        scores=dict(zip((candidate.name for candidate in content.candidates), results, strict=True)),
    )
