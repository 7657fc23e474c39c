"""Work that is done ahead in threads, so far and no further."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# What may wait in memory between two stages: enough that the slower one never stops, and no matter for any machine.
MOST_BYTES = 2**28


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work_ahead(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_threads: int,
    most_items: int,
    size_of: Callable[[Result], int] | None = None,
    estimate: Callable[[Item], int] | None = None,
    most_bytes: int = MOST_BYTES,
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Each item and its finished work, in the order of the items, while threads do that of the next ones.

    No more than `most_items` are begun and not yet taken, and none more than `most_bytes` have room for, unless it is
    the only one. size_of: bytes of a result; without it, bytes do not count. estimate: bytes that an item takes while
    it is worked on; without it, those of the largest result so far, and the first item is worked on alone.
    `Future.result()` raises what the work raised. Where this generator is closed, nothing more is begun, and what has
    begun is waited for.
    """
    pool = ThreadPoolExecutor(num_threads)
    # With the estimated bytes of each.
    waiting: deque[tuple[Item, Future[Result], int]] = deque()
    largest: int | None = None

    def has_room(expected: int) -> bool:
        """Whether one more may begin, of so many bytes where they are estimated."""
        nonlocal largest
        if not waiting or len(waiting) >= most_items or size_of is None:
            return len(waiting) < max(1, most_items)
        if estimate is None and largest is None:
            waiting[0][1].exception()  # waits: any number of threads could be too many
        held, unknown = 0, [expected]
        for _, future, size in waiting:
            if not future.done():
                unknown.append(size)
            elif future.exception() is None:
                held += size_of(future.result())
                largest = max(largest or 0, size_of(future.result()))
        if estimate is not None:
            return held + sum(unknown) <= most_bytes
        return largest is not None and held + len(unknown) * largest <= most_bytes

    def take() -> tuple[Item, Future[Result]]:
        waiting[0][1].exception()  # waits
        item, future, _ = waiting.popleft()
        return item, future

    try:
        for item in items:
            expected = 0 if estimate is None else estimate(item)
            while not has_room(expected):
                yield take()
            waiting.append((item, pool.submit(work, item), expected))
        while waiting:
            yield take()
    finally:
        pool.shutdown(cancel_futures=True)
