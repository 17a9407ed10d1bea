"""Checks of names (networks, encoders, runs, folders, folds) before the slow import of torch.

The stages repeat these checks. Workers of torchrun skip them here, so that one worker reports for all in the stage.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from severstal_cli.config import CompareConfig, PredictConfig, ReportConfig, ScoreConfig, TrainConfig
from severstal_cli.errors import InputError
from severstal_cli.learning.networks import names, pretrained


def check_training(config: TrainConfig, *, folds: bool = False) -> None:
    """Check the names in the config of `train`. `folds`: it trains one run per fold. Raises SeverstalError."""
    if _is_worker():
        return
    _check_network(config)
    _check_data(config.data)
    if config.fold is not None:
        _check_fold(config.data, config.fold)
    if config.init is not None:
        names.check_run(config.init, config.models)
    if not folds and not config.resume:
        names.check_new(names.folder_for(config))


def check_runs(runs: Sequence[Path], data: Path | None = None, models: Path = TrainConfig.models) -> None:
    """Check that the runs and the data folder exist. Raises SeverstalError."""
    if _is_worker():
        return
    for folder in runs:
        names.check_run(folder, models)
    if data is not None:
        _check_data(data)


def check_prediction(config: PredictConfig) -> None:
    """Check the names in the config of `predict`. Raises SeverstalError."""
    if _is_worker():
        return
    check_runs(config.runs, models=config.models)
    if not config.runs and config.thresholds is None:
        names.check_any_run(config.models)
    for path in config.images:
        if not path.exists():
            raise InputError(f"{path}", "no such file or folder", "Check the path")


def check_score(config: ScoreConfig) -> None:
    """Check the runs in the config of `score`. Raises SeverstalError."""
    runs = [*config.runs]
    if config.submission is not None and config.truth is None and not _is_table(config.submission):
        runs.append(config.submission)
    check_runs(runs, config.data if runs else None)


def check_comparison(config: CompareConfig) -> None:
    """Check the candidates of `compare`. Raises SeverstalError."""
    if any(_is_table(Path(name)) for name in config.candidates):
        return
    networks = [name for name in config.candidates if name in names.networks()]
    for name in config.candidates:
        if name not in networks:
            names.check_candidate(name, config.train.models)
    for name in networks:
        _check_network(config.train, name)
        _check_data(config.train.data)


def check_report(config: ReportConfig) -> None:
    """Check that the runs and submissions of `report` exist. Raises SeverstalError."""
    for path in config.shown:
        if not path.exists():
            remedy = f"{names.near_run(path)}Name the folder of a run, or a submission"
            raise InputError(str(path), "no such file or folder", remedy)


def _is_worker() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _is_table(path: Path) -> bool:
    from severstal_cli.steel.tables import csv_rows

    return csv_rows.is_table(path)


def _check_network(config: TrainConfig, arch: str = "") -> None:
    arch = arch or config.arch
    names.check_network(arch)
    if not names.networks()[arch]:
        return
    names.check_encoder(config.encoder)
    is_default = config.encoder_weights == "imagenet" and pretrained.find_file(
        config.models / "encoders", config.encoder
    )
    starts = not config.resume and config.init is None  # else the weights come from a run
    if starts and config.encoder_weights != "none" and not is_default:
        names.check_weights(config.encoder, config.encoder_weights)


def _check_fold(folder: Path, fold: int) -> None:
    from severstal_cli.steel.dataset import splits

    split = splits.split_in(folder)
    if split is not None:
        splits.check_fold(split, fold)


def _check_data(folder: Path) -> None:
    from severstal_cli.steel.dataset.data_folder import check_folder

    check_folder(folder)
