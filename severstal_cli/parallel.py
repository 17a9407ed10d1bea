"""Work in threads: results in order, and never more than some of them early."""

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
    """Yield `function(item)` of each item in order, worked out by `threads` (default: one a core).

    Items are taken in this thread, up to `ahead` of them before the first result is given out. The error of an item is
    raised at its place, after the results before it. `name` is what the threads are called in a profile.
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
    """Yield `items`, which are made in a thread of their own, up to `ahead` of them early.

    An error in making one is raised at its place. When the results are closed, the one that is being made is waited
    for. `name` is what the thread is called in a profile.
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
