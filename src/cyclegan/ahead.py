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
    size_of: Callable[[Result], int] = lambda _: 0,
    most_bytes: int = MOST_BYTES,
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Each item and its finished work, in the order of the items, while threads do that of the next ones.

    No more than `most_items` are begun and not yet taken, and none more while their results hold `most_bytes` (what is
    not finished is taken to be as large as the largest so far). `Future.result()` raises what the work raised. Where
    this generator is closed, nothing more is begun, and what has begun is waited for.
    """
    pool = ThreadPoolExecutor(num_threads)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    largest = 0

    def has_room() -> bool:
        nonlocal largest
        if not waiting or len(waiting) >= most_items:
            return not waiting
        sizes = [size_of(f.result()) for _, f in waiting if f.done() and f.exception() is None]
        largest = max(largest, *sizes, 0)
        return sum(sizes) + (len(waiting) - len(sizes) + 1) * largest <= most_bytes

    try:
        for item in items:
            while not has_room():
                waiting[0][1].exception()  # waits
                yield waiting.popleft()
            waiting.append((item, pool.submit(work, item)))
        while waiting:
            waiting[0][1].exception()
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
