"""`training.ckpt`: what a training writes after each epoch, and goes on from."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from severstal_cli.config import TrainConfig
from severstal_cli.errors import RunError
from severstal_cli.learning import history, loop, run

FOLLOWED = "data", "models", "epochs", "time_limit_s", "devices", "compile", "pseudo", "pseudo_images"
"""Settings that may be other ones when a training goes on; from then on they are the run's."""

_NO_MATTER = {"name", "resume", "init", "encoder_weights"}
"""Settings that say nothing of a training that has begun."""


def save(folder: Path, state: loop.State, card: run.ModelCard, rows: Sequence[history.Row]) -> None:
    """Write the checkpoint. Raises OutputError."""
    saving = {"state": state.state_dict(), "card": dataclasses.asdict(card)}
    run.write_checkpoint(folder, saving | {"history": [dataclasses.asdict(row) for row in rows]})


def with_found_batch(config: TrainConfig, saved: dict[str, Any]) -> TrainConfig:
    """The settings to go on with: a batch size that was to be found is the one that the training began with."""
    if config.batch_size is not None:
        return config
    before = saved.get("card", {}).get("config", {})
    return dataclasses.replace(config, batch_size=before.get("batch_size"),
                               step_images=config.step_images or before.get("step_images"))  # fmt: skip


def go_on(
    folder: Path, saved: dict[str, Any], card: run.ModelCard, state: loop.State
) -> tuple[list[history.Row], run.ModelCard]:
    """Put a checkpoint into `state`; its epochs and its card. `card` is what a training from here would have.

    Raises RunError: the checkpoint is damaged, or of other data or settings.
    """
    try:
        _check_same(folder, saved["card"], card)
        state.load_state_dict(saved["state"])
        before = run.card_from(saved["card"])
        card = dataclasses.replace(
            card,
            epoch=before.epoch,
            averaged=before.averaged,
            seen=before.seen,
            validation_dice=before.validation_dice,
            config=before.config | {name: card.config[name] for name in FOLLOWED},
        )
        return [history.Row(**row) for row in saved["history"]], card
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{folder / run.CHECKPOINT} is damaged", repr(error)[:120], f"Remove {folder}, and train again"
        ) from error


def _check_same(folder: Path, saved: dict[str, Any], card: run.ModelCard) -> None:
    """Going on with other data or settings would be neither the old training nor a new one."""
    parts = {"data": "data", "split": "split", "pseudo": "choice of pseudo labels"}
    pairs = [
        (what, saved.get(f"{name}_fingerprint"), getattr(card, f"{name}_fingerprint")) for name, what in parts.items()
    ]
    skipped = {*FOLLOWED, *_NO_MATTER}
    # a setting that the run's version did not have was what the default is
    pairs += [
        (name, saved["config"].get(name, getattr(TrainConfig, name, None)), value)
        for name, value in card.config.items()
        if name not in skipped
    ]
    for name, before, now in pairs:
        if before != now:
            raise RunError(f"{folder} was trained with another {name}", f"{before}, here {now}",
                           "Resume with the same, or train anew under another --name")  # fmt: skip
