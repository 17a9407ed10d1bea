"""Thread pools with results in order and a bounded number of items in flight."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None, ahead: int, name: str
) -> Generator[Result, None, None]:
    """Yield `function(item)` of each item in order, computed in `threads` (default: one per core).

    This thread iterates over `items`, at most `ahead` items before the result it yields. An error of an item is raised
    in its place, after the earlier results. `name` is the prefix of the thread names, for profilers.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads or cpu_count() or 1, thread_name_prefix=name)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_ahead(items: Iterable[Item], *, ahead: int, name: str) -> Generator[Item, None, None]:
    """Yield `items`, iterated in a separate thread, at most `ahead` items early.

    An error of the iterator is raised in its place. Closing the results waits for the item in progress. `name` is the
    prefix of the thread name, for profilers.
    """
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    try:
        waiting = deque(pool.submit(next, iterator, end) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, iterator, end))
            yield item  # type: ignore[misc]  # not the end
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if isinstance(iterator, Generator):
            iterator.close()
