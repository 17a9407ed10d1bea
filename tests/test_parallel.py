"""Items in threads: in order, bounded, and an error at its place."""

import threading
import time

import pytest

from severstal_cli.parallel import map_in_order, run_ahead


def test_results_come_in_order_whatever_takes_longest() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 * (number % 3 == 0))
        return 10 * number

    assert list(map_in_order(slow, range(12), threads=4, ahead=5, name="test")) == list(range(0, 120, 10))


def test_no_more_items_are_taken_than_asked_for() -> None:
    taken = []
    items = (taken.append(number) or number for number in range(100))
    results = map_in_order(str, items, threads=2, ahead=5, name="test")
    assert next(results) == "0"
    assert taken == [0, 1, 2, 3, 4, 5]
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test")]


def test_an_error_is_raised_at_its_place() -> None:
    def fail_at_three(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    results = map_in_order(fail_at_three, range(9), threads=3, ahead=8, name="test")
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_items_are_made_ahead_in_a_thread_of_their_own() -> None:
    made, closed = [], []

    def items():
        try:
            for number in range(10):
                made.append((number, threading.current_thread().name))
                yield number
        finally:
            closed.append(True)

    results = run_ahead(items(), ahead=3, name="test")
    assert next(results) == 0
    while len(made) < 4:
        time.sleep(0.01)
    time.sleep(0.1)  # to make a fifth, were it allowed to
    assert [number for number, _ in made] == [0, 1, 2, 3]
    assert all(name.startswith("test") for _, name in made)
    assert list(results) == list(range(1, 10))
    results = run_ahead(items(), ahead=3, name="test")
    next(results)
    closed.clear()
    results.close()
    assert closed == [True]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test")]


def test_an_error_in_making_an_item_is_raised_at_its_place() -> None:
    def items():
        yield 1
        yield 2
        raise ValueError("no third")

    results = run_ahead(items(), ahead=5, name="test")
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="no third"):
        next(results)
