"""Work ahead of the one who waits for it."""

import itertools
import threading

import pytest

from cyclegan.ahead import work_ahead


def test_results_come_in_order_and_errors_where_they_belong():
    def work(number):
        if number == 3:
            raise ValueError("three")
        return number * 10

    seen = []
    for number, future in work_ahead(work, range(6), num_threads=3, most_items=4):
        seen.append((number, "error" if future.exception() else future.result()))
    assert seen == [(0, 0), (1, 10), (2, 20), (3, "error"), (4, 40), (5, 50)]


def test_no_more_is_begun_than_may_wait():
    begun = []
    ahead = work_ahead(begun.append, itertools.count(), num_threads=2, most_items=3)
    for taken in range(20):
        next(ahead)
        assert len(begun) <= taken + 1 + 3
    ahead.close()
    assert len(begun) <= 23


@pytest.mark.parametrize(("size", "most"), [(1000, 2), (10, 6)])
def test_large_results_do_not_pile_up(size, most):
    begun = []

    def work(number):
        begun.append(number)
        return b"x" * size

    ahead = work_ahead(work, itertools.count(), num_threads=1, most_items=6, size_of=len, most_bytes=2000)
    next(ahead)
    first = len(begun)  # the size of none was known before the first one
    for taken in range(1, 20):
        next(ahead)
        assert len(begun) - max(first, taken) <= most
    ahead.close()


def test_closing_ends_the_threads():
    before = threading.active_count()
    ahead = work_ahead(lambda number: number, itertools.count(), num_threads=4, most_items=8)
    next(ahead)
    assert threading.active_count() > before
    ahead.close()
    assert threading.active_count() == before
