"""The columns of a run's history for TensorBoard, in RUN/tensorboard/, if TensorBoard is installed."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from severstal_cli import files
from severstal_cli.learning.training.history import Row

FOLDER = "tensorboard"


@contextmanager
def open_scalars(folder: Path | None, rows: Sequence[Row]) -> Iterator[Callable[[Row], None]]:
    """Yield a function that logs one more epoch of the run in `folder`; its epochs so far, `rows`, are written again.

    An earlier session may have logged an epoch that its checkpoint lacks, so old logs are removed. Without TensorBoard
    or a folder, nothing is written or reported. Raises OutputError.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception:  # missing, or broken by another version of protobuf: nothing depends on it
        folder = None
    if folder is None:
        yield lambda row: None
        return
    logs = folder / FOLDER
    with files.writing(logs):
        for old in logs.glob("events.out.tfevents.*"):
            old.unlink()
        writer = SummaryWriter(str(logs))
    # the time axis shows seconds of training, without the pauses between sessions
    began = time.time() - (rows[-1].elapsed_s if rows else 0.0)

    def add(row: Row) -> None:
        with files.writing(logs):
            for name, value in dataclasses.asdict(row).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, row.epoch, walltime=began + row.elapsed_s)
            writer.flush()

    try:
        for row in rows:
            add(row)
        yield add
    finally:
        writer.close()
