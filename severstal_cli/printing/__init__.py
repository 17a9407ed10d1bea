"""Results as lines and tables on stdout: `lines`, `tables`, `runs`, `audits`, and the one form of `table`."""

from severstal_cli.printing.audits import accepted_lines as accepted_lines
from severstal_cli.printing.audits import audit_lines as audit_lines
from severstal_cli.printing.audits import print_audit as print_audit
from severstal_cli.printing.lines import check_lines as check_lines
from severstal_cli.printing.lines import class_line as class_line
from severstal_cli.printing.lines import demo_lines as demo_lines
from severstal_cli.printing.lines import export_line as export_line
from severstal_cli.printing.lines import line_of as line_of
from severstal_cli.printing.lines import prediction_line as prediction_line
from severstal_cli.printing.lines import remote_lines as remote_lines
from severstal_cli.printing.lines import submit_lines as submit_lines
from severstal_cli.printing.lines import training_lines as training_lines
from severstal_cli.printing.runs import print_networks as print_networks
from severstal_cli.printing.runs import print_run as print_run
from severstal_cli.printing.runs import print_runs as print_runs
from severstal_cli.printing.tables import print_comparison as print_comparison
from severstal_cli.printing.tables import print_differences as print_differences
from severstal_cli.printing.tables import print_score as print_score
from severstal_cli.printing.tables import print_split as print_split
from severstal_cli.printing.tables import print_submissions as print_submissions
from severstal_cli.printing.tables import print_thresholds as print_thresholds
