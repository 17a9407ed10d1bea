"""What TensorBoard shows of a run, where TensorBoard is installed: the columns of its history, in RUN/tensorboard/."""

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
    """Yield what takes an epoch more of the run in `folder`; `rows` are its epochs so far, written afresh.

    Afresh, because an earlier sitting may have written an epoch that its checkpoint does not hold. Without
    TensorBoard, or a folder, nothing is written or said. Raises OutputError.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception:  # not there, or broken, as with a protobuf of another version: nothing depends on it
        folder = None
    if folder is None:
        yield lambda row: None
        return
    place = folder / FOLDER
    with files.writing(place):
        for old in place.glob("events.out.tfevents.*"):
            old.unlink()
        writer = SummaryWriter(str(place))
    # its axis of time shows the seconds of training, without the pauses between sittings
    began = time.time() - (rows[-1].elapsed_s if rows else 0.0)

    def add(row: Row) -> None:
        with files.writing(place):
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
