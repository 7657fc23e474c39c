"""Work ahead of the one who waits for it."""

import itertools
import threading

import pytest

from cyclegan.system.prefetch import prefetch


def test_results_come_in_order_and_errors_where_they_belong():
    def work(number):
        if number == 3:
            raise ValueError("three")
        return number * 10

    seen = []
    for number, future in prefetch(work, range(6), num_threads=3, max_items=4):
        seen.append((number, "error" if future.exception() else future.result()))
    assert seen == [(0, 0), (1, 10), (2, 20), (3, "error"), (4, 40), (5, 50)]


def test_no_more_is_begun_than_may_wait():
    begun = []
    ahead = prefetch(begun.append, itertools.count(), num_threads=2, max_items=3)
    for taken in range(20):
        next(ahead)
        assert len(begun) <= taken + 1 + 3
    ahead.close()
    assert len(begun) <= 23


@pytest.mark.parametrize("num_threads", [1, 8])
@pytest.mark.parametrize(("size", "most"), [(1000, 2), (3000, 1), (10, 6)])
def test_large_results_do_not_pile_up(num_threads, size, most):
    begun, too_many = [], threading.Event()

    def work(number):
        begun.append(number)
        if number >= most:
            too_many.set()
        if number == 0:
            too_many.wait(0.2)  # time for others to begin while the size of none is known
        return b"x" * size

    ahead = prefetch(work, itertools.count(), num_threads=num_threads, max_items=6, size_of=len, max_bytes=2000)
    next(ahead)
    assert len(begun) <= most
    for taken in range(1, 20):
        next(ahead)
        assert len(begun) - taken <= most
    ahead.close()


def test_large_items_are_not_worked_on_together_though_small_ones_came_before_and_results_are_small():
    sizes = [10] * 12 + [1000] * 12 + [5000, 10, 5000]
    working, most, lock, together = [], [], threading.Lock(), threading.Event()

    def work(size):
        with lock:
            working.append(size)
            most.append((sum(working), len(working)))
        together.wait(0.02)  # never set: time for others to begin
        with lock:
            working.remove(size)
        return b""

    ahead = prefetch(work, sizes, num_threads=8, max_items=10, size_of=len, estimate=lambda size: size, max_bytes=2500)
    assert [size for size, _ in ahead] == sizes
    assert all(held <= 2500 or count == 1 for held, count in most)


def test_after_an_error_a_size_is_still_to_be_found():
    begun = []

    def work(number):
        begun.append(number)
        if number < 2:
            raise ValueError(number)
        return b"x" * 1000

    ahead = prefetch(work, range(9), num_threads=8, max_items=6, size_of=len, max_bytes=2000)
    for taken, (number, _) in enumerate(ahead):
        assert number == taken
        assert len(begun) - taken <= 2
    assert len(begun) == 9


def test_closing_ends_the_threads():
    before = threading.active_count()
    ahead = prefetch(lambda number: number, itertools.count(), num_threads=4, max_items=8)
    next(ahead)
    assert threading.active_count() > before
    ahead.close()
    assert threading.active_count() == before
