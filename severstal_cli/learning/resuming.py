"""`training.ckpt`: what a training writes after each epoch, and goes on from."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from severstal_cli.config import TrainConfig
from severstal_cli.config.training import images_of_step
from severstal_cli.errors import RunError, check_memory
from severstal_cli.learning import history, loop, run, selection

FOLLOWED = (
    "data", "models", "epochs", "time_limit_s", "devices", "batch_size", "step_images", "compile", "pseudo",
    "pseudo_images",
)  # fmt: skip
"""Settings that may be other ones when a training goes on; from then on they are the run's. Of the batch size and the
images of a step, the number of images a step may not: it may only be gathered otherwise."""

_NO_MATTER = {"name", "resume", "init", "encoder_weights"}
"""Settings that say nothing of a training that has begun."""


def save(folder: Path, state: loop.State, card: run.ModelCard, rows: Sequence[history.Row]) -> None:
    """Write the checkpoint. Raises OutputError."""
    saving = {"state": state.state_dict(), "card": dataclasses.asdict(card)}
    run.write_checkpoint(folder, saving | {"history": [dataclasses.asdict(row) for row in rows]})


def restore(folder: Path, state: loop.State, card: run.ModelCard, rows: Sequence[history.Row]) -> None:
    """Write what a checkpoint tells of the run again, where a kill came before it was written. Raises OutputError."""
    try:
        there = run.read_card(folder)
        is_whole = (there.epoch, there.averaged) == (card.epoch, card.averaged)
    except RunError:
        is_whole = False
    network = None if is_whole else selection.kept(state, card, len(rows))
    if network is not None:
        run.write_model(folder, network, card)
    elif card.epoch:
        run.write_card(folder, card)
    history.write(folder, rows)


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
        check_memory(error, f"resuming {folder}")
        raise RunError(
            f"{folder / run.CHECKPOINT} is damaged", repr(error)[:120], f"Remove {folder}, and train again"
        ) from error


def _check_same(folder: Path, saved: dict[str, Any], card: run.ModelCard) -> None:
    """Going on with other data or settings would be neither the old training nor a new one."""
    parts = {"data": "data", "split": "split", "pseudo": "choice of pseudo labels"}
    pairs = [
        (what, saved.get(f"{name}_fingerprint"), getattr(card, f"{name}_fingerprint")) for name, what in parts.items()
    ]
    old_step, new_step = (
        images_of_step(each.get("step_images"), each.get("batch_size")) for each in (saved["config"], card.config)
    )
    pairs.append(("number of images a step", old_step, new_step))
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
