"""Settings of the stages: one frozen dataclass per stage, with defaults, units and checks.

The command line takes its defaults from these classes.
"""

from severstal_cli.config.auditing import AcceptConfig as AcceptConfig
from severstal_cli.config.auditing import AuditConfig as AuditConfig
from severstal_cli.config.data import COMPETITION as COMPETITION
from severstal_cli.config.data import LAYOUTS as LAYOUTS
from severstal_cli.config.data import Competition as Competition
from severstal_cli.config.data import DecodeConfig as DecodeConfig
from severstal_cli.config.data import DownloadConfig as DownloadConfig
from severstal_cli.config.data import EncodeConfig as EncodeConfig
from severstal_cli.config.data import SplitConfig as SplitConfig
from severstal_cli.config.data import SynthConfig as SynthConfig
from severstal_cli.config.models import MAX_DROP as MAX_DROP
from severstal_cli.config.models import CompareConfig as CompareConfig
from severstal_cli.config.models import DemoConfig as DemoConfig
from severstal_cli.config.models import ExportConfig as ExportConfig
from severstal_cli.config.models import ReportConfig as ReportConfig
from severstal_cli.config.models import ThresholdsConfig as ThresholdsConfig
from severstal_cli.config.remote import RemoteConfig as RemoteConfig
from severstal_cli.config.submissions import CheckConfig as CheckConfig
from severstal_cli.config.submissions import PredictConfig as PredictConfig
from severstal_cli.config.submissions import ScoreConfig as ScoreConfig
from severstal_cli.config.submissions import SubmitConfig as SubmitConfig
from severstal_cli.config.training import TrainConfig as TrainConfig
from severstal_cli.config.training import read_settings as read_settings
