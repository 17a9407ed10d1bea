"""From files to masks, so that nothing waits but for the network:

    threads decode -> batches of uint8 -> levels, on the device -> threads make masks -> results, in order

All queues are bounded: memory does not grow with the number of files. Decoding and what follows the network leave the
interpreter's lock alone (OpenCV, numba), so on a CPU they take what the network leaves, and beside a GPU every core.
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
    """What `finish` makes of each file's levels, in order; for a file that cannot be read, why.

    groups: files whose pictures share batches; no batch has pictures of two groups, so a group's levels do not depend
    on which others are predicted by the same process. predict: pictures `(H, W)` to levels `(C, H, W)`, where None ends
    a batch. finish: called in threads, which are waited for when the results are closed. bits: those in use in 16-bit
    files. runs: of the networks that `predict` asks, in order, to name one whose numbers are not finite.

    Raises SeverstalError: that happened.
    """
    waiting: deque[tuple[Path, InputError | None]] = deque()  # files that `predict` was given, and the wrong ones
    given: list[Path] = []
    threads = cpu_count() or 1

    def pictures() -> Iterator[Grey | None]:
        files = [path for group in groups for path in group]
        last = {group[-1] for group in groups}
        read = map_in_order(partial(_read, bits=bits), files, ahead=max(32, 2 * batch_size), name="decode")
        for path, picture in zip(files, read, strict=True):
            if isinstance(picture, InputError):
                waiting.append((path, picture))
            else:
                waiting.append((path, None))
                given.append(path)
                yield picture
            if path in last:
                yield None

    def levels_or_errors() -> Iterator[tuple[Path, Levels | InputError]]:
        try:
            for levels in predict(pictures()):
                yield from _leading_errors(waiting)
                yield waiting.popleft()[0], levels
        except NotFiniteError as error:
            raise error.of(runs[error.member] if runs else "the network", given[error.number]) from None
        yield from _leading_errors(waiting)

    def finished(item: tuple[Path, Levels | InputError]) -> tuple[Path, Result | InputError]:
        path, found = item
        return path, found if isinstance(found, InputError) else finish(path, found)

    return map_in_order(finished, levels_or_errors(), ahead=2 * threads, name="masks")


def _leading_errors(waiting: deque[tuple[Path, InputError | None]]) -> Iterator[tuple[Path, InputError]]:
    while waiting and (error := waiting[0][1]) is not None:
        yield waiting.popleft()[0], error


def _read(path: Path, bits: int) -> Grey | InputError:
    try:
        return read_grey(path, bits)
    except InputError as error:
        return error
