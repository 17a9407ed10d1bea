"""Results of `audit`."""

import shlex
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from severstal_cli.printing.table import print_table

if TYPE_CHECKING:
    from severstal_cli.stages.auditing import AcceptResult, AuditResult

SHOWN = 10


def print_audit(result: "AuditResult") -> None:
    """The number of findings by kind, and the most suspicious ones."""
    from severstal_cli.wording import class_label, counted

    found = result.findings
    counts = Counter(str(each.kind) for each in found)
    high = Counter(str(each.kind) for each in found if each.score >= 0.5)
    if counts:
        rows = [(kind, str(number), str(high[kind])) for kind, number in counts.most_common()]
        rows.append(("all", str(len(found)), str(high.total())))
        print_table(f"suspected faults in {counted(result.images)}", ("kind", "rows", "score from 0.5"), rows)
        print_table("most suspicious", ("rank", "image", "class", "kind", "score", "pixels"), [
            (str(rank), each.image_id, class_label(each.class_id - 1, result.class_names), str(each.kind),
             f"{each.score:.4f}", str(each.pixels))
            for rank, each in enumerate(found[:SHOWN], start=1)
        ])  # fmt: skip


def audit_lines(result: "AuditResult") -> Iterator[str]:
    """The written table and the next command."""
    if not result.findings:
        yield f"{result.path}: no suspected fault in the annotations of {result.images:,} images"
        return
    path = shlex.quote(str(result.path))
    decide = f"severstal audit --apply {path} --data {shlex.quote(str(result.data))}"
    yield (
        f"{result.path}: {len(result.findings):,} rows; next: severstal report {path}, or add a "
        f"column Decision (accept, reject, skip); then {decide} --out NEW_TRAIN.csv"
    )


def accepted_lines(result: "AcceptResult") -> Iterator[str]:
    """What was accepted, and the new table."""
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(result.accepted.items()))
    others = ", ".join(f"{number} {choice}" for choice, number in sorted(result.choices.items()) if choice != "accept")
    yield f"{result.path}: {result.rows:,} rows; accepted: {kinds}{f'; not applied: {others}' if others else ''}"
