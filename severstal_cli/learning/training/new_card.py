"""The model card and the first line of a training, before its first epoch."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

import severstal_cli
from severstal_cli.config import TrainConfig
from severstal_cli.learning.device import chosen_precision
from severstal_cli.learning.networks import registry
from severstal_cli.learning.runs import model_card
from severstal_cli.learning.training.batches import TrainingSet
from severstal_cli.learning.training.validation import Validation
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.dataset.data_folder import DataFolder
from severstal_cli.steel.dataset.pseudo_labels import PseudoLabels
from severstal_cli.steel.images.decoding import cv2

STATISTICS_IMAGES = 500
"""Images for the mean and standard deviation of the pixels; their error is far below any augmentation."""


def describe(
    config: TrainConfig,
    data_folder: DataFolder,
    split: splits.Split,
    train_ids: list[str],
    validation_ids: list[str],
    pseudo: PseudoLabels | None,
    seen: tuple[dict[str, Any], ...],
    fabric: Fabric,
) -> model_card.ModelCard:
    """The card of the model, without epoch and validation Dice."""
    mean, std = _statistics(data_folder, train_ids)
    settings = config.as_json() | {"devices": fabric.world_size}  # torchrun sets it
    return model_card.ModelCard(
        arch=config.arch,
        encoder=config.encoder if registry.entry(config.arch).has_encoder else None,
        in_channels=1,
        classes=data_folder.classes,
        classifier=config.head_weight > 0,
        mean=mean,
        std=std,
        image_size=data_folder.usual_size(),
        exclusive=data_folder.exclusive(),
        data=str(config.data.resolve()),
        data_fingerprint=data_folder.fingerprint,
        data_origin=data_folder.origin,
        pixels_fingerprint=data_folder.cache.pixels_fingerprint,
        bits=data_folder.cache.bits,
        split_fingerprint=split.fingerprint,
        fold=config.fold,
        train_images=len(train_ids),
        validation_images=len(validation_ids),
        epoch=0,
        validation_dice=None,
        config=settings,
        versions={
            "severstal": severstal_cli.__version__,
            "torch": version("torch"),
            "python": platform.python_version(),
            "segmentation-models-pytorch": version("segmentation-models-pytorch"),
            "lightning-fabric": version("lightning-fabric"),
            "timm": version("timm"),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
        environment=_environment(fabric, config.precision),
        pseudo_fingerprint=None if pseudo is None else pseudo.fingerprint,
        seen=seen,
        class_names=data_folder.class_names,
    )


def _environment(fabric: Fabric, precision: str) -> dict[str, str | int]:
    """The properties of the machine that affect results or speed; no host names, user names or paths."""
    facts: dict[str, str | int] = {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "device": fabric.device.type,
        "devices": fabric.world_size,
        "precision": chosen_precision(precision, fabric.device.type),
    }
    if fabric.device.type == "cuda":
        facts |= {"gpu": torch.cuda.get_device_name(fabric.device), "cuda": torch.version.cuda or ""}
    return facts


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # only Linux has this file
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _statistics(data_folder: DataFolder, train_ids: list[str]) -> tuple[float, float]:
    """Mean and standard deviation of the training pixels, in [0, 1]."""
    cache, step = data_folder.cache, max(1, len(train_ids) // STATISTICS_IMAGES)
    counts = np.zeros(256, np.int64)
    for image_id in train_ids[::step]:
        counts += np.bincount(cache[cache.index[image_id]].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = float(np.average(values, weights=counts))
    std = float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))
    return mean, max(std, 1 / 255)  # constant images have a standard deviation of 0


def opening_line(config: TrainConfig, data: TrainingSet, validation: Validation, fabric: Fabric) -> str:
    """What a training begins with, in one line."""
    height, width = data.piece
    precision = chosen_precision(config.precision, fabric.device.type)
    devices = f"{fabric.world_size} x " if fabric.world_size > 1 else ""
    accumulated = "" if data.at_once >= data.step_images else f", accumulated over batches of {data.at_once}"
    nothing = "" if validation.nothing_dice is None else f" (Dice of predicting nothing: {validation.nothing_dice:.4f})"
    return (
        f"training on {len(data.image_ids)} images in crops of {height} x {width}, validating on "
        f"{len(validation.image_ids)}{nothing}; effective batch size {data.step_images}{accumulated}; "
        f"{devices}{fabric.device.type}, {precision}"
    )
