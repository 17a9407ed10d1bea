"""What each stage can be told: one frozen dataclass a stage, which owns the defaults, their units and their checks.

The command line takes its defaults from here, so a default stands in one place.
"""

from dataclasses import dataclass
from pathlib import Path
