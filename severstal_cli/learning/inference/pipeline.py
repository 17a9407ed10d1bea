"""From files to masks, as a pipeline that keeps the network busy:

    threads decode -> batches of uint8 -> levels, on the device -> threads make masks -> results, in order

All queues are bounded: memory does not grow with the number of files. Decoding and post-processing release the GIL
(OpenCV, numba), so they use every core that the network leaves.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from os import cpu_count
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from severstal_cli.errors import InputError
from severstal_cli.learning.finite import NotFiniteError
from severstal_cli.parallel import map_in_order
from severstal_cli.steel.images.decoding import FULL_DEPTH, Grey, read_grey

Levels = NDArray[np.uint8]
Result = TypeVar("Result")


def from_files(
    groups: Sequence[Sequence[Path]],
    predict: Callable[[Iterable[Grey | None]], Iterator[Levels]],
    finish: Callable[[Path, Levels], Result],
    *,
    batch_size: int,
    bits: int = FULL_DEPTH,
    runs: Sequence[Path] = (),
) -> Generator[tuple[Path, Result | InputError], None, None]:
    """`(path, finish(path, levels))` for each file, in order; for an unreadable file the error in place of the result.

    Args:
        groups: files whose images may share batches. No batch mixes groups, so the levels of a group do not depend on
            the other groups.
        predict: maps images `(H, W)` to levels `(C, H, W)`; a None among the images ends a batch.
        finish: called in threads, which have ended when the generator is closed.
        batch_size: images per batch.
        bits: bits in use in 16-bit files.
        runs: the runs behind `predict`, in order, to name one whose probabilities are not finite.

    Raises SeverstalError: probabilities are not finite.
    """
    waiting: deque[tuple[Path, InputError | None]] = deque()  # files without a result yet; an error if unreadable
    given: list[Path] = []
    threads = cpu_count() or 1

    def images() -> Iterator[Grey | None]:
        files = [path for group in groups for path in group]
        last = {group[-1] for group in groups}
        read = map_in_order(partial(_read, bits=bits), files, ahead=max(32, 2 * batch_size), name="decode")
        for path, image in zip(files, read, strict=True):
            if isinstance(image, InputError):
                waiting.append((path, image))
            else:
                waiting.append((path, None))
                given.append(path)
                yield image
            if path in last:
                yield None

    def levels_or_errors() -> Iterator[tuple[Path, Levels | InputError]]:
        try:
            for levels in predict(images()):
                yield from _leading_errors(waiting)
                yield waiting.popleft()[0], levels
        except NotFiniteError as error:
            raise error.of(runs[error.member] if runs else "the network", given[error.number]) from None
        yield from _leading_errors(waiting)

    def finished(item: tuple[Path, Levels | InputError]) -> tuple[Path, Result | InputError]:
        path, levels = item
        return path, levels if isinstance(levels, InputError) else finish(path, levels)

    return map_in_order(finished, levels_or_errors(), ahead=2 * threads, name="masks")


def _leading_errors(waiting: deque[tuple[Path, InputError | None]]) -> Iterator[tuple[Path, InputError]]:
    while waiting and (error := waiting[0][1]) is not None:
        yield waiting.popleft()[0], error


def _read(path: Path, bits: int) -> Grey | InputError:
    try:
        return read_grey(path, bits)
    except InputError as error:
        return error
