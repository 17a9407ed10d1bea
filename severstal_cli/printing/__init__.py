"""Results as lines and tables on stdout: `lines`, `tables`, `runs`, `audits`, and the one form of `table`."""

from severstal_cli.printing.audits import accepted_lines, audit_lines, print_audit
from severstal_cli.printing.lines import (
    check_lines,
    class_line,
    export_line,
    line_of,
    prediction_line,
    remote_lines,
    submit_lines,
    training_lines,
)
from severstal_cli.printing.runs import print_networks, print_run, print_runs
from severstal_cli.printing.tables import (
    print_comparison,
    print_demo,
    print_differences,
    print_score,
    print_split,
    print_submissions,
    print_thresholds,
)

__all__ = [
    "accepted_lines",
    "audit_lines",
    "check_lines",
    "class_line",
    "export_line",
    "line_of",
    "prediction_line",
    "print_audit",
    "print_comparison",
    "print_demo",
    "print_differences",
    "print_networks",
    "print_run",
    "print_runs",
    "print_score",
    "print_split",
    "print_submissions",
    "print_thresholds",
    "remote_lines",
    "submit_lines",
    "training_lines",
]
