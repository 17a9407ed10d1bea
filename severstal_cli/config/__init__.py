"""Settings of the stages: one frozen dataclass per stage, with defaults, units and checks.

The command line takes its defaults from these classes.
"""

from severstal_cli.config.auditing import AcceptConfig, AuditConfig
from severstal_cli.config.data import (
    COMPETITION,
    Competition,
    DecodeConfig,
    DownloadConfig,
    EncodeConfig,
    SplitConfig,
    SynthConfig,
)
from severstal_cli.config.models import CompareConfig, DemoConfig, ExportConfig, ReportConfig, ThresholdsConfig
from severstal_cli.config.remote import RemoteConfig
from severstal_cli.config.submissions import CheckConfig, PredictConfig, ScoreConfig, SubmitConfig
from severstal_cli.config.training import TrainConfig, read_settings

__all__ = [
    "COMPETITION",
    "AcceptConfig",
    "AuditConfig",
    "CheckConfig",
    "CompareConfig",
    "Competition",
    "DecodeConfig",
    "DemoConfig",
    "DownloadConfig",
    "EncodeConfig",
    "ExportConfig",
    "PredictConfig",
    "RemoteConfig",
    "ReportConfig",
    "ScoreConfig",
    "SplitConfig",
    "SubmitConfig",
    "SynthConfig",
    "ThresholdsConfig",
    "TrainConfig",
    "read_settings",
]
