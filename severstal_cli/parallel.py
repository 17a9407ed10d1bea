"""Work in threads, with results in order and a bounded queue."""

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
    """Yield `function(item)` for each item in order, computed by `threads` threads (default: one per core).

    Items are taken in this thread, at most `ahead` of them before the first result. An error is raised in its turn,
    after the results of earlier items. `name`: the threads' name in a profile.
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
    """Yield `items`, which another thread produces, at most `ahead` of them in advance.

    An error is raised in its turn. Closing waits for the item in production. `name`: the thread's name in a profile.
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
